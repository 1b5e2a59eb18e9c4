//! One table or database out of a physical backup: the cluster is restored into a folder of its own, a server that only its
//! socket leads to is started there, and dumped from. All of it is thrown away afterwards.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use relight_repo::read::ChunkReader;
use relight_workloads::kind::Work;
use serde::Serialize;

use crate::base;
use crate::error::{PostgresError, Result};
use crate::launch::{Programs, Reached, SANDBOX_PORT, Sandbox};
use crate::protocol::{Connection, Mode};
use crate::restore::{self, Chosen, Goal, LogRequest, NeededLog, Recovery, TablespaceMap};
use crate::wal::store::LogStore;

/// What is dumped.
#[derive(Debug, Clone)]
pub enum What {
    /// A database, or tables of it by patterns of `pg_dump`.
    Database {
        /// Its name.
        name: String,
        /// Patterns; none: all of it.
        tables: Vec<String>,
    },
    /// Roles and tablespaces.
    Globals,
}

/// How a database is dumped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// For `pg_restore`.
    Custom,
    /// SQL.
    Plain,
}

/// A folder that is thrown away.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!("remove {}: {error}; do so by hand", self.0.display());
        }
    }
}

/// A cluster as it was, for a short time.
pub struct Extraction {
    // In this order: the server stops before its folder goes.
    sandbox: Sandbox,
    superuser: String,
    programs: Programs,
    _folder: Folder,
}

impl Extraction {
    /// Restores a cluster below `parent` and starts a server on it.
    pub fn start(
        store: &LogStore,
        chosen: &Chosen<'_>,
        recovery: Recovery,
        programs: &Programs,
        parent: &Path,
        work: &Work,
    ) -> Result<Self> {
        let reader = Arc::new(ChunkReader::new(store.repository().clone())?);
        let mut random = [0; 4];
        aws_lc_rs::rand::fill(&mut random)
            .map_err(|_| PostgresError::Refused("the operating system gave no random bytes".into()))?;
        let path = parent.join(format!("relight-{}", hex::encode(random)));
        fs::create_dir(&path).map_err(PostgresError::io("make", &path))?;
        let folder = Folder(path);
        let close = || {
            fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o700))?;
            match programs.owner() {
                Some((user, group)) => chown(&folder.0, Some(user), Some(group)),
                None => Ok(()),
            }
        };
        close().map_err(PostgresError::io("close to others", &folder.0))?;
        let data = folder.0.join("data");
        let goal = recovery.goal.clone();
        let options = restore::Options {
            directory: data.clone(),
            tablespaces: TablespaceMap {
                others: Some(folder.0.join("tablespaces")),
                ..TablespaceMap::default()
            },
            owner: programs.owner(),
            recovery,
            delta: false,
            sync: false,
        };
        let tail = store.tail()?;
        let catalog = store.catalog()?;
        let window = chosen.window.as_ref().filter(|_| goal != Goal::Immediate);
        let log = window.map(|window| {
            let request = LogRequest {
                about: &chosen.about,
                timeline: window.timeline,
                goal: &goal,
            };
            NeededLog::find(store, (&catalog, &tail), &request)
        });
        restore::restore(&reader, chosen.snapshot, &options, log, work)?;
        work.note("starting a server on it");
        let mut sandbox = Sandbox::start(programs, &data, &folder.0)?;
        let reached = sandbox.wait(&data, work)?;
        if reached != Reached::InProduction {
            return Err(PostgresError::Refused("the restored server does not work".into()));
        }
        let inventory = base::load_inventory(&reader, chosen.snapshot)?;
        let superusers = inventory.roles.iter().filter(|role| role.superuser && role.login);
        let names = superusers.map(|role| role.name.as_str()).chain(["postgres"]);
        let mut found = None;
        for name in names {
            if Connection::open(&sandbox.settings(name, "template1")?, Mode::Queries).is_ok() {
                found = Some(name.to_string());
                break;
            }
        }
        Ok(Self {
            sandbox,
            superuser: found.ok_or_else(|| {
                PostgresError::Refused("the restored cluster has no superuser that may log in".into())
            })?,
            programs: programs.clone(),
            _folder: folder,
        })
    }

    /// Dumps into a file.
    pub fn dump(&self, what: &What, format: Format, output: fs::File) -> Result<()> {
        let mut command = match what {
            What::Globals => {
                let mut command = self.program("pg_dumpall");
                command.arg("--globals-only");
                command
            }
            What::Database { name, tables } => {
                let mut command = self.program("pg_dump");
                command.arg(match format {
                    Format::Custom => "--format=custom",
                    Format::Plain => "--format=plain",
                });
                for table in tables {
                    command.arg(format!("--table={table}"));
                }
                command.arg(format!("--dbname={}", database(name)));
                command
            }
        };
        let run = || -> io::Result<std::process::Output> {
            command
                .stdout(output)
                .stderr(Stdio::piped())
                .spawn()?
                .wait_with_output()
        };
        let ended = run().map_err(PostgresError::io("run", &self.programs.path("pg_dump")))?;
        if ended.status.success() {
            return Ok(());
        }
        Err(PostgresError::Refused(format!(
            "the dump failed: {}",
            String::from_utf8_lossy(&ended.stderr).trim()
        )))
    }

    fn program(&self, name: &str) -> Command {
        let mut command = self.programs.command(name);
        command
            .arg("--host")
            .arg(&self.sandbox.socket)
            .arg(format!("--port={SANDBOX_PORT}"))
            .arg(format!("--username={}", self.superuser))
            .arg("--no-password");
        command
    }
}

/// A database's name where a connection string may stand.
fn database(name: &str) -> String {
    format!("dbname='{}'", name.replace('\\', "\\\\").replace('\'', "\\'"))
}
