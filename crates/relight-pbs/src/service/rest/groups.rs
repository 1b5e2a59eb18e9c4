//! Groups: lists, notes, owners, removal.

use http::Method;
use serde_json::json;

use super::{Allowed, Service, allowed, allowed_in, first_line, guarded_in_group, parameters, placed};
use crate::access::{AuthId, Privileges};
use crate::service::http::{Answer, ApiError, ApiResult, Call, Router};

parameters! {
    struct Of of store {}
}

parameters! {
    struct OfGroup of group {}
}

parameters! {
    struct Gone of group {
        #[serde(default = "yes")]
        error_on_protected: bool,
    }
}

parameters! {
    struct Notes of group {
        notes: String,
    }
}

parameters! {
    struct Owner of group {
        new_owner: AuthId,
    }
}

fn yes() -> bool {
    true
}

pub(super) fn routes(router: &mut Router, service: &Service) {
    const PATH: &str = "/admin/datastore/{store}/groups";
    let of = service.clone();
    router.on_blocking(Method::GET, PATH, move |call, given: Of| list(&of, &call, &given));
    let of = service.clone();
    router.on_blocking(Method::DELETE, PATH, move |call, given: Gone| {
        remove(&of, &call, &given)
    });
    const NOTES: &str = "/admin/datastore/{store}/group-notes";
    let of = service.clone();
    router.on_blocking(Method::GET, NOTES, move |call, given: OfGroup| {
        let own = Privileges::DATASTORE_BACKUP;
        let may = allowed_in(
            &call,
            (&given.store, &given.ns, &given.group()),
            Privileges::DATASTORE_AUDIT,
            own,
        )?;
        let (store, group) = (of.stores.get(&given.store)?, given.group());
        may.require(&call, &store, &given.ns, &group)?;
        Answer::data(&store.group(&given.ns, &group)?.notes)
    });
    let of = service.clone();
    router.on_blocking(Method::PUT, NOTES, move |call, given: Notes| {
        let own = Privileges::DATASTORE_BACKUP;
        let may = allowed_in(
            &call,
            (&given.store, &given.ns, &given.group()),
            Privileges::DATASTORE_MODIFY,
            own,
        )?;
        let (store, group) = (of.stores.get(&given.store)?, given.group());
        may.require(&call, &store, &given.ns, &group)?;
        store.set_group_notes(&given.ns, &group, &given.notes)?;
        Ok(Answer::null())
    });
    let of = service.clone();
    router.on_blocking(
        Method::POST,
        "/admin/datastore/{store}/change-owner",
        move |call, given: Owner| change_owner(&of, &call, &given),
    );
}

fn list(service: &Service, call: &Call, given: &Of) -> ApiResult<Answer> {
    let own = Privileges::DATASTORE_BACKUP;
    let may = allowed(call, &given.store, &given.ns, Privileges::DATASTORE_AUDIT, own)?;
    let store = service.stores.get(&given.store)?;
    store.require_namespace(&given.ns)?;
    let mut list = Vec::new();
    for group in store.list()?.groups(&given.ns) {
        let Some(newest) = group.snapshots.first() else {
            continue;
        };
        if !may.covers(call, &store, &given.ns, group)? {
            continue;
        }
        let files: Vec<_> = store.files(newest)?.into_iter().map(|file| file.name).collect();
        let mut entry = json!({
            "backup-type": group.group.backup_type,
            "backup-id": group.group.backup_id,
            "last-backup": newest.name.backup_time,
            "backup-count": group.snapshots.len(),
            "files": files,
            "owner": store.owner_of(group),
        });
        if let Some(comment) = first_line(&group.notes) {
            entry["comment"] = comment.into();
        }
        list.push(entry);
    }
    Answer::data(list)
}

fn remove(service: &Service, call: &Call, given: &Gone) -> ApiResult<Answer> {
    let own = Privileges::DATASTORE_PRUNE;
    let may = allowed_in(
        call,
        (&given.store, &given.ns, &given.group()),
        Privileges::DATASTORE_MODIFY,
        own,
    )?;
    let (store, group) = (service.stores.get(&given.store)?, given.group());
    may.require(call, &store, &given.ns, &group)?;
    let found = store.group(&given.ns, &group)?;
    let count = found.snapshots.len();
    let what = placed(store.name(), &given.ns, &group);
    let subject = format!("delete the group {what} with all of its {count} recovery points");
    // What has come since it was approved, nobody has approved to remove.
    let exact: Vec<String> = found
        .snapshots
        .iter()
        .map(|entry| entry.name.to_string())
        .collect();
    let place = (store.name(), &given.ns, &group);
    let removed = guarded_in_group(call, place, &subject, &exact.join("\n"), || {
        Ok(store.forget_group(&given.ns, &group)?)
    })?;
    if removed.protected_snapshots > 0 && given.error_on_protected {
        let message = "group only partially deleted due to protected snapshots";
        return Err(ApiError::bad_request(message));
    }
    Answer::data(removed)
}

fn change_owner(service: &Service, call: &Call, given: &Owner) -> ApiResult<Answer> {
    let own = Privileges::DATASTORE_BACKUP;
    let may = allowed_in(
        call,
        (&given.store, &given.ns, &given.group()),
        Privileges::DATASTORE_MODIFY,
        own,
    )?;
    let (store, group) = (service.stores.get(&given.store)?, given.group());
    let (who, new) = (call.who()?, &given.new_owner);
    let found = store.group(&given.ns, &group)?;
    if may != Allowed::All {
        let owner = store.owner_of(&found);
        // A user may pass its groups on to its own tokens and back; a token may do nothing of the kind.
        let within = owner.user() == who.user() && new.user() == who.user();
        if who.token().is_some() || !within {
            return Err(ApiError::forbidden());
        }
    }
    if !call.access().exists(new) {
        let what = if new.token().is_some() {
            "API token"
        } else {
            "user"
        };
        return Err(ApiError::bad_request(format!("{what} '{new}' does not exist")));
    }
    store.set_owner(&given.ns, &group, new)?;
    Ok(Answer::null())
}
