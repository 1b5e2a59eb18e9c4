//! A session that writes one snapshot.

mod chunks;
mod writer;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use aws_lc_rs::digest;
use bytes::Bytes;
use http::Method;
use tokio::sync::Semaphore;

use super::wire::{Connected, Wire};
use super::{ClientError, Result, rest};
use crate::formats::blob;
use crate::formats::chunker::StreamChunker;
use crate::formats::crypt::CryptKey;
use crate::formats::ids::{FileKind, FileName, SnapshotName};
use crate::formats::index::{Digest, DynamicIndex, FixedIndex};
use crate::formats::manifest::{CryptMode, MAX as MAX_MANIFEST, Manifest, ManifestFile};

pub use chunks::UploadFigures;
pub use writer::{ArchiveWriter, SavedArchive};

use chunks::Chunks;

/// Bytes of an index at most: that of an image of 128 TiB.
pub(super) const MAX_INDEX: usize = 1 << 30;
/// Most content of a small file, in bytes: what may be sent in one call.
const MAX_BLOB: usize = 16 << 20;

/// How a backup is made.
#[derive(Debug, Clone)]
pub struct BackupOptions {
    /// Bytes of content that are under way at most, over all archives.
    pub room: usize,
    /// Whether the previous snapshot is left aside, so that everything is sent again.
    pub full: bool,
}

impl Default for BackupOptions {
    fn default() -> Self {
        Self {
            room: 64 << 20,
            full: false,
        }
    }
}

/// What a finished backup did.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Its manifest, as it was sent.
    pub manifest: Manifest,
    /// What was sent.
    pub figures: UploadFigures,
}

/// A backup that is being written. The snapshot comes into being with [`BackupSession::finish`], whole; if the session is
/// dropped before, the connection ends and the server forgets what was sent.
pub struct BackupSession {
    pub(super) shared: Arc<Shared>,
    snapshot: SnapshotName,
    previous: Option<Manifest>,
    _connected: Connected,
}

/// What the writers of a session share.
pub(super) struct Shared {
    wire: Wire,
    pub(super) key: Option<Arc<CryptKey>>,
    chunks: Chunks,
    /// Bytes of content that may be taken; one permit each.
    room: Arc<Semaphore>,
    most_room: usize,
    /// Threads that hash, compress and encrypt.
    threads: Semaphore,
    /// The digest of a whole chunk of zeros, of which images are full.
    zeros: OnceLock<Digest>,
    files: Mutex<Vec<ManifestFile>>,
    /// What is to stand in the part of the manifest that is not signed.
    pub(super) notes: Mutex<serde_json::Map<String, serde_json::Value>>,
}

impl Shared {
    fn digest(&self, content: &[u8]) -> Digest {
        match &self.key {
            Some(key) => key.digest(content),
            None => sha256(content),
        }
    }

    pub(super) fn crypt_mode(&self) -> CryptMode {
        match self.key {
            Some(_) => CryptMode::Encrypt,
            None => CryptMode::None,
        }
    }

    fn add_file(&self, filename: FileName, size: u64, csum: Digest) {
        let file = ManifestFile {
            filename,
            crypt_mode: self.crypt_mode(),
            size,
            csum,
            other: serde_json::Map::new(),
        };
        self.files
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(file);
    }

    fn encode(&self, content: &[u8]) -> Result<Vec<u8>, blob::BlobError> {
        match &self.key {
            Some(key) => blob::encrypt(content, key, true),
            None => blob::encode(content, true),
        }
    }
}

pub(super) fn sha256(content: &[u8]) -> Digest {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest::digest(&digest::SHA256, content).as_ref());
    bytes
}

