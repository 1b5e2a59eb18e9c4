//! What a plan says under `probe` of a cluster.

use std::path::PathBuf;

use relight_workloads::error::{Result, WorkloadError};
use relight_workloads::kind::Subject;
use relight_workloads::rehearse::command::CommandWords;
use relight_workloads::rehearse::probe_words;
use serde::Deserialize;

/// What is looked at.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Words {
    /// Queries of the operator.
    pub sql: Vec<Query>,
    /// Whether `pg_amcheck` looks at all tables and indexes.
    pub amcheck: bool,
    /// Whether the checksums of all pages are looked at, if the cluster has some.
    pub checksums: bool,
    /// Whether rows are counted and compared with what was counted when the backup was taken.
    pub rows: bool,
    /// Folder of the programs of the cluster's version [default: what source says].
    pub bin: Option<PathBuf>,
    /// User that the server runs as [default: what source says].
    pub user: Option<String>,
    #[serde(flatten)]
    pub command: CommandWords,
}

impl Default for Words {
    fn default() -> Self {
        Self {
            sql: Vec::new(),
            amcheck: true,
            checksums: true,
            rows: true,
            bin: None,
            user: None,
            command: CommandWords::default(),
        }
    }
}

/// A query, and what it has to give.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Query {
    /// The database that it is asked of.
    pub database: String,
    /// It.
    pub query: String,
    /// The first value of its first row; none: that it gives a row is enough.
    pub expect: Option<String>,
}

/// `deny_unknown_fields` does not go together with `flatten`.
const KNOWN: &[&str] = &[
    "sql",
    "amcheck",
    "checksums",
    "rows",
    "bin",
    "user",
    "command",
    "timeout",
];

impl Words {
    /// Those of a subject.
    pub fn of(subject: &Subject) -> Result<Self> {
        let example = "{ sql = [{ database = \"app\", query = \"SELECT true\", expect = \"t\" }] }";
        let words: Self = probe_words(subject, example)?;
        let refused = |why: String| WorkloadError::Refused(format!("{}: probe: {why}", subject.workload));
        if let Some(word) = subject.probe.words().find(|word| !KNOWN.contains(word)) {
            return Err(refused(format!(
                "there is no {word:?}; there is: {}",
                KNOWN.join(", ")
            )));
        }
        if words.sql.iter().any(|query| query.query.trim().is_empty()) {
            return Err(refused("a query of sql is empty".into()));
        }
        words.command.check().map_err(refused)?;
        Ok(words)
    }
}
