//! A session that reads one snapshot.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::Method;
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

use super::backup::{MAX_INDEX, sha256};
use super::wire::{Connected, Wire};
use super::{ClientError, Result, rest};
use crate::formats::blob::{Blob, BlobError, MAX_BLOB, MAX_ENCODED};
use crate::formats::crypt::CryptKey;
use crate::formats::ids::{FileKind, FileName, SnapshotName};
use crate::formats::index::{Digest, DynamicIndex, FIXED_CHUNK, FixedIndex};
use crate::formats::manifest::{CryptMode, MAX as MAX_MANIFEST, Manifest, ManifestFile};

/// The key of the client, encrypted with a public key.
const SEALED_KEY: &str = "rsa-encrypted.key.blob";
/// Chunks that are asked for at once at most.
const AT_ONCE: usize = 16;
/// Bytes of content that are under way at most, beyond one chunk.
const ROOM: u64 = 64 << 20;

/// A snapshot that is read.
pub struct ReaderSession {
    shared: Arc<Shared>,
    manifest: Manifest,
    _connected: Connected,
}

struct Shared {
    wire: Wire,
    key: Option<Arc<CryptKey>>,
    /// Threads that decrypt, expand and hash.
    threads: Semaphore,
    zeros: OnceLock<Digest>,
    sealed_zeros: OnceLock<Digest>,
}

/// An image or stream of the snapshot.
pub struct ReaderArchive {
    shared: Arc<Shared>,
    name: FileName,
    encrypted: bool,
    /// Where each chunk ends, and its digest.
    chunks: Vec<(u64, Digest)>,
}

/// What a chunk holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// So many zeros, which were not even sent.
    Zeros(u64),
    /// These bytes.
    Bytes(Bytes),
}

/// A chunk in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Where it begins.
    pub offset: u64,
    /// What it holds.
    pub content: Content,
}

impl ReaderSession {
    pub(super) async fn begin(
        (wire, connected): (Wire, Connected),
        snapshot: SnapshotName,
        key: Option<Arc<CryptKey>>,
    ) -> Result<Self> {
        let bytes = download(&wire, FileName::MANIFEST, MAX_MANIFEST).await?;
        let manifest = Manifest::from_blob(&bytes)?;
        manifest.check_snapshot(&snapshot)?;
        // Whoever gives a key wants to be sure that the snapshot was made with it.
        if let Some(key) = &key {
            let wanted = manifest.key_fingerprint();
            if let Some(wanted) = wanted.filter(|wanted| *wanted != key.fingerprint()) {
                return Err(ClientError::OtherKey {
                    wanted: wanted.short(),
                    given: Some(key.fingerprint().short()),
                });
            }
            manifest.check_signature(key)?;
        }
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        Ok(Self {
            shared: Arc::new(Shared {
                wire,
                key,
                threads: Semaphore::new(threads),
                zeros: OnceLock::new(),
                sealed_zeros: OnceLock::new(),
            }),
            manifest,
            _connected: connected,
        })
    }

    /// What the snapshot consists of. With a key its signature was checked.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The content of a small file, named without its ending: `qemu-server.conf`.
    ///
    /// # Errors
    /// [`ClientError::NoFile`]; [`ClientError::OtherKey`] if it is encrypted and no key was given; [`ClientError::Mismatch`] or
    /// [`ClientError::Blob`] if it is damaged; otherwise what went wrong on the way.
    pub async fn blob(&self, name: &str) -> Result<Vec<u8>> {
        let file = self.file(&format!("{name}.blob"))?;
        let bytes = download(&self.shared.wire, file.filename.as_str(), MAX_BLOB).await?;
        if bytes.len() as u64 != file.size || sha256(&bytes) != file.csum {
            return Err(differs(&file.filename, "manifest", "its checksum"));
        }
        let name = file.filename.to_string();
        let named = |source| ClientError::Blob { file: name, source };
        let blob = match Blob::parse(&bytes) {
            Ok(blob) => blob,
            Err(source) => return Err(named(source)),
        };
        let content = match &self.shared.key {
            Some(key) => blob.decrypt(key, MAX_BLOB),
            None => blob.decode(MAX_BLOB),
        };
        content.map_err(named)
    }

