//! Chunks that come to a session encoded: compressed by a client, or encrypted by it.

use crate::error::{RepoError, Result};
use crate::id::ChunkId;
use crate::pack::codec::Encoder;
use crate::pack::format::{CLIENT_EXTRA, MAX_CHUNK, TAG};
use crate::pack::{Codec, PackBuilder, Record};

/// A chunk in one of the ways in which it can be stored.
#[derive(Debug, Clone, Copy)]
pub enum Encoded<'a> {
    /// Its content; it is compressed if that is worth it.
    Plain(&'a [u8]),
    /// A zstd frame that [`crate::pack::codec::Decoder`] was seen to expand to the content; it is stored as it is.
    Zstd {
        /// The frame.
        frame: &'a [u8],
        /// Length of the content in bytes.
        raw: u32,
    },
    /// What the client encrypted.
    ClientSealed {
        /// The digest that the client gave.
        digest: [u8; 32],
        /// The client's blob.
        blob: &'a [u8],
        /// Length of the content in bytes, as the client says.
        raw: u32,
    },
}

impl Encoded<'_> {
    /// Length of the content in bytes.
    pub fn raw(&self) -> u32 {
        match self {
            Self::Plain(content) => content.len() as u32,
            Self::Zstd { raw, .. } | Self::ClientSealed { raw, .. } => *raw,
        }
    }

    /// Most bytes that are to be sealed.
    pub(super) fn payload(&self) -> usize {
        match self {
            Self::Plain(content) => content.len(),
            Self::Zstd { frame, .. } => frame.len(),
            Self::ClientSealed { digest, blob, .. } => digest.len() + blob.len(),
        }
    }

    /// Whether it fits in a pack, and what can be told of the identity.
    pub(super) fn check(&self, id: ChunkId) -> Result<()> {
        let (size, limit) = match self {
            Self::Plain(content) => (content.len(), MAX_CHUNK),
            Self::Zstd { frame, raw } => (frame.len().max(*raw as usize), MAX_CHUNK),
            Self::ClientSealed { blob, raw, digest } => {
                if ChunkId::of_client_sealed(digest) != id {
                    return Err(RepoError::ChunkMismatch(id));
                }
                let limit = MAX_CHUNK + CLIENT_EXTRA - digest.len();
                if *raw as usize > MAX_CHUNK {
                    (*raw as usize, MAX_CHUNK)
                } else {
                    (blob.len(), limit)
                }
            }
        };
        if size > limit {
            return Err(RepoError::ChunkTooLarge { size, limit });
        }
        Ok(())
    }

    /// Appends it to a pack in which it fits.
    pub(super) fn append(
        &self,
        id: ChunkId,
        builder: &mut PackBuilder,
        encoder: &mut Encoder,
    ) -> Result<Record> {
        match self {
            Self::Plain(content) => builder.append(id, content, encoder),
            Self::Zstd { frame, raw } => {
                let record = Record {
                    id,
                    offset: 0,
                    stored: (frame.len() + TAG) as u32,
                    raw: *raw,
                    codec: Codec::Zstd,
                };
                Ok(builder.append_encoded(&record, frame))
            }
            Self::ClientSealed { digest, blob, raw } => {
                Ok(builder.append_client_sealed(id, *raw, digest, blob))
            }
        }
    }
}
