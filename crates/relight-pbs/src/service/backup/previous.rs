//! What a client may take over from the previous snapshot of the group.

use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;

use super::Shared;
use super::known::{Form, Known};
use crate::formats::ids::{FileKind, FileName};
use crate::formats::index::Digest;
use crate::service::datastore::{Entry, IndexFile, StoreError};
use crate::service::http::{ApiError, ApiResult, blocking};
use crate::service::protocol::Call;
use relight_repo::ChunkId;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Parameters {
    archive_name: FileName,
}

/// The previous snapshot, unless its last verification failed: then everything should come again.
fn base(shared: &Shared) -> Option<&Arc<Entry>> {
    let failed = |entry: &Entry| {
        let verification = entry.marks.as_ref().and_then(|marks| marks.verification.as_ref());
        verification.is_some_and(|found| !found.good)
    };
    shared.base.as_ref().filter(|base| !failed(base))
}

/// When it was taken.
pub(super) fn time(shared: &Shared) -> Option<i64> {
    base(shared).map(|base| base.name.backup_time.seconds())
}

/// Answers `GET /previous`: a file of the previous snapshot. The chunks of an index may be named from then on.
pub(super) async fn download(shared: &Arc<Shared>, call: &mut Call) -> ApiResult<Bytes> {
    shared.state().check()?;
    let Parameters { archive_name } = call.parameters()?;
    let this = shared.clone();
    blocking(move || {
        let datastore = &this.request.datastore;
        let none = || ApiError::bad_request("no valid previous backup");
        let base = base(&this).ok_or_else(none)?;
        if archive_name.kind() == FileKind::Blob {
            return Ok(datastore.read_file(base, &archive_name)?.into());
        }
        let index = datastore.read_index(base, &archive_name)?;
        register(&this, &index)?;
        Ok(index.bytes.into())
    })
    .await
}

/// The digests of an image's previous index, if it is the one that the client knows.
pub(super) fn reuse(shared: &Shared, name: &FileName, csum: &Digest, size: u64) -> ApiResult<Vec<Digest>> {
    let none = || ApiError::bad_request("no valid previous backup");
    let base = base(shared).ok_or_else(none)?;
    let index = match shared.request.datastore.read_index(base, name) {
        Ok(index) => index,
        Err(StoreError::NoFile { .. }) => {
            return Err(ApiError::bad_request(format!(
                "the previous backup has no '{name}'"
            )));
        }
        Err(error) => return Err(error.into()),
    };
    if index.csum != *csum {
        return Err(ApiError::bad_request(
            "the checksum of the previous index is another",
        ));
    }
    if index.size != size {
        let message = format!("the previous image has {} bytes, not {size}", index.size);
        return Err(ApiError::bad_request(message));
    }
    register(shared, &index)?;
    Ok(index.chunks.iter().map(|chunk| chunk.digest).collect())
}

/// Takes up the chunks of an index, if all of them are in good order. If not, the client is not given the index, and so
/// sends everything again, which repairs what is damaged.
fn register(shared: &Shared, index: &IndexFile) -> ApiResult<()> {
    for chunk in &index.chunks {
        if !shared.engine.has(&chunk.id)? {
            let digest = hex::encode(chunk.digest);
            let message = format!("chunk {digest} of the previous backup is missing or damaged");
            return Err(ApiError::not_found(message));
        }
    }
    for chunk in &index.chunks {
        let form = if chunk.id == ChunkId::ZEROS {
            Form::Zeros
        } else if chunk.id.0 == chunk.digest {
            Form::Plain
        } else {
            Form::Sealed
        };
        let length = u32::try_from(chunk.length)
            .map_err(|_| ApiError::internal("a chunk of the previous backup is too large"))?;
        shared.known.add(chunk.digest, Known { length, form })?;
    }
    Ok(())
}
