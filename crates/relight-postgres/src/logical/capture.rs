//! Dumps the databases of a server.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use relight_repo::RepoError;
use relight_repo::session::Session;
use relight_repo::snapshot::{Archive, ArchiveKind};
use relight_workloads::WorkloadError;
use relight_workloads::kind::{Captured, Work};
use relight_workloads::stream;

use super::client::{Clients, Running};
use super::{DATABASES, DUMP, Database, GLOBALS, INVENTORY, Inventory, POSTGRESQL, SERVER};
use crate::base::server::clock;
use crate::connect::Settings;
use crate::error::{PostgresError, Result};
use crate::protocol::{Connection, Mode, identifier};

/// Larger tables, by the planner's estimate, are not counted.
const MOST_ROWS: f64 = 2e6;
/// Counting the rows of a database ends after so long.
const TIME: Duration = Duration::from_secs(20);
/// So many tables of a database are counted.
const TABLES: usize = 500;

/// How databases are dumped.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Only these databases; none: all that may be connected to.
    pub databases: Vec<String>,
    /// Folder of the programs.
    pub bin: Option<PathBuf>,
}

/// Dumps them into a session, to be published with what is given back.
///
/// # Errors
/// Why there is no dump.
pub fn back_up(settings: &Settings, session: &Session, options: &Options, work: &Work) -> Result<Captured> {
    let mut connection = Connection::open(settings, Mode::Queries)?;
    let settings = connection.same_server(settings);
    let major = connection.major_version()?;
    let clients = Clients::find(major, options.bin.as_deref())?;
    let set = connection.rows(
        "SELECT (SELECT system_identifier FROM pg_control_system()) AS system, pg_is_in_recovery() AS standby, \
         (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS superuser",
    )?;
    let row = set
        .first()
        .ok_or_else(|| PostgresError::damaged("what the server says", "there is nothing"))?;
    let (standby, passwords) = (row.is_true("standby"), row.is_true("superuser"));
    let system = row.text("system").to_string();
    let version = connection
        .parameter("server_version")
        .unwrap_or_default()
        .to_string();
    let time = clock(&mut connection)?;
    let names = databases(&mut connection, &options.databases)?;
    drop(connection);
    let mut archives = Vec::new();
    let mut globals = clients.talking("pg_dumpall", &settings);
    globals.arg("--globals-only");
    if !passwords {
        work.note("the role is no superuser: roles are saved without their passwords");
        globals.arg("--no-role-passwords");
    }
    archives.push(dump(session, GLOBALS, globals, &clients, "pg_dumpall", work)?);
    let mut inventory = Inventory {
        version: version.clone(),
        major,
        system,
        passwords,
        databases: Vec::new(),
    };
    for (number, name) in names.iter().enumerate() {
        work.note(&format!("dumping the database {name}"));
        let archive = format!("database-{number}.dump");
        let here = settings.in_database(name);
        let mut moment = if standby { None } else { Some(Moment::hold(&here)?) };
        let mut command = clients.talking("pg_dump", &here);
        command.args(["--format=custom", "--compress=0"]);
        if let Some(moment) = &moment {
            command.arg(format!("--snapshot={}", moment.name));
        }
        archives.push(dump(session, &archive, command, &clients, "pg_dump", work)?);
        let rows = moment.as_mut().map(Moment::count).unwrap_or_default();
        inventory.databases.push(Database {
            name: name.clone(),
            archive,
            rows,
        });
    }
    let json = serde_json::to_vec(&inventory).map_err(|error| PostgresError::Refused(error.to_string()))?;
    let mut writer = session.archive(INVENTORY, ArchiveKind::Blob)?;
    writer.write(&json)?;
    archives.push(writer.finish()?);
    let names = serde_json::to_string(&names).map_err(|error| PostgresError::Refused(error.to_string()))?;
    let read = archives.iter().map(|archive| archive.root.size).sum();
    Ok(Captured {
        time: Some(time),
        attributes: BTreeMap::from([
            (DUMP.to_string(), POSTGRESQL.to_string()),
            (SERVER.to_string(), version),
            (DATABASES.to_string(), names),
        ]),
        archives,
        incomplete: Vec::new(),
        read,
    })
}

