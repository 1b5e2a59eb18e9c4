//! What a snapshot remembers of a base backup.

use std::collections::BTreeMap;

use jiff::Timestamp;
use relight_repo::snapshot::Snapshot;
use serde::{Deserialize, Serialize};

use super::Route;
use super::files::FileList;
use crate::error::{PostgresError, Result};
use crate::lsn::Lsn;
use crate::wal::attributes::{
    LOG_INCLUDED, MAJOR, SEGMENT_SIZE, START_LSN, STOP_LSN, STOP_TIME, SYSTEM, TIMELINE,
};

/// The server's version, such as `17.11`.
pub const VERSION: &str = "postgres.version";
/// Version of the catalogs.
pub const CATALOG: &str = "postgres.catalog-version";
/// The timeline that the backup began on.
pub const START_TIMELINE: &str = "postgres.start-timeline";
/// When it began, by the server's clock.
pub const START_TIME: &str = "postgres.start-time";
/// Bytes of a data page.
pub const BLOCK_SIZE: &str = "postgres.block-size";
/// The oldest transaction that was running or to come when it had ended: no such is missing from a recovery.
pub const NEXT_TRANSACTION: &str = "postgres.next-transaction";
/// Whether pages have checksums.
pub const CHECKSUMS: &str = "postgres.checksums";
/// How it was taken: `stream` or `files`.
pub const ROUTE: &str = "postgres.route";
/// Where it was taken from: `primary` or `standby`.
pub const FROM: &str = "postgres.from";
/// Whether the server sent only what had changed.
pub const INCREMENTAL: &str = "postgres.incremental";
/// Bytes of all files.
pub const BYTES: &str = "postgres.bytes";
/// Tablespaces outside the data directory, as JSON.
pub const TABLESPACES: &str = "postgres.tablespaces";
/// Marks a base backup.
pub const KIND: &str = "postgres.kind";
/// What [`KIND`] says of a base backup.
pub const BASE: &str = "base";

/// What is known of a base backup from its snapshot's manifest alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Identity of the cluster.
    pub system: u64,
    /// The server's version.
    pub version: String,
    /// Version of the catalogs.
    pub catalog: u32,
    /// The timeline that the backup began on.
    pub start_timeline: u32,
    /// The timeline that it ended on.
    pub timeline: u32,
    /// Where replay begins.
    pub start_lsn: Lsn,
    /// Where it is consistent at the earliest.
    pub stop_lsn: Lsn,
    /// When it began, by the server's clock.
    pub start_time: Timestamp,
    /// When it ended, by the server's clock.
    pub stop_time: Timestamp,
    /// Transactions before this one had ended by then.
    pub next_transaction: u64,
    /// Bytes of a segment of the log.
    pub segment_size: u32,
    /// Bytes of a data page.
    pub block_size: u32,
    /// Whether pages have checksums.
    pub checksums: bool,
    /// How it was taken.
    pub route: Route,
    /// Whether it was taken from a standby.
    pub from_standby: bool,
    /// Whether the server sent only what had changed.
    pub incremental: bool,
}

/// Whether a snapshot is a base backup of a PostgreSQL cluster.
pub fn is_base(snapshot: &Snapshot) -> bool {
    snapshot.attributes.get(KIND).is_some_and(|kind| kind == BASE)
}

impl About {
    /// The major version.
    pub fn major(&self) -> u32 {
        let digits: String = self.version.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap_or(0)
    }

    /// As attributes of a snapshot.
    pub fn attributes(&self, list: &FileList) -> BTreeMap<String, String> {
        let route = match self.route {
            Route::Stream => "stream",
            Route::Files => "files",
        };
        let pairs = [
            (KIND, BASE.to_string()),
            (SYSTEM, self.system.to_string()),
            (VERSION, self.version.clone()),
            (CATALOG, self.catalog.to_string()),
            (TIMELINE, self.timeline.to_string()),
            (START_TIMELINE, self.start_timeline.to_string()),
            (START_LSN, self.start_lsn.to_string()),
            (STOP_LSN, self.stop_lsn.to_string()),
            (START_TIME, self.start_time.to_string()),
            (STOP_TIME, self.stop_time.to_string()),
            (NEXT_TRANSACTION, self.next_transaction.to_string()),
            (MAJOR, self.major().to_string()),
            (LOG_INCLUDED, "true".to_string()),
            (SEGMENT_SIZE, self.segment_size.to_string()),
            (BLOCK_SIZE, self.block_size.to_string()),
            (CHECKSUMS, self.checksums.to_string()),
            (ROUTE, route.to_string()),
            (
                FROM,
                if self.from_standby { "standby" } else { "primary" }.to_string(),
            ),
            (INCREMENTAL, self.incremental.to_string()),
            (BYTES, list.bytes().to_string()),
            (
                TABLESPACES,
                serde_json::to_string(&list.tablespaces).unwrap_or_default(),
            ),
        ];
        pairs
            .into_iter()
            .map(|(key, value)| (key.to_string(), value))
            .collect()
    }

    /// From a snapshot.
    pub fn of(snapshot: &Snapshot) -> Result<Self> {
        let text = |key: &str| {
            snapshot.attributes.get(key).ok_or_else(|| {
                PostgresError::damaged(
                    format!("snapshot {}", snapshot.id),
                    format!("it is no base backup of PostgreSQL: it has no attribute {key}"),
                )
            })
        };
        fn read<T: std::str::FromStr>(snapshot: &Snapshot, key: &str, text: &str) -> Result<T> {
            text.parse().map_err(|_| {
                PostgresError::damaged(
                    format!("snapshot {}", snapshot.id),
                    format!("its attribute {key} makes no sense: {text:?}"),
                )
            })
        }
        macro_rules! get {
            ($key:expr) => {
                read(snapshot, $key, text($key)?)?
            };
        }
        Ok(Self {
            system: get!(SYSTEM),
            version: text(VERSION)?.clone(),
            catalog: get!(CATALOG),
            timeline: get!(TIMELINE),
            start_timeline: get!(START_TIMELINE),
            start_lsn: get!(START_LSN),
            stop_lsn: get!(STOP_LSN),
            start_time: get!(START_TIME),
            stop_time: get!(STOP_TIME),
            next_transaction: get!(NEXT_TRANSACTION),
            segment_size: get!(SEGMENT_SIZE),
            block_size: get!(BLOCK_SIZE),
            checksums: get!(CHECKSUMS),
            route: if text(ROUTE)? == "files" {
                Route::Files
            } else {
                Route::Stream
            },
            from_standby: text(FROM)? == "standby",
            incremental: get!(INCREMENTAL),
        })
    }
}
