//! Words with a fixed meaning in a plan.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::section::unknown;

/// A word that is none of those that are possible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnknownName(String);

/// An enum that is written as one of some words.
macro_rules! names {
    ($(#[$doc:meta])* $name:ident, $place:literal, { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// As it is written.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }

        impl FromStr for $name {
            type Err = UnknownName;

            fn from_str(text: &str) -> Result<Self, UnknownName> {
                let found = Self::ALL.iter().copied().find(|known| known.name() == text);
                found.ok_or_else(|| {
                    UnknownName(unknown(text, $place, Self::ALL.iter().map(|known| known.name())))
                })
            }
        }
    };
}

names!(
    /// How a workload is captured.
    Method, "among methods", {
        /// Disk images.
        Image = "image",
        /// File trees.
        Files = "files",
        /// A logical dump of a database (`pg_dump`, `mongodump`).
        Dump = "dump",
        /// A physical base backup, to which a log can be applied.
        BaseBackup = "base-backup",
        /// Snapshots of volumes by their storage.
        VolumeSnapshot = "volume-snapshot",
        /// Export through an application's interface (Microsoft 365).
        Export = "export",
        /// System state of a Windows server or of a domain controller.
        SystemState = "system-state",
        /// A replica that follows its original. Not a backup: it follows mistakes too.
        Replication = "replication",
    }
);

impl Method {
    /// Whether a log can carry a snapshot of this method on to any point in time. A logical dump has no position in the
    /// log (PostgreSQL documentation, "Continuous Archiving and Point-in-Time Recovery": dumps cannot be used).
    pub const fn takes_log(self) -> bool {
        matches!(self, Self::BaseBackup)
    }
}

names!(
    /// Which recovery point a drill restores.
    PickRule, "among drill picks", {
        /// The newest.
        Latest = "latest",
        /// Any.
        Random = "random",
        /// The oldest.
        Oldest = "oldest",
    }
);

names!(
    /// Stage of a recovery of everything. The order is that of dependency: without identity nobody can log in to the
    /// rest.
    Stage, "among stages of recovery", {
        /// Directories, keys.
        Identity = "identity",
        /// Name service, addresses, time.
        Network = "network",
        /// Storage.
        Storage = "storage",
        /// Databases.
        Database = "database",
        /// What people use.
        Application = "application",
    }
);

names!(
    /// What somebody is told about.
    RouteEvent, "among events", {
        /// A run failed for good.
        Failure = "failure",
        /// A recovery point objective is broken.
        Rpo = "rpo",
        /// A recovery time objective is broken.
        Rto = "rto",
        /// A drill failed.
        Drill = "drill",
        /// Something that a person must look at, such as a clock that jumped.
        Alarm = "alarm",
        /// A run ended well.
        Success = "success",
        /// The regular report.
        Report = "report",
        /// The server is alive and looks: for whoever notices when this is not told any more.
        Alive = "alive",
    }
);

names!(
    /// What a role may do.
    Verb, "among verbs", {
        /// See state and results.
        View = "view",
        /// Start and cancel backups, copies and verifications.
        Backup = "backup",
        /// Read data back.
        Restore = "restore",
        /// Restore over what is in production.
        RestoreOver = "restore-over",
        /// Start drills.
        Drill = "drill",
        /// Change the plan.
        Plan = "plan",
        /// Remove snapshots.
        Forget = "forget",
        /// Read and export evidence.
        Evidence = "evidence",
        /// See and change keys.
        Keys = "keys",
        /// Decide on what others may not do alone.
        Approve = "approve",
        /// Everything, users and keys too.
        Admin = "admin",
    }
);

impl PickRule {
    /// The recovery point that a drill restores, of those from which it may choose, in any order. `lot` decides where
    /// chance does: the same number gives the same point, so that a drill can be repeated.
    pub fn pick<T: Ord + Copy>(self, points: impl IntoIterator<Item = T>, lot: u64) -> Option<T> {
        let mut points: Vec<T> = points.into_iter().collect();
        points.sort_unstable();
        match self {
            Self::Latest => points.last().copied(),
            Self::Oldest => points.first().copied(),
            Self::Random => {
                let count = u64::try_from(points.len()).ok().filter(|&count| count > 0)?;
                let at = usize::try_from(lot % count).ok()?;
                points.get(at).copied()
            }
        }
    }
}
