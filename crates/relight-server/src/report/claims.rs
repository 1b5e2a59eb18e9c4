//! What controls rest on: single statements about all workloads, each with the records that support and contradict it.

use relight_model::check::Severity;
use relight_model::objective::Verdict;
use relight_model::plan::Plan;
use serde::Serialize;

use super::cited::{Citation, Cited, shortened};
use super::words::counted;
use super::workload::{Care, WorkloadReport};
use super::{Judged, Report};

/// So many records are named for a claim, of each side.
const MOST: usize = 20;
/// So many subjects are named, of each side.
const MOST_SUBJECTS: usize = 1000;

/// What the evidence says of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It holds for everything that it is about.
    Supported,
    /// It holds for some; nothing is known of the others.
    PartlySupported,
    /// Nothing is known.
    NoEvidence,
    /// It does not hold for something.
    Contradicted,
}

/// Something for which a claim does not hold, or of which nothing is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Contradiction {
    /// What: a workload, a policy, a repository.
    pub subject: String,
    /// Why, with figures.
    pub why: String,
    /// Numbers of the records that say so. Empty where the plan or a repository says it.
    pub records: Vec<u64>,
}

/// A statement.
#[derive(Debug, Clone, Serialize)]
pub struct Claim {
    /// Its name.
    pub id: &'static str,
    /// What is claimed.
    pub says: &'static str,
    /// What the evidence says of it.
    pub state: State,
    /// Why, in figures.
    pub reason: String,
    /// For how many things it holds.
    pub holds: usize,
    /// For how many not.
    pub fails: usize,
    /// Of how many nothing is known.
    pub unknown: usize,
    /// The newest records that support it.
    pub supports: Cited,
    /// The newest records that contradict it.
    pub contradicts: Cited,
    /// For what it does not hold.
    pub contradictions: Vec<Contradiction>,
    /// Of what nothing is known, and why.
    pub unproven: Vec<Contradiction>,
}

/// What is said of one thing.
enum Said {
    Holds,
    Fails(String),
    Unknown(String),
}

struct Builder {
    claim: Claim,
    /// `workload`, `policy`, `repository`.
    of: &'static str,
}

impl Builder {
    fn new(id: &'static str, says: &'static str, of: &'static str) -> Self {
        Self {
            claim: Claim {
                id,
                says,
                state: State::NoEvidence,
                reason: String::new(),
                holds: 0,
                fails: 0,
                unknown: 0,
                supports: Cited::default(),
                contradicts: Cited::default(),
                contradictions: Vec::new(),
                unproven: Vec::new(),
            },
            of,
        }
    }

    fn add(&mut self, subject: impl ToString, said: Said, supports: &Cited, contradicts: &Cited) {
        let claim = &mut self.claim;
        claim.supports.merge(supports, MOST);
        let named = |why: &str, records: &Cited| Contradiction {
            subject: subject.to_string(),
            why: shortened(why),
            records: records.numbers().collect(),
        };
        match said {
            Said::Holds => claim.holds += 1,
            Said::Fails(why) => {
                claim.fails += 1;
                claim.contradicts.merge(contradicts, MOST);
                if claim.contradictions.len() < MOST_SUBJECTS {
                    claim.contradictions.push(named(&why, contradicts));
                }
            }
            Said::Unknown(why) => {
                claim.unknown += 1;
                if claim.unproven.len() < MOST_SUBJECTS {
                    claim.unproven.push(named(&why, contradicts));
                }
            }
        }
    }

