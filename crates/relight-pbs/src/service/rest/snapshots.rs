//! Snapshots: lists, files, notes, protection, logs, removal.

use http::Method;
use serde_json::{Map, Value, json};

use super::{Edit, Service, allowed, allowed_in, first_line, guarded_in_group, parameters, placed};
use crate::access::Privileges;
use crate::formats::blob::MAX_ENCODED;
use crate::formats::ids::{BackupId, BackupType};
use crate::service::datastore::{Datastore, Entry, File};
use crate::service::http::{Answer, ApiError, ApiResult, Call, Router, blocking};

parameters! {
    struct Wanted of store {
        backup_type: Option<BackupType>,
        backup_id: Option<BackupId>,
    }
}

parameters! {
    struct Of of snapshot {}
}

parameters! {
    struct Notes of snapshot {
        notes: String,
    }
}

parameters! {
    struct Protected of snapshot {
        protected: bool,
    }
}

pub(super) fn routes(router: &mut Router, service: &Service) {
    const PATH: &str = "/admin/datastore/{store}/snapshots";
    let of = service.clone();
    router.on_blocking(Method::GET, PATH, move |call, given: Wanted| {
        list(&of, &call, &given)
    });
    let of = service.clone();
    router.on_blocking(Method::DELETE, PATH, move |call, given: Of| {
        let (full, own) = Edit::Remove.needs();
        let store = given.store(&of, &call, full, own)?;
        let name = given.snapshot();
        // Before somebody is asked to approve it.
        store.snapshot(&given.ns, &name)?;
        let what = placed(store.name(), &given.ns, &name);
        let subject = format!("delete the recovery point {what}");
        guarded_in_group(
            &call,
            (store.name(), &given.ns, &name.group),
            &subject,
            &what,
            || {
                store.forget(&given.ns, &name).map_err(|error| {
                    let mut error = ApiError::from(error);
                    error.message = format!("failed to delete snapshot - {}", error.message);
                    error
                })?;
                Ok(Answer::null())
            },
        )
    });
    let of = service.clone();
    router.on_blocking(
        Method::GET,
        "/admin/datastore/{store}/files",
        move |call, given: Of| {
            let full = Privileges::DATASTORE_AUDIT | Privileges::DATASTORE_READ;
            let store = given.store(&of, &call, full, Privileges::DATASTORE_BACKUP)?;
            let entry = store.snapshot(&given.ns, &given.snapshot())?;
            let files = store.files(&entry)?;
            Answer::data(files.iter().map(file).collect::<Vec<_>>())
        },
    );
    notes(router, service);
    protection(router, service);
    let of = service.clone();
    router
        .on(
            Method::POST,
            "/admin/datastore/{store}/upload-backup-log",
            move |call, given: Of| upload_log(of.clone(), call, given),
        )
        .raw_body();
}

fn notes(router: &mut Router, service: &Service) {
    const PATH: &str = "/admin/datastore/{store}/notes";
    let of = service.clone();
    router.on_blocking(Method::GET, PATH, move |call, given: Of| {
        let own = Privileges::DATASTORE_BACKUP;
        let store = given.store(&of, &call, Privileges::DATASTORE_AUDIT, own)?;
        let entry = store.snapshot(&given.ns, &given.snapshot())?;
        Answer::data(store.notes(&entry)?)
    });
    let of = service.clone();
    router.on_blocking(Method::PUT, PATH, move |call, given: Notes| {
        let own = Privileges::DATASTORE_BACKUP;
        let store = given.store(&of, &call, Privileges::DATASTORE_MODIFY, own)?;
        store.set_notes(&given.ns, &given.snapshot(), &given.notes)?;
        Ok(Answer::null())
    });
}

fn protection(router: &mut Router, service: &Service) {
    const PATH: &str = "/admin/datastore/{store}/protected";
    let of = service.clone();
    router.on_blocking(Method::GET, PATH, move |call, given: Of| {
        let own = Privileges::DATASTORE_BACKUP;
        let store = given.store(&of, &call, Privileges::DATASTORE_AUDIT, own)?;
        let entry = store.snapshot(&given.ns, &given.snapshot())?;
        Answer::data(entry.is_protected())
    });
    let of = service.clone();
    router.on_blocking(Method::PUT, PATH, move |call, given: Protected| {
        let (full, own) = Edit::Protect.needs();
        let store = given.store(&of, &call, full, own)?;
        let name = given.snapshot();
        let set = || {
            store.set_protected(&given.ns, &name, given.protected)?;
            Ok(Answer::null())
        };
        if given.protected || !store.snapshot(&given.ns, &name)?.is_protected() {
            return set();
        }
        let what = placed(store.name(), &given.ns, &name);
        let subject = format!("take the protection of the recovery point {what} away");
        let place = (store.name(), &given.ns, &name.group);
        guarded_in_group(&call, place, &subject, &what, set)
    });
}

