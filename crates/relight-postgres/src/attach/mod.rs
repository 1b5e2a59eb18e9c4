//! Looks at a cluster before it is protected: what is in order, what has to be changed, and how.

mod facts;
mod findings;
mod host;
mod privileges;

use serde::Serialize;

pub use facts::Facts;

use crate::connect::Settings;
use crate::error::Result;
use crate::protocol::{Connection, Mode};

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// It is as it should be.
    Good,
    /// It could be better.
    Advice,
    /// The cluster cannot be protected like this.
    Problem,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub level: Level,
    /// What was looked at.
    pub subject: &'static str,
    /// What was found.
    pub found: String,
    /// What to change, if anything.
    pub change: Option<String>,
}

/// What was found out about a cluster.
#[derive(Debug, Clone, Serialize)]
pub struct Examination {
    /// Host and port, or the socket.
    pub server: String,
    /// What it is.
    pub facts: Facts,
    /// What was looked at, in a fixed order.
    pub findings: Vec<Finding>,
}

impl Examination {
    /// The worst of it.
    pub fn level(&self) -> Level {
        self.findings
            .iter()
            .map(|finding| finding.level)
            .max()
            .unwrap_or(Level::Good)
    }
}

/// Looks at a cluster. Nothing is changed.
///
/// # Errors
/// It cannot be reached or is not PostgreSQL of a version that is supported; everything else is a finding.
pub fn examine(settings: &Settings) -> Result<Examination> {
    let mut connection = Connection::open(settings, Mode::Queries)?;
    let server = connection.same_server(settings);
    let facts = Facts::ask(&mut connection)?;
    let mut findings = findings::of(&facts);
    findings.extend(privileges::look(&mut connection, &facts, &server));
    findings.push(host::encryption(&connection));
    findings.extend(host::room(&mut connection, &facts));
    findings.push(host::clock(&mut connection));
    Ok(Examination {
        server: connection.server().to_string(),
        facts,
        findings,
    })
}
