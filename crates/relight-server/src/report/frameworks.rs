//! The controls that a report speaks of, and what each rests on. What they demand is said in our own words; the frameworks
//! themselves prevail.
//!
//! Identifiers: CIS Critical Security Controls v8, safeguards 11.1 to 11.5; NIST SP 800-53 revision 5, family CP; NIST
//! SP 800-171 revision 2, 3.8.9; ISO/IEC 27001:2022, annex A, 8.13.

use serde::Serialize;

/// A collection of controls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Framework {
    /// CIS Critical Security Controls v8.
    CisV8,
    /// NIST SP 800-53 revision 5.
    #[serde(rename = "nist-800-53-r5")]
    Nist80053,
    /// NIST SP 800-171 revision 2.
    #[serde(rename = "nist-800-171-r2")]
    Nist800171,
    /// ISO/IEC 27001:2022, annex A.
    #[serde(rename = "iso-27001-2022")]
    Iso27001,
}

impl Framework {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::CisV8, Self::Nist80053, Self::Nist800171, Self::Iso27001];

    /// Its title.
    pub const fn title(self) -> &'static str {
        match self {
            Self::CisV8 => "CIS Critical Security Controls v8",
            Self::Nist80053 => "NIST SP 800-53 rev. 5",
            Self::Nist800171 => "NIST SP 800-171 rev. 2",
            Self::Iso27001 => "ISO/IEC 27001:2022, annex A",
        }
    }
}

/// One control.
#[derive(Debug, Clone, Copy)]
pub struct Requirement {
    /// Of which framework.
    pub framework: Framework,
    /// As the framework writes it: `CP-9(1)`.
    pub id: &'static str,
    /// As a token of OSCAL, the one of the published catalog where there is one: `cp-9.1`.
    pub oscal: &'static str,
    /// What it is about, in our words.
    pub title: &'static str,
    /// What of it is judged here, in our words.
    pub demand: &'static str,
    /// The claims that it rests on.
    pub claims: &'static [&'static str],
}

const fn requirement(
    framework: Framework,
    (id, oscal): (&'static str, &'static str),
    title: &'static str,
    demand: &'static str,
    claims: &'static [&'static str],
) -> Requirement {
    Requirement {
        framework,
        id,
        oscal,
        title,
        demand,
        claims,
    }
}

/// All controls.
pub const REQUIREMENTS: [Requirement; 15] = [
    requirement(
        Framework::CisV8,
        ("11.1", "cisc-11.1"),
        "A process for recovering data",
        "What is to be recovered, in what order of importance and how safely, is written down and can be done",
        &["coverage", "promises", "plan-check"],
    ),
    requirement(
        Framework::CisV8,
        ("11.2", "cisc-11.2"),
        "Automatic backups",
        "What is in scope is backed up without anybody's doing, at least as often as its sensitivity asks for",
        &["coverage", "backups", "rpo"],
    ),
    requirement(
        Framework::CisV8,
        ("11.3", "cisc-11.3"),
        "Protection of backups",
        "Backups are guarded as well as the original data: encrypted, and read again to find damage",
        &["encryption", "verification"],
    ),
    requirement(
        Framework::CisV8,
        ("11.4", "cisc-11.4"),
        "An isolated copy",
        "A copy of the backups is kept apart from the first",
        &["copies"],
    ),
    requirement(
        Framework::CisV8,
        ("11.5", "cisc-11.5"),
        "Tests of recovery",
        "Recovery is tested regularly with a sample of what is in scope",
        &["drills", "negative-controls"],
    ),
    requirement(
        Framework::Nist80053,
        ("CP-4", "cp-4"),
        "Testing of the contingency plan",
        "The plan for an emergency is tried as often as was decided, and what is found wrong is seen",
        &["exercise", "drills"],
    ),
    requirement(
        Framework::Nist80053,
        ("CP-9", "cp-9"),
        "Backup",
        "Data are backed up as often as recovery objectives ask for, and their backups are guarded",
        &["coverage", "backups", "rpo", "encryption"],
    ),
    requirement(
        Framework::Nist80053,
        ("CP-9(1)", "cp-9.1"),
        "Tests that backups are reliable and whole",
        "Backups are tested as often as was decided",
        &["verification", "drills"],
    ),
    requirement(
        Framework::Nist80053,
        ("CP-9(2)", "cp-9.2"),
        "Restoration of a sample",
        "A sample of the backups is restored when the contingency plan is tested",
        &["drills", "exercise"],
    ),
    requirement(
        Framework::Nist80053,
        ("CP-9(3)", "cp-9.3"),
        "Separate storage",
        "Backups of what is critical are kept somewhere else, too",
        &["copies"],
    ),
    requirement(
        Framework::Nist80053,
        ("CP-9(8)", "cp-9.8"),
        "Cryptographic protection",
        "Backups can be neither read nor changed unseen by whoever gets hold of their storage",
        &["encryption"],
    ),
    requirement(
        Framework::Nist80053,
        ("CP-10", "cp-10"),
        "Recovery",
        "Systems can be brought back to a known state within the promised time and to the promised point",
        &["rto", "rpo", "drills", "exercise"],
    ),
    requirement(
        Framework::Nist80053,
        ("CP-10(4)", "cp-10.4"),
        "Recovery within a given time",
        "Components can be restored within the time that was decided",
        &["rto"],
    ),
    requirement(
        Framework::Nist800171,
        ("3.8.9", "nist-800-171-3.8.9"),
        "Confidentiality of backups",
        "Backups of controlled information are kept confidential where they are stored",
        &["encryption"],
    ),
    requirement(
        Framework::Iso27001,
        ("A.8.13", "iso-27001-a.8.13"),
        "Backup of information",
        "Copies of information are kept and tested regularly, by the policy that was agreed on",
        &[
            "promises",
            "backups",
            "rpo",
            "verification",
            "drills",
            "encryption",
        ],
    ),
];
