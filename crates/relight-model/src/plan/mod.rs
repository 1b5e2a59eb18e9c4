//! The plan: what is protected, what is promised, and within which limits, as `relight.toml` says it.
//!
//! One file configures the server and holds the plan. `[server]` and some words of `[[repository]]` are the server's
//! (see [`SERVER_TABLES`] and [`SERVER_REPOSITORY_WORDS`]); this module passes over them, and the server passes over
//! [`PLAN_TABLES`] and [`PLAN_REPOSITORY_WORDS`]. Every other word is refused, by both.

mod channel;
mod names;
mod nearest;
mod policy;
mod read;
mod section;
mod settings;
mod source;
mod values;

pub use channel::{Channel, Shape};
pub use names::{Method, PickRule, RouteEvent, Stage, UnknownName, Verb};
pub use policy::{CopyRule, DrillRule, Policy};
pub use settings::Settings;
pub use source::{At, PlanErrors, Position, Problem};
pub use values::{
    Bandwidth, Exclusion, Exercise, Limits, Repository, ResourceKind, Role, Route, Window, WorkloadEntry,
};

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use serde::{Serialize, Serializer};

use crate::workload::Workload;

/// Tables that the server reads and the plan passes over.
pub const SERVER_TABLES: &[&str] = &["server", "mail", "restore", "approvals", "signin", "realm"];
/// Words of `[[repository]]` that the server reads and the plan passes over.
pub const SERVER_REPOSITORY_WORDS: &[&str] = &[
    "location",
    "password-file",
    "key-file",
    "comment",
    "owner",
    "capacity",
];
/// Tables that the plan reads and the server passes over.
pub const PLAN_TABLES: &[&str] = &[
    "plan",
    "policy",
    "workload",
    "window",
    "limit",
    "bandwidth",
    "exercise",
    "route",
    "role",
];
/// Words of `[[repository]]` that the plan reads and the server passes over.
pub const PLAN_REPOSITORY_WORDS: &[&str] = &["runs", "lock", "thaw", "forget", "collect", "network"];

/// No plan that a person keeps is larger.
const MAX_LEN: usize = 16 << 20;

/// A whole plan, checked for its form and for names that do not exist. Whether its promises can be kept is for
/// [`crate::check`] to say.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// Time zone of all its calendar events and retention periods.
    #[serde(serialize_with = "zone_name")]
    pub time_zone: TimeZone,
    /// How many runs may use the same thing at a time.
    pub limits: Limits,
    /// Repositories by name.
    pub repositories: BTreeMap<String, Repository>,
    /// Policies by name.
    pub policies: BTreeMap<String, Policy>,
    /// Windows by name.
    pub windows: BTreeMap<String, Window>,
    /// What is protected, in the order of the file.
    pub workloads: Vec<WorkloadEntry>,
    /// Limits of bandwidth, in the order of the file.
    pub bandwidth: Vec<Bandwidth>,
    /// The whole-site exercise.
    pub exercise: Option<Exercise>,
    /// Who is told what.
    pub routes: Vec<Route>,
    /// Who may do what.
    pub roles: BTreeMap<String, Role>,
}

fn zone_name<S: Serializer>(zone: &TimeZone, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(zone.iana_name().unwrap_or("UTC"))
}

impl Plan {
    /// Reads the plan's tables of a configuration.
    ///
    /// # Errors
    /// Everything that is wrong with its form, by line and column: syntax, unknown words and names, values that make no
    /// sense.
    pub fn parse(text: &str) -> Result<Self, PlanErrors> {
        if text.len() > MAX_LEN {
            return Err(PlanErrors(vec![Problem {
                at: Position { line: 1, column: 1 },
                message: format!("the plan is larger than {} MiB", MAX_LEN >> 20),
            }]));
        }
        read::plan(text)
    }

    /// The policy that holds for a workload.
    pub fn policy_of(&self, workload: &WorkloadEntry) -> Option<(&str, &Policy)> {
        let name = workload.policy.as_ref()?;
        let (name, policy) = self.policies.get_key_value(&name.value)?;
        Some((name, policy))
    }

    /// The workload of this name.
    pub fn workload(&self, name: &Workload) -> Option<&WorkloadEntry> {
        self.workloads.iter().find(|entry| entry.name.value == *name)
    }
}

/// A resource, by kind and name.
pub type Resource = (ResourceKind, String);

impl Plan {
    /// What a run that reads `entry` and writes to (or reads from) a repository shares with others.
    pub fn resources(&self, entry: Option<&WorkloadEntry>, repository: Option<&str>) -> Vec<Resource> {
        let mut resources = Vec::new();
        if let Some(entry) = entry {
            let named = [
                (ResourceKind::Host, &entry.host),
                (ResourceKind::Storage, &entry.storage),
                (ResourceKind::Network, &entry.network),
            ];
            for (kind, name) in named {
                resources.extend(name.iter().map(|name| (kind, name.clone())));
            }
        }
        if let Some(name) = repository {
            resources.push((ResourceKind::Repository, name.to_owned()));
            let network = self
                .repositories
                .get(name)
                .and_then(|repository| repository.network.clone());
            resources.extend(network.map(|network| (ResourceKind::Network, network)));
        }
        resources.sort_unstable();
        resources.dedup();
        resources
    }

    /// How many runs may use a resource at a time.
    pub fn limit_of(&self, resource: &Resource) -> u32 {
        let (kind, name) = resource;
        let runs = match kind {
            ResourceKind::Repository => self.repositories.get(name).and_then(|repository| repository.runs),
            _ => None,
        };
        runs.unwrap_or_else(|| self.limits.limit(*kind, name))
    }
}
