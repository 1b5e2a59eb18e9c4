//! Keys of clients of the Proxmox Backup protocol: for snapshots that only they can read.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use clap::Args;
use relight_pbs::access::AuthId;
use relight_pbs::formats::blob::{Blob, MAX_BLOB};
use relight_pbs::formats::crypt::{CryptKey, KeyFile};
use relight_pbs::service::datastore::{Datastore, DatastoreOptions, Entry, StoreError};
use relight_repo::Repository;
use relight_repo::read::ChunkReader;
use relight_repo::snapshot::{Archive, ArchiveKind, Snapshot};
use relight_workloads::stream;
use zeroize::Zeroizing;

use crate::credentials;
use crate::failure::{Failure, Result};

/// The key of a client, encrypted with a public key.
pub const SEALED_KEY: &str = "rsa-encrypted.key.blob";
/// Ending of small files.
pub const BLOB: &str = ".blob";
/// No file with a secret is longer, in bytes.
const MAX_FILE: u64 = 64 << 10;

/// The key of a client.
#[derive(Debug, Clone, Default, Args)]
pub struct ClientKeyOptions {
    /// File with the key of the client: encrypt with it what is sent to a server, or read what a client encrypted
    #[arg(long, value_name = "FILE", help_heading = "Client key")]
    pub client_key: Option<PathBuf>,
    /// File whose first line is the password of the client key; without it a prompt asks if there is one
    #[arg(
        long,
        value_name = "FILE",
        env = "RELIGHT_CLIENT_KEY_PASSWORD_FILE",
        help_heading = "Client key"
    )]
    pub client_key_password_file: Option<PathBuf>,
}

impl ClientKeyOptions {
    /// The key, if one is given.
    pub fn key(&self) -> Result<Option<Arc<CryptKey>>> {
        self.bytes()?.as_deref().map(crypt_key).transpose()
    }

    /// The same as its bytes.
    pub fn bytes(&self) -> Result<Option<Zeroizing<[u8; 32]>>> {
        let Some(path) = &self.client_key else {
            return Ok(None);
        };
        unlock(path, self.client_key_password_file.as_deref()).map(Some)
    }

    /// What reads these snapshots. Those that a client encrypted need its key; with a key they must be what its owner saved.
    pub fn reader<'s>(
        &self,
        repository: Arc<Repository>,
        snapshots: impl IntoIterator<Item = &'s Snapshot>,
    ) -> Result<Arc<ChunkReader>> {
        checked_reader(repository, snapshots, self.key()?)
    }
}

/// A key to work with.
pub fn crypt_key(key: &[u8; 32]) -> Result<Arc<CryptKey>> {
    let key = CryptKey::new(key).map_err(|error| Failure::Usage(format!("client key: {error}")))?;
    Ok(Arc::new(key))
}

/// The same with the key at hand.
pub fn checked_reader<'s>(
    repository: Arc<Repository>,
    snapshots: impl IntoIterator<Item = &'s Snapshot>,
    key: Option<Arc<CryptKey>>,
) -> Result<Arc<ChunkReader>> {
    let clients = Clients::new(repository.clone())?;
    for snapshot in snapshots {
        clients.check(snapshot, key.as_deref())?;
    }
    reader(repository, key)
}

/// What reads a repository, and with a key what its owner encrypted.
pub fn reader(repository: Arc<Repository>, key: Option<Arc<CryptKey>>) -> Result<Arc<ChunkReader>> {
    let reader = ChunkReader::new(repository)?;
    Ok(Arc::new(match key {
        Some(key) => reader.with_client_key(key),
        None => reader,
    }))
}

/// The snapshots of a repository as clients of the protocol saved them.
pub struct Clients(Arc<Datastore>);

impl Clients {
    /// Of a repository.
    pub fn new(repository: Arc<Repository>) -> Result<Self> {
        let nobody: AuthId = "root@pam"
            .parse()
            .map_err(|_| Failure::Usage("no owner".into()))?;
        Datastore::new("local", repository, DatastoreOptions::new(nobody))
            .map(Self)
            .map_err(failed)
    }

