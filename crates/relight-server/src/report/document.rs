//! The report as headings, paragraphs and tables, for whatever prints it.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use relight_model::TimeSpan;
use relight_model::objective::Verdict;

use super::activity::Deeds;
use super::cited::Cited;
use super::claims::{Claim, Contradiction, State};
use super::frameworks::Framework;
use super::workload::Care;
use super::{Control, ControlVerdict, Judged, Report, WorkloadReport, words};

/// How something is to be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Good,
    Partly,
    Bad,
    Quiet,
}

/// A piece of text.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    pub text: String,
    pub tone: Tone,
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        let tone = Tone::Plain;
        Self { text, tone }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

fn toned(text: impl Into<String>, tone: Tone) -> Cell {
    let text = text.into();
    Cell { text, tone }
}

/// What a section consists of.
#[derive(Debug, Clone)]
pub(super) enum Block {
    Heading(String),
    Paragraph(Cell),
    Facts(Vec<(&'static str, Cell)>),
    Table {
        heading: Vec<&'static str>,
        /// How wide the columns are beside each other.
        widths: Vec<u8>,
        rows: Vec<Vec<Cell>>,
    },
}

#[derive(Debug, Clone)]
pub(super) struct Section {
    pub title: &'static str,
    pub blocks: Vec<Block>,
}

#[derive(Debug, Clone)]
pub(super) struct Document {
    pub title: String,
    pub subtitle: String,
    /// On each page: what the report rests on.
    pub footer: String,
    pub sections: Vec<Section>,
}

/// The report, in the time zone of its plan.
pub(super) fn document(report: &Report) -> Document {
    let times = Times::of(report);
    let head = match (&report.chain.verified.broken, &report.chain.verified.head) {
        (Some(broken), _) => format!("EVIDENCE NOT WHOLE from record {}", broken.sequence),
        (None, Some(head)) => format!("Evidence {head}"),
        (None, None) => "No evidence".to_owned(),
    };
    let (from, to) = (times.day(report.period.from), times.last_day(report.period.to));
    Document {
        title: "Backup and recovery: compliance report".to_owned(),
        subtitle: format!("{from} to {to}"),
        footer: head,
        sections: vec![
            summary(report, &times),
            controls(report),
            claims(report, &times),
            workloads(report, &times),
            gaps(report, &times),
            unprotected(report),
            exercise(report, &times),
            repositories(report, &times),
            activity(report, &times),
            reading(report),
        ],
    }
}

/// Times as they are shown.
struct Times(TimeZone);

impl Times {
    fn of(report: &Report) -> Self {
        Self(TimeZone::get(&report.period.time_zone).unwrap_or(TimeZone::UTC))
    }

    fn at(&self, time: Timestamp) -> String {
        self.0.to_datetime(time).strftime("%Y-%m-%d %H:%M").to_string()
    }

    fn day(&self, time: Timestamp) -> String {
        let shown = self.0.to_datetime(time);
        match shown.time() == jiff::civil::Time::midnight() {
            true => shown.date().to_string(),
            false => self.at(time),
        }
    }

    /// The last day before a moment, where that is midnight.
    fn last_day(&self, time: Timestamp) -> String {
        let shown = self.0.to_datetime(time);
        let midnight = shown.time() == jiff::civil::Time::midnight();
        match shown.date().yesterday().ok().filter(|_| midnight) {
            Some(day) => day.to_string(),
            None => self.at(time),
        }
    }
}

fn summary(report: &Report, times: &Times) -> Section {
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

fn controls(report: &Report) -> Section {
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

fn claims(report: &Report, times: &Times) -> Section {
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

fn cited(what: &str, cited: &Cited, times: &Times) -> Vec<Block> {
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

fn workloads(report: &Report, times: &Times) -> Section {
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

fn gaps(report: &Report, times: &Times) -> Section {
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

fn unprotected(report: &Report) -> Section {
    let row = |one: &super::Excluded| {
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

fn exercise(report: &Report, times: &Times) -> Section {
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

fn repositories(report: &Report, times: &Times) -> Section {
    let row = |one: &super::RepositoryStanding| match &one.found {
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

fn activity(report: &Report, times: &Times) -> Section {
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

fn reading(report: &Report) -> Section {
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