    fn finish(self, nothing: &str) -> Claim {
        let Self { mut claim, of } = self;
        let all = claim.holds + claim.fails + claim.unknown;
        claim.state = match (claim.holds, claim.fails, claim.unknown) {
            (_, 1.., _) => State::Contradicted,
            (0, _, _) => State::NoEvidence,
            (_, _, 0) => State::Supported,
            _ => State::PartlySupported,
        };
        let mut said = vec![format!("holds for {} of {}", claim.holds, counted(all, of))];
        if all == 0 {
            said = vec![nothing.to_owned()];
        }
        let first = |list: &[Contradiction]| {
            list.first()
                .map_or_else(String::new, |one| format!("{}: {}", one.subject, one.why))
        };
        if claim.fails > 0 {
            let first = first(&claim.contradictions);
            said.push(format!("not for {}, such as {first}", claim.fails));
        }
        if claim.unknown > 0 {
            let first = first(&claim.unproven);
            said.push(format!("nothing is proven of {}, such as {first}", claim.unknown));
        }
        claim.reason = said.join("; ");
        claim
    }
}

/// All claims.
pub(super) fn all(plan: &Plan, report: &Report) -> Vec<Claim> {
    let mut claims = vec![coverage(report), promises(plan), feasible(report)];
    let workloads = &report.workloads;
    let per_workload = |id, says, judge: &dyn Fn(&WorkloadReport) -> (Said, Cited, Cited)| {
        let mut builder = Builder::new(id, says, "workload");
        for workload in workloads {
            let (said, supports, contradicts) = judge(workload);
            builder.add(&workload.workload, said, &supports, &contradicts);
        }
        builder.finish("no workload has a policy")
    };
    claims.push(per_workload(
        "backups",
        "Workloads are backed up by themselves",
        &backups,
    ));
    claims.push(per_workload(
        "rpo",
        "At no time more than the RPO could have been lost",
        &rpo,
    ));
    claims.push(per_workload(
        "rto",
        "Recovery takes no longer than the RTO, as measured by drills",
        &rto,
    ));
    claims.push(per_workload(
        "verification",
        "Snapshots are read and compared as often as promised, and the last time nothing was damaged",
        &|workload| {
            let (said, bad) = care(&workload.verification, "verification");
            (said, workload.verification.good.clone(), bad)
        },
    ));
    claims.push(per_workload(
        "drills",
        "Recovery is tested as often as promised, and works",
        &|workload| {
            let (said, bad) = care(&workload.drills.care, "drill");
            (said, workload.drills.care.good.clone(), bad)
        },
    ));
    claims.push(per_workload(
        "negative-controls",
        "Drills notice a restore that is wrong",
        &negative,
    ));
    claims.push(exercise(report));
    claims.push(copies(report));
    claims.push(encryption(plan, report));
    claims
}

fn coverage(report: &Report) -> Claim {
    let mut builder = Builder::new(
        "coverage",
        "Everything in the plan is protected, or left out for a reason that still holds",
        "workload",
    );
    let none = Cited::default();
    for workload in &report.workloads {
        builder.add(&workload.workload, Said::Holds, &none, &none);
    }
    for excluded in &report.excluded {
        let said = match (&excluded.reason, excluded.until) {
            (None, _) => Said::Fails("it has neither a policy nor a reason to be left out".into()),
            (Some(reason), Some(until)) if excluded.expired => {
                Said::Fails(format!("it was left out until {until} only ({reason})"))
            }
            (Some(_), _) => Said::Holds,
        };
        builder.add(&excluded.workload, said, &none, &none);
    }
    builder.finish("the plan names no workload")
}

fn promises(plan: &Plan) -> Claim {
    let mut builder = Builder::new(
        "promises",
        "Each policy says what is promised and how it is tested: RPO, RTO, retention, verification, drill",
        "policy in use",
    );
    let none = Cited::default();
    for (name, policy) in &plan.policies {
        let used = plan.workloads.iter().filter_map(|entry| entry.policy.as_ref());
        if !used.into_iter().any(|used| used.value == *name) {
            continue;
        }
        let lacking = [
            ("RPO", policy.rpo.is_none()),
            ("RTO", policy.rto.is_none()),
            ("verification", policy.verify.is_none()),
            ("drill", policy.drill.is_none()),
        ];
        let lacking: Vec<&str> = lacking
            .iter()
            .filter(|(_, lacks)| *lacks)
            .map(|(what, _)| *what)
            .collect();
        let said = match lacking.as_slice() {
            [] => Said::Holds,
            lacking => Said::Fails(format!("it lacks {}", lacking.join(", "))),
        };
        builder.add(format!("policy {name}"), said, &none, &none);
    }
    let mut claim = builder.finish("no policy is in use");
    claim.reason = claim.reason.replace("policy in uses", "policies in use");
    claim
}

