//! What a plan consists of, beside policies.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::channel::Channel;
use super::names::{Method, RouteEvent, Stage, Verb};
use super::settings::Settings;
use super::source::{At, Position};
use crate::calendar::Event;
use crate::duration::TimeSpan;
use crate::size::{ByteSize, Rate};
use crate::workload::Workload;

/// Something that runs share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResourceKind {
    /// A machine.
    Host,
    /// A storage that workloads are read from.
    Storage,
    /// A network path.
    Network,
    /// A repository.
    Repository,
}

impl fmt::Display for ResourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Host => "host",
            Self::Storage => "storage",
            Self::Network => "network",
            Self::Repository => "repository",
        })
    }
}

/// `[limit]`: how many runs may use the same thing at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Limits {
    /// Runs in all.
    pub runs: u32,
    /// `[limit.host]` and so on, by name; the name `default` holds for all that are not named.
    #[serde(skip)]
    pub of: BTreeMap<(ResourceKind, String), u32>,
}

/// The name that stands for all that are not named.
pub(super) const DEFAULT: &str = "default";

impl Limits {
    /// How many runs may use this at a time.
    pub fn limit(&self, kind: ResourceKind, name: &str) -> u32 {
        let named = self.of.get(&(kind, name.to_owned()));
        let general = || self.of.get(&(kind, DEFAULT.to_owned()));
        named.or_else(general).copied().unwrap_or(match kind {
            // Two backups of one machine at once mostly slow each other down.
            ResourceKind::Host => 1,
            ResourceKind::Storage | ResourceKind::Network | ResourceKind::Repository => u32::MAX,
        })
    }
}

/// What the plan says of a `[[repository]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Repository {
    /// Where its name stands.
    #[serde(skip)]
    pub at: Position,
    /// How many runs may write to it at a time.
    pub runs: Option<u32>,
    /// The network that leads to it.
    pub network: Option<String>,
    /// How long its storage refuses to delete what was stored (object lock).
    pub lock: Option<At<TimeSpan>>,
    /// How long it takes until what is stored there can be read (archive classes).
    pub thaw: Option<At<TimeSpan>>,
    /// When snapshots that no policy keeps are forgotten.
    pub forget: Option<At<Event>>,
    /// When space is collected.
    pub collect: Option<At<Event>>,
}

/// `[window.NAME]`: when runs may start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Window {
    /// Where its name stands.
    #[serde(skip)]
    pub at: Position,
    /// When it opens.
    pub opens: At<Event>,
    /// For how long.
    pub length: At<TimeSpan>,
}

impl Window {
    /// When the window that is open at `now` closes; `None` when it is closed.
    pub fn open_until(&self, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let length = jiff::SignedDuration::try_from(self.length.value.0).ok()?;
        let begin = now.checked_sub(length).ok()?;
        let opened = self.opens.latest_between(begin, now, zone)?;
        opened.checked_add(length).ok()
    }

    /// When it opens next; `now` if it is open.
    pub fn opens_next(&self, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self.open_until(now, zone) {
            Some(_) => Some(now),
            None => self.opens.next_after(now, zone),
        }
    }
}

/// `[[workload]]`: one thing that is protected.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct WorkloadEntry {
    /// Its name.
    pub name: At<Workload>,
    /// The policy that holds for it.
    pub policy: Option<At<String>>,
    /// Why it is not protected, where that is meant so, and until when that was decided.
    pub excluded: Option<Exclusion>,
    /// How it is captured, where that differs from its policy.
    pub method: Option<At<Method>>,
    /// The machine it is on.
    pub host: Option<String>,
    /// The storage it is on.
    pub storage: Option<String>,
    /// The network it is reached by.
    pub network: Option<String>,
    /// How large it is, until that has been measured.
    pub size: Option<At<ByteSize>>,
    /// Higher starts first. None: its policy's.
    pub priority: Option<u32>,
    /// When it is recovered after the loss of everything.
    pub stage: Option<Stage>,
    /// Where and how it is read, in words of its kind. None: the server does not read it.
    pub source: Option<At<Settings>>,
    /// How a drill sees that it works, in words of its kind.
    pub probe: Option<At<Settings>>,
}

/// `exclude = "reason"`, `exclude-until = "2027-06-30"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Exclusion {
    /// Why.
    pub reason: At<String>,
    /// The last day for which that was decided.
    pub until: Option<At<jiff::civil::Date>>,
}

/// `[[bandwidth]]`: how much all runs together may move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Bandwidth {
    /// Bytes in a second.
    pub rate: At<Rate>,
    /// The window in which it holds. None: always.
    pub window: Option<At<String>>,
    /// The network for which it holds. None: for all.
    pub network: Option<String>,
    /// The repository for which it holds. None: for all.
    pub repository: Option<At<String>>,
}

/// `[exercise]`: the recovery of everything, tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Exercise {
    /// When.
    pub schedule: At<Event>,
    /// The stages in their order.
    pub order: Vec<Stage>,
    /// How long it may take in all.
    pub rto: Option<At<TimeSpan>>,
}

/// `[[route]]`: who is told what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Route {
    /// Its name.
    pub name: At<String>,
    /// `mailto:…`, `https://…`.
    pub to: At<Channel>,
    /// What about.
    pub events: Vec<RouteEvent>,
    /// Of which policies. Empty: of all.
    pub policies: Vec<At<String>>,
    /// What is wrong is told when it has been so for this time: for whoever is to be woken only if nobody else mends it.
    pub after: TimeSpan,
    /// What is still wrong is told again after this time.
    pub repeat: TimeSpan,
}

/// `[role.NAME]`: who may do what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Role {
    /// Where its name stands.
    #[serde(skip)]
    pub at: Position,
    /// Users who have it.
    pub users: Vec<String>,
    /// What it allows.
    pub may: Vec<Verb>,
    /// With workloads of which policies. Empty: of all.
    pub policies: Vec<At<String>>,
}
