//! Puts packs into storage and takes them out, with what lies beside them.

use super::builder::FinishedPack;
use super::format::PackKind;
use crate::error::Result;
use crate::id::PackId;
use crate::index::PackLine;
use crate::parity;
use crate::repository::Repository;
use crate::storage::StorageError;

/// Stores a pack that was sealed under the current data key, with its parity. When this returns, the pack is durable.
/// Returns its line for an index segment.
pub(crate) fn put(repository: &Repository, pack: &FinishedPack) -> Result<PackLine> {
    let options = repository.settings().pack_options(pack.kind);
    repository
        .storage()
        .put(&pack.kind.key(pack.id), &pack.parts(), &options)?;
    let percent = repository.settings().parity_percent;
    if percent > 0 {
        parity::store(repository, pack.id, pack.kind, &pack.parts(), percent)?;
    }
    Ok(PackLine {
        id: pack.id,
        kind: pack.kind,
        key: repository.keys().current().id(),
        size: pack.size(),
    })
}

/// Deletes a pack and its parity. False if the storage still protects them.
pub(crate) fn delete(repository: &Repository, kind: PackKind, pack: PackId) -> Result<bool> {
    for key in [kind.key(pack), parity::key(pack)] {
        match repository.storage().delete(&key) {
            Ok(()) => {}
            Err(StorageError::Locked { .. }) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}
