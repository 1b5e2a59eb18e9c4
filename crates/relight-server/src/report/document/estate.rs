//! What is protected and how it was kept: workloads, gaps, exercises, repositories.

use relight_model::TimeSpan;
use relight_model::objective::Verdict;

use super::evidence::cited;
use super::times::Times;
use super::{Block, Cell, Section, Tone, toned};
use crate::report::workload::Care;
use crate::report::{Judged, Report, WorkloadReport};

fn judged(judged: &Judged) -> Cell {
    let tone = match judged.verdict {
        Verdict::Met { .. } => Tone::Good,
        Verdict::Missed { .. } => Tone::Bad,
        Verdict::NotMeasured => Tone::Partly,
        Verdict::NotPromised => Tone::Quiet,
    };
    let span = |span: Option<TimeSpan>| span.map_or_else(|| "–".to_owned(), hours);
    let objective = &judged.objective;
    toned(
        format!(
            "{} of {}: {}",
            span(objective.measured),
            span(objective.promised),
            judged.verdict
        ),
        tone,
    )
}

/// In hours up to three days: everybody speaks of an RPO of 24 hours, not of a day.
fn hours(span: TimeSpan) -> String {
    let minutes = span.duration().as_secs() / 60;
    match minutes {
        60..=4_320 if minutes.is_multiple_of(60) => format!("{} h", minutes / 60),
        60..=4_320 => format!("{} h {} m", minutes / 60, minutes % 60),
        _ => span.to_string(),
    }
}

fn care(care: &Care) -> Cell {
    if !care.planned {
        return toned("not planned", Tone::Quiet);
    }
    let age = care
        .age
        .map_or_else(|| "never".to_owned(), |age| format!("{age} before the end"));
    let due = care.occasions.due;
    let kept = due - care.occasions.missed.min(due);
    let text = format!("{kept} of {due} kept, the last {age}");
    let tone = match (care.last_is_bad, care.occasions.missed, care.good.count) {
        (true, ..) | (_, 1.., _) => Tone::Bad,
        (_, _, 0) => Tone::Partly,
        _ => Tone::Good,
    };
    toned(text, tone)
}

pub(super) fn workloads(report: &Report, times: &Times) -> Section {
    let row = |one: &WorkloadReport| {
        let newest = one
            .newest
            .map_or_else(|| "none".to_owned(), |time| times.at(time));
        let bad = one.runs.all() - one.runs.good;
        let runs = match bad {
            0 => toned(format!("{} good", one.runs.good), Tone::Plain),
            bad => toned(format!("{} good, {bad} not", one.runs.good), Tone::Partly),
        };
        let copies: Vec<Cell> = one.copies.iter().map(care).collect();
        let copies = match copies.as_slice() {
            [] => toned("none", Tone::Quiet),
            [copy] => copy.clone(),
            several => {
                let tone = several.iter().map(|copy| copy.tone);
                let tone = tone.max_by_key(|tone| *tone as u8).unwrap_or(Tone::Plain);
                let texts: Vec<&str> = several.iter().map(|copy| copy.text.as_str()).collect();
                toned(texts.join("; "), tone)
            }
        };
        vec![
            format!("{} ({})", one.workload, one.policy).into(),
            runs,
            newest.into(),
            judged(&one.rpo),
            judged(&one.rto),
            care(&one.verification),
            care(&one.drills.care),
            copies,
        ]
    };
    let explained = "RPO and RTO are shown as measured, promised and what follows. The RPO is the most that could have been lost at any \
         moment of the period; a recovery point counts from the end of its run. The RTO is what the drills of the period say \
         for the size of today (90th percentile).";
    Section {
        title: "Workloads",
        blocks: vec![
            Block::Paragraph(toned(explained, Tone::Quiet)),
            Block::Table {
                heading: vec![
                    "Workload (policy)",
                    "Backups",
                    "Newest point",
                    "RPO",
                    "RTO",
                    "Verified",
                    "Drills",
                    "Copies",
                ],
                widths: vec![16, 10, 11, 13, 13, 13, 13, 13],
                rows: report.workloads.iter().map(row).collect(),
            },
        ],
    }
}

