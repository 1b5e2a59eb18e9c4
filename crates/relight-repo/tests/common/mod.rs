//! What the tests of the engine share: a repository in some storage, and content that can be told apart.
#![allow(dead_code)]

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use relight_keys::{KeyFile, SystemEntropy};
use relight_repo::settings::Settings;
use relight_repo::snapshot::{Archive, ArchiveKind, Snapshot, SnapshotSpec};
use relight_repo::storage::Storage;
use relight_repo::{OpenOptions, Repository, Result, keyring};

/// A storage, the key to what is in it, and a folder for caches.
pub struct Place {
    pub storage: Arc<dyn Storage>,
    pub key: KeyFile,
    pub cache: tempfile::TempDir,
}

impl Place {
    /// A new repository in `storage`.
    pub fn new(storage: Arc<dyn Storage>) -> Self {
        Self::with(storage, Settings::default())
    }

    /// A new repository with these settings.
    pub fn with(storage: Arc<dyn Storage>, settings: Settings) -> Self {
        let key = KeyFile::generate(&mut SystemEntropy).unwrap();
        keyring::initialise(&*storage, &key, "test", jiff::Timestamp::now(), settings).unwrap();
        Self {
            storage,
            key,
            cache: tempfile::tempdir().unwrap(),
        }
    }

    /// Opens it as another process would.
    pub fn open(&self) -> Result<Arc<Repository>> {
        self.open_through(self.storage.clone())
    }

    /// Opens it through another handle to the same storage.
    pub fn open_through(&self, storage: Arc<dyn Storage>) -> Result<Arc<Repository>> {
        let keys = keyring::unlock(&*storage, &self.key)?.into_keys();
        let mut options = OpenOptions::new(self.cache.path());
        options.threads = 2;
        Repository::open(storage, keys, options).map(Arc::new)
    }
}

/// Content that is the same for the same seed, and about as compressible as data is.
pub fn content(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        if state.is_multiple_of(3) {
            bytes.extend_from_slice(&[state as u8; 24]);
        } else {
            bytes.extend_from_slice(&state.to_le_bytes());
        }
    }
    bytes.truncate(length);
    bytes
}

/// Saves streams as one snapshot.
pub fn back_up(repository: &Arc<Repository>, workload: &str, streams: &[(&str, &[u8])]) -> Result<Snapshot> {
    let session =
        relight_repo::session::Session::begin(repository.clone(), Arc::new(AtomicBool::new(false)))?;
    let mut archives: Vec<Archive> = Vec::new();
    for (name, bytes) in streams {
        let mut writer = session.archive(name, ArchiveKind::Stream)?;
        writer.write(bytes)?;
        archives.push(writer.finish()?);
    }
    session.publish(
        SnapshotSpec {
            workload: workload.into(),
            ..SnapshotSpec::default()
        },
        archives,
    )
}

/// Reads an archive back.
pub fn read_back(repository: &Arc<Repository>, archive: &Archive) -> Result<Vec<u8>> {
    let reader = Arc::new(relight_repo::read::ChunkReader::new(repository.clone())?);
    let mut bytes = Vec::new();
    for item in relight_repo::read::PieceStream::new(&reader, archive.root, 0)? {
        let (piece, content) = item?;
        assert_eq!(piece.offset, bytes.len() as u64);
        match content {
            Some(content) => bytes.extend_from_slice(&content),
            None => bytes.resize(bytes.len() + piece.length as usize, 0),
        }
    }
    Ok(bytes)
}
