//! PostgreSQL clusters as a plan names them: `source = { url = "host=db1 user=relight" }`.

use std::path::PathBuf;

use relight_model::Rate;
use relight_model::plan::Method;
use relight_repo::session::Session;
use relight_repo::snapshot::Snapshot;
use relight_workloads::error::{Result as WorkloadResult, WorkloadError};
use relight_workloads::kind::{Captured, KeepsLog, Kind, Subject, Work};
use relight_workloads::rehearse::Rehearse;
use serde::Deserialize;

use crate::base::{self, Options, Route};
use crate::connect::Settings;
use crate::error::{PostgresError, Result};

/// Clusters by their base backups.
#[derive(Debug, Default)]
pub struct Clusters;

/// What a plan says under `source`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Source {
    /// How the cluster is reached: a URL or a connection string, without a password.
    pub url: String,
    /// Whether the server sends its files or they are read on its host.
    #[serde(default)]
    pub route: Route,
    /// Most bytes per second that the server sends.
    pub rate: Option<String>,
    /// Whether a backup begins at once, or with a checkpoint that is spread over time.
    #[serde(default)]
    pub checkpoint: Checkpoint,
    /// Who brings the log into the repository, if the policy promises one.
    #[serde(default)]
    pub log: LogBy,
    /// The slot of the receiver.
    pub slot: Option<String>,
    /// Folder of the programs of the cluster's version, for drills.
    pub bin: Option<PathBuf>,
    /// User that servers of drills run as, if this process runs as root.
    pub user: Option<String>,
}

/// Who brings the log of a cluster into the repository.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogBy {
    /// A receiver that this server starts.
    #[default]
    Receive,
    /// The cluster's `archive_command`, or a receiver elsewhere under another slot.
    Archive,
}

/// How a backup begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Checkpoint {
    /// At once.
    #[default]
    Fast,
    /// With the next checkpoint, which the server spreads over time.
    Spread,
}

impl Source {
    /// Just a place.
    pub fn at(url: &str) -> Self {
        Self {
            url: url.to_string(),
            route: Route::default(),
            rate: None,
            checkpoint: Checkpoint::default(),
            log: LogBy::default(),
            slot: None,
            bin: None,
            user: None,
        }
    }

    /// What the plan says of this subject.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of(subject: &Subject) -> Result<Self> {
        let refused = |why: &dyn std::fmt::Display| {
            PostgresError::Settings(format!(
                "{}: source: {why}; write for instance source = {{ url = \"host=db1.example user=relight\" }}",
                subject.workload
            ))
        };
        let source: Self = subject.source.read().map_err(|why| refused(&why))?;
        source.settings().map_err(|error| refused(&error))?;
        source.options().map_err(|error| refused(&error))?;
        Ok(source)
    }

    /// How the cluster is reached.
    pub fn settings(&self) -> Result<Settings> {
        Settings::new(&self.url)
    }

    /// How it is backed up.
    pub fn options(&self) -> Result<Options> {
        let rate = match &self.rate {
            Some(text) => {
                let rate: Rate = text
                    .parse()
                    .map_err(|error| PostgresError::Settings(format!("rate: {error}")))?;
                Some(rate.0)
            }
            None => None,
        };
        Ok(Options {
            route: self.route,
            fast: self.checkpoint == Checkpoint::Fast,
            full: false,
            rate,
        })
    }
}

impl Kind for Clusters {
    fn method(&self) -> Method {
        Method::BaseBackup
    }

    fn rehearse(&self) -> Option<&dyn Rehearse> {
        Some(self)
    }

    fn log(&self) -> Option<&dyn KeepsLog> {
        Some(self)
    }

    fn check(&self, subject: &Subject) -> WorkloadResult<()> {
        Source::of(subject)?;
        Ok(())
    }

    fn capture(
        &self,
        subject: &Subject,
        session: &Session,
        _parent: Option<&Snapshot>,
        work: &Work,
    ) -> WorkloadResult<Captured> {
        let source = Source::of(subject).map_err(WorkloadError::from)?;
        Ok(base::back_up(
            &source.settings()?,
            session,
            &subject.workload,
            &source.options()?,
            work,
        )?)
    }
}