    /// An image or stream, named without its ending: `disk.img`, `root.mpxar`.
    ///
    /// # Errors
    /// [`ClientError::NoFile`]; [`ClientError::OtherKey`] if it is encrypted and no key was given; [`ClientError::Mismatch`] or
    /// [`ClientError::Index`] if its index is damaged; otherwise what went wrong on the way.
    pub async fn archive(&self, name: &str) -> Result<ReaderArchive> {
        let fixed = self.file(&format!("{name}.fidx"));
        let file = match fixed {
            Err(ClientError::NoFile(_)) => self.file(&format!("{name}.didx")),
            other => other,
        };
        let file = file.map_err(|error| match error {
            ClientError::NoFile(_) => ClientError::NoFile(name.to_string()),
            other => other,
        })?;
        let bytes = download(&self.shared.wire, file.filename.as_str(), MAX_INDEX).await?;
        let named = |source| ClientError::Index {
            file: file.filename.to_string(),
            source,
        };
        let (size, csum, chunks) = match file.filename.kind() {
            FileKind::FixedIndex => {
                let index = FixedIndex::parse(&bytes).map_err(named)?;
                (index.size(), index.sum(), ends(index.chunks()))
            }
            _ => {
                let index = DynamicIndex::parse(&bytes).map_err(named)?;
                (index.size(), index.sum(), ends(index.chunks()))
            }
        };
        if size != file.size || csum != file.csum {
            return Err(differs(&file.filename, "manifest", "its checksum"));
        }
        Ok(ReaderArchive {
            shared: self.shared.clone(),
            name: file.filename.clone(),
            encrypted: file.crypt_mode == CryptMode::Encrypt,
            chunks,
        })
    }

    fn file(&self, name: &str) -> Result<&ManifestFile> {
        let file = self
            .manifest
            .file(name)
            .ok_or_else(|| ClientError::NoFile(name.to_string()))?;
        // Said to be encrypted like all else, but for the owner of the master key.
        let needs_key = file.crypt_mode == CryptMode::Encrypt && name != SEALED_KEY;
        if needs_key && self.shared.key.is_none() {
            let wanted = self.manifest.key_fingerprint();
            return Err(ClientError::OtherKey {
                wanted: wanted.map_or_else(|| "that it does not name".into(), |wanted| wanted.short()),
                given: None,
            });
        }
        Ok(file)
    }
}

fn ends(chunks: impl Iterator<Item = (Digest, u64)>) -> Vec<(u64, Digest)> {
    let mut end = 0_u64;
    chunks
        .map(|(digest, length)| {
            // Both kinds of index have checked their lengths.
            end = end.saturating_add(length);
            (end, digest)
        })
        .collect()
}

fn differs(name: &FileName, by: &'static str, what: &'static str) -> ClientError {
    ClientError::Mismatch {
        file: name.to_string(),
        by,
        what,
    }
}

async fn download(wire: &Wire, name: &str, limit: usize) -> Result<Bytes> {
    let query = rest::query([("file-name", name.to_string())].into_iter());
    wire.call(Method::GET, &format!("/download?{query}"), None, limit)
        .await
}

impl ReaderArchive {
    /// Its file in the manifest, with its ending.
    pub fn name(&self) -> &FileName {
        &self.name
    }

    /// Bytes of its content.
    pub fn size(&self) -> u64 {
        self.chunks.last().map_or(0, |(end, _)| *end)
    }

    /// How many chunks it has.
    pub fn chunk_count(&self) -> usize {
        self.chunks.len()
    }

    /// All of it in order, several chunks ahead.
    pub fn pieces(&self) -> Pieces<'_> {
        self.pieces_from(0)
    }

    /// It in order from the chunk on in which the byte at `offset` lies.
    pub fn pieces_from(&self, offset: u64) -> Pieces<'_> {
        Pieces {
            archive: self,
            next: self.chunks.partition_point(|(end, _)| *end <= offset),
            under_way: 0,
            queue: VecDeque::new(),
        }
    }

    /// The bytes from `offset` on, `length` of them, or as many as there are.
    ///
    /// # Errors
    /// [`ClientError::Mismatch`] or [`ClientError::Blob`] if a chunk is damaged; otherwise what went wrong on the way.
    pub async fn read_at(&self, offset: u64, length: usize) -> Result<Vec<u8>> {
        let end = offset.saturating_add(length as u64).min(self.size());
        let mut bytes = Vec::new();
        if offset >= end {
            return Ok(bytes);
        }
        let mut at = self.chunks.partition_point(|(end, _)| *end <= offset);
        while let Some((begin, length)) = self.place(at).filter(|(begin, _)| *begin < end) {
            let content = fetch(self.shared.clone(), self.encrypted, self.chunks[at].1, length).await?;
            let from = offset.saturating_sub(begin) as usize;
            let to = (end - begin).min(length) as usize;
            match content {
                Content::Zeros(_) => bytes.resize(bytes.len() + (to - from), 0),
                Content::Bytes(content) => bytes.extend_from_slice(&content[from..to]),
            }
            at += 1;
        }
        Ok(bytes)
    }

    /// The chunk in which the byte at `offset` lies; none beyond the end.
    ///
    /// # Errors
    /// [`ClientError::Mismatch`] or [`ClientError::Blob`] if it is damaged; otherwise what went wrong on the way.
    pub async fn piece(&self, offset: u64) -> Result<Option<Piece>> {
        let number = self.chunks.partition_point(|(end, _)| *end <= offset);
        let Some((begin, length)) = self.place(number) else {
            return Ok(None);
        };
        let digest = self.chunks[number].1;
        let content = fetch(self.shared.clone(), self.encrypted, digest, length).await?;
        Ok(Some(Piece {
            offset: begin,
            content,
        }))
    }

    /// Where a chunk begins, and its length.
    fn place(&self, number: usize) -> Option<(u64, u64)> {
        let (end, _) = self.chunks.get(number)?;
        let begin = number.checked_sub(1).map_or(0, |before| self.chunks[before].0);
        Some((begin, end - begin))
    }
}

