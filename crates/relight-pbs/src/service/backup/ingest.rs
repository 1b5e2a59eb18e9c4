//! A chunk as a blob of the protocol, checked and stored: from a client that uploads it, or from another server.

use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest;
use relight_repo::ChunkId;
use relight_repo::pack::PackKind;
use relight_repo::session::{Encoded, is_zero};

use super::engine::Engine;
use super::known::{Form, Known};
use crate::formats::blob::{self, Blob, BlobKind, ChunkDecoder};
use crate::formats::index::Digest;
use crate::service::http::{ApiError, ApiResult};

/// A chunk that is announced.
#[derive(Clone, Copy)]
pub(crate) struct NewChunk {
    pub digest: Digest,
    /// Bytes of content.
    pub size: u32,
    pub pack: PackKind,
    /// Whether it is of an image, in which zeros are not stored.
    pub image: bool,
}

/// What expands chunks, for all sessions together: no more than there were ever chunks expanded at the same time.
static DECODERS: Mutex<Vec<ChunkDecoder>> = Mutex::new(Vec::new());

fn decoders() -> MutexGuard<'static, Vec<ChunkDecoder>> {
    DECODERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Checks a chunk and stores it: of plain content that it is what its digest says, of what a client encrypted its CRC,
/// which is all that can be checked without the key. Gives how it is known, and false if it was there already.
///
/// # Errors
/// 400: it is not what was announced. Others: the repository fails.
pub(crate) fn store(engine: &Engine, chunk: &NewChunk, bytes: &[u8]) -> ApiResult<(Known, bool)> {
    let refused = |error: blob::BlobError| ApiError::bad_request(error.to_string());
    let blob = Blob::parse(bytes).map_err(refused)?;
    let (form, new) = match blob.kind() {
        BlobKind::Encrypted | BlobKind::EncryptedZstd => {
            blob.check_crc().map_err(refused)?;
            let encoded = Encoded::ClientSealed {
                digest: chunk.digest,
                blob: bytes,
                raw: chunk.size,
            };
            let id = ChunkId::of_client_sealed(&chunk.digest);
            (Form::Sealed, engine.put_chunk(chunk.pack, id, encoded)?)
        }
        BlobKind::Plain => {
            let content = blob.payload();
            if content.len() != chunk.size as usize {
                let (got, size) = (content.len(), chunk.size);
                return Err(ApiError::bad_request(format!(
                    "wrong chunk size ({got} != {size})"
                )));
            }
            store_plain(engine, chunk, content, Encoded::Plain(content))?
        }
        BlobKind::Zstd => {
            let decoder = decoders().pop();
            let mut decoder = match decoder {
                Some(decoder) => decoder,
                None => ChunkDecoder::new().map_err(refused)?,
            };
            let frame = blob.payload();
            let stored = match decoder.expand(frame, chunk.size as usize) {
                // A frame that is longer than its content is of no use.
                Ok(content) if frame.len() >= content.len() => {
                    store_plain(engine, chunk, content, Encoded::Plain(content))
                }
                Ok(content) => {
                    let raw = chunk.size;
                    store_plain(engine, chunk, content, Encoded::Zstd { frame, raw })
                }
                Err(error) => Err(refused(error)),
            };
            decoders().push(decoder);
            stored?
        }
    };
    let length = chunk.size;
    Ok((Known { length, form }, new))
}

fn store_plain(
    engine: &Engine,
    chunk: &NewChunk,
    content: &[u8],
    encoded: Encoded<'_>,
) -> ApiResult<(Form, bool)> {
    if digest::digest(&digest::SHA256, content).as_ref() != chunk.digest {
        let digest = hex::encode(chunk.digest);
        return Err(ApiError::bad_request(format!(
            "wrong digest: the content of the chunk is not {digest}"
        )));
    }
    if chunk.image && is_zero(content) {
        return Ok((Form::Zeros, false));
    }
    let form = if is_zero(content) {
        Form::Zeros
    } else {
        Form::Plain
    };
    let new = engine.put_chunk(chunk.pack, ChunkId(chunk.digest), encoded)?;
    Ok((form, new))
}
