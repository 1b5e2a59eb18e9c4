//! Moving of groups and namespaces: tasks.

use http::Method;
use serde::Deserialize;

use super::{Service, allowed, allowed_in, no_task, parameters, task_id};
use crate::access::Privileges;
use crate::formats::ids::Namespace;
use crate::service::datastore::{MoveOptions, acl_path};
use crate::service::http::{Answer, ApiError, ApiResult, Call, Router};
use crate::service::tasks::Task;

parameters! {
    struct OfGroup of group {
        #[serde(default)]
        target_ns: Namespace,
        #[serde(default = "yes")]
        merge_group: bool,
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct OfNamespace {
    store: String,
    ns: Namespace,
    target_ns: Namespace,
    max_depth: Option<usize>,
    #[serde(default = "yes")]
    delete_source: bool,
    #[serde(default = "yes")]
    merge_groups: bool,
}

fn yes() -> bool {
    true
}

pub(super) fn routes(router: &mut Router, service: &Service) {
    let of = service.clone();
    router.on_blocking(
        Method::POST,
        "/admin/datastore/{store}/move-group",
        move |call, given: OfGroup| group(&of, &call, given),
    );
    let of = service.clone();
    router.on_blocking(
        Method::POST,
        "/admin/datastore/{store}/move-namespace",
        move |call, given: OfNamespace| namespace(&of, &call, given),
    );
}

fn group(service: &Service, call: &Call, given: OfGroup) -> ApiResult<Answer> {
    // To take it away there, and to put it here.
    let own = Privileges::DATASTORE_PRUNE;
    let may = allowed_in(
        call,
        (&given.store, &given.ns, &given.group()),
        Privileges::DATASTORE_MODIFY,
        own,
    )?;
    let own = Privileges::DATASTORE_BACKUP;
    allowed(
        call,
        &given.store,
        &given.target_ns,
        Privileges::DATASTORE_MODIFY,
        own,
    )?;
    let (store, group) = (service.stores.get(&given.store)?, given.group());
    may.require(call, &store, &given.ns, &group)?;
    let id = task_id(store.name(), &given.ns, Some(&group.to_string()));
    let work = move |task: &Task| {
        let log = |line: &str| task.log(line);
        let options = MoveOptions {
            merge: given.merge_group,
            log: &log,
            stopped: &task.stopped(),
        };
        let moved = store.move_group(&given.ns, &group, &given.target_ns, &options);
        let moved = moved.map_err(|error| error.to_string())?;
        task.log(format!("moved {moved} snapshots of group {group}"));
        Ok(())
    };
    let upid = service.tasks.run("move-group", Some(&id), call.who()?, work);
    Answer::data(upid.map_err(no_task)?)
}

fn namespace(service: &Service, call: &Call, given: OfNamespace) -> ApiResult<Answer> {
    let modify = Privileges::DATASTORE_MODIFY;
    for place in [&given.ns, &given.target_ns] {
        call.require(
            &acl_path(&given.store, &place.parent().unwrap_or_default()),
            modify,
        )?;
        call.require(&acl_path(&given.store, place), modify)?;
    }
    let store = service.stores.get(&given.store)?;
    store.require_namespace(&given.ns)?;
    // Rules may keep what is in it from whoever may change what is around it.
    let listing = store.list()?;
    for inside in listing.namespaces().filter(|inside| given.ns.contains(inside)) {
        call.require(&acl_path(&given.store, inside), modify)?;
    }
    if given.ns.contains(&given.target_ns) {
        return Err(ApiError::bad_request("a namespace cannot be moved into itself"));
    }
    let id = task_id(store.name(), &given.ns, None);
    let work = move |task: &Task| {
        let log = |line: &str| task.log(line);
        let options = MoveOptions {
            merge: given.merge_groups,
            log: &log,
            stopped: &task.stopped(),
        };
        let moved = store.move_namespace(
            &given.ns,
            &given.target_ns,
            given.max_depth,
            given.delete_source,
            &options,
        );
        let moved = moved.map_err(|error| error.to_string())?;
        task.log(format!(
            "moved {} groups, {} snapshots",
            moved.groups, moved.snapshots
        ));
        match moved.failed {
            0 => Ok(()),
            failed => Err(format!(
                "{failed} groups could not be moved - please check the log for details"
            )),
        }
    };
    let upid = service.tasks.run("move-namespace", Some(&id), call.who()?, work);
    Answer::data(upid.map_err(no_task)?)
}