    /// The datastore and the snapshot as one of it.
    pub fn entry(&self, snapshot: &Snapshot) -> Result<Entry> {
        self.0.entry_of(snapshot.clone()).map_err(failed)
    }

    /// The datastore.
    pub fn store(&self) -> &Datastore {
        &self.0
    }

    /// Refuses a snapshot that needs another key than the one given; with a key, also one that was not made with it, or is
    /// not as it was signed.
    pub fn check(&self, snapshot: &Snapshot, key: Option<&CryptKey>) -> Result<()> {
        match key {
            Some(key) => self.0.check_signed(&self.entry(snapshot)?, key).map_err(failed),
            None => self.may_read(snapshot, None),
        }
    }

    /// The same for one of many, of which only some were made with the key.
    pub fn may_read(&self, snapshot: &Snapshot, key: Option<&CryptKey>) -> Result<()> {
        let entry = self.entry(snapshot)?;
        let protection = self.0.protection(&entry).map_err(failed)?;
        let Some(protection) = protection.filter(|protection| protection.encrypted) else {
            return Ok(());
        };
        match key {
            Some(key)
                if protection
                    .fingerprint
                    .is_none_or(|wanted| wanted == key.fingerprint()) =>
            {
                self.0.check_signed(&entry, key).map_err(failed)
            }
            _ => Err(Failure::Usage(format!(
                "snapshot {} was encrypted by the client that saved it, with the key {}: give the file of that key with \
                 --client-key",
                snapshot.id.short(),
                protection
                    .fingerprint
                    .map_or_else(|| "that its manifest does not name".into(), |found| found.short()),
            ))),
        }
    }
}

/// The content of a small file of a client of the protocol (`qemu-server.conf.blob`); none if the archive is no such file.
pub fn blob_content(
    reader: &Arc<ChunkReader>,
    archive: &Archive,
    key: Option<&CryptKey>,
) -> Result<Option<Vec<u8>>> {
    let is_one = archive.kind == ArchiveKind::Blob && archive.name.ends_with(BLOB);
    if !is_one || archive.root.size > MAX_BLOB as u64 {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    stream::restore(
        reader,
        archive,
        &mut bytes,
        &AtomicU64::new(0),
        &AtomicBool::new(false),
    )?;
    let Ok(blob) = Blob::parse(&bytes) else {
        return Ok(None);
    };
    let content = match key {
        Some(key) => blob.decrypt(key, MAX_BLOB),
        None => blob.decode(MAX_BLOB),
    };
    let content = content.map_err(|error| Failure::Damaged(format!("{}: {error}", archive.name)))?;
    Ok(Some(content))
}

/// The failure of a datastore that is only looked at from here.
pub fn failed(error: StoreError) -> Failure {
    match error {
        StoreError::Repository(error) => error.into(),
        StoreError::Damaged { .. } => Failure::Damaged(error.to_string()),
        other => Failure::Usage(other.to_string()),
    }
}

/// The key in a file. A password is read from a file, or asked for, only if there is one.
pub fn unlock(path: &Path, password: Option<&Path>) -> Result<Zeroizing<[u8; 32]>> {
    let refused =
        |error: &dyn std::fmt::Display| Failure::Usage(format!("client key {}: {error}", path.display()));
    let file = KeyFile::parse(&read_file(path)?).map_err(|error| refused(&error))?;
    let given = password.map(first_line).transpose()?;
    let ask = || {
        given.or_else(|| {
            let typed = credentials::client_key_password()?;
            Some(Zeroizing::new(typed.as_bytes().to_vec()))
        })
    };
    file.unlock(ask).map_err(|error| refused(&error))
}

/// The first line of a file that holds a password.
pub fn first_line(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let bytes = read_file(path)?;
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    Ok(Zeroizing::new(line.to_vec()))
}

/// A small file that holds a secret.
pub fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let failed = || Failure::io(format!("read {}", path.display()));
    let file = File::open(path).map_err(failed())?;
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(MAX_FILE).read_to_end(&mut bytes).map_err(failed())?;
    Ok(bytes)
}
