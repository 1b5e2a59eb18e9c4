//! The compliance report: what was promised, what the evidence of a period says about it, and what follows for the controls
//! of common frameworks. Nothing in it is entered by hand.
//!
//! ```text
//! plan ───────────────┐
//! evidence, in order ─┤ Collector ─ Report ─┬ html
//! chain verification ─┤                     ├ pdf
//! repositories ───────┘                     ├ json (the Report itself)
//!                                           └ oscal
//! ```
//!
//! A [`Collector`] takes one record after the other and keeps figures and a few citations of each workload, so that its memory
//! does not grow with the number of records. What it makes is a plain value; renderers add nothing to it.

mod activity;
mod cited;
mod claims;
mod collect;
mod controls;
mod document;
mod exposure;
mod frameworks;
#[cfg(test)]
mod generated;
pub mod html;
mod occasions;
pub mod oscal;
pub mod pdf;
#[cfg(test)]
mod schema;
mod standing;
#[cfg(test)]
mod tests;
mod words;
mod workload;

use jiff::Timestamp;
use relight_model::TimeSpan;
use relight_model::check::Finding;
use relight_model::objective::{Objective, Verdict};
use serde::Serialize;

pub use activity::{Activity, Deeds};
pub use cited::{Citation, Cited};
pub use claims::{Claim, Contradiction, State};
pub use collect::Collector;
pub use controls::{Control, ControlVerdict};
pub use exposure::Gap;
pub use frameworks::{Framework, Requirement};
pub use occasions::Occasions;
pub use standing::{Found, RepositoryStanding, standing};
pub use workload::{Care, Drilled, Excluded, RunCounts, WorkloadReport};

use crate::evidence::Verified;

/// Version of the report as JSON. It grows when a field gets another meaning or goes away, not when one is added.
pub const VERSION: u32 = 1;

/// What a report is about.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The server's identity in hexadecimal digits.
    pub server: String,
    /// The public key that evidence is signed with, in hexadecimal digits.
    pub key: String,
    /// SHA-256 of the configuration that the plan was read from, in hexadecimal digits.
    pub plan_digest: String,
    /// Begin of the period.
    pub from: Timestamp,
    /// Its end, which is no part of it.
    pub to: Timestamp,
    /// When the report is made.
    pub now: Timestamp,
}

impl Subject {
    /// Of the server with this identity and public key, with the plan in this text of a configuration.
    pub fn new(
        server: [u8; 16],
        key: [u8; 32],
        configuration: &str,
        (from, to): (Timestamp, Timestamp),
        now: Timestamp,
    ) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, configuration.as_bytes());
        Self {
            server: hex::encode(server),
            key: hex::encode(key),
            plan_digest: hex::encode(digest),
            from,
            to,
            now,
        }
    }
}

/// The period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Period {
    /// As it was asked for.
    pub from: Timestamp,
    /// As it was asked for; no part of it any more.
    pub to: Timestamp,
    /// From when on there is evidence in it.
    pub judged_from: Timestamp,
    /// Until when there can be: not later than the report was made.
    pub judged_to: Timestamp,
    /// How much of its begin lies before the first record.
    pub uncovered: Option<TimeSpan>,
    /// Time zone of the plan.
    pub time_zone: String,
}

/// The plan that everything is held against: the one of the day on which the report was made.
#[derive(Debug, Clone, Serialize)]
pub struct PlanStanding {
    /// SHA-256 of the configuration.
    pub sha256: String,
    /// Workloads that it names.
    pub workloads: usize,
    /// Its policies.
    pub policies: usize,
    /// What the checker finds in it, with what was measured in the period.
    pub findings: Vec<Finding>,
}

/// The log that everything rests on.
#[derive(Debug, Clone, Serialize)]
pub struct Chain {
    /// The key it is signed with.
    pub key: String,
    /// What its verification found.
    #[serde(flatten)]
    pub verified: Verified,
    /// Records of the period that were read for this report.
    pub in_period: u64,
    /// Records whose details are not as this version writes them; they count for nothing.
    pub unreadable: Cited,
}

/// An RPO or RTO, held against what was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judged {
    /// What was promised, and what was measured.
    pub objective: Objective,
    /// What follows.
    pub verdict: Verdict,
    /// Why, with figures.
    pub reason: String,
}

/// The exercises of the recovery of everything.
#[derive(Debug, Clone, Serialize)]
pub struct Exercises {
    /// Whether the plan wants them.
    pub planned: bool,
    /// Whether they were done when they were due.
    pub occasions: Occasions,
    /// Those in which everything came back, in order and in time.
    pub good: Cited,
    /// Those in which not.
    pub bad: Cited,
    /// How long the last one took.
    pub last: Option<Judged>,
}

/// A compliance report.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// [`VERSION`].
    pub relight_report: u32,
    /// Version of the program that made it.
    pub program: String,
    /// When.
    pub made: Timestamp,
    /// The server it is about.
    pub server: String,
    /// Of which time.
    pub period: Period,
    /// Whether the evidence is whole.
    pub chain: Chain,
    /// The plan.
    pub plan: PlanStanding,
    /// The controls, framework by framework.
    pub controls: Vec<Control>,
    /// What the controls rest on.
    pub claims: Vec<Claim>,
    /// Each workload that has a policy.
    pub workloads: Vec<WorkloadReport>,
    /// What is not protected on purpose, and what is not protected at all.
    pub excluded: Vec<Excluded>,
    /// The recovery of everything.
    pub exercises: Exercises,
    /// The repositories, as they were when the report was made.
    pub repositories: Vec<RepositoryStanding>,
    /// Who did what.
    pub activity: Activity,
    /// What a reader must know to read it right.
    pub remarks: Vec<String>,
}

impl Report {
    /// Controls with this verdict.
    pub fn count(&self, verdict: ControlVerdict) -> usize {
        let of = |control: &&Control| control.verdict == verdict;
        self.controls.iter().filter(of).count()
    }

    /// The claim of this name.
    pub fn claim(&self, id: &str) -> Option<&Claim> {
        self.claims.iter().find(|claim| claim.id == id)
    }
}
