//! Whether a restore on this host writes over what is in production, by which one person alone may not be enough for it.

use std::path::{Component, Path, PathBuf};

use relight_repo::snapshot::Snapshot;
use relight_workloads::bring_back::is_over;
use relight_workloads::files;
use relight_workloads::files::browse::printable;

use super::Options;
use crate::approved::{Asked, Served};
use crate::failure::{Failure, Result};
use crate::shown::bytes;

/// Where a path leads: symbolic links are followed as far as it is there.
fn resolved(path: &Path) -> PathBuf {
    let mut there = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(there.pop()),
            Component::CurDir => {}
            other => there.push(other),
        }
        if let Ok(followed) = there.canonicalize() {
            there = followed;
        }
    }
    there
}

/// The place that a snapshot was made of, if what is restored to a folder comes over it.
fn production(snapshot: &Snapshot, target: &Path) -> Option<String> {
    let trees = files::trees(snapshot);
    let mut made_of = trees.iter().filter_map(|tree| tree.path).map(Path::new);
    let found = made_of.find(|path| is_over(target, path) || is_over(target, &resolved(path)));
    found.map(|path| path.display().to_string())
}

impl Options {
    /// What is asked for, if this writes over what is in production: to a folder that the backup was made of, or below or above
    /// it; or over a device or image, whose content is lost.
    pub(super) fn over_production(&self, served: &Served, snapshot: &Snapshot) -> Result<Option<Asked>> {
        let absolute = |path: &Path| {
            std::path::absolute(path)
                .map(|path| resolved(&path))
                .map_err(Failure::io(format!("find {}", path.display())))
        };
        let parts: Vec<String> = self.paths.iter().map(|path| printable(bytes(path))).collect();
        let what = match parts.as_slice() {
            [] => "everything".to_owned(),
            some => some.join(", "),
        };
        let (to, how) = match (&self.onto, &self.to) {
            (Some(device), _) => {
                let device = absolute(device)?;
                let shown = device.display().to_string();
                (device, format!("over {shown}, whose content is lost"))
            }
            (None, Some(folder)) => {
                let folder = absolute(folder)?;
                let Some(path) = production(snapshot, &folder) else {
                    return Ok(None);
                };
                let how = format!(
                    "to {}, where {path} is in production; files that are there: {}",
                    folder.display(),
                    self.conflict.name()
                );
                (folder, how)
            }
            (None, None) => return Ok(None),
        };
        Ok(Some(Asked {
            path: served.place([snapshot.workload.as_str()]),
            subject: format!(
                "restore {what} of {} as of {} {how}",
                snapshot.workload, snapshot.time
            ),
            exact: format!("{} {to:?} {:?}", snapshot.id, self.paths),
        }))
    }
}
