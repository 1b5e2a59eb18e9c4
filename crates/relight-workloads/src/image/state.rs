//! Whether an image file is still what it was when the previous snapshot was made.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use relight_repo::read::ChunkReader;
use relight_repo::session::Session;
use relight_repo::snapshot::{Archive, ArchiveKind, Snapshot};
use relight_repo::{ChunkId, RepoError};

use super::{IMAGE, path_attribute};
use crate::error::Result;

/// A file that was changed so shortly ago may be changed once more without its times telling: the clocks of file systems
/// go in steps of some milliseconds, on some of two seconds.
const SETTLED: Duration = Duration::from_secs(2);

/// Attribute of a snapshot that holds the state of the image `name`.
pub fn attribute(name: &str) -> String {
    format!("image.{name}.state")
}

/// What tells that a file has changed: device, inode, size, modification and change time. None where that says
/// nothing: for devices, and for what was changed only just now.
pub fn of(file: &File) -> Option<String> {
    let meta = file.metadata().ok().filter(|meta| meta.is_file())?;
    let changed = Duration::new(
        u64::try_from(meta.ctime()).ok()?,
        u32::try_from(meta.ctime_nsec()).ok()?,
    );
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
    if now < changed + SETTLED {
        return None;
    }
    Some(format!(
        "{}:{}:{}:{}.{:09}:{}.{:09}",
        meta.dev(),
        meta.ino(),
        meta.len(),
        meta.mtime(),
        meta.mtime_nsec(),
        meta.ctime(),
        meta.ctime_nsec()
    ))
}

/// The archive of the image as `parent` has it, if it was in this state then and all of it is in good order; nothing is
/// read of it.
pub fn take_over(
    session: &Session,
    parent: &Snapshot,
    name: &str,
    path: &Path,
    state: &str,
    cancelled: &AtomicBool,
) -> Result<Option<Archive>> {
    let archive = format!("{name}{IMAGE}");
    let told = |attribute: String| parent.attributes.get(&attribute).map(String::as_str);
    let (Ok(old), true) = (
        parent.archive(&archive),
        told(attribute(name)) == Some(state) && told(path_attribute(name)) == path.to_str(),
    ) else {
        return Ok(None);
    };
    let reader = ChunkReader::new(session.repository().clone())?;
    let mut writer = session.archive(&archive, ArchiveKind::Image)?;
    for piece in session.pieces(&reader, old)? {
        if cancelled.load(Ordering::Relaxed) {
            return Err(RepoError::Cancelled.into());
        }
        // A list that cannot be read, or a chunk that is lost: all of it is read again, which brings both back.
        let Ok(piece) = piece else { return Ok(None) };
        let taken = if piece.id == ChunkId::ZEROS {
            writer.push_zeros(piece.length).map(|()| true)?
        } else {
            writer.push_known(piece.id, piece.length)?
        };
        if !taken {
            return Ok(None);
        }
    }
    Ok(Some(writer.finish()?))
}