impl BackupSession {
    pub(super) async fn begin(
        (wire, connected): (Wire, Connected),
        snapshot: SnapshotName,
        key: Option<Arc<CryptKey>>,
        options: BackupOptions,
    ) -> Result<Self> {
        // At least one chunk must fit, and a semaphore counts no further.
        let most_room = options.room.clamp(blob::MAX_CHUNK, 1 << 30);
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        let shared = Shared {
            wire,
            key,
            chunks: Chunks::default(),
            room: Arc::new(Semaphore::new(most_room)),
            most_room,
            threads: Semaphore::new(threads),
            zeros: OnceLock::new(),
            files: Mutex::default(),
            notes: Mutex::default(),
        };
        let previous = if options.full {
            None
        } else {
            previous(&shared).await?
        };
        Ok(Self {
            shared: Arc::new(shared),
            snapshot,
            previous,
            _connected: connected,
        })
    }

    /// The manifest of the previous snapshot of the group, if there is one that can be built on: with the same key, or
    /// without one as this.
    pub fn previous(&self) -> Option<&Manifest> {
        self.previous.as_ref()
    }

    /// Begins an archive that is cut every 4 MiB: `disk.img`. `size` in bytes must be given if it is known.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the server's words; otherwise what went wrong on the way.
    pub async fn image(&self, name: &str, size: Option<u64>) -> Result<ArchiveWriter> {
        let name: FileName = format!("{name}.fidx").parse()?;
        self.register_previous(&name).await?;
        ArchiveWriter::fixed(self.shared.clone(), name, size).await
    }

    /// Begins an archive that is cut where its content says: `root.pxar`, `root.mpxar`.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the server's words; otherwise what went wrong on the way.
    pub async fn stream(&self, name: &str, chunker: StreamChunker) -> Result<ArchiveWriter> {
        Ok(self.stream_after(name, chunker).await?.0)
    }

    /// The same, with what the previous archive of that name consists of, if there is one that can be built on.
    pub(super) async fn stream_after(
        &self,
        name: &str,
        chunker: StreamChunker,
    ) -> Result<(ArchiveWriter, Vec<(Digest, u64)>)> {
        let name: FileName = format!("{name}.didx").parse()?;
        let previous = self.register_previous(&name).await?;
        let writer = ArchiveWriter::dynamic(self.shared.clone(), name, chunker).await?;
        Ok((writer, previous))
    }

    /// Notes something in the part of the manifest that is not signed.
    pub fn note(&self, field: &str, value: serde_json::Value) {
        let mut notes = self.shared.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.insert(field.to_string(), value);
    }

    /// Adds a small file, of at most 16 MiB: `qemu-server.conf`.
    ///
    /// # Errors
    /// [`ClientError::Misuse`] if it is larger; [`ClientError::Refused`] with the server's words; otherwise what went wrong on
    /// the way.
    pub async fn blob(&self, name: &str, content: &[u8]) -> Result<()> {
        let name: FileName = format!("{name}.blob").parse()?;
        if content.len() > MAX_BLOB {
            return Err(ClientError::Misuse(format!(
                "{name} is larger than 16 MiB; save it as a stream"
            )));
        }
        let encoded = self
            .shared
            .encode(content)
            .map_err(|source| named(&name, source))?;
        self.add_blob(name, encoded).await
    }

    /// Adds a small file that is encrypted already, in another way than with the key of this session: a key for whoever
    /// keeps the master key.
    ///
    /// # Errors
    /// Those of [`BackupSession::blob`].
    pub async fn sealed_blob(&self, name: &str, content: &[u8]) -> Result<()> {
        let name: FileName = format!("{name}.blob").parse()?;
        let encoded = blob::encode(content, false).map_err(|source| named(&name, source))?;
        self.add_blob(name, encoded).await
    }

    async fn add_blob(&self, name: FileName, encoded: Vec<u8>) -> Result<()> {
        let (size, csum) = (encoded.len() as u64, sha256(&encoded));
        self.send_blob(&name, encoded).await?;
        self.shared.add_file(name, size, csum);
        Ok(())
    }

    /// What was sent so far.
    pub fn figures(&self) -> UploadFigures {
        self.shared.chunks.figures()
    }