pub(super) fn gaps(report: &Report, times: &Times) -> Section {
    let mut rows = Vec::new();
    for one in &report.workloads {
        for gap in &one.gaps {
            let records: Vec<String> = gap
                .records
                .iter()
                .map(|record| format!("#{}", record.sequence))
                .collect();
            let end = match gap.open {
                true => format!("{}, still open", times.at(gap.end)),
                false => times.at(gap.end),
            };
            rows.push(vec![
                one.workload.to_string().into(),
                gap.begin
                    .map_or_else(|| "none before".to_owned(), |begin| times.at(begin))
                    .into(),
                times.at(gap.broken).into(),
                end.into(),
                toned(gap.exposure.to_string(), Tone::Bad),
                gap.cause.as_str().into(),
                records.join(" ").into(),
            ]);
        }
    }
    let blocks = match rows.is_empty() {
        true => vec![Block::Paragraph(
            "At no time could more of a workload have been lost than its RPO permits, as far as there were recovery points at all."
                .into(),
        )],
        false => vec![Block::Table {
            heading: vec![
                "Workload",
                "Point before",
                "RPO broken",
                "Next point",
                "At risk",
                "Cause",
                "Records",
            ],
            widths: vec![14, 13, 13, 13, 10, 25, 12],
            rows,
        }],
    };
    Section {
        title: "Gaps",
        blocks,
    }
}

pub(super) fn unprotected(report: &Report) -> Section {
    let row = |one: &crate::report::Excluded| {
        let (why, tone) = match &one.reason {
            None => ("neither a policy nor a reason", Tone::Bad),
            Some(reason) if one.expired => (reason.as_str(), Tone::Bad),
            Some(reason) => (reason.as_str(), Tone::Plain),
        };
        let until = one
            .until
            .map_or_else(|| "without end".to_owned(), |until| until.to_string());
        let until = match one.expired {
            true => format!("{until}, which is over"),
            false => until,
        };
        vec![one.workload.to_string().into(), toned(why, tone), until.into()]
    };
    let blocks = match report.excluded.is_empty() {
        true => vec![Block::Paragraph(
            "Everything that the plan names has a policy.".into(),
        )],
        false => vec![Block::Table {
            heading: vec!["Workload", "Why", "Until"],
            widths: vec![25, 50, 25],
            rows: report.excluded.iter().map(row).collect(),
        }],
    };
    Section {
        title: "Not protected",
        blocks,
    }
}

pub(super) fn exercise(report: &Report, times: &Times) -> Section {
    let exercises = &report.exercises;
    let mut blocks = Vec::new();
    let (due, missed) = (exercises.occasions.due, exercises.occasions.missed);
    let said = match (exercises.planned, &exercises.last) {
        (false, _) => "The plan has no exercise.".to_owned(),
        (true, None) => format!("None was done; {due} were due."),
        (true, Some(last)) => format!(
            "{} of {due} that were due were done. The last: {}.",
            due - missed.min(due),
            last.reason
        ),
    };
    blocks.push(Block::Paragraph(said.into()));
    blocks.extend(cited("Good", &exercises.good, times));
    blocks.extend(cited("Bad", &exercises.bad, times));
    Section {
        title: "Recovery of everything",
        blocks,
    }
}

pub(super) fn repositories(report: &Report, times: &Times) -> Section {
    let row = |one: &crate::report::RepositoryStanding| match &one.found {
        Some(found) => vec![
            one.name.as_str().into(),
            one.location.as_str().into(),
            found.encryption.into(),
            found.keys.join(", ").into(),
            if found.object_lock { "yes" } else { "no" }.into(),
            format!("{} %", found.parity_percent).into(),
            times.day(found.created).into(),
        ],
        None => {
            let why = one.failure.clone().unwrap_or_default();
            vec![
                one.name.as_str().into(),
                one.location.as_str().into(),
                toned(why, Tone::Partly),
            ]
        }
    };
    Section {
        title: "Repositories",
        blocks: vec![
            Block::Paragraph(toned("As they were when the report was made.", Tone::Quiet)),
            Block::Table {
                heading: vec![
                    "Name",
                    "Location",
                    "Sealed with",
                    "Keys",
                    "Object lock",
                    "Parity",
                    "Made",
                ],
                widths: vec![10, 26, 16, 18, 9, 8, 13],
                rows: report.repositories.iter().map(row).collect(),
            },
        ],
    }
}
