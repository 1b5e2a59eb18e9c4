//! The calls of a reader session by name.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use relight_repo::ChunkId;
use relight_repo::pack::Codec;
use relight_repo::read::Stored;
use serde::Deserialize;

use super::Shared;
use super::chunks::Wanted;
use crate::formats::blob;
use crate::formats::ids::{FileKind, FileName};
use crate::formats::index::{Digest, FIXED_CHUNK};
use crate::service::datastore::{Source, StoreError};
use crate::service::http::{ApiError, ApiResult, NoParameters, blocking};
use crate::service::protocol::Call;

/// How long an answer of 401 is held back.
const DELAY: Duration = Duration::from_secs(3);
/// What is sent to measure speed.
static SPEED: [u8; 1 << 20] = [b'A'; 1 << 20];

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Download {
    file_name: FileName,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Chunk {
    digest: String,
}

/// Answers a call.
pub(super) async fn answer(shared: Arc<Shared>, mut call: Call) {
    let method = call.method.clone();
    let name = call.name.clone();
    let result = match (method, name.as_str()) {
        (Method::GET, "chunk") => {
            // Until it is sent.
            let Ok(_turn) = shared.at_once.acquire().await else {
                return;
            };
            match chunk(&shared, &mut call).await {
                Ok([header, payload]) => return call.reply.bytes([header, payload]).await,
                Err(error) => Err(error),
            }
        }
        (Method::GET, "download") => download(&shared, &mut call).await,
        (Method::GET, "speedtest") => match call.parameters::<NoParameters>() {
            Ok(NoParameters {}) => Ok(Bytes::from_static(&SPEED)),
            Err(error) => Err(error),
        },
        _ => Err(ApiError::not_found(format!("Path '/{name}' not found."))),
    };
    match result {
        Ok(bytes) => call.reply.bytes([bytes]).await,
        Err(error) => {
            if error.status == StatusCode::UNAUTHORIZED {
                tokio::time::sleep(DELAY).await;
            }
            call.refuse(&error).await;
        }
    }
}

async fn download(shared: &Arc<Shared>, call: &mut Call) -> ApiResult<Bytes> {
    let Download { file_name } = call.parameters()?;
    let this = shared.clone();
    blocking(move || {
        let datastore = &this.request.datastore;
        let not_found = |error: StoreError| match error {
            StoreError::NoFile { .. } => {
                ApiError::not_found(format!("open file \"{file_name}\" failed - not found"))
            }
            other => other.into(),
        };
        let file = datastore.file(&this.entry, &file_name).map_err(not_found)?;
        let listed = matches!(file.source, Source::Index(_) | Source::KeptIndex(..));
        if file_name.kind() == FileKind::Blob || !listed {
            return Ok(datastore
                .read_file(&this.entry, &file_name)
                .map_err(not_found)?
                .into());
        }
        let index = datastore.read_index(&this.entry, &file_name).map_err(not_found)?;
        this.lists().add(file_name.as_str(), index.chunks)?;
        Ok(index.bytes.into())
    })
    .await
}

/// The blob of a chunk: its header, and what follows.
async fn chunk(shared: &Arc<Shared>, call: &mut Call) -> ApiResult<[Bytes; 2]> {
    let Chunk { digest: text } = call.parameters()?;
    let mut digest: Digest = [0; 32];
    hex::decode_to_slice(&text, &mut digest)
        .map_err(|_| ApiError::bad_request("a digest is not 64 hexadecimal digits"))?;
    let wanted = shared.lists().want(&digest);
    let wanted = wanted.ok_or_else(|| {
        let message = format!("download chunk {} not allowed", hex::encode(digest));
        ApiError::new(StatusCode::UNAUTHORIZED, message)
    })?;
    let this = shared.clone();
    blocking(move || this.read(&wanted)).await
}

/// Memory that is shared with the cache.
struct Kept(Arc<Vec<u8>>);

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Shared {
    fn read(&self, wanted: &Wanted) -> ApiResult<[Bytes; 2]> {
        if !wanted.ahead.is_empty() {
            self.cache.read_ahead(&wanted.ahead);
        }
        if wanted.piece.id == ChunkId::ZEROS {
            let length = usize::try_from(wanted.piece.length).unwrap_or(usize::MAX);
            return zeros(length);
        }
        let failed = |error| ApiError::from(StoreError::from(error));
        let bytes = self.cache.get(&wanted.piece).map_err(failed)?;
        let stored = Stored::parse(&bytes).map_err(failed)?;
        if let Some((_, client_blob)) = stored.client_sealed() {
            let (header, payload) = client_blob.split_at(client_blob.len().min(blob::HEADER));
            let header = Bytes::copy_from_slice(header);
            let begin = stored.payload.len() - payload.len();
            let end = stored.payload.len();
            return Ok([header, Bytes::from_owner(Kept(bytes)).slice(begin..end)]);
        }
        let header = blob::header(stored.codec == Codec::Zstd, [stored.payload]);
        let end = stored.payload.len();
        let payload = Bytes::from_owner(Kept(bytes)).slice(..end);
        Ok([Bytes::copy_from_slice(&header), payload])
    }
}

/// The blob of a chunk of zeros, which is made when it is asked for.
fn zeros(length: usize) -> ApiResult<[Bytes; 2]> {
    static FULL: OnceLock<Bytes> = OnceLock::new();
    let make = |length: usize| {
        let blob = blob::encode(&vec![0; length], true);
        blob.map(Bytes::from)
            .map_err(|error| ApiError::internal(error.to_string()))
    };
    let blob = match FULL.get() {
        Some(blob) if length as u64 == FIXED_CHUNK => blob.clone(),
        _ if length > blob::MAX_CHUNK => return Err(ApiError::internal("a chunk of zeros is too long")),
        _ => make(length)?,
    };
    if length as u64 == FIXED_CHUNK {
        // Images are full of it.
        let _ = FULL.set(blob.clone());
    }
    Ok([blob, Bytes::new()])
}