    /// Sends the manifest, signed if there is a key, and makes the snapshot come into being.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the server's words, also if an archive was begun but not finished; otherwise what went
    /// wrong on the way.
    pub async fn finish(self) -> Result<Finished> {
        let files = std::mem::take(&mut *self.shared.files.lock().unwrap_or_else(PoisonError::into_inner));
        let mut manifest = Manifest::new(self.snapshot.clone(), files);
        let notes = std::mem::take(&mut *self.shared.notes.lock().unwrap_or_else(PoisonError::into_inner));
        manifest.unprotected.extend(notes);
        if let Some(key) = &self.shared.key {
            manifest.sign(key)?;
        }
        let name: FileName = FileName::MANIFEST.parse()?;
        // Never encrypted: the server reads it, too.
        let encoded = manifest.to_blob().map_err(|source| named(&name, source))?;
        self.send_blob(&name, encoded).await?;
        self.shared.wire.json(Method::POST, "/finish", None).await?;
        Ok(Finished {
            manifest,
            figures: self.figures(),
        })
    }

    async fn send_blob(&self, name: &FileName, encoded: Vec<u8>) -> Result<()> {
        let target = format!("/blob?file-name={name}&encoded-size={}", encoded.len());
        let body = Some(Bytes::from(encoded));
        self.shared.wire.json(Method::POST, &target, body).await?;
        Ok(())
    }

    /// Fetches the previous index of an archive: its chunks need not be sent again.
    async fn register_previous(&self, name: &FileName) -> Result<Vec<(Digest, u64)>> {
        let Some(file) = self
            .previous
            .as_ref()
            .and_then(|manifest| manifest.file(name.as_str()))
        else {
            return Ok(Vec::new());
        };
        if file.crypt_mode != self.shared.crypt_mode() {
            return Ok(Vec::new());
        }
        let bytes = match fetch_previous(&self.shared.wire, name.as_str(), MAX_INDEX).await {
            Ok(bytes) => bytes,
            Err(ClientError::Refused { message, .. }) => {
                tracing::warn!(%name, "the previous index cannot be used: {message}");
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        };
        let chunks = match name.kind() {
            FileKind::FixedIndex => FixedIndex::parse(&bytes).map(|index| {
                let same = index.sum() == file.csum;
                (same, index.chunks().collect::<Vec<_>>())
            }),
            _ => DynamicIndex::parse(&bytes).map(|index| {
                let same = index.sum() == file.csum;
                (same, index.chunks().collect())
            }),
        };
        match chunks {
            Ok((true, chunks)) => {
                let known = chunks.iter().map(|(digest, _)| *digest);
                self.shared.chunks.add_known(known);
                return Ok(chunks);
            }
            Ok((false, _)) => {
                tracing::warn!(%name, "the previous index is not the one that its manifest names; it is not used");
            }
            Err(error) => tracing::warn!(%name, "the previous index cannot be used: {error}"),
        }
        Ok(Vec::new())
    }
}

fn named(name: &FileName, source: blob::BlobError) -> ClientError {
    ClientError::Blob {
        file: name.to_string(),
        source,
    }
}

async fn fetch_previous(wire: &Wire, name: &str, limit: usize) -> Result<Bytes> {
    let query = rest::query([("archive-name", name.to_string())].into_iter());
    wire.call(Method::GET, &format!("/previous?{query}"), None, limit)
        .await
}

/// The manifest of the previous snapshot, if it can be built on.
async fn previous(shared: &Shared) -> Result<Option<Manifest>> {
    let time = shared.wire.json(Method::GET, "/previous_backup_time", None);
    if time.await?.is_null() {
        return Ok(None);
    }
    let bytes = match fetch_previous(&shared.wire, FileName::MANIFEST, MAX_MANIFEST).await {
        Ok(bytes) => bytes,
        Err(ClientError::Refused { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let manifest = match Manifest::from_blob(&bytes) {
        Ok(manifest) => manifest,
        Err(error) => {
            tracing::warn!("the previous snapshot cannot be built on: {error}");
            return Ok(None);
        }
    };
    if let Some(key) = &shared.key {
        if manifest.key_fingerprint() != Some(key.fingerprint()) {
            return Ok(None);
        }
        if let Err(error) = manifest.check_signature(key) {
            tracing::warn!("the previous snapshot cannot be built on: {error}");
            return Ok(None);
        }
    }
    Ok(Some(manifest))
}
