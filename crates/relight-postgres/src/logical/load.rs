//! Brings dumps into a server.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use relight_repo::RepoError;
use relight_repo::read::{ArchiveReader, ChunkReader};
use relight_repo::snapshot::Snapshot;
use relight_workloads::WorkloadError;
use relight_workloads::kind::Work;
use relight_workloads::stream;
use serde::Serialize;

use super::client::{Clients, Running};
use super::script::statements;
use super::{Database, GLOBALS, Inventory};
use crate::connect::Settings;
use crate::error::{PostgresError, Result};
use crate::protocol::{Connection, Mode, literal};

/// No script of roles is longer.
const GLOBALS_MOST: u64 = 256 << 20;
/// SQLSTATE of what is there already: a role, a tablespace's place (PostgreSQL documentation, appendix A).
const THERE_ALREADY: &[&str] = &["42710", "42P04", "42P06"];

/// What is brought back, and where.
#[derive(Debug, Clone)]
pub struct Loading {
    /// The server, and a database that can be connected to.
    pub settings: Settings,
    /// Only these databases; none: all.
    pub databases: Vec<String>,
    /// Whether roles and tablespaces are brought back first.
    pub globals: bool,
    /// Folder of the programs.
    pub bin: Option<PathBuf>,
}

/// What came of it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Loaded {
    /// The databases that are back.
    pub databases: Vec<String>,
    /// What of the roles and tablespaces the server did not take, and why.
    pub refused: Vec<String>,
    /// Bytes that were read.
    pub bytes: u64,
}

/// Brings databases back. Each must not be there yet, but for `postgres`, which always is.
///
/// # Errors
/// Why one is not back; those before it are.
pub fn load(
    reader: &Arc<ChunkReader>,
    snapshot: &Snapshot,
    inventory: &Inventory,
    loading: &Loading,
    work: &Work,
) -> Result<Loaded> {
    let mut connection = Connection::open(&loading.settings, Mode::Queries)?;
    let settings = connection.same_server(&loading.settings);
    let major = connection.major_version()?;
    // A server takes what a client of its own version or a later one brings, which reads what older ones wrote.
    let clients = Clients::find(major.max(inventory.major), loading.bin.as_deref())?;
    let wanted = wanted(inventory, &loading.databases)?;
    for database in &wanted {
        let sql = format!(
            "SELECT 1 FROM pg_catalog.pg_database WHERE datname = {}",
            literal(&database.name)
        );
        if database.name != "postgres" && connection.rows(&sql)?.first().is_some() {
            return Err(PostgresError::Refused(format!(
                "the database {} is there already: rename or drop it first; nothing was changed",
                database.name
            )));
        }
    }
    let mut loaded = Loaded::default();
    if loading.globals {
        work.note("bringing back roles and tablespaces");
        let script = script(reader, snapshot)?;
        loaded.bytes += script.len() as u64;
        loaded.refused = globals(&mut connection, &script)?;
    }
    for database in wanted {
        work.note(&format!("bringing back the database {}", database.name));
        let archive = snapshot.archive(&database.archive)?;
        let is_there = database.name == "postgres";
        let mut command = clients.talking("pg_restore", &settings.in_database("postgres"));
        command.arg("--exit-on-error");
        if !is_there {
            command.arg("--create");
        }
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut running = Running::start(command, clients.path("pg_restore"))?;
        let stdin = running.child().stdin.take();
        let mut stdin = stdin.ok_or_else(|| PostgresError::Refused("pg_restore takes nothing".into()))?;
        let sent = stream::restore(reader, archive, &mut stdin, &work.done, &work.cancelled);
        drop(stdin);
        // If it ended early, what it says is the reason.
        match sent {
            Err(WorkloadError::Repo(error @ RepoError::Source(_))) => {
                running.finish()?;
                return Err(error.into());
            }
            Err(WorkloadError::Repo(error)) => return Err(error.into()),
            Err(other) => return Err(PostgresError::Refused(other.to_string())),
            Ok(()) => running.finish()?,
        }
        loaded.bytes += archive.root.size;
        loaded.databases.push(database.name.clone());
    }
    Ok(loaded)
}

fn wanted<'i>(inventory: &'i Inventory, names: &[String]) -> Result<Vec<&'i Database>> {
    if let Some(missing) = names
        .iter()
        .find(|name| inventory.databases.iter().all(|database| database.name != **name))
    {
        let all: Vec<&str> = inventory
            .databases
            .iter()
            .map(|database| database.name.as_str())
            .collect();
        return Err(PostgresError::Refused(format!(
            "the dump holds no database {missing}; it holds {}",
            all.join(", ")
        )));
    }
    let all = inventory.databases.iter();
    Ok(all
        .filter(|database| names.is_empty() || names.contains(&database.name))
        .collect())
}

fn script(reader: &Arc<ChunkReader>, snapshot: &Snapshot) -> Result<String> {
    let archive = ArchiveReader::new(reader.clone(), snapshot.archive(GLOBALS)?.root);
    if archive.size() > GLOBALS_MOST {
        return Err(PostgresError::damaged(
            "the script of roles",
            format!("it has {} bytes", archive.size()),
        ));
    }
    let mut bytes = vec![0; usize::try_from(archive.size()).unwrap_or(0)];
    archive.read_exact_at(&mut bytes, 0)?;
    String::from_utf8(bytes).map_err(|_| PostgresError::damaged("the script of roles", "it is no text"))
}

/// Gives what the server did not take, but for what is there already.
fn globals(connection: &mut Connection, script: &str) -> Result<Vec<String>> {
    let mut refused = Vec::new();
    for statement in statements(script) {
        match connection.query(statement) {
            Ok(_) => {}
            Err(error)
                if error
                    .sql_state()
                    .is_some_and(|state| THERE_ALREADY.contains(&state)) => {}
            Err(PostgresError::Server { message, .. }) => {
                // Not the statement: it may hold the hash of a password.
                let words: Vec<&str> = statement.split_whitespace().take(3).collect();
                refused.push(format!("{} …: {message}", words.join(" ")));
            }
            Err(other) => return Err(other),
        }
    }
    Ok(refused)
}