/// The chunks of an archive in order; those that come next are asked for meanwhile.
pub struct Pieces<'a> {
    archive: &'a ReaderArchive,
    next: usize,
    under_way: u64,
    queue: VecDeque<(u64, u64, AbortOnDropHandle<Result<Content>>)>,
}

impl Pieces<'_> {
    /// The next chunk; none after the last.
    ///
    /// # Errors
    /// [`ClientError::Mismatch`] or [`ClientError::Blob`] if it is damaged; otherwise what went wrong on the way.
    pub async fn next(&mut self) -> Result<Option<Piece>> {
        while self.queue.len() < AT_ONCE && self.under_way < ROOM {
            let Some((begin, length)) = self.archive.place(self.next) else {
                break;
            };
            let digest = self.archive.chunks[self.next].1;
            let task = fetch(
                self.archive.shared.clone(),
                self.archive.encrypted,
                digest,
                length,
            );
            let task = AbortOnDropHandle::new(tokio::spawn(task));
            self.queue.push_back((begin, length, task));
            self.under_way += length;
            self.next += 1;
        }
        let Some((offset, length, task)) = self.queue.pop_front() else {
            return Ok(None);
        };
        self.under_way -= length;
        let content = task.await.map_err(ClientError::broken)??;
        Ok(Some(Piece { offset, content }))
    }
}

impl Shared {
    fn key_for(&self, encrypted: bool) -> Option<&CryptKey> {
        self.key.as_deref().filter(|_| encrypted)
    }

    fn digest(&self, encrypted: bool, content: &[u8]) -> Digest {
        match self.key_for(encrypted) {
            Some(key) => key.digest(content),
            None => sha256(content),
        }
    }

    /// The digest of a whole chunk of zeros.
    fn zeros(&self, encrypted: bool) -> &Digest {
        let cell = if encrypted {
            &self.sealed_zeros
        } else {
            &self.zeros
        };
        cell.get_or_init(|| self.digest(encrypted, &vec![0; FIXED_CHUNK as usize]))
    }
}

/// Gets a chunk, and sees whether it is what it should be.
async fn fetch(shared: Arc<Shared>, encrypted: bool, digest: Digest, length: u64) -> Result<Content> {
    if length == FIXED_CHUNK && digest == *shared.zeros(encrypted) {
        return Ok(Content::Zeros(length));
    }
    let target = format!("/chunk?digest={}", hex::encode(digest));
    let bytes = shared.wire.call(Method::GET, &target, None, MAX_ENCODED).await?;
    let _thread = shared.threads.acquire().await.map_err(ClientError::broken)?;
    let this = shared.clone();
    tokio::task::spawn_blocking(move || check(&this, encrypted, &digest, length, &bytes))
        .await
        .map_err(ClientError::broken)?
}

fn check(shared: &Shared, encrypted: bool, digest: &Digest, length: u64, bytes: &[u8]) -> Result<Content> {
    let name = || format!("chunk {}", hex::encode(digest));
    let limit = usize::try_from(length).unwrap_or(usize::MAX);
    let content = Blob::parse(bytes).and_then(|blob| match shared.key_for(encrypted) {
        Some(key) => blob.decrypt(key, limit),
        None => blob.decode(limit),
    });
    let content = content.map_err(|source: BlobError| ClientError::Blob { file: name(), source })?;
    if content.len() as u64 != length || shared.digest(encrypted, &content) != *digest {
        return Err(ClientError::Mismatch {
            file: name(),
            by: "index",
            what: "its content",
        });
    }
    Ok(Content::Bytes(content.into()))
}
