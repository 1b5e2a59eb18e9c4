//! Namespaces.

use http::Method;
use serde::Deserialize;
use serde_json::json;

use super::Service;
use crate::access::{Action, Guarded, Privileges};
use crate::formats::ids::Namespace;
use crate::service::datastore::acl_path;
use crate::service::http::{Answer, ApiError, ApiResult, Call, Router};

/// With some of these somebody sees a namespace.
const SEES: Privileges = Privileges::DATASTORE_AUDIT
    .union(Privileges::DATASTORE_BACKUP)
    .union(Privileges::DATASTORE_READ)
    .union(Privileges::DATASTORE_MODIFY);

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Wanted {
    store: String,
    #[serde(default)]
    parent: Namespace,
    max_depth: Option<usize>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct New {
    store: String,
    name: String,
    #[serde(default)]
    parent: Namespace,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Gone {
    store: String,
    ns: Namespace,
    #[serde(default)]
    delete_groups: bool,
    #[serde(default = "yes")]
    error_on_protected: bool,
}

fn yes() -> bool {
    true
}

pub(super) fn routes(router: &mut Router, service: &Service) {
    const PATH: &str = "/admin/datastore/{store}/namespace";
    let of = service.clone();
    router.on_blocking(Method::GET, PATH, move |call, wanted: Wanted| {
        list(&of, &call, &wanted)
    });
    let of = service.clone();
    router.on_blocking(Method::POST, PATH, move |call, new: New| create(&of, &call, &new));
    let of = service.clone();
    router.on_blocking(Method::DELETE, PATH, move |call, gone: Gone| {
        remove(&of, &call, &gone)
    });
}

fn list(service: &Service, call: &Call, wanted: &Wanted) -> ApiResult<Answer> {
    let (who, parent) = (call.who()?, &wanted.parent);
    let path = acl_path(&wanted.store, parent);
    if !call.access().has_below(who, &path, SEES) {
        call.require_some(&path, SEES)?;
    }
    let store = service.stores.get(&wanted.store)?;
    store.require_namespace(parent)?;
    let listing = store.list()?;
    let is_near = |namespace: &Namespace| {
        let below = namespace.depth().saturating_sub(parent.depth());
        wanted.max_depth.is_none_or(|most| below <= most)
    };
    // A namespace is also shown if only something in it may be seen: else nobody would find that.
    let is_seen = |namespace: &Namespace| {
        let path = acl_path(&wanted.store, namespace);
        call.access().has_below(who, &path, SEES)
    };
    let found = listing
        .namespaces()
        .filter(|namespace| parent.contains(namespace) && is_near(namespace) && is_seen(namespace));
    Answer::data(
        found
            .map(|namespace| json!({"ns": namespace}))
            .collect::<Vec<_>>(),
    )
}

fn create(service: &Service, call: &Call, new: &New) -> ApiResult<Answer> {
    call.require(&acl_path(&new.store, &new.parent), Privileges::DATASTORE_MODIFY)?;
    let store = service.stores.get(&new.store)?;
    Answer::data(store.create_namespace(&new.parent, &new.name)?)
}

fn remove(service: &Service, call: &Call, gone: &Gone) -> ApiResult<Answer> {
    let parent = gone.ns.parent().unwrap_or_default();
    call.require(&acl_path(&gone.store, &parent), Privileges::DATASTORE_MODIFY)?;
    // Rules may keep what is in it from whoever may change what is around it.
    let store = service.stores.get(&gone.store)?;
    let listing = store.list()?;
    for inside in listing.namespaces().filter(|inside| gone.ns.contains(inside)) {
        call.require(&acl_path(&gone.store, inside), Privileges::DATASTORE_MODIFY)?;
    }
    let remove = || Ok(store.remove_namespace(&gone.ns, gone.delete_groups)?);
    let inside = listing.namespaces().filter(|inside| gone.ns.contains(inside));
    let groups = inside.flat_map(|inside| listing.groups(inside));
    let exact: Vec<String> = groups
        .flat_map(|group| &group.snapshots)
        .map(|entry| format!("{}/{}", entry.namespace, entry.name))
        .collect();
    let (removed, all) = if exact.is_empty() || !gone.delete_groups {
        remove()?
    } else {
        let subject = format!(
            "delete the namespace {} in {} with all of its {} recovery points",
            gone.ns,
            store.name(),
            exact.len()
        );
        let guarded = Guarded {
            action: Action::Delete,
            path: &acl_path(&gone.store, &parent),
            subject: &subject,
            exact: &exact.join("\n"),
            reason: None,
        };
        call.guarded(&guarded, remove)?
    };
    if all || (gone.delete_groups && !gone.error_on_protected) {
        return Answer::data(removed);
    }
    Err(ApiError::bad_request(if gone.delete_groups {
        "namespace only partially deleted due to protected snapshots"
    } else {
        "only partially deleted due to existing groups but `delete-groups` not true"
    }))
}
