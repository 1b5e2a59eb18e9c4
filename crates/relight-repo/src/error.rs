//! What can go wrong in a repository, told so that an operator knows what to do next.

use crate::id::{ChunkId, PackId, SnapshotId};
use crate::storage::StorageError;

/// Result of an operation of the engine.
pub type Result<T, E = RepoError> = std::result::Result<T, E>;

/// Why the engine did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepoError {
    /// The storage failed or refused.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Keys: none fits, or one is missing.
    #[error("{0}")]
    Keys(String),
    /// There is no repository at that place.
    #[error("{location} holds no Relight repository; make one with `relight init {location}`")]
    NotARepository {
        /// The place.
        location: String,
    },
    /// There is one already where a new one was to be made.
    #[error("{location} already holds a Relight repository; nothing was changed")]
    AlreadyARepository {
        /// The place.
        location: String,
    },
    /// The place is not empty and not a repository.
    #[error("{location} is not empty and is not a Relight repository; choose an empty directory")]
    NotEmpty {
        /// The place.
        location: String,
    },
    /// Written by a newer Relight.
    #[error("{what} has format version {found}; this Relight reads up to {known}: use a newer one")]
    TooNew {
        /// The object.
        what: String,
        /// Its version.
        found: u32,
        /// The newest version this program knows.
        known: u32,
    },
    /// An object is not what it should be: bit rot, a torn write, or tampering.
    #[error("{what} is damaged: {why}")]
    Damaged {
        /// The object.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// The data key that this process seals under was retired while it ran.
    #[error(
        "data key {0} was retired since this process read the keyring: run the command again; if that does not help, make \
         another data key with `relight key rotate`"
    )]
    KeyRetired(String),
    /// An object was sealed under a data key that the keyring does not hold.
    #[error("{what} is sealed under data key {key}, which is not in the keyring")]
    KeyMissing {
        /// The object.
        what: String,
        /// The key.
        key: String,
    },
    /// No index knows the chunk.
    #[error("chunk {0} is not in the repository; run `relight verify`, then `relight repair index`")]
    ChunkMissing(ChunkId),
    /// The chunk's record did not open or did not match its identity.
    #[error("chunk {chunk} in pack {pack} is corrupt; run `relight verify`, then `relight repair packs`")]
    ChunkCorrupt {
        /// The chunk.
        chunk: ChunkId,
        /// Where it was read.
        pack: PackId,
    },
    /// The content was encrypted by the client that saved it; the repository never had its key.
    #[error("chunk {0} was encrypted by the client that saved it: restore it with that client and its key")]
    ClientSealed(ChunkId),
    /// The content was encrypted by the client that saved it, but not with the key that was given.
    #[error(
        "chunk {0} was encrypted by the client that saved it: with another key than the one given, or it is not what that \
         client said"
    )]
    OtherClientKey(ChunkId),
    /// What was to be stored as a chunk is not what it is said to be.
    #[error("chunk {0} was not stored: it is not what its identity says")]
    ChunkMismatch(ChunkId),
    /// A chunk was larger than a pack can take.
    #[error("a chunk of {size} bytes is larger than the {limit} bytes that one may have")]
    ChunkTooLarge {
        /// Its size.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// No snapshot fits what was asked for.
    #[error("no snapshot {0}; `relight snapshots` lists what there is")]
    NoSuchSnapshot(String),
    /// Several snapshots fit.
    #[error("{given} fits {} snapshots ({}); give more digits", .found.len(), shorts(.found))]
    AmbiguousSnapshot {
        /// What was asked for.
        given: String,
        /// What fits.
        found: Vec<SnapshotId>,
    },
    /// The snapshot has no such archive.
    #[error("snapshot {snapshot} has no archive {archive}")]
    NoSuchArchive {
        /// The snapshot.
        snapshot: SnapshotId,
        /// The name.
        archive: String,
    },
    /// Snapshots that are protected are not forgotten.
    #[error("snapshot {0} is protected; take the protection away first")]
    Protected(SnapshotId),
    /// This session was silent for so long that a collector gave it up.
    #[error("the session was given up by a collection because it was silent too long; run the backup again")]
    SessionEvicted,
    /// Another collector is at work.
    #[error("a collection is running on {holder} since {since}; wait for it to end")]
    CollectionRunning {
        /// Who.
        holder: String,
        /// When it began.
        since: String,
    },
    /// A collection found no snapshot, but packs that it would delete.
    #[error(
        "there is no snapshot, but {packs} packs: nothing was changed. If all snapshots were really forgotten, \
         run the collection again and allow it to empty the repository"
    )]
    CollectionWouldEmpty {
        /// How many packs.
        packs: usize,
    },
    /// A collection cannot know what is needed because parts of snapshots are missing or damaged.
    #[error(
        "{count} chunks that snapshots need are missing or damaged ({first}): nothing was changed, because what \
         they refer to could be deleted by mistake. Run `relight verify` and `relight repair`, or forget the \
         snapshots concerned"
    )]
    CollectionUnsafe {
        /// How many.
        count: usize,
        /// The first of them and the snapshot that needs it.
        first: String,
    },
    /// The lease was lost to another collector.
    #[error("another collection took over; this one stopped before it changed anything more")]
    LeaseLost,
    /// Somebody asked to stop.
    #[error("cancelled; what was stored so far is used by the next run")]
    Cancelled,
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes; nothing was written")]
    NoRandomness,
    /// The local cache could not be used.
    #[error("{action} {path}: {source}; the cache can be deleted at any moment")]
    Cache {
        /// What was being done.
        action: &'static str,
        /// Where.
        path: String,
        /// The error.
        source: std::io::Error,
    },
    /// What was to be saved could not be read.
    #[error("reading what is to be saved: {0}")]
    Source(std::io::Error),
    /// An earlier error of another thread ended the work.
    #[error("the backup stopped because {0}")]
    Stopped(String),
}

fn shorts(found: &[SnapshotId]) -> String {
    let mut names: Vec<String> = found.iter().take(5).map(SnapshotId::short).collect();
    if found.len() > 5 {
        names.push("…".into());
    }
    names.join(", ")
}

impl RepoError {
    /// A damaged object.
    pub(crate) fn damaged(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Damaged {
            what: what.into(),
            why: why.into(),
        }
    }
}
