//! What the server remembers: users, tokens, rules, other servers and copies from and to them, its signing key, and the records of denied and changing requests. One SQLite
//! database in the state folder, which the running server and the commands of the operator open side by side.

mod approvals;
mod audit;
mod directory_users;
mod evidence;
mod gone;
mod remotes;
mod roles;
mod rules;
mod runs;
mod schedule;
mod schema;
mod second_factor;
mod secrets;
mod sessions;
mod sizes;
mod sync_jobs;
mod tokens;
mod told;
mod users;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use relight_pbs::access::{GroupId, Rule, UserId};
use rusqlite::Connection;

pub use approvals::{ApprovalFilter, NewApproval};
pub use audit::{Record, RecordFilter};
pub use directory_users::Elsewhere;
pub use evidence::EvidenceFilter;
pub use remotes::{Remote, RemoteChange};
pub use roles::OwnRole;
pub use runs::{NewRun, Run, RunEnd, RunEvent, RunFilter};
pub use schedule::{Remembered, Request};
pub use second_factor::{RecoveryCodes, SecondFactor, Tried};
pub use secrets::NewSecret;
pub(crate) use secrets::random;
pub use sessions::Session;
pub use sync_jobs::{Direction, JobRun, SyncJob, SyncJobFields};
pub use tokens::{Token, TokenChange};
pub use users::{PasswordHash, User, UserChange};

use crate::error::{Result, ServerError};
use crate::evidence::Signer;

/// How long one waits for another process that writes.
const BUSY: Duration = Duration::from_secs(10);

/// Users, tokens and rules as of one moment.
#[derive(Debug, Default)]
pub struct Known {
    /// All users, by name.
    pub users: Vec<User>,
    /// All tokens, by user and name.
    pub tokens: Vec<Token>,
    /// All rules, by path.
    pub rules: Vec<Rule>,
    /// Roles that this server made for itself, by name.
    pub roles: Vec<OwnRole>,
    /// Groups of users, as their directories said last.
    pub groups: BTreeMap<UserId, Vec<GroupId>>,
    /// Sessions that were ended before their time.
    pub ended: HashSet<String>,
}

/// The database.
pub struct State {
    path: PathBuf,
    reader: Mutex<Reader>,
    /// For changes, by itself: who asks what somebody may do must not wait for a disk.
    writer: Mutex<Connection>,
    signer: OnceLock<Signer>,
}

struct Reader {
    connection: Connection,
    /// What was read last, and which version of the data that was.
    known: Option<(i64, Arc<Known>)>,
}

impl State {
    /// Opens the database in a folder; both are made if they are not there. Others on this host cannot read them.
    ///
    /// # Errors
    /// The folder or the file cannot be made, read or understood.
    pub fn open(folder: &Path) -> Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(ServerError::file("make the state folder", folder))?;
        let path = folder.join("state.db");
        // SQLite would make it readable to all; its journals get the mode of the file.
        fs::OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path)
            .map_err(ServerError::file("make", &path))?;
        follow_owner(&path, folder);
        let failed = |source| ServerError::State {
            path: path.clone(),
            source,
        };
        let open = || -> Result<Connection> {
            let connection = Connection::open(&path).map_err(failed)?;
            connection.busy_timeout(BUSY).map_err(failed)?;
            Ok(connection)
        };
        let mut writer = open()?;
        schema::prepare(&mut writer, &path)?;
        let reader = Reader {
            connection: open()?,
            known: None,
        };
        Ok(Self {
            reader: Mutex::new(reader),
            writer: Mutex::new(writer),
            signer: OnceLock::new(),
            path,
        })
    }

    /// Whether there is one in this folder.
    pub fn is_there(folder: &Path) -> bool {
        folder.join("state.db").exists()
    }

    /// Writes a copy of the database, as of one moment, to a file that is not there yet.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub fn copy_to(&self, path: &Path) -> Result<()> {
        let file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path);
        drop(file.map_err(ServerError::file("make", path))?);
        // An empty file is as good as none to SQLite, and keeps its mode.
        let path = path.to_string_lossy();
        self.read(|connection| connection.execute("VACUUM INTO ?", [&*path]).map(drop))
    }

    fn reader(&self) -> MutexGuard<'_, Reader> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writer(&self) -> MutexGuard<'_, Connection> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, source: rusqlite::Error) -> ServerError {
        ServerError::State {
            path: self.path.clone(),
            source,
        }
    }

    /// Reads.
    fn read<T>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        query(&self.reader().connection).map_err(|error| self.failed(error))
    }

    /// Changes something, all of it or nothing.
    fn change<T>(&self, change: impl FnOnce(&Connection) -> Result<T, Change>) -> Result<T> {
        let mut writer = self.writer();
        let behaviour = rusqlite::TransactionBehavior::Immediate;
        let transaction = writer
            .transaction_with_behavior(behaviour)
            .map_err(|error| self.failed(error))?;
        let result = change(&transaction).map_err(|error| match error {
            Change::Sqlite(error) => self.failed(error),
            Change::Refused(why) => ServerError::Refused(why),
            Change::Server(error) => error,
        })?;
        transaction.commit().map_err(|error| self.failed(error))?;
        Ok(result)
    }

    /// Users, tokens and rules as they are now, whoever changed them last.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn known(&self) -> Result<Arc<Known>> {
        let mut reader = self.reader();
        // Changes when another connection has written, also one of another process (SQLite, pragma data_version).
        let version = reader
            .connection
            .prepare_cached("PRAGMA data_version")
            .and_then(|mut statement| statement.query_row([], |row| row.get::<_, i64>(0)))
            .map_err(|error| self.failed(error))?;
        if let Some((read, known)) = &reader.known
            && *read == version
        {
            return Ok(known.clone());
        }
        let read = |connection: &Connection| -> rusqlite::Result<Known> {
            // As of one moment.
            let moment = connection.unchecked_transaction()?;
            let roles = roles::all(&moment)?;
            let known = Known {
                users: users::all(&moment)?,
                tokens: tokens::all(&moment)?,
                rules: rules::all(&moment, &roles)?,
                groups: roles::groups(&moment)?,
                ended: sessions::ended(&moment)?,
                roles,
            };
            moment.commit()?;
            Ok(known)
        };
        let known = Arc::new(read(&reader.connection).map_err(|error| self.failed(error))?);
        reader.known = Some((version, known.clone()));
        Ok(known)
    }
}

/// What root makes in a folder of the server's user belongs to that user. (SQLite does so with its journals.)
fn follow_owner(path: &Path, folder: &Path) {
    use std::os::unix::fs::{MetadataExt, chown};
    if let Ok(owner) = fs::metadata(folder)
        && owner.uid() != 0
        && rustix::process::geteuid().is_root()
    {
        // If it cannot be done, the server says later that it cannot read the file.
        let _ = chown(path, Some(owner.uid()), Some(owner.gid()));
    }
}

/// Why a change was not made.
enum Change {
    Sqlite(rusqlite::Error),
    Refused(String),
    Server(ServerError),
}

impl From<rusqlite::Error> for Change {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

fn refused<T>(why: impl Into<String>) -> Result<T, Change> {
    Err(Change::Refused(why.into()))
}
