//! Datastores: which there are, how full they are.

use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Service;
use crate::access::Privileges;
use crate::formats::ids::Namespace;
use crate::service::datastore::{Datastore, acl_path};
use crate::service::http::{Answer, ApiResult, Call, NoParameters, Router};

/// With some of these somebody sees a datastore.
const SEES: Privileges = Privileges::DATASTORE_AUDIT
    .union(Privileges::DATASTORE_BACKUP)
    .union(Privileges::DATASTORE_READ)
    .union(Privileges::DATASTORE_MODIFY)
    .union(Privileges::DATASTORE_PRUNE)
    .union(Privileges::DATASTORE_VERIFY);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Of {
    store: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfStatus {
    store: String,
    #[serde(default)]
    verbose: bool,
}

pub(super) fn routes(router: &mut Router, service: &Service) {
    let of = service.clone();
    router.on(Method::GET, "/admin/datastore", move |call, _: NoParameters| {
        let answer = list(&of, &call);
        async move { answer }
    });
    let of = service.clone();
    router.on(Method::GET, "/admin/datastore/{store}", move |call, given: Of| {
        let answer = index(&of, &call, &given.store);
        async move { answer }
    });
    let of = service.clone();
    router.on_blocking(
        Method::GET,
        "/admin/datastore/{store}/status",
        move |call, given: OfStatus| status(&of, &call, &given),
    );
    let of = service.clone();
    router.on_blocking(
        Method::GET,
        "/admin/datastore/{store}/active-operations",
        move |call, given: Of| {
            let path = acl_path(&given.store, &Namespace::ROOT);
            call.require_some(&path, Privileges::DATASTORE_AUDIT | Privileges::DATASTORE_MODIFY)?;
            let (read, write) = of.stores.get(&given.store)?.locks().active();
            Answer::data(json!({"read": read, "write": write}))
        },
    );
    let of = service.clone();
    router.on_blocking(
        Method::GET,
        "/status/datastore-usage",
        move |call, _: NoParameters| usage(&of, &call),
    );
}

fn is_seen(call: &Call, store: &Datastore) -> ApiResult<bool> {
    let path = acl_path(store.name(), &Namespace::ROOT);
    Ok(call.access().has_below(call.who()?, &path, SEES))
}

fn list(service: &Service, call: &Call) -> ApiResult<Answer> {
    let mut list = Vec::new();
    for store in service.stores.all() {
        if is_seen(call, &store)? {
            let mut entry = json!({
                "store": store.name(),
                "mount-status": "nonremovable",
                "backend-type": backend(&store),
            });
            if !store.options().comment.is_empty() {
                entry["comment"] = store.options().comment.clone().into();
            }
            list.push(entry);
        }
    }
    Answer::data(list)
}

/// What there is below a datastore.
fn index(service: &Service, call: &Call, name: &str) -> ApiResult<Answer> {
    let path = acl_path(name, &Namespace::ROOT);
    if !call.access().has_below(call.who()?, &path, SEES) {
        call.require_some(&path, SEES)?;
    }
    service.stores.get(name)?;
    let below = [
        "active-operations",
        "catalog",
        "change-owner",
        "download",
        "download-decoded",
        "files",
        "gc",
        "group-notes",
        "groups",
        "move-group",
        "move-namespace",
        "namespace",
        "notes",
        "protected",
        "prune",
        "prune-datastore",
        "pxar-file-download",
        "snapshots",
        "status",
        "upload-backup-log",
        "verify",
    ];
    Answer::data(below.map(|name| json!({"subdir": name})))
}

fn backend(store: &Datastore) -> &'static str {
    if store.options().path.is_some() {
        "filesystem"
    } else {
        "s3"
    }
}

fn status(service: &Service, call: &Call, given: &OfStatus) -> ApiResult<Answer> {
    let path = acl_path(&given.store, &Namespace::ROOT);
    call.require_some(&path, Privileges::DATASTORE_AUDIT | Privileges::DATASTORE_BACKUP)?;
    let store = service.stores.get(&given.store)?;
    let mut status = numbers(&store)?;
    if given.verbose {
        status["counts"] = json!(store.counts()?);
        status["gc-status"] = json!(store.collect_status());
    }
    Answer::data(status)
}

fn numbers(store: &Datastore) -> ApiResult<Value> {
    Ok(json!(store.status()?))
}

/// One entry a datastore; those of which somebody sees a part only are named, and no more.
fn usage(service: &Service, call: &Call) -> ApiResult<Answer> {
    let mut list = Vec::new();
    for store in service.stores.all() {
        if !is_seen(call, &store)? {
            continue;
        }
        let mut entry = json!({
            "store": store.name(),
            "mount-status": "nonremovable",
            "backend-type": backend(&store),
        });
        let has = call.privileges(&acl_path(store.name(), &Namespace::ROOT))?;
        if has.intersects(Privileges::DATASTORE_AUDIT | Privileges::DATASTORE_BACKUP) {
            match store.status() {
                Ok(status) => {
                    entry["total"] = status.total.into();
                    entry["used"] = status.used.into();
                    entry["avail"] = status.avail.into();
                }
                // One that does not answer hides no other.
                Err(error) => entry["error"] = error.to_string().into(),
            }
            entry["gc-status"] = json!(store.collect_status());
        }
        list.push(entry);
    }
    Answer::data(list)
}