fn feasible(report: &Report) -> Claim {
    let mut builder = Builder::new(
        "plan-check",
        "The plan can keep what it promises, with what was measured",
        "plan",
    );
    let none = Cited::default();
    let errors = report
        .plan
        .findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error);
    let mut found = false;
    for error in errors {
        found = true;
        let why = format!("{}: {}", error.code, error.reason);
        builder.add(&error.subject, Said::Fails(why), &none, &none);
    }
    if !found {
        builder.add("plan", Said::Holds, &none, &none);
    }
    let mut claim = builder.finish("");
    claim.reason = match claim.fails {
        0 => "`relight plan check` finds no error".to_owned(),
        fails => {
            let first = claim.contradictions.first();
            let first = first.map_or_else(String::new, |one| format!("{}: {}", one.subject, one.why));
            format!(
                "`relight plan check` finds {}, such as {first}",
                counted(fails, "error")
            )
        }
    };
    claim
}

fn backups(workload: &WorkloadReport) -> (Said, Cited, Cited) {
    let runs = &workload.runs;
    let said = match (runs.good, runs.all()) {
        (0, 0) if workload.gap_count > 0 => Said::Fails("no backup is recorded".into()),
        (0, 0) => Said::Unknown("no backup is recorded".into()),
        (0, all) => Said::Fails(format!("none of {} was good", counted(all as usize, "backup"))),
        _ => Said::Holds,
    };
    (said, workload.good.clone(), workload.bad.clone())
}

fn objective(judged: &Judged) -> Said {
    match judged.verdict {
        Verdict::Met { .. } => Said::Holds,
        Verdict::Missed { .. } => Said::Fails(format!("{}: {}", judged.verdict, judged.reason)),
        Verdict::NotMeasured => Said::Unknown(format!("not measured: {}", judged.reason)),
        Verdict::NotPromised => Said::Unknown("nothing is promised".into()),
    }
}

fn rpo(workload: &WorkloadReport) -> (Said, Cited, Cited) {
    let mut contradicts = Cited::default();
    let cited = workload.gaps.iter().flat_map(|gap| &gap.records);
    let mut cited: Vec<&Citation> = cited.collect();
    cited.sort_by_key(|one| one.sequence);
    cited.dedup_by_key(|one| one.sequence);
    for one in cited {
        contradicts.add(one.clone(), MOST);
    }
    let said = match objective(&workload.rpo) {
        // Without any point there is nothing to measure. But the log holds all runs: that none of them gave a point for longer
        // than is permitted is a promise that was broken.
        Said::Unknown(_) if workload.newest.is_none() && workload.gap_count > 0 => {
            Said::Fails("there was no recovery point at all".into())
        }
        other => other,
    };
    (said, workload.good.clone(), contradicts)
}

fn rto(workload: &WorkloadReport) -> (Said, Cited, Cited) {
    let measured = workload.measured.clone();
    match objective(&workload.rto) {
        Said::Fails(why) => (Said::Fails(why), Cited::default(), measured),
        said => (said, measured, Cited::default()),
    }
}

/// Whether something was done as often as promised, and the last time well.
fn care(care: &Care, what: &str) -> (Said, Cited) {
    let said = if !care.planned {
        Said::Unknown(format!("no {what} is planned"))
    } else if care.last_is_bad && care.bad.count > 0 {
        let last = care.bad.records.back();
        let why = last.map_or_else(String::new, |last| last.what.clone());
        Said::Fails(format!("the last {what} ended badly: {why}"))
    } else if care.occasions.missed > 0 {
        let last = care.occasions.missed_at.last();
        let last = last.map_or_else(String::new, |due| format!(", the last one due {due}"));
        let (missed, due) = (care.occasions.missed, care.occasions.due);
        Said::Fails(format!("{missed} of {due} planned were not done{last}"))
    } else if care.good.count == 0 {
        Said::Unknown(match care.occasions.due {
            0 => format!("no {what} was due in the period"),
            _ => format!("no {what} is recorded"),
        })
    } else {
        Said::Holds
    };
    (said, care.bad.clone())
}

