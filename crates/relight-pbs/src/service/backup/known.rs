//! The chunks that a client may name in this session: what it uploaded, and what the indexes of the previous snapshot list
//! that it was given. Of others it may know the digests, but must not get at them.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use relight_repo::ChunkId;

use crate::formats::index::Digest;
use crate::service::http::{ApiError, ApiResult};

/// In which form a chunk is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Content whose digest was checked.
    Plain,
    /// The same, of nothing but zeros, which need not be in the repository.
    Zeros,
    /// Encrypted by the client.
    Sealed,
}

/// A chunk that may be named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Known {
    /// Bytes of content.
    pub length: u32,
    /// In which form it is known.
    pub form: Form,
}

impl Known {
    /// How the repository names the chunk of this digest when it is stored.
    pub fn id(self, digest: &Digest) -> ChunkId {
        match self.form {
            Form::Plain | Form::Zeros => ChunkId(*digest),
            Form::Sealed => ChunkId::of_client_sealed(digest),
        }
    }
}

/// All chunks that may be named.
#[derive(Default)]
pub(crate) struct KnownChunks(RwLock<HashMap<Digest, Known>>);

impl KnownChunks {
    /// The chunk of that digest, if it may be named.
    pub fn get(&self, digest: &Digest) -> Option<Known> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.get(digest).copied()
    }

    /// Takes up a chunk.
    ///
    /// # Errors
    /// One of this digest is known, but as something else.
    pub fn add(&self, digest: Digest, chunk: Known) -> ApiResult<()> {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let before = known.entry(digest).or_insert(chunk);
        let same_form = (before.form == Form::Sealed) == (chunk.form == Form::Sealed);
        if !same_form || before.length != chunk.length {
            let digest = hex::encode(digest);
            return Err(ApiError::bad_request(format!(
                "chunk {digest} was announced before with another length or encryption"
            )));
        }
        Ok(())
    }
}

/// Reads a digest of 64 hexadecimal digits.
pub(crate) fn parse_digest(text: &str) -> ApiResult<Digest> {
    let mut digest = [0; 32];
    hex::decode_to_slice(text, &mut digest)
        .map_err(|_| ApiError::bad_request("a digest is not 64 hexadecimal digits"))?;
    Ok(digest)
}
