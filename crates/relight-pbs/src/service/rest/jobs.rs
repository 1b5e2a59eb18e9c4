//! Verification and collection: tasks.

use http::Method;
use jiff::SignedDuration;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Service, allowed, allowed_in, no_task, parameters, task_id};
use crate::access::Privileges;
use crate::formats::ids::{BackupId, BackupTime, BackupType, Group, Namespace, SnapshotName};
use crate::service::datastore::{Datastore, Selection, acl_path};
use crate::service::http::{Answer, ApiError, ApiResult, Call, NoParameters, Router};
use crate::service::tasks::Task;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Of {
    store: String,
}

parameters! {
    struct Verify of store {
        #[serde(default = "yes")]
        ignore_verified: bool,
        outdated_after: Option<u32>,
        backup_type: Option<BackupType>,
        backup_id: Option<BackupId>,
        backup_time: Option<BackupTime>,
        max_depth: Option<usize>,
    }
}

fn yes() -> bool {
    true
}

pub(super) fn routes(router: &mut Router, service: &Service) {
    let of = service.clone();
    router.on_blocking(
        Method::POST,
        "/admin/datastore/{store}/verify",
        move |call, given: Verify| verify(&of, &call, &given),
    );
    const GC: &str = "/admin/datastore/{store}/gc";
    let of = service.clone();
    router.on_blocking(Method::GET, GC, move |call, given: Of| {
        call.require(
            &acl_path(&given.store, &Namespace::ROOT),
            Privileges::DATASTORE_AUDIT,
        )?;
        Answer::data(last_collection(&*of.stores.get(&given.store)?))
    });
    let of = service.clone();
    router.on_blocking(Method::GET, "/admin/gc", move |call, _: NoParameters| {
        let mut list = Vec::new();
        for store in of.stores.all() {
            if sees_collections(&call, store.name())? {
                list.push(last_collection(&store));
            }
        }
        Answer::data(list)
    });
    let of = service.clone();
    router.on_blocking(Method::GET, "/admin/gc/{store}", move |call, given: Of| {
        if !sees_collections(&call, &given.store)? {
            return Err(ApiError::forbidden());
        }
        Answer::data([last_collection(&*of.stores.get(&given.store)?)])
    });
    let of = service.clone();
    router.on_blocking(Method::POST, GC, move |call, given: Of| {
        collect(&of, &call, &given.store)
    });
}

fn sees_collections(call: &Call, store: &str) -> ApiResult<bool> {
    let has = call.privileges(&acl_path(store, &Namespace::ROOT))?;
    Ok(has.intersects(Privileges::DATASTORE_AUDIT | Privileges::DATASTORE_MODIFY))
}

/// What is known of the last collection of a datastore.
fn last_collection(store: &Datastore) -> Value {
    let mut status = json!(store.collect_status());
    status["store"] = store.name().into();
    if let Some((ended, state)) = store.last_collection() {
        status["last-run-endtime"] = ended.as_second().into();
        status["last-run-state"] = state.into();
    }
    status
}

fn collect(service: &Service, call: &Call, name: &str) -> ApiResult<Answer> {
    call.require(&acl_path(name, &Namespace::ROOT), Privileges::DATASTORE_MODIFY)?;
    let store = service.stores.get(name)?;
    if store.is_collecting() {
        let message = format!("a garbage collection is running on datastore {name}");
        return Err(ApiError::bad_request(message));
    }
    let work = move |task: &Task| {
        let upid = task.upid().to_string();
        let log = |line: &str| task.log(line);
        let done = store.collect(&upid, &log, &task.stopped());
        done.map(drop).map_err(|error| error.to_string())
    };
    let upid = service
        .tasks
        .run("garbage_collection", Some(name), call.who()?, work)
        .map_err(no_task)?;
    Answer::data(upid)
}

/// What is asked for, and the kind and name of the task.
fn selection(given: &Verify) -> ApiResult<(Selection, &'static str, Option<String>)> {
    let namespace = given.ns.clone();
    match (given.backup_type, &given.backup_id, given.backup_time) {
        (Some(backup_type), Some(backup_id), time) => {
            let group = Group {
                backup_type,
                backup_id: backup_id.clone(),
            };
            Ok(match time {
                None => {
                    let id = group.to_string();
                    (Selection::Group(namespace, group), "verify_group", Some(id))
                }
                Some(backup_time) => {
                    let id = format!("{group}/{:08X}", backup_time.seconds());
                    let name = SnapshotName { group, backup_time };
                    (Selection::Snapshot(namespace, name), "verify_snapshot", Some(id))
                }
            })
        }
        (None, None, None) => Ok((Selection::Namespace(namespace, given.max_depth), "verify", None)),
        _ => Err(ApiError::bad_request(
            "parameters do not specify a backup group or snapshot",
        )),
    }
}

fn verify(service: &Service, call: &Call, given: &Verify) -> ApiResult<Answer> {
    let own = Privileges::DATASTORE_BACKUP;
    let (selection, kind, id) = selection(given)?;
    let full = Privileges::DATASTORE_VERIFY;
    let may = match &selection {
        Selection::Group(namespace, group) => allowed_in(call, (&given.store, namespace, group), full, own)?,
        Selection::Snapshot(namespace, name) => {
            allowed_in(call, (&given.store, namespace, &name.group), full, own)?
        }
        _ => allowed(call, &given.store, &given.ns, full, own)?,
    };
    let store = service.stores.get(&given.store)?;
    match &selection {
        Selection::Group(namespace, group) => may.require(call, &store, namespace, group)?,
        Selection::Snapshot(namespace, name) => {
            store.snapshot(namespace, name)?;
            may.require(call, &store, namespace, &name.group)?;
        }
        _ => store.require_namespace(&given.ns)?,
    }
    let id = task_id(store.name(), &given.ns, id.as_deref());
    let (who, access) = (call.who()?.clone(), call.access().clone());
    let ignore_verified = given.ignore_verified;
    let outdated = given
        .outdated_after
        .map(|days| SignedDuration::from_hours(24 * i64::from(days)));
    let work = move |task: &Task| {
        let failed = |error: crate::service::datastore::StoreError| error.to_string();
        let selection = match selection {
            Selection::Namespace(..) => {
                // Below there may be other rules, and groups of others.
                let mut mine = Vec::new();
                for entry in store.select(&selection).map_err(failed)? {
                    let place = acl_path(store.name(), &entry.namespace);
                    let has = access.privileges_in_group(&who, &place, &entry.name.group);
                    let owner = store.owner(&entry.namespace, &entry.name.group).map_err(failed)?;
                    let owns = owner.is_some_and(|owner| who.owns_as(&owner));
                    if has.intersects(Privileges::DATASTORE_VERIFY)
                        || (owns && has.intersects(Privileges::DATASTORE_BACKUP))
                    {
                        mine.push((entry.namespace.clone(), entry.name.clone()));
                    }
                }
                Selection::These(mine)
            }
            other => other,
        };
        let upid = task.upid().to_string();
        let log = |line: &str| task.log(line);
        let bad = store
            .verify(
                &selection,
                ignore_verified,
                outdated,
                &upid,
                &log,
                &task.stopped(),
            )
            .map_err(failed)?;
        if bad.is_empty() {
            return Ok(());
        }
        task.log("Failed to verify the following snapshots/groups:");
        bad.iter().for_each(|name| task.log(format!("\t{name}")));
        Err("verification failed - please check the log for details".into())
    };
    let upid = service
        .tasks
        .run(kind, Some(&id), call.who()?, work)
        .map_err(no_task)?;
    Answer::data(upid)
}
