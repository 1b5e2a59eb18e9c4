//! Brings a server back from a repository: on a blank machine, with nothing but the repository and what opens it.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use jiff::Timestamp;
use relight_repo::read::ChunkReader;
use relight_repo::snapshot::Snapshot;
use relight_repo::{Repository, SnapshotId};
use relight_workloads::stream;
use serde::Serialize;
use serde_json::Map;
use zeroize::Zeroizing;

use super::{CERTIFICATE, CONFIGURATION, HEAD, KIND, STATE};
use crate::config::Config;
use crate::error::{Result, ServerError};
use crate::evidence::{Kind, NewEvidence, Outcome, Verified};
use crate::state::State;

/// What was brought back, and what is left to do.
#[derive(Debug, Serialize)]
pub struct Adopted {
    /// The server's name.
    pub workload: String,
    /// The backup it was brought back from.
    pub snapshot: SnapshotId,
    /// When that was made.
    pub time: Timestamp,
    /// The configuration that was written.
    pub configuration: PathBuf,
    /// The folder of the state.
    pub state: PathBuf,
    /// Users of it.
    pub users: usize,
    /// API tokens.
    pub tokens: usize,
    /// What was found in its evidence.
    pub evidence: Verified,
    /// What must be done before the server is started, if anything.
    pub to_do: Vec<String>,
}

fn failed(error: impl std::fmt::Display) -> ServerError {
    ServerError::System(format!("bring the server back: {error}"))
}

/// Writes configuration and state of the server that backed itself up into this repository; of several, the one named. Where
/// there is a server already, nothing is done.
///
/// # Errors
/// There is no such backup, or a server, or something cannot be read or written. Nothing is left behind then.
pub fn adopt(repository: &Arc<Repository>, configuration: &Path, node: Option<&str>) -> Result<Adopted> {
    let snapshot = newest(repository, node)?;
    let reader = Arc::new(ChunkReader::new(repository.clone()).map_err(failed)?);
    let text = content(&reader, &snapshot, CONFIGURATION)?
        .ok_or_else(|| failed(format!("the backup has no {CONFIGURATION}")))?;
    let text = String::from_utf8(text.to_vec()).map_err(failed)?;
    let config = Config::parse(configuration, &text)?;
    let state = config.server.state.clone();
    for path in [configuration, &state.join(STATE)] {
        if path.exists() {
            return Err(ServerError::Refused(format!(
                "{} exists: there is a server here already. Move it away, or name another place with --config",
                path.display()
            )));
        }
    }
    make_folder(&state)?;
    let mut written = Written::default();
    let database = content(&reader, &snapshot, STATE)?;
    let database = database.ok_or_else(|| failed(format!("the backup has no {STATE}")))?;
    written.file(&state.join(STATE), &database, 0o600)?;
    for name in CERTIFICATE {
        let path = state.join(name);
        if let Some(content) = content(&reader, &snapshot, name)?
            && !path.exists()
        {
            written.file(&path, &content, 0o600)?;
        }
    }
    let opened = State::open(&state)?;
    let noted = snapshot.attributes.get(HEAD).and_then(|head| head.parse().ok());
    let evidence = opened.verify_evidence(noted.into_iter().collect())?;
    let known = opened.known()?;
    if let Some(folder) = configuration
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        fs::create_dir_all(folder).map_err(ServerError::file("make", folder))?;
    }
    // The configuration last: with it there, everything is.
    written.file(configuration, text.as_bytes(), 0o640)?;
    let adopted = Adopted {
        workload: snapshot.workload.clone(),
        snapshot: snapshot.id,
        time: snapshot.time,
        configuration: configuration.to_path_buf(),
        users: known.users.len(),
        tokens: known.tokens.len(),
        evidence,
        to_do: to_do(&config, repository),
        state,
    };
    opened.add_evidence(&[NewEvidence {
        time: Timestamp::now(),
        kind: Kind::Server,
        who: Some(format!(
            "command line, uid {}",
            rustix::process::getuid().as_raw()
        )),
        what: format!("the server was brought back from snapshot {}", snapshot.id),
        outcome: Outcome::Done,
        detail: Map::from_iter([("from".to_string(), repository.storage().location().into())]),
    }])?;
    written.keep();
    Ok(adopted)
}

