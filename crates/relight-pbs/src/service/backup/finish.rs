//! The end of a backup: the snapshot comes into being.

use std::collections::HashMap;
use std::sync::Arc;

use relight_repo::snapshot::{Archive, SnapshotSpec};

use super::Shared;
use super::state::{FileDone, State};
use crate::formats::ids::{BackupType, FileName};
use crate::formats::index::Digest;
use crate::formats::manifest::Manifest;
use crate::service::datastore::entry;
use crate::service::http::{ApiError, ApiResult, blocking};

fn refuse<T>(message: impl Into<String>) -> ApiResult<T> {
    Err(ApiError::bad_request(message))
}

/// Answers `POST /finish`. Whether it fails or not, nothing follows but another attempt.
pub(super) async fn finish(shared: &Arc<Shared>) -> ApiResult<()> {
    // Chunks that are being stored get to their end; none begins.
    let this = shared.clone();
    let gate = shared.gate.write().await;
    let manifest = {
        let state = shared.state();
        check(&state)?
    };
    manifest
        .check_snapshot(&shared.request.snapshot)
        .map_err(|error| ApiError::bad_request(error.to_string()))?;
    // From here it runs to its end, even if the client goes away now: it may be durable at any moment, and until then
    // nobody else may write to the group.
    let held = shared.take_held();
    let done = blocking(move || {
        let result = publish(&this, &manifest);
        if result.is_ok() {
            this.state().finished = true;
            drop(held);
        } else {
            // The client may try again, or its session ends and lets go of them.
            *this
                .held
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner) = held;
        }
        result
    })
    .await;
    drop(gate);
    done
}

/// Whether all is there that a snapshot needs. Gives the manifest.
fn check(state: &State) -> ApiResult<Manifest> {
    state.check()?;
    if !state.writers.is_empty() {
        return refuse("found open index writer - unable to finish backup");
    }
    if state.files.is_empty() {
        return refuse("backup does not contain valid files (file count == 0)");
    }
    let Some(blob) = &state.manifest else {
        return refuse(format!("the backup has no manifest ({})", FileName::MANIFEST));
    };
    let manifest = Manifest::from_blob(blob).map_err(|error| ApiError::bad_request(error.to_string()))?;
    let known: HashMap<&FileName, &Digest> =
        state.files.iter().map(|file| (&file.name, &file.csum)).collect();
    for file in &manifest.files {
        match known.get(&file.filename) {
            None => {
                return refuse(format!(
                    "the manifest names '{}', which was not uploaded",
                    file.filename
                ));
            }
            Some(csum) if **csum != file.csum => {
                return refuse(format!(
                    "the manifest has another checksum of '{}'",
                    file.filename
                ));
            }
            Some(_) => {}
        }
    }
    Ok(manifest)
}

fn publish(shared: &Shared, manifest: &Manifest) -> ApiResult<()> {
    if shared.request.benchmark {
        return Ok(());
    }
    let request = &shared.request;
    let snapshot = &request.snapshot;
    let host = match snapshot.group.backup_type {
        BackupType::Host => snapshot.group.backup_id.to_string(),
        BackupType::Vm | BackupType::Ct => String::new(),
    };
    let statistic = shared.uploads.statistic();
    let spec = SnapshotSpec {
        workload: snapshot.group.workload(&request.namespace)?.into(),
        time: Some(snapshot.backup_time.timestamp()),
        host,
        parent: shared.base.as_ref().map(|base| base.id()),
        attributes: entry::attributes(&request.auth_id.to_string(), manifest, &statistic)?,
        ..SnapshotSpec::default()
    };
    let archives: Vec<Archive> = archives(&shared.state().files);
    let made = shared.engine.publish(spec, archives)?;
    let log = shared.state().log.take();
    if let Some(log) = log
        && let Err(error) = request.datastore.repository().add_log(made.id, &log)
    {
        // The snapshot is there all the same, and must not be made again.
        tracing::warn!("the client's log of {snapshot} cannot be kept: {error}");
    }
    Ok(())
}

fn archives(files: &[FileDone]) -> Vec<Archive> {
    files
        .iter()
        .flat_map(|file| file.archives.iter().cloned())
        .collect()
}
