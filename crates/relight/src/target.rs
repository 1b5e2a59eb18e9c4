//! Which snapshot a command means.

use std::sync::Arc;

use jiff::tz::TimeZone;
use relight_model::snapshot_ref::{Listed, SnapshotRef};
use relight_repo::Repository;
use relight_repo::snapshot::Snapshot;

use crate::failure::{Failure, Result};

/// The snapshot that `given` names: a short id, `latest`, or `workload@time`.
pub fn snapshot(repository: &Arc<Repository>, given: &str) -> Result<Snapshot> {
    let _: SnapshotRef = given.parse().map_err(usage)?;
    let (snapshots, broken) = repository.snapshots()?;
    for (id, error) in &broken {
        tracing::warn!(snapshot = %id, %error, "a snapshot cannot be read");
    }
    choose(&snapshots, given).cloned()
}

/// The one of `snapshots` that `given` names.
pub fn choose<'a>(snapshots: &'a [Snapshot], given: &str) -> Result<&'a Snapshot> {
    let wanted: SnapshotRef = given.parse().map_err(usage)?;
    let named: Vec<(String, &Snapshot)> = snapshots
        .iter()
        .map(|snapshot| (snapshot.id.to_string(), snapshot))
        .collect();
    let listed = named.iter().map(|(id, snapshot)| Listed {
        id,
        workload: &snapshot.workload,
        time: snapshot.time,
        item: *snapshot,
    });
    wanted.choose(listed, &TimeZone::system()).map_err(usage)
}

fn usage(error: impl std::fmt::Display) -> Failure {
    Failure::Usage(error.to_string())
}
