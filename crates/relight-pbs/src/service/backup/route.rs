//! The call by which a connection becomes a backup session.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde::Deserialize;

use super::{BackupRequest, Ended, PROTOCOL, begin};
use crate::access::Privileges;
use crate::formats::ids::{BackupId, BackupTime, BackupType, Group, Namespace, SnapshotName};
use crate::service::datastore::{Stores, acl_path};
use crate::service::http::{Answer, ApiError, ApiResult, Call, Router};
use crate::service::tasks::{Task, Tasks};

/// How often it is looked whether somebody wants the session to stop.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Parameters {
    store: String,
    #[serde(default)]
    ns: Namespace,
    backup_type: BackupType,
    backup_id: BackupId,
    backup_time: BackupTime,
    #[serde(default)]
    benchmark: bool,
    /// The original logs more then.
    #[serde(default)]
    #[allow(dead_code, reason = "clients send it")]
    debug: bool,
    /// For storage that the original has a cache in front of.
    #[serde(default)]
    #[allow(dead_code, reason = "clients send it")]
    no_cache: bool,
}

/// Adds `GET /backup`.
pub fn routes(router: &mut Router, stores: &Arc<Stores>, tasks: &Arc<Tasks>) {
    let (stores, tasks) = (stores.clone(), tasks.clone());
    router
        .on(Method::GET, "/backup", move |call, parameters| {
            answer(call, parameters, stores.clone(), tasks.clone())
        })
        .changing(true);
}

async fn answer(
    call: Call,
    parameters: Parameters,
    stores: Arc<Stores>,
    tasks: Arc<Tasks>,
) -> ApiResult<Answer> {
    let Parameters {
        store,
        ns: namespace,
        backup_type,
        backup_id,
        backup_time,
        benchmark,
        ..
    } = parameters;
    let group = Group {
        backup_type,
        backup_id,
    };
    let has = call.privileges_in_group(&acl_path(&store, &namespace), &group)?;
    if !has.contains(Privileges::DATASTORE_BACKUP) {
        return Err(ApiError::forbidden());
    }
    let datastore = stores.get(&store)?;
    call.require_upgrade(PROTOCOL)?;
    let who = call.who()?.clone();
    let snapshot = SnapshotName { group, backup_time };
    let place = if namespace.is_root() {
        format!("{store}:{}", snapshot.group)
    } else {
        format!("{store}:{namespace}:{}", snapshot.group)
    };
    let backup = begin(BackupRequest {
        datastore,
        namespace,
        snapshot: snapshot.clone(),
        auth_id: who.clone(),
        benchmark,
    })
    .await?;
    let task = tasks
        .begin("backup", Some(&place), &who)
        .map_err(|error| ApiError::internal(format!("the log of the backup cannot be made: {error}")))?;
    task.log(format!(
        "starting new backup on datastore '{store}': \"{snapshot}\""
    ));
    Ok(Answer::upgrade(PROTOCOL, move |io| async move {
        let ended = tokio::select! {
            ended = backup.serve(io) => ended,
            () = stopped(&task) => Ended::Aborted("it was stopped".into()),
        };
        match ended {
            Ended::Finished => {
                task.log("backup finished successfully");
                task.end(Ok(()));
            }
            Ended::Aborted(why) => task.end(Err(why)),
        }
    }))
}

async fn stopped(task: &Task) {
    while !task.is_stopped() {
        tokio::time::sleep(LOOK).await;
    }
}
