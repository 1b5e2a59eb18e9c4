//! Logical dumps: roles and tablespaces as SQL, and each database as `pg_dump` writes it. They can be brought into a server
//! of another version or machine, and need no superuser; the log cannot carry them on to another moment.
//!
//! Each database is dumped as of one moment of its own. What `pg_dump` writes is not compressed, so that what did not
//! change is stored once.

mod capture;
mod client;
mod drill;
mod load;
mod script;

use std::path::PathBuf;
use std::sync::Arc;

use relight_model::plan::Method;
use relight_repo::read::{ArchiveReader, ChunkReader};
use relight_repo::session::Session;
use relight_repo::snapshot::Snapshot;
use relight_workloads::error::{Result as WorkloadResult, WorkloadError};
use relight_workloads::kind::{Captured, Kind, Subject, Work};
use relight_workloads::rehearse::Rehearse;
use serde::{Deserialize, Serialize};

use crate::connect::Settings;
use crate::error::{PostgresError, Result};

pub use capture::{Options, back_up};
pub use load::{Loaded, Loading, load};

/// Attribute of a snapshot that holds a dump: of which kind of database.
pub const DUMP: &str = "dump.of";
/// Its value.
pub const POSTGRESQL: &str = "postgresql";
/// The server's version.
const SERVER: &str = "dump.server";
/// Names of the databases, as JSON.
const DATABASES: &str = "dump.databases";
/// Archive with roles and tablespaces, as SQL.
pub const GLOBALS: &str = "globals.sql";
/// Archive that tells what the others are.
pub const INVENTORY: &str = "inventory.json";
/// No inventory is longer.
const INVENTORY_MOST: u64 = 64 << 20;

/// What a dump holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// The server's version.
    pub version: String,
    /// Its major version.
    pub major: u32,
    /// System identifier of the cluster, decimal.
    pub system: String,
    /// Whether the roles have their passwords (as hashes).
    pub passwords: bool,
    /// The databases.
    pub databases: Vec<Database>,
}

/// A database in a dump.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Database {
    /// Its name.
    pub name: String,
    /// The archive that holds it, in the custom format of `pg_dump`.
    pub archive: String,
    /// Rows of tables as of the moment of the dump: name as SQL writes it, and number.
    pub rows: Vec<(String, u64)>,
}

/// Whether a snapshot holds a dump.
pub fn is_dump(snapshot: &Snapshot) -> bool {
    snapshot
        .attributes
        .get(DUMP)
        .is_some_and(|value| value == POSTGRESQL)
}

/// What a dump says it holds.
///
/// # Errors
/// It is none, or damaged.
pub fn inventory(reader: &Arc<ChunkReader>, snapshot: &Snapshot) -> Result<Inventory> {
    if !is_dump(snapshot) {
        return Err(PostgresError::Refused(format!(
            "snapshot {} holds no dump of PostgreSQL databases",
            snapshot.id.short()
        )));
    }
    let archive = ArchiveReader::new(reader.clone(), snapshot.archive(INVENTORY)?.root);
    if archive.size() > INVENTORY_MOST {
        return Err(PostgresError::damaged(
            "the inventory of the dump",
            format!("it has {} bytes", archive.size()),
        ));
    }
    let mut bytes = vec![0; usize::try_from(archive.size()).unwrap_or(0)];
    archive.read_exact_at(&mut bytes, 0)?;
    serde_json::from_slice(&bytes)
        .map_err(|error| PostgresError::damaged("the inventory of the dump", error.to_string()))
}

/// Databases by their dumps, as a plan names them: `source = { url = "host=db1 user=relight" }`.
#[derive(Debug, Default)]
pub struct Dumps;

/// What a plan says under `source`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Source {
    /// How the server is reached: a URL or a connection string, without a password.
    pub url: String,
    /// Only these databases.
    #[serde(default)]
    pub databases: Vec<String>,
    /// Folder of the programs of the server's version, or a newer one.
    pub bin: Option<PathBuf>,
    /// User that servers of drills run as.
    pub user: Option<String>,
}

impl Source {
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
        Ok(source)
    }

    /// How the server is reached.
    pub fn settings(&self) -> Result<Settings> {
        Settings::new(&self.url)
    }
}

impl Kind for Dumps {
    fn method(&self) -> Method {
        Method::Dump
    }

    fn rehearse(&self) -> Option<&dyn Rehearse> {
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
        let options = Options {
            databases: source.databases.clone(),
            bin: source.bin.clone(),
        };
        Ok(back_up(&source.settings()?, session, &options, work)?)
    }
}
