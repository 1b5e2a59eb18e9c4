//! Whether a plan can keep what it promises: a linter over the plan and what was measured.
//!
//! It finds what no run would ever report: a recovery point objective that the schedule cannot keep, a recovery time
//! that the storage's tier forbids, a window that is too short for its load. Every finding has a stable code, a place in
//! the file, the reason with its figures, and the nearest change that would settle it.

mod capacity;
mod code;
mod coverage;
mod facts;
mod promises;
mod retained;

pub use code::{Code, Severity};
pub use facts::{Facts, RepositoryFacts, WorkloadFacts};

use std::fmt;

use serde::Serialize;

use crate::plan::{Plan, Policy, Position, WorkloadEntry};

/// Something in a plan that will not work, or that somebody should think about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What kind.
    pub code: Code,
    /// How bad.
    pub severity: Severity,
    /// Where.
    pub at: Position,
    /// Of what: `policy linux`, `workload vm/100`.
    pub subject: String,
    /// Why, with figures.
    pub reason: String,
    /// The nearest change that settles it.
    pub fix: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            code,
            severity,
            at,
            subject,
            reason,
            fix,
        } = self;
        write!(f, "{at}: {severity} {code}: {subject}: {reason}. Fix: {fix}")
    }
}

/// A policy with its workloads and what is known of them.
struct Subject<'p> {
    name: &'p str,
    policy: &'p Policy,
    workloads: Vec<&'p WorkloadEntry>,
}

/// What the rules look at, and what they have found.
struct Check<'p> {
    plan: &'p Plan,
    facts: &'p Facts,
    subjects: Vec<Subject<'p>>,
    findings: Vec<Finding>,
}

impl Check<'_> {
    fn find(
        &mut self,
        code: Code,
        at: Position,
        subject: impl Into<String>,
        reason: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.findings.push(Finding {
            code,
            severity: code.severity(),
            at,
            subject: subject.into(),
            reason: reason.into(),
            fix: fix.into(),
        });
    }
}

/// All that is to be said about a plan, by its place in the file.
pub fn check(plan: &Plan, facts: &Facts) -> Vec<Finding> {
    let mut subjects: Vec<Subject<'_>> = Vec::with_capacity(plan.policies.len());
    for (name, policy) in &plan.policies {
        subjects.push(Subject {
            name,
            policy,
            workloads: Vec::new(),
        });
    }
    for entry in &plan.workloads {
        if let Some((name, _)) = plan.policy_of(entry)
            && let Ok(at) = subjects.binary_search_by(|subject| subject.name.cmp(name))
            && let Some(subject) = subjects.get_mut(at)
        {
            subject.workloads.push(entry);
        }
    }
    let mut check = Check {
        plan,
        facts,
        subjects,
        findings: Vec::new(),
    };
    promises::run(&mut check);
    retained::run(&mut check);
    capacity::run(&mut check);
    coverage::run(&mut check);
    let mut findings = check.findings;
    findings.sort_by(|a, b| (a.at, a.code, &a.subject).cmp(&(b.at, b.code, &b.subject)));
    findings
}

/// `worst and 3 more`.
fn and_more(first: &impl fmt::Display, all: usize) -> String {
    match all {
        0 | 1 => first.to_string(),
        _ => format!("{first} and {} more", all - 1),
    }
}
