//! A database cluster is brought back to a moment, into a new folder of this host.

use std::ffi::OsString;
use std::fs::Permissions;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use relight_model::ByteSize;
use relight_postgres::PostgresError;
use relight_postgres::restore::Stored;
use relight_workloads::WorkloadError;
use relight_workloads::bring_back::{Folder, Report};
use rustix::fs::{FlockOperation, flock};

use super::restore::failure;
use crate::runs::code::{Code, RunFailure};
use crate::runs::context::Context;
use crate::runs::restores::{Cluster, Restore};
use crate::runs::task::Task;

/// Where a cluster is put together: in a folder beside the target that nobody else may enter, until it is whole. Its files belong to
/// the database's user, who could otherwise lead this process elsewhere with links among them.
struct Place {
    parent: Folder,
    name: OsString,
    building: Folder,
    /// The target, for people.
    shown: PathBuf,
    /// Held while it is worked in.
    _lock: OwnedFd,
}

impl Place {
    fn new(restore: &Restore) -> Result<Self, RunFailure> {
        let target = |why: String| RunFailure::new(Code::Target, why);
        let shown = restore.root.join(&restore.below);
        let none = || target(format!("{} names no folder below the root", shown.display()));
        let name = restore.below.file_name().ok_or_else(none)?.to_owned();
        let above = restore.below.parent().ok_or_else(none)?;
        let parent = Folder::below(&restore.root, above).map_err(failure)?;
        let text = name.to_str().ok_or_else(none)?;
        let building = parent
            .child(&format!(".{text}.relight-restore"))
            .map_err(failure)?;
        let prepare = || -> std::io::Result<OwnedFd> {
            let folder = std::fs::File::open(building.path())?;
            folder.set_permissions(Permissions::from_mode(0o700))?;
            Ok(folder.into())
        };
        let failed = |error: std::io::Error| target(format!("{}: {error}", building.shown().display()));
        let lock = prepare().map_err(failed)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| target(format!("another restore to {} runs", shown.display())))?;
        let place = Self {
            parent,
            name,
            building,
            shown,
            _lock: lock,
        };
        // What a server that was killed has left.
        match std::fs::remove_dir_all(place.data()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(target(format!("{}: {error}", place.building.shown().display())))
            }
            _ => Ok(place),
        }
    }

    /// Where the cluster is until it is whole.
    fn data(&self) -> PathBuf {
        self.building.path().join("data")
    }

    /// Gives it its name. An empty folder of that name is replaced.
    fn finish(&self) -> Result<(), RunFailure> {
        let failed = |error: std::io::Error| {
            self.clear();
            RunFailure::new(
                Code::Target,
                format!("put the cluster at {}: {error}", self.shown.display()),
            )
        };
        let to = self.parent.path().join(&self.name);
        std::fs::rename(self.data(), to).map_err(failed)?;
        self.clear();
        // The name is on disk, too.
        let parent = std::fs::File::open(self.parent.path());
        parent
            .and_then(|parent| parent.sync_all())
            .map_err(|error| RunFailure::new(Code::Target, format!("{}: {error}", self.shown.display())))
    }

    /// Removes what there is of it.
    fn clear(&self) {
        let name = self.building.shown().file_name().unwrap_or_default();
        let all = std::fs::remove_dir_all(self.parent.path().join(name));
        if let Err(error) = all {
            tracing::warn!("{}: {error}", self.building.shown().display());
        }
    }
}

pub(super) fn bring(
    context: &Context,
    task: &Task,
    restore: &Restore,
    cluster: &Cluster,
    report: &mut Report,
) -> Result<(), RunFailure> {
    let repository = context.datastore(&restore.repository)?.repository();
    let failed = |error: relight_postgres::PostgresError| failure(WorkloadError::from(error));
    let stored = Stored::of(&repository, &restore.workload, &task.work).map_err(failed)?;
    let snapshot = restore.snapshot.parse().map_err(|_| {
        RunFailure::new(
            Code::Internal,
            format!("{:?} is no recovery point", restore.snapshot),
        )
    })?;
    let place = Place::new(restore)?;
    task.note(&format!(
        "restoring the cluster to {} into {}",
        cluster.goal,
        place.shown.display()
    ));
    let data = place.data();
    let done = stored.bring(&cluster.goal, snapshot, &data, cluster.owner, &task.work);
    let files = done.map_err(|error| {
        // A cluster without its end is good for nothing.
        place.clear();
        let mut failure = failed(match error {
            PostgresError::FullMidway { source, .. } => PostgresError::FullRemoved { source },
            other => other,
        });
        // Through the open folder, whose path says nothing to people.
        let inner = data.display().to_string();
        failure.message = failure
            .message
            .replace(&inner, &place.shown.display().to_string());
        failure
    })?;
    place.finish()?;
    report.files = files.files;
    report.bytes = files.bytes.saturating_add(files.log.bytes);
    task.note(&format!(
        "{} files, {}, and {} segments of the log, {}",
        files.files,
        ByteSize(files.bytes),
        files.log.segments,
        ByteSize(files.log.bytes)
    ));
    for path in &files.outside {
        // Through the open folder, whose path says nothing to people.
        let shown = path
            .strip_prefix(&data)
            .map_or_else(|_| path.clone(), |below| place.shown.join(below));
        task.note(&format!(
            "configuration that was not in the data directory: {}",
            shown.display()
        ));
    }
    task.note(&format!(
        "no server was started, and archiving is off: start one of the same version with {} as its data directory, and it replays the log",
        place.shown.display()
    ));
    Ok(())
}
