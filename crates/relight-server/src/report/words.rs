//! What records and findings say, in short.

use relight_model::objective::exercise::ExerciseResult;

use super::Report;
use super::claims::State;
use crate::evidence::detail::{Ended, RunDetail};

/// A run in a line.
pub(super) fn run(run: &RunDetail) -> String {
    let code = run
        .code
        .as_ref()
        .map_or_else(String::new, |code| format!(" {code}"));
    let message = run
        .message
        .as_ref()
        .map_or_else(String::new, |message| format!(": {message}"));
    match run.ended {
        Ended::Good => format!("{}: good", run.job),
        ended => format!("{}: {}{code}{message}", run.job, ended.name()),
    }
}

/// An exercise in a line.
pub(super) fn exercise(result: &ExerciseResult, all: usize) -> String {
    let mut said = vec![match (result.objective.measured, result.failed.len()) {
        (Some(measured), _) => format!("all {} came back in {measured}", counted(all, "workload")),
        (None, 0) => "nothing was recovered".to_owned(),
        (None, failed) => format!("{failed} of {} did not come back", counted(all, "workload")),
    }];
    if !result.out_of_order.is_empty() {
        said.push(format!(
            "{} begun before what they depend on",
            result.out_of_order.len()
        ));
    }
    if result.objective.promised.is_some() {
        said.push(result.verdict.to_string());
    }
    said.join(", ")
}

/// `1 workload`, `2 workloads`.
pub(super) fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

/// What a reader must know.
pub(super) fn remarks(report: &Report) -> Vec<String> {
    let mut remarks = vec![
        "Everything is held against the plan of the day on which the report was made; its digest is given. A promise that was \
         another one during the period is not known here."
            .to_owned(),
    ];
    if let Some(uncovered) = report.period.uncovered {
        remarks.push(format!(
            "The evidence begins {uncovered} after the period does. Nothing is claimed of the time before."
        ));
    }
    if report.period.judged_to < report.period.to {
        remarks.push(
            "The period had not ended when the report was made; it is judged until that moment.".to_owned(),
        );
    }
    if report.chain.verified.broken.is_some() {
        remarks.push(
            "The evidence is not whole. Records from the broken one on were left out, and no control is satisfied."
                .to_owned(),
        );
    }
    if report.chain.unreadable.count > 0 {
        remarks.push(format!(
            "The details of {} of runs or drills are not as this version writes them, and were left out.",
            counted(report.chain.unreadable.count as usize, "record")
        ));
    }
    remarks
}

/// What the evidence says of a claim, in words.
pub(super) fn state(state: State) -> &'static str {
    match state {
        State::Supported => "supported",
        State::PartlySupported => "supported in part",
        State::NoEvidence => "without evidence",
        State::Contradicted => "contradicted",
    }
}