macro_rules! checked_store {
    ($($name:ident)*) => {$(
        impl $name {
            /// The datastore, if the caller may do this with the snapshot.
            fn store(
                &self,
                service: &Service,
                call: &Call,
                full: Privileges,
                own: Privileges,
            ) -> ApiResult<std::sync::Arc<Datastore>> {
                let may = allowed_in(call, (&self.store, &self.ns, &self.group()), full, own)?;
                let store = service.stores.get(&self.store)?;
                let name = self.snapshot();
                // That of a group whose last snapshot is gone is told as what it is for the caller.
                if store.list()?.group(&self.ns, &name.group).is_none() {
                    store.require_namespace(&self.ns)?;
                    store.snapshot(&self.ns, &name)?;
                }
                may.require(call, &store, &self.ns, &name.group)?;
                Ok(store)
            }
        }
    )*};
}
checked_store!(Of Notes Protected);

/// A file, as lists show it.
fn file(file: &File) -> Value {
    let mut entry = Map::new();
    entry.insert("filename".into(), json!(file.name));
    if let Some(mode) = file.crypt_mode {
        entry.insert("crypt-mode".into(), json!(mode));
    }
    if let Some(size) = file.size {
        entry.insert("size".into(), size.into());
    }
    Value::Object(entry)
}

fn list(service: &Service, call: &Call, given: &Wanted) -> ApiResult<Answer> {
    let own = Privileges::DATASTORE_BACKUP;
    let may = allowed(call, &given.store, &given.ns, Privileges::DATASTORE_AUDIT, own)?;
    let store = service.stores.get(&given.store)?;
    store.require_namespace(&given.ns)?;
    let mut list = Vec::new();
    for group in store.list()?.groups(&given.ns) {
        let name = &group.group;
        let is_wanted = given.backup_type.is_none_or(|wanted| wanted == name.backup_type)
            && given
                .backup_id
                .as_ref()
                .is_none_or(|wanted| *wanted == name.backup_id);
        if !is_wanted || !may.covers(call, &store, &given.ns, group)? {
            continue;
        }
        let owner = json!(store.owner_of(group));
        for entry in &group.snapshots {
            list.push(shown(&store, entry, &owner));
        }
    }
    Answer::data(list)
}

/// A snapshot, as lists show it. One that cannot be read is shown without its files, and hides no other.
fn shown(store: &Datastore, entry: &Entry, owner: &Value) -> Value {
    let name = &entry.name;
    let mut shown = json!({
        "backup-type": name.group.backup_type,
        "backup-id": name.group.backup_id,
        "backup-time": name.backup_time,
        "owner": owner,
        "protected": entry.is_protected(),
        "files": [],
    });
    let (files, notes, fingerprint) = match store.about(entry) {
        Ok(about) => about,
        Err(error) => {
            tracing::warn!(snapshot = %name, %error, "the files of a snapshot are not listed");
            return shown;
        }
    };
    let size = files
        .iter()
        .filter_map(|file| file.size)
        .fold(0u64, u64::saturating_add);
    shown["size"] = size.into();
    shown["files"] = files.iter().map(file).collect();
    if let Some(comment) = first_line(&notes) {
        shown["comment"] = comment.into();
    }
    if let Some(fingerprint) = fingerprint {
        shown["fingerprint"] = fingerprint.into();
    }
    if let Some(found) = entry.verification() {
        shown["verification"] = found;
    }
    shown
}

async fn upload_log(service: Service, mut call: Call, given: Of) -> ApiResult<Answer> {
    // Before the body is read: strangers send none.
    let check = move || {
        let none = Privileges::NONE;
        let store = given.store(&service, &call, none, Privileges::DATASTORE_BACKUP)?;
        Ok((store, call, given))
    };
    let (store, taken, given) = blocking(check).await?;
    call = taken;
    let log = call.body(MAX_ENCODED).await?;
    blocking(move || {
        store.add_log(&given.ns, &given.snapshot(), &log)?;
        Ok(Answer::null())
    })
    .await
}