fn newest(repository: &Repository, node: Option<&str>) -> Result<Snapshot> {
    let (snapshots, _) = repository.snapshots().map_err(failed)?;
    let prefix = format!("{KIND}/");
    let own = |snapshot: &Snapshot| snapshot.workload.strip_prefix(&prefix).map(str::to_string);
    let mut names: Vec<String> = snapshots.iter().filter_map(own).collect();
    names.sort();
    names.dedup();
    let location = repository.storage().location();
    let name = match (node, &names[..]) {
        (Some(node), names) if names.iter().any(|name| name == node) => node,
        (None, [name]) => name,
        (_, []) => {
            return Err(ServerError::Refused(format!(
                "{location} holds no backup of a server: a server saves itself into its repositories a minute after it was \
                 started, and when it is stopped"
            )));
        }
        (_, names) => {
            let names = names.join(", ");
            return Err(ServerError::Refused(format!(
                "{location} holds backups of these servers: {names}; name one of them with --node"
            )));
        }
    };
    let found = snapshots
        .into_iter()
        .rfind(|snapshot| own(snapshot).as_deref() == Some(name));
    found.ok_or_else(|| failed("the backup is gone"))
}

fn content(reader: &Arc<ChunkReader>, snapshot: &Snapshot, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>> {
    let Some(archive) = snapshot.archives.iter().find(|archive| archive.name == name) else {
        return Ok(None);
    };
    let mut bytes = Zeroizing::new(Vec::new());
    let (done, cancelled) = (AtomicU64::new(0), AtomicBool::new(false));
    stream::restore(reader, archive, &mut *bytes, &done, &cancelled).map_err(failed)?;
    Ok(Some(bytes))
}

/// Files that were written; they are removed again unless all of it was done.
#[derive(Default)]
struct Written(Vec<PathBuf>);

impl Written {
    fn file(&mut self, path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
        let made = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path);
        let mut file = made.map_err(ServerError::file("make", path))?;
        self.0.push(path.to_path_buf());
        file.write_all(bytes)
            .and_then(|()| file.sync_all())
            .map_err(ServerError::file("write", path))
    }

    fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        for path in &self.0 {
            let _ = fs::remove_file(path);
            // SQLite's own files beside a database.
            for more in ["-wal", "-shm"] {
                let mut name = path.clone().into_os_string();
                name.push(more);
                let _ = fs::remove_file(name);
            }
        }
    }
}

fn make_folder(path: &Path) -> Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(ServerError::file("make", path))
}

/// What the configuration names and is not here.
fn to_do(config: &Config, repository: &Repository) -> Vec<String> {
    let mut to_do = Vec::new();
    let here = repository.storage().location();
    let local = |location: &str| (!location.contains("://")).then(|| PathBuf::from(location));
    for named in &config.repositories {
        let secrets = [
            (&named.password_file, "its passphrase"),
            (&named.key_file, "its key file"),
        ];
        for (path, what) in secrets {
            if let Some(path) = path.as_ref().filter(|path| !path.exists()) {
                let (name, path) = (&named.name, path.display());
                to_do.push(format!(
                    "the repository {name} is opened with {path}, which is not here: put {what} there, or make a new one \
                     with `relight key add`"
                ));
            }
        }
        if local(&named.location).is_some_and(|path| !path.exists()) {
            let (name, location) = (&named.name, &named.location);
            to_do.push(format!(
                "the repository {name} is said to be in {location}, where nothing is (this one is in {here}): correct its \
                 location"
            ));
        }
    }
    for path in [&config.server.certificate, &config.server.key]
        .into_iter()
        .flatten()
    {
        if !path.exists() {
            to_do.push(format!(
                "the certificate is configured to be in {}, where nothing is",
                path.display()
            ));
        }
    }
    to_do
}
