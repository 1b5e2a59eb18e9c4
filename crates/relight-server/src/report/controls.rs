//! Verdicts of controls.

use relight_model::TimeSpan;
use serde::Serialize;

use super::claims::{Claim, State};
use super::frameworks::{Framework, REQUIREMENTS, Requirement};
use super::{Report, words};

/// A control is not satisfied if there is no evidence of more than so much of the begin of the period: the first day of a
/// server is no whole one.
const UNCOVERED: TimeSpan = TimeSpan::from_secs(24 * 3600);

/// What the evidence says of a control.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ControlVerdict {
    /// All that it rests on is supported.
    Satisfied,
    /// Nothing contradicts it, but not all of it is supported.
    Partly,
    /// Nothing supports it and nothing contradicts it.
    NoEvidence,
    /// Something contradicts it.
    Contradicted,
}

impl ControlVerdict {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Satisfied,
        Self::Partly,
        Self::NoEvidence,
        Self::Contradicted,
    ];

    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Satisfied => "satisfied",
            Self::Partly => "partly",
            Self::NoEvidence => "no evidence",
            Self::Contradicted => "contradicted",
        }
    }
}

/// A control, and what follows for it.
#[derive(Debug, Clone, Serialize)]
pub struct Control {
    /// Of which framework.
    pub framework: Framework,
    /// Its identifier there.
    pub id: &'static str,
    /// Its identifier in OSCAL.
    pub oscal_id: &'static str,
    /// What it is about.
    pub title: &'static str,
    /// What of it is judged here.
    pub demand: &'static str,
    /// What follows.
    pub verdict: ControlVerdict,
    /// Why, with figures.
    pub reason: String,
    /// Names of the claims that it rests on.
    pub claims: Vec<&'static str>,
}

/// All of them.
pub(super) fn all(report: &Report) -> Vec<Control> {
    REQUIREMENTS
        .iter()
        .map(|requirement| judge(requirement, report))
        .collect()
}

fn judge(requirement: &Requirement, report: &Report) -> Control {
    let claims: Vec<&Claim> = requirement
        .claims
        .iter()
        .filter_map(|id| report.claim(id))
        .collect();
    let of = |state: State| claims.iter().filter(move |claim| claim.state == state);
    let count = |state: State| of(state).count();
    let mut verdict = match (
        count(State::Contradicted),
        count(State::Supported),
        count(State::PartlySupported),
    ) {
        (1.., _, _) => ControlVerdict::Contradicted,
        (0, 0, 0) => ControlVerdict::NoEvidence,
        (0, supported, 0) if supported == claims.len() => ControlVerdict::Satisfied,
        _ => ControlVerdict::Partly,
    };
    let mut said = Vec::new();
    if let Some(broken) = &report.chain.verified.broken {
        verdict = ControlVerdict::Contradicted;
        said.push(format!(
            "the evidence is not whole from record {} on ({})",
            broken.sequence, broken.why
        ));
    }
    if let Some(uncovered) = report.period.uncovered.filter(|uncovered| *uncovered > UNCOVERED)
        && verdict == ControlVerdict::Satisfied
    {
        verdict = ControlVerdict::Partly;
        said.push(format!(
            "there is no evidence of the first {uncovered} of the period"
        ));
    }
    let order = [
        State::Contradicted,
        State::NoEvidence,
        State::PartlySupported,
        State::Supported,
    ];
    for claim in order.into_iter().flat_map(of) {
        let state = words::state(claim.state);
        said.push(format!("{} {state}: {}", claim.id, claim.reason));
    }
    Control {
        framework: requirement.framework,
        id: requirement.id,
        oscal_id: requirement.oscal,
        title: requirement.title,
        demand: requirement.demand,
        verdict,
        reason: said.join(". "),
        claims: claims.iter().map(|claim| claim.id).collect(),
    }
}
