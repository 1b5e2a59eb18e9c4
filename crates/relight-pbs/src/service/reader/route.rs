//! The call by which a connection becomes a reader session.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde::Deserialize;

use super::{PROTOCOL, ReaderRequest, begin};
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
    /// The original logs more then.
    #[serde(default)]
    #[allow(dead_code, reason = "clients send it")]
    debug: bool,
}

/// Adds `GET /reader`.
pub fn routes(router: &mut Router, stores: &Arc<Stores>, tasks: &Arc<Tasks>) {
    let (stores, tasks) = (stores.clone(), tasks.clone());
    router.on(Method::GET, "/reader", move |call, parameters| {
        answer(call, parameters, stores.clone(), tasks.clone())
    });
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
        ..
    } = parameters;
    let some = Privileges::DATASTORE_READ.union(Privileges::DATASTORE_BACKUP);
    let group = Group {
        backup_type,
        backup_id,
    };
    let has = call.privileges_in_group(&acl_path(&store, &namespace), &group)?;
    if !has.intersects(some) {
        return Err(ApiError::forbidden());
    }
    let datastore = stores.get(&store)?;
    call.require_upgrade(PROTOCOL)?;
    let who = call.who()?.clone();
    let snapshot = SnapshotName { group, backup_time };
    let place = if namespace.is_root() {
        format!("{store}:{snapshot}")
    } else {
        format!("{store}:{namespace}:{snapshot}")
    };
    let reader = begin(ReaderRequest {
        datastore,
        namespace,
        snapshot,
        auth_id: who.clone(),
        must_own: !has.contains(Privileges::DATASTORE_READ),
    })
    .await?;
    let task = tasks
        .begin("reader", Some(&place), &who)
        .map_err(|error| ApiError::internal(format!("the log of the session cannot be made: {error}")))?;
    task.log(format!("starting new backup reader datastore '{store}'"));
    Ok(Answer::upgrade(PROTOCOL, move |io| async move {
        tokio::select! {
            ended = reader.serve(io) => {
                let (chunks, foreseen) = (ended.chunks, ended.foreseen);
                task.log(format!("{chunks} chunks were read, {foreseen} of them ahead"));
                task.log("reader finished successfully");
                task.end(Ok(()));
            }
            () = stopped(&task) => task.end(Err("it was stopped".into())),
        }
    }))
}

async fn stopped(task: &Task) {
    while !task.is_stopped() {
        tokio::time::sleep(LOOK).await;
    }
}
