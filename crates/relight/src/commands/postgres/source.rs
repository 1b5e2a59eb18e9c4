//! How a cluster is reached: as the command says, or as the plan does.

use clap::Args;
use relight_model::plan::Plan;
use relight_model::workload::Workload;
use relight_postgres::Settings;
use relight_postgres::kind::Source;
use relight_workloads::kind::Subject;

use crate::failure::{Failure, Result};
use crate::server_state::ConfigOptions;

/// Where the cluster is.
#[derive(Debug, Args)]
pub struct SourceOptions {
    /// URL or connection string, without a password [default: what the plan says of the workload]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    #[command(flatten)]
    pub config: ConfigOptions,
}

impl SourceOptions {
    /// What the plan says of a cluster, or just the URL that was given.
    pub fn source(&self, workload: &Workload) -> Result<Source> {
        if let Some(url) = &self.url {
            return Ok(Source::at(url));
        }
        self.planned(workload)?.ok_or_else(|| {
            Failure::Usage(format!(
                "the plan in {} does not say how {workload} is reached: give --url, or run `relight postgres attach`",
                self.config.path().display()
            ))
        })
    }

    /// What the plan says; none if there is no configuration or it says nothing.
    pub fn planned(&self, workload: &Workload) -> Result<Option<Source>> {
        let path = self.config.path();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::Io(format!("read {}", path.display()), error)),
        };
        let plan = Plan::parse(&text)
            .map_err(|error| Failure::Usage(format!("the plan in {}: {error}", path.display())))?;
        let entry = plan
            .workloads
            .iter()
            .find(|entry| entry.name.value == *workload && entry.source.is_some());
        Ok(entry.map(|entry| Source::of(&Subject::of(entry))).transpose()?)
    }

    /// Settings of a connection.
    pub fn settings(&self, workload: &Workload) -> Result<Settings> {
        Ok(self.source(workload)?.settings()?)
    }
}