/// The databases to be dumped.
fn databases(connection: &mut Connection, wanted: &[String]) -> Result<Vec<String>> {
    let set = connection.rows(
        "SELECT datname FROM pg_catalog.pg_database WHERE datallowconn AND NOT datistemplate ORDER BY datname",
    )?;
    let all: Vec<String> = set
        .rows
        .into_iter()
        .filter_map(|row| row.into_iter().next().flatten())
        .collect();
    if wanted.is_empty() {
        return Ok(all);
    }
    if let Some(missing) = wanted.iter().find(|name| !all.contains(name)) {
        return Err(PostgresError::Refused(format!(
            "the server has no database {missing}; it has {}",
            all.join(", ")
        )));
    }
    Ok(all.into_iter().filter(|name| wanted.contains(name)).collect())
}

/// Has a program write an archive.
fn dump(
    session: &Session,
    name: &str,
    mut command: std::process::Command,
    clients: &Clients,
    program: &str,
    work: &Work,
) -> Result<Archive> {
    command.stdout(Stdio::piped());
    let mut running = Running::start(command, clients.path(program))?;
    let stdout = running.child().stdout.take();
    let mut stdout = stdout.ok_or_else(|| PostgresError::Refused(format!("{program} says nothing")))?;
    let saved = stream::back_up(session, name, &mut stdout, &work.done, &work.cancelled);
    drop(stdout);
    let archive = saved.map_err(|error| match error {
        WorkloadError::Repo(error) => PostgresError::Repo(error),
        other => PostgresError::Refused(other.to_string()),
    })?;
    running.finish()?;
    if work.is_cancelled() {
        return Err(RepoError::Cancelled.into());
    }
    Ok(archive)
}

/// A moment of a database that others can look at too, for as long as this is there.
struct Moment {
    connection: Connection,
    name: String,
}

impl Moment {
    fn hold(settings: &Settings) -> Result<Self> {
        let mut connection = Connection::open(settings, Mode::Queries)?;
        connection.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
        let name = connection.value("SELECT pg_catalog.pg_export_snapshot()")?;
        let valid = name.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
        if name.is_empty() || !valid {
            return Err(connection.protocol(format!("{name:?} is not the name of a snapshot")));
        }
        Ok(Self { connection, name })
    }

    /// Counts rows as of that moment, of the smaller tables, as far as time allows. A dump without counts is as good.
    fn count(&mut self) -> Vec<(String, u64)> {
        let (mut counted, began) = (Vec::new(), Instant::now());
        let sql = format!(
            "SELECT n.nspname AS schema, c.relname AS name FROM pg_catalog.pg_class c \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r' AND c.relpersistence = 'p' \
             AND c.reltuples < {MOST_ROWS} AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
             AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_class'::regclass \
             AND d.objid = c.oid AND d.deptype = 'e') \
             AND pg_catalog.has_table_privilege(c.oid, 'SELECT') ORDER BY c.relpages, c.oid"
        );
        let set = self.connection.rows(&sql).unwrap_or_default();
        for row in set.iter().take(TABLES) {
            let left = TIME.saturating_sub(began.elapsed()).as_millis();
            if left == 0 {
                break;
            }
            let table = format!(
                "{}.{}",
                identifier(row.text("schema")),
                identifier(row.text("name"))
            );
            let sql = format!("SET LOCAL statement_timeout = {left}; SELECT count(*) FROM ONLY {table}");
            let rows = self
                .connection
                .query(&sql)
                .ok()
                .and_then(|sets| sets.last()?.value()?.parse().ok());
            // After an error the transaction is over.
            let Some(rows) = rows else { break };
            counted.push((table, rows));
        }
        counted
    }
}
