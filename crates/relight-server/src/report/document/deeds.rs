//! What people did, and how the report is to be read.

use super::evidence::cited;
use super::times::Times;
use super::{Block, Section};
use crate::report::Report;
use crate::report::activity::Deeds;

pub(super) fn activity(report: &Report, times: &Times) -> Section {
    let activity = &report.activity;
    let kinds: [(&str, &Deeds); 5] = [
        ("Changes", &activity.changes),
        ("Denials", &activity.denials),
        ("Log-ins refused", &activity.failed_logins),
        ("Restores and downloads", &activity.restores),
        ("Use of keys", &activity.keys),
    ];
    let mut blocks = vec![Block::Paragraph(
        format!("{} log-ins succeeded.", activity.logins).into(),
    )];
    for (what, deeds) in kinds {
        blocks.push(Block::Heading(format!("{what}: {}", deeds.done.count)));
        let by: Vec<String> = deeds
            .by
            .iter()
            .map(|(who, count)| format!("{who}: {count}"))
            .collect();
        if !by.is_empty() {
            blocks.push(Block::Paragraph(by.join(", ").into()));
        }
        blocks.extend(cited(what, &deeds.done, times));
    }
    blocks.push(Block::Heading(format!(
        "Starts, stops and configurations of the server: {}",
        activity.server.count
    )));
    blocks.extend(cited("Server", &activity.server, times));
    Section {
        title: "Who did what",
        blocks,
    }
}

pub(super) fn reading(report: &Report) -> Section {
    let head = report.chain.verified.head.as_ref();
    let head = head.map_or_else(|| "HEAD".to_owned(), ToString::to_string);
    let key = &report.chain.key;
    let lines = [
        "Satisfied: all that the control rests on is supported by records. Partly: nothing contradicts it, but something is not \
         proven. No evidence: nothing is known. Contradicted: records, the plan or a repository say otherwise."
            .to_owned(),
        "Of many records the newest are named; numbers with # are those of the evidence. Verdicts are computed, none is entered \
         by hand. What the frameworks demand is said in short and in other words than theirs, and only as far as a backup system \
         can speak of it."
            .to_owned(),
        format!(
            "To check it: `relight evidence export -o evidence.jsonl` on the server, then, anywhere, `relight evidence verify --file \
             evidence.jsonl --key {key} --noted {head}`. Each record is one line of that file."
        ),
    ];
    Section {
        title: "How to read and check this report",
        blocks: lines
            .into_iter()
            .map(|line| Block::Paragraph(line.into()))
            .collect(),
    }
}
