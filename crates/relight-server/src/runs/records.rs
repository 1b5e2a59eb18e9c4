//! What is written down of a run that has ended.

use jiff::Timestamp;

use super::RunFailure;
use super::work::Done;
use crate::evidence::detail::{Ended, RunDetail, details};
use crate::evidence::{Kind, NewEvidence, Outcome as Written};
use crate::state::{Run, RunEnd};

/// As exact as the row says it: a record of millions should be short.
fn in_milliseconds(time: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time)
}

/// The row of a run that has ended, and its evidence.
pub(super) fn records(
    run: &Run,
    done: &Done,
    ended: Ended,
    failure: Option<RunFailure>,
    now: Timestamp,
    pushed: bool,
) -> (RunEnd, NewEvidence) {
    let (code, message) = match failure {
        Some(failure) => (Some(failure.code), Some(failure.message)),
        None => (None, None),
    };
    let detail = RunDetail {
        run: run.number,
        job: run.job.clone(),
        due: in_milliseconds(run.due),
        started: in_milliseconds(run.started),
        ended,
        attempt: run.attempt,
        pushed,
        code: code.clone(),
        message: message.clone(),
        repository: run.repository.clone(),
        snapshot: done.snapshot.clone(),
        figures: done.figures.clone(),
    };
    let evidence = NewEvidence {
        time: in_milliseconds(now),
        kind: Kind::Run,
        who: run.who.clone(),
        what: run.job.to_string(),
        outcome: match ended {
            Ended::Good => Written::Done,
            _ => Written::Failed,
        },
        detail: details(&detail),
    };
    let end = RunEnd {
        number: run.number,
        ended: now,
        outcome: ended,
        code,
        message,
        snapshot: done.snapshot.clone(),
        figures: done.figures.clone(),
    };
    (end, evidence)
}
