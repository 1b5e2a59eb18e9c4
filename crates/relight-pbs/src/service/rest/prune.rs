//! Pruning: one group at once, or a whole datastore as a task.

use std::num::NonZeroU32;
use std::sync::Arc;

use http::Method;
use serde_json::json;

use super::{Service, allowed, allowed_in, guarded_in_group, no_task, parameters, placed, task_id};
use crate::access::{Action, AuthId, Guarded, Privileges};
use crate::service::datastore::{Datastore, Keep, Pruned, Selection};
use crate::service::http::{Answer, ApiError, ApiResult, Call, Router};
use crate::service::tasks::Task;

parameters! {
    struct OfGroup of group {
        #[serde(default)]
        dry_run: bool,
        keep_last: Option<NonZeroU32>,
        keep_hourly: Option<NonZeroU32>,
        keep_daily: Option<NonZeroU32>,
        keep_weekly: Option<NonZeroU32>,
        keep_monthly: Option<NonZeroU32>,
        keep_yearly: Option<NonZeroU32>,
    }
}

parameters! {
    struct OfStore of store {
        #[serde(default)]
        dry_run: bool,
        max_depth: Option<usize>,
        keep_last: Option<NonZeroU32>,
        keep_hourly: Option<NonZeroU32>,
        keep_daily: Option<NonZeroU32>,
        keep_weekly: Option<NonZeroU32>,
        keep_monthly: Option<NonZeroU32>,
        keep_yearly: Option<NonZeroU32>,
    }
}

macro_rules! keep {
    ($($name:ident)*) => {$(
        impl $name {
            fn keep(&self) -> Keep {
                Keep {
                    keep_last: self.keep_last,
                    keep_hourly: self.keep_hourly,
                    keep_daily: self.keep_daily,
                    keep_weekly: self.keep_weekly,
                    keep_monthly: self.keep_monthly,
                    keep_yearly: self.keep_yearly,
                }
            }
        }
    )*};
}
keep!(OfGroup OfStore);

pub(super) fn routes(router: &mut Router, service: &Service) {
    let of = service.clone();
    router.on_blocking(
        Method::POST,
        "/admin/datastore/{store}/prune",
        move |call, given: OfGroup| group(&of, &call, &given),
    );
    let of = service.clone();
    router.on_blocking(
        Method::POST,
        "/admin/datastore/{store}/prune-datastore",
        move |call, given: OfStore| all(&of, &call, given),
    );
}

fn word(one: &Pruned) -> &'static str {
    match (one.entry.is_protected(), one.keep) {
        (true, _) => "protected",
        (false, true) => "keep",
        (false, false) => "remove",
    }
}

fn group(service: &Service, call: &Call, given: &OfGroup) -> ApiResult<Answer> {
    let own = Privileges::DATASTORE_PRUNE;
    let may = allowed_in(
        call,
        (&given.store, &given.ns, &given.group()),
        Privileges::DATASTORE_MODIFY,
        own,
    )?;
    let (store, group) = (service.stores.get(&given.store)?, given.group());
    may.require(call, &store, &given.ns, &group)?;
    let gone = would_go(&store.prune(&given.ns, &group, &given.keep(), true)?);
    if given.dry_run || gone.is_empty() {
        return prune_group(service, call, given, &store);
    }
    let what = placed(store.name(), &given.ns, &group);
    let subject = format!(
        "prune the group {what}, by which {} recovery points are deleted: {}",
        gone.len(),
        gone.join(", ")
    );
    let place = (store.name(), &given.ns, &group);
    guarded_in_group(call, place, &subject, &gone.join("\n"), || {
        prune_group(service, call, given, &store)
    })
}

/// What pruning would remove.
fn would_go(pruned: &[Pruned]) -> Vec<String> {
    let gone = pruned.iter().filter(|one| !one.keep && !one.entry.is_protected());
    gone.map(|one| one.entry.name.to_string()).collect()
}

