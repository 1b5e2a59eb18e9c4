//! Small files that clients of the protocol packed before they sent them.

use std::sync::Arc;

use relight_pbs::formats::blob::{Blob, MAX_BLOB};
use relight_repo::read::ChunkReader;
use relight_repo::snapshot::{Archive, ArchiveKind};
use relight_workloads::{WorkloadError, stream};

/// What a small file was before its client packed it; none for what is no such file.
///
/// # Errors
/// It cannot be read.
pub(crate) fn unpacked(
    reader: &Arc<ChunkReader>,
    archive: &Archive,
) -> Result<Option<Vec<u8>>, WorkloadError> {
    let is_one = archive.kind == ArchiveKind::Blob && archive.name.ends_with(".blob");
    if !is_one || archive.root.size > MAX_BLOB as u64 {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    stream::restore(
        reader,
        archive,
        &mut bytes,
        &Default::default(),
        &Default::default(),
    )?;
    // What does not look like one is given as it is.
    Ok(Blob::parse(&bytes)
        .ok()
        .and_then(|blob| blob.decode(MAX_BLOB).ok()))
}
