//! Disk images and block devices of this host, as a plan names them: `source = { images = ["/dev/pve/vm-100-disk-0"] }`.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use relight_model::plan::Method;
use relight_repo::session::Session;
use relight_repo::snapshot::Snapshot;
use serde::Deserialize;

use super::back_up;
use crate::error::{Result, WorkloadError};
use crate::files::name_for;
use crate::kind::{Captured, Kind, Subject, Work};
use crate::rehearse::Rehearse;

/// Disk images.
#[derive(Debug, Default)]
pub struct Images;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Source {
    /// Files and block devices.
    images: Vec<PathBuf>,
}

fn read(subject: &Subject) -> Result<Source> {
    let refused = |why: String| {
        WorkloadError::Refused(format!(
            "{}: source: {why}; write for instance source = {{ images = [\"/dev/pve/vm-100-disk-0\"] }}",
            subject.workload
        ))
    };
    let source: Source = subject.source.read().map_err(refused)?;
    if source.images.is_empty() {
        return Err(refused("it names no images".into()));
    }
    match source.images.iter().find(|path| !path.is_absolute()) {
        Some(path) => Err(refused(format!("{} does not begin with /", path.display()))),
        None => Ok(source),
    }
}

/// The images at these paths with names that neither another image nor a stream in `taken` has.
///
/// # Errors
/// A path is not there.
pub fn named(paths: &[PathBuf], mut taken: Vec<String>) -> Result<Vec<(String, PathBuf)>> {
    let mut images = Vec::new();
    for path in paths {
        let path = std::fs::canonicalize(path).map_err(|source| WorkloadError::Io {
            action: "find",
            path: path.clone(),
            source,
        })?;
        let stem = path.file_stem().map(Path::new).unwrap_or(&path);
        let name = name_for(stem, &taken);
        taken.push(name.clone());
        images.push((name, path));
    }
    Ok(images)
}

impl Kind for Images {
    fn method(&self) -> Method {
        Method::Image
    }

    fn check(&self, subject: &Subject) -> Result<()> {
        read(subject).map(drop)
    }

    fn capture(
        &self,
        subject: &Subject,
        session: &Session,
        parent: Option<&Snapshot>,
        work: &Work,
    ) -> Result<Captured> {
        let images = named(&read(subject)?.images, Vec::new())?;
        let size = |(_, path): &(String, PathBuf)| std::fs::metadata(path).map_or(0, |meta| meta.len());
        work.total.store(images.iter().map(size).sum(), Ordering::Relaxed);
        let mut captured = Captured::default();
        for (name, path) in &images {
            let saved = back_up(session, name, path, parent, &work.done, &work.cancelled)?;
            let size = saved.archive.root.size;
            if saved.unchanged {
                work.note(&format!("{}: unchanged and not read", path.display()));
            } else {
                work.note(&format!(
                    "{}: {} read",
                    path.display(),
                    relight_model::ByteSize(size)
                ));
                captured.read += size;
            }
            captured.archives.push(saved.archive);
            captured.attributes.extend(saved.attributes);
        }
        Ok(captured)
    }

    fn rehearse(&self) -> Option<&dyn Rehearse> {
        Some(self)
    }
}