fn prune_group(service: &Service, call: &Call, given: &OfGroup, store: &Datastore) -> ApiResult<Answer> {
    let group = given.group();
    let task = if given.dry_run {
        None
    } else {
        let id = task_id(store.name(), &given.ns, Some(&group.to_string()));
        let begun = service.tasks.begin("prune", Some(&id), call.who()?);
        Some(begun.map_err(no_task)?)
    };
    let pruned = store
        .prune(&given.ns, &group, &given.keep(), given.dry_run)
        .map_err(ApiError::from);
    let result = pruned.and_then(|pruned| {
        for one in &pruned {
            if let Some(task) = &task {
                task.log(format!("{} {}", word(one), one.entry.name));
            }
        }
        match pruned.iter().find_map(|one| one.failure.as_ref()) {
            Some(failure) => Err(ApiError::bad_request(failure.clone())),
            None => Ok(pruned),
        }
    });
    if let Some(task) = task {
        let ended = result.as_ref().map(drop).map_err(ToString::to_string);
        task.end(ended);
    }
    let shown = |one: &Pruned| {
        json!({
            "backup-type": one.entry.name.group.backup_type,
            "backup-id": one.entry.name.group.backup_id,
            "backup-time": one.entry.name.backup_time,
            "keep": one.keep,
            "protected": one.entry.is_protected(),
        })
    };
    Answer::data(result?.iter().map(shown).collect::<Vec<_>>())
}

fn all(service: &Service, call: &Call, given: OfStore) -> ApiResult<Answer> {
    let own = Privileges::DATASTORE_PRUNE;
    allowed(call, &given.store, &given.ns, Privileges::DATASTORE_MODIFY, own)?;
    let store = service.stores.get(&given.store)?;
    store.require_namespace(&given.ns)?;
    let mut gone = Vec::new();
    if !given.dry_run {
        let selection = Selection::Namespace(given.ns.clone(), given.max_depth);
        let mut groups: Vec<_> = Vec::new();
        for entry in store.select(&selection)? {
            let place = (entry.namespace.clone(), entry.name.group.clone());
            if groups.last() != Some(&place) {
                groups.push(place);
            }
        }
        for (namespace, group) in groups {
            let pruned = would_go(&store.prune(&namespace, &group, &given.keep(), true)?);
            gone.extend(pruned.iter().map(|name| placed(store.name(), &namespace, name)));
        }
    }
    if gone.is_empty() {
        return prune_all(service, call, given, store);
    }
    let subject = format!(
        "prune {} {}, by which {} recovery points are deleted",
        store.name(),
        given.ns,
        gone.len()
    );
    let guarded = Guarded {
        action: Action::Delete,
        path: &super::acl_path(store.name(), &given.ns),
        subject: &subject,
        exact: &gone.join("\n"),
        reason: None,
    };
    call.guarded(&guarded, || prune_all(service, call, given, store.clone()))
}

fn prune_all(service: &Service, call: &Call, given: OfStore, store: Arc<Datastore>) -> ApiResult<Answer> {
    let (who, access): (AuthId, _) = (call.who()?.clone(), call.access().clone());
    let id = task_id(store.name(), &given.ns, None);
    let work = move |task: &Task| {
        let keep = given.keep();
        let selection = Selection::Namespace(given.ns.clone(), given.max_depth);
        let failed = |error: crate::service::datastore::StoreError| error.to_string();
        let mut groups: Vec<_> = Vec::new();
        for entry in store.select(&selection).map_err(failed)? {
            let place = (entry.namespace.clone(), entry.name.group.clone());
            if groups.last() != Some(&place) {
                groups.push(place);
            }
        }
        let mut failures = 0;
        for (namespace, group) in groups {
            if task.is_stopped() {
                return Err("it was stopped".into());
            }
            let path = super::acl_path(store.name(), &namespace);
            let has = access.privileges_in_group(&who, &path, &group);
            let owner = store.owner(&namespace, &group).map_err(failed)?;
            let owns = owner.is_some_and(|owner| who.owns_as(&owner));
            let full = has.intersects(Privileges::DATASTORE_MODIFY);
            if !(full || (owns && has.intersects(Privileges::DATASTORE_PRUNE))) {
                continue;
            }
            let pruned = store
                .prune(&namespace, &group, &keep, given.dry_run)
                .map_err(failed)?;
            for one in &pruned {
                task.log(format!("{} {}", word(one), one.entry.name));
                if let Some(failure) = &one.failure {
                    failures += 1;
                    task.warn(failure);
                }
            }
        }
        match failures {
            0 => Ok(()),
            count => Err(format!("{count} snapshots could not be removed")),
        }
    };
    let upid = service
        .tasks
        .run("prune", Some(&id), call.who()?, work)
        .map_err(no_task)?;
    Answer::data(upid)
}