fn negative(workload: &WorkloadReport) -> (Said, Cited, Cited) {
    let drills = &workload.drills;
    let said = if drills.unnoticed.count > 0 {
        let count = counted(drills.unnoticed.count as usize, "spoiled restore");
        Said::Fails(format!("{count} passed its probes"))
    } else if drills.noticed.count > 0 {
        Said::Holds
    } else {
        Said::Unknown("no drill was spoiled on purpose".into())
    };
    (said, drills.noticed.clone(), drills.unnoticed.clone())
}

fn exercise(report: &Report) -> Claim {
    let mut builder = Builder::new(
        "exercise",
        "The recovery of everything is tried as often as promised, and works",
        "exercise",
    );
    let exercises = &report.exercises;
    let last_is_bad = match (exercises.good.records.back(), exercises.bad.records.back()) {
        (Some(good), Some(bad)) => bad.sequence > good.sequence,
        (None, bad) => bad.is_some(),
        (Some(_), None) => false,
    };
    let as_care = Care {
        planned: exercises.planned,
        repository: None,
        occasions: exercises.occasions.clone(),
        good: exercises.good.clone(),
        bad: exercises.bad.clone(),
        last_good: None,
        age: None,
        last_is_bad,
    };
    let (said, bad) = care(&as_care, "exercise");
    let reason = match &said {
        Said::Holds => {
            let last = exercises.last.as_ref();
            last.map_or_else(String::new, |last| format!("the last one: {}", last.reason))
        }
        Said::Fails(why) | Said::Unknown(why) => why.clone(),
    };
    builder.add("exercise", said, &exercises.good, &bad);
    Claim {
        reason,
        ..builder.finish("")
    }
}

fn copies(report: &Report) -> Claim {
    let mut builder = Builder::new(
        "copies",
        "There are copies in another repository, as new as promised",
        "workload",
    );
    let none = Cited::default();
    for workload in &report.workloads {
        if workload.copies.is_empty() {
            let why = "its policy has no copy".to_owned();
            builder.add(&workload.workload, Said::Unknown(why), &none, &none);
        }
        let several = workload.copies.len() > 1;
        for copy in &workload.copies {
            let (said, bad) = care(copy, "copy");
            let subject = match copy.repository.as_ref().filter(|_| several) {
                Some(repository) => format!("{} in {repository}", workload.workload),
                None => workload.workload.to_string(),
            };
            builder.add(subject, said, &copy.good, &bad);
        }
    }
    builder.finish("no workload has a policy")
}

fn encryption(plan: &Plan, report: &Report) -> Claim {
    let mut builder = Builder::new(
        "encryption",
        "Everything in the repositories is encrypted and authenticated (AES-256-GCM)",
        "repository in use",
    );
    let none = Cited::default();
    for name in plan.repositories.keys() {
        let used = plan.policies.values().any(|policy| {
            let copies = policy.copies.iter().map(|copy| &copy.repository.value);
            std::iter::once(&policy.repository.value)
                .chain(copies)
                .any(|used| used == name)
        });
        if !used {
            continue;
        }
        let standing = report.repositories.iter().find(|one| one.name == *name);
        let said = match standing {
            Some(one) if one.found.is_some() => Said::Holds,
            Some(one) => Said::Unknown(one.failure.clone().unwrap_or_default()),
            None => Said::Unknown("the server does not know it".into()),
        };
        builder.add(format!("repository {name}"), said, &none, &none);
    }
    let mut claim = builder.finish("no repository is in use");
    claim.reason = claim.reason.replace("repository in uses", "repositories in use");
    claim
}
