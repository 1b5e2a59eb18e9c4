//! Brings parts of a snapshot back into a folder: trees, images, streams, small files.

mod folder;
mod report;
mod survey;

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use relight_pxar::fs::extract::{ConflictPolicy, ExtractOptions};
use relight_pxar::fs::progress::Progress;
use relight_repo::read::ChunkReader;
use relight_repo::snapshot::{Archive, Snapshot};

pub use folder::Folder;
pub use report::Report;
pub use survey::{Survey, survey};

use crate::error::{Result, WorkloadError};
use crate::files;
use crate::image;
use crate::parts::Wanted;

/// Ending of small files that clients packed.
const BLOB: &str = ".blob";

/// How it is done.
#[derive(Debug, Clone, Copy)]
pub struct Choice {
    /// What happens where a file exists already.
    pub conflict: ConflictPolicy,
    /// Pass over what is complete.
    pub resume: bool,
    /// Read back what was written.
    pub verify: bool,
    /// Wait until everything is on disk.
    pub sync: bool,
}

/// How it is watched and stopped.
#[derive(Clone, Copy)]
pub struct Watch<'a> {
    /// Files of trees.
    pub progress: &'a Progress,
    /// Bytes of everything else.
    pub done: &'a AtomicU64,
    /// Ends it soon after it becomes true.
    pub cancelled: &'a AtomicBool,
}

/// Gives the content of a small file that its client packed; none for what is no such file.
pub type Unpack<'a, E> = &'a dyn Fn(&Archive) -> std::result::Result<Option<Vec<u8>>, E>;

/// Restores into a folder: each tree becomes a folder in it, each other archive a file. What was done is added to the
/// report, also where it ends in an error.
///
/// # Errors
/// What ended it. What was restored until then is whole and stays.
pub fn bring_back<E: From<WorkloadError>>(
    reader: &Arc<ChunkReader>,
    wanted: &[Wanted<'_>],
    folder: &Folder,
    choice: Choice,
    unpack: Unpack<'_, E>,
    watch: Watch<'_>,
    report: &mut Report,
) -> std::result::Result<(), E> {
    for item in wanted {
        match item {
            Wanted::Tree(tree, selection) => {
                let options = ExtractOptions {
                    selection: selection.clone(),
                    conflict: choice.conflict,
                    resume: choice.resume,
                    verify: choice.verify,
                    sync: choice.sync,
                    ..ExtractOptions::default()
                };
                let target = folder.child(tree.name)?.handle()?;
                let restored =
                    files::restore_into(reader, tree, target, &options, watch.progress, watch.cancelled)?;
                report.add(tree.name, &restored);
            }
            Wanted::Whole(archive) => {
                let content = unpack(archive)?;
                whole(reader, archive, content, folder, choice, watch, report)
                    .map_err(|error| folder.known(error))?;
            }
        }
    }
    Ok(())
}

/// Whether what is restored to a folder comes over what a backup was made of: it is the same place, lies in it, or that in it.
pub fn is_over(target: &Path, made_of: &Path) -> bool {
    target.starts_with(made_of) || made_of.starts_with(target)
}

/// Bytes that there are, as far as that is known without reading.
pub fn size(snapshot: &Snapshot, wanted: &[Wanted<'_>]) -> Option<u64> {
    let size = |item: &Wanted<'_>| match item {
        Wanted::Whole(archive) => Some(archive.root.size),
        Wanted::Tree(tree, selection) if selection.is_all() => {
            files::live_bytes(snapshot, Path::new(tree.path.unwrap_or_default()))
        }
        Wanted::Tree(..) => None,
    };
    wanted.iter().map(size).sum()
}

/// Restores an image or stream under its name; `content` is what a client had packed.
fn whole(
    reader: &Arc<ChunkReader>,
    archive: &Archive,
    content: Option<Vec<u8>>,
    folder: &Folder,
    choice: Choice,
    watch: Watch<'_>,
    report: &mut Report,
) -> Result<()> {
    let original = name_of(archive, content.is_some());
    let directory = folder.path();
    let Some((temporary, path)) = whole_name(&directory, original, choice.conflict, report)? else {
        return Ok(());
    };
    let bytes = match content {
        Some(content) => {
            write_small(&temporary, &content, choice.sync)?;
            watch.done.fetch_add(archive.root.size, Ordering::Relaxed);
            content.len() as u64
        }
        None => {
            let after = image::After {
                check: choice.verify,
                sync: choice.sync,
            };
            let target = image::Target::NewFile;
            image::restore(
                reader,
                archive,
                &temporary,
                target,
                after,
                watch.done,
                watch.cancelled,
            )?;
            archive.root.size
        }
    };
    put_in_place(&temporary, &path)?;
    report.files += 1;
    report.bytes += bytes;
    report.verified += u64::from(choice.verify);
    Ok(())
}

/// The name that an archive comes back under: a small file as it was before its client packed it.
pub fn name_of(archive: &Archive, unpacked: bool) -> &str {
    match archive.name.strip_suffix(BLOB) {
        Some(name) if unpacked => name,
        _ => &archive.name,
    }
}

/// Where something is restored to under its name, and the temporary name that it has until it is whole. None if it is
/// left out because something of that name exists.
///
/// # Errors
/// [`WorkloadError::Refused`]: something of that name exists, and that is what the policy says then.
pub fn whole_name(
    directory: &Path,
    original: &str,
    conflict: ConflictPolicy,
    report: &mut Report,
) -> Result<Option<(PathBuf, PathBuf)>> {
    let mut name = original.to_string();
    let taken = |name: &str| directory.join(name).symlink_metadata().is_ok();
    if taken(&name) {
        match conflict {
            // Archives have no time of their own that could tell which is newer.
            ConflictPolicy::Skip | ConflictPolicy::KeepNewer => {
                report.skipped += 1;
                return Ok(None);
            }
            ConflictPolicy::Replace => report.replaced += 1,
            ConflictPolicy::Rename => {
                let names = (1..).map(|number| match number {
                    1 => format!("{original}.restored"),
                    _ => format!("{original}.restored-{number}"),
                });
                name = names.into_iter().find(|name| !taken(name)).unwrap_or(name);
                report.renamed.push((original.to_string(), name.clone()));
            }
            ConflictPolicy::Fail => {
                return Err(WorkloadError::Refused(format!(
                    "{} exists: choose another directory, or say with --conflict whether to skip, replace or rename",
                    directory.join(&name).display()
                )));
            }
        }
    }
    // Under its own name only when it is whole.
    let temporary = directory.join(format!(".relight-restore.{}.{name}", std::process::id()));
    Ok(Some((temporary, directory.join(&name))))
}

/// Gives what is whole its own name.
///
/// # Errors
/// It cannot be renamed; then it is removed.
pub fn put_in_place(temporary: &Path, path: &Path) -> Result<()> {
    std::fs::rename(temporary, path).map_err(|source| {
        let _ = std::fs::remove_file(temporary);
        WorkloadError::Io {
            action: "put what was restored at",
            path: path.to_path_buf(),
            source,
        }
    })
}

/// Writes a small file that must not be there yet.
///
/// # Errors
/// It cannot be written; nothing is left of it.
pub fn write_small(path: &Path, content: &[u8], sync: bool) -> Result<()> {
    let failed = |source| WorkloadError::Io {
        action: "write",
        path: path.to_path_buf(),
        source,
    };
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    let written = file
        .write_all(content)
        .and_then(|()| if sync { file.sync_all() } else { Ok(()) });
    if written.is_err() {
        let _ = std::fs::remove_file(path);
    }
    written.map_err(failed)
}
