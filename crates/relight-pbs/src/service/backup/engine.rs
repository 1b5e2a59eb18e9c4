//! The engine's session of a backup, and how what a client sends becomes archives of the repository.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use relight_repo::ChunkId;
use relight_repo::pack::PackKind;
use relight_repo::session::{ArchiveWriter, Encoded, Session};
use relight_repo::snapshot::{Archive, ArchiveKind, Snapshot, SnapshotSpec};

use super::known::{Form, Known, KnownChunks};
use crate::formats::ids::{FileKind, FileName};
use crate::formats::index::{Digest, FIXED_CHUNK};
use crate::service::datastore::{Datastore, StoreError, zero_digest};
use crate::service::http::{ApiError, ApiResult};

/// What archive of the repository a file becomes.
pub(crate) fn archive_kind(name: &FileName) -> ArchiveKind {
    match (name.kind(), name.stem()) {
        (FileKind::Blob, _) => ArchiveKind::Blob,
        (FileKind::FixedIndex, _) => ArchiveKind::Image,
        (FileKind::DynamicIndex, stem) if stem.ends_with(".mpxar") => ArchiveKind::PxarMetadata,
        (FileKind::DynamicIndex, stem) if stem.ends_with(".ppxar") => ArchiveKind::PxarPayload,
        // It is browsed, like other metadata, when the content may lie in cold storage.
        (FileKind::DynamicIndex, "catalog.pcat1") => ArchiveKind::Blob,
        (FileKind::DynamicIndex, _) => ArchiveKind::Stream,
    }
}

fn failed(error: relight_repo::RepoError) -> ApiError {
    StoreError::from(error).into()
}

/// A session of the engine. Everything but ending it blocks; it is ended on a thread of its own.
pub(crate) struct Engine {
    session: Option<Session>,
    cancelled: Arc<AtomicBool>,
}

impl Engine {
    /// Begins a session.
    pub fn begin(datastore: &Datastore) -> ApiResult<Self> {
        let cancelled = Arc::new(AtomicBool::new(false));
        let session = Session::begin(datastore.repository(), cancelled.clone()).map_err(failed)?;
        Ok(Self {
            session: Some(session),
            cancelled,
        })
    }

    /// Makes what still runs end soon.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    fn session(&self) -> ApiResult<&Session> {
        let gone = || ApiError::internal("the session has ended");
        self.session.as_ref().ok_or_else(gone)
    }

    /// Stores a chunk; false if it was there already.
    pub fn put_chunk(&self, kind: PackKind, id: ChunkId, encoded: Encoded<'_>) -> ApiResult<bool> {
        self.session()?.put_chunk(kind, id, encoded).map_err(failed)
    }

    /// A file as it came.
    pub fn blob(&self, name: &str, bytes: Vec<u8>) -> ApiResult<Archive> {
        const PIECE: usize = 4 << 20;
        let mut writer = self.session()?.archive(name, ArchiveKind::Blob).map_err(failed)?;
        for piece in bytes.chunks(PIECE) {
            writer.push_chunk(piece.to_vec()).map_err(failed)?;
        }
        writer.finish().map_err(failed)
    }

    /// An archive of chunks that are in the repository, given by digest. Gives also whether a client encrypted any of them.
    pub fn archive<'d>(
        &self,
        name: &FileName,
        digests: impl Iterator<Item = &'d Digest>,
        known: &KnownChunks,
    ) -> ApiResult<(Archive, bool)> {
        let kind = archive_kind(name);
        let mut writer = self.session()?.archive(name.stem(), kind).map_err(failed)?;
        let mut sealed = false;
        for digest in digests {
            let chunk = known.get(digest).ok_or_else(|| no_such_chunk(digest))?;
            sealed |= chunk.form == Form::Sealed;
            self.push(&mut writer, kind, digest, chunk)?;
        }
        Ok((writer.finish().map_err(failed)?, sealed))
    }

    fn push(
        &self,
        writer: &mut ArchiveWriter,
        kind: ArchiveKind,
        digest: &Digest,
        chunk: Known,
    ) -> ApiResult<()> {
        let length = u64::from(chunk.length);
        let zeros =
            chunk.form == Form::Zeros || (length == FIXED_CHUNK && *digest == zero_digest(FIXED_CHUNK));
        if zeros && kind == ArchiveKind::Image {
            return writer.push_zeros(length).map_err(failed);
        }
        let id = chunk.id(digest);
        if writer.push_known(id, length).map_err(failed)? {
            return Ok(());
        }
        // In a stream zeros are cut as the client cut them, so they are chunks like others.
        if zeros {
            let content = vec![0; chunk.length as usize];
            self.put_chunk(kind.pack_kind(), id, Encoded::Plain(&content))?;
            if writer.push_known(id, length).map_err(failed)? {
                return Ok(());
            }
        }
        Err(ApiError::bad_request(format!(
            "chunk {} is not in the datastore any more; run the backup again",
            hex::encode(digest)
        )))
    }

    /// Whether a chunk is there, in good order, to be referred to.
    pub fn has(&self, id: &ChunkId) -> ApiResult<bool> {
        let repository = self.session()?.repository();
        Ok(*id == ChunkId::ZEROS || repository.index().writable(id).is_some())
    }

    /// The same, if it also has this length.
    pub fn has_chunk(&self, id: &ChunkId, length: u32) -> ApiResult<bool> {
        let place = self.session()?.repository().index().writable(id);
        Ok(place.is_some_and(|place| place.record.raw == length))
    }

    /// Makes a snapshot of these archives, durable and whole.
    pub fn publish(&self, spec: SnapshotSpec, archives: Vec<Archive>) -> ApiResult<Snapshot> {
        self.session()?.publish(spec, archives).map_err(failed)
    }
}

/// A chunk that may not be named.
pub(crate) fn no_such_chunk(digest: &Digest) -> ApiError {
    ApiError::bad_request(format!("no such chunk {}", hex::encode(digest)))
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.cancel();
        if let Some(session) = self.session.take() {
            // It waits for its threads and stores what it has; whoever lets go of it last must not.
            std::thread::spawn(move || drop(session));
        }
    }
}
