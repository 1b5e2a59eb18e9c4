//! What the evidence says: its chain, controls, claims and what they cite.

use super::times::Times;
use super::{Block, Cell, Section, Tone, toned};
use crate::report::cited::Cited;
use crate::report::claims::{Claim, Contradiction, State};
use crate::report::frameworks::Framework;
use crate::report::{Control, ControlVerdict, Report, words};

pub(super) fn summary(report: &Report, times: &Times) -> Section {
    let chain = &report.chain;
    let whole = match (&chain.verified.broken, &chain.verified.head) {
        (Some(broken), _) => toned(
            format!("NOT WHOLE: record {}: {}", broken.sequence, broken.why),
            Tone::Bad,
        ),
        (None, Some(head)) => toned(
            format!(
                "{} records are as they were written; head {head}",
                chain.verified.records
            ),
            Tone::Good,
        ),
        (None, None) => toned("there are no records", Tone::Partly),
    };
    let verdicts = ControlVerdict::ALL.map(|verdict| (verdict, report.count(verdict)));
    let verdicts: Vec<String> = verdicts
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(verdict, count)| format!("{count} {}", verdict.name()))
        .collect();
    let period = &report.period;
    let judged = format!(
        "{} to {}, times of {}",
        times.at(period.judged_from),
        times.at(period.judged_to),
        period.time_zone
    );
    let facts = vec![
        ("Controls", verdicts.join(", ").into()),
        ("Evidence", whole),
        ("Records in the period", chain.in_period.to_string().into()),
        ("Signed with", chain.key.as_str().into()),
        ("Server", report.server.as_str().into()),
        ("Judged", judged.into()),
        (
            "Plan",
            format!(
                "{}, {}, SHA-256 {}",
                words::counted(report.plan.workloads, "workload"),
                match report.plan.policies {
                    1 => "1 policy".to_owned(),
                    count => format!("{count} policies"),
                },
                report.plan.sha256
            )
            .into(),
        ),
        (
            "Made",
            format!("{} by {}", times.at(report.made), report.program).into(),
        ),
    ];
    let remarks = report
        .remarks
        .iter()
        .map(|remark| Block::Paragraph(toned(remark.as_str(), Tone::Quiet)));
    Section {
        title: "Summary",
        blocks: std::iter::once(Block::Facts(facts)).chain(remarks).collect(),
    }
}

fn verdict(verdict: ControlVerdict) -> Cell {
    let tone = match verdict {
        ControlVerdict::Satisfied => Tone::Good,
        ControlVerdict::Partly | ControlVerdict::NoEvidence => Tone::Partly,
        ControlVerdict::Contradicted => Tone::Bad,
    };
    toned(verdict.name(), tone)
}

pub(super) fn controls(report: &Report) -> Section {
    let mut blocks = Vec::new();
    for framework in Framework::ALL {
        let of = report
            .controls
            .iter()
            .filter(|control| control.framework == framework);
        let row = |control: &Control| {
            vec![
                control.id.into(),
                format!("{}. {}.", control.title, control.demand).into(),
                verdict(control.verdict),
                control.reason.as_str().into(),
            ]
        };
        blocks.push(Block::Heading(framework.title().to_owned()));
        blocks.push(Block::Table {
            heading: vec!["Control", "What is judged", "Verdict", "Why"],
            widths: vec![9, 28, 13, 50],
            rows: of.map(row).collect(),
        });
    }
    Section {
        title: "Controls",
        blocks,
    }
}

pub(super) fn claims(report: &Report, times: &Times) -> Section {
    let blocks = report.claims.iter().flat_map(|claim| one_claim(claim, times));
    Section {
        title: "What the controls rest on",
        blocks: blocks.collect(),
    }
}

fn one_claim(claim: &Claim, times: &Times) -> Vec<Block> {
    let tone = match claim.state {
        State::Supported => Tone::Good,
        State::PartlySupported | State::NoEvidence => Tone::Partly,
        State::Contradicted => Tone::Bad,
    };
    let mut blocks = vec![
        Block::Heading(format!("{}: {}", claim.id, claim.says)),
        Block::Paragraph(toned(
            format!("{}: {}", words::state(claim.state), claim.reason),
            tone,
        )),
    ];
    let listed = |list: &[Contradiction], tone: Tone| Block::Table {
        heading: vec!["Of", "Why", "Records"],
        widths: vec![20, 60, 20],
        rows: list
            .iter()
            .map(|one| {
                let records: Vec<String> = one.records.iter().map(|number| format!("#{number}")).collect();
                vec![
                    toned(one.subject.as_str(), tone),
                    one.why.as_str().into(),
                    records.join(" ").into(),
                ]
            })
            .collect(),
    };
    if !claim.contradictions.is_empty() {
        blocks.push(listed(&claim.contradictions, Tone::Bad));
    }
    if !claim.unproven.is_empty() {
        blocks.push(listed(&claim.unproven, Tone::Partly));
    }
    blocks.extend(cited("Records that support it", &claim.supports, times));
    blocks.extend(cited("Records that contradict it", &claim.contradicts, times));
    blocks
}

pub(super) fn cited(what: &str, cited: &Cited, times: &Times) -> Vec<Block> {
    if cited.records.is_empty() {
        return Vec::new();
    }
    let (shown, count) = (cited.records.len() as u64, cited.count);
    let said = match shown == count {
        true => format!("{what}: {count}"),
        false => format!("{what}: {count}, the newest {shown} of them"),
    };
    let named = cited.records.iter().rev().map(|one| {
        vec![
            format!("#{}", one.sequence).into(),
            times.at(one.time).into(),
            one.what.as_str().into(),
        ]
    });
    vec![
        Block::Paragraph(toned(said, Tone::Quiet)),
        Block::Table {
            heading: vec!["Record", "Time", "What it says"],
            widths: vec![10, 18, 72],
            rows: named.collect(),
        },
    ]
}
