//! The calls about datastores: `/admin/datastore/…` and `/status/datastore-usage`.

mod browse;
mod download;
mod groups;
mod jobs;
mod moving;
mod namespaces;
mod prune;
mod snapshots;
mod stores;

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::access::{Action, Guarded, Privileges, group_path};
use crate::formats::ids::{Group, Namespace};
use crate::service::datastore::{Datastore, GroupEntry, Stores, acl_path};
use crate::service::http::{ApiError, ApiResult, Call, Router};
use crate::service::tasks::Tasks;

/// Requests that read contents of snapshots at the same time: each has caches of tens of MiB.
const READERS: usize = 2;

/// What all calls share.
#[derive(Clone)]
struct Service {
    stores: Arc<Stores>,
    tasks: Arc<Tasks>,
    readers: Arc<Semaphore>,
}

/// Adds the routes.
pub fn routes(router: &mut Router, stores: &Arc<Stores>, tasks: &Arc<Tasks>) {
    let service = Service {
        stores: stores.clone(),
        tasks: tasks.clone(),
        readers: Arc::new(Semaphore::new(READERS)),
    };
    stores::routes(router, &service);
    namespaces::routes(router, &service);
    groups::routes(router, &service);
    snapshots::routes(router, &service);
    prune::routes(router, &service);
    jobs::routes(router, &service);
    moving::routes(router, &service);
    download::routes(router, &service);
    browse::routes(router, &service);
}

/// What the caller may do in a namespace of a datastore.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Allowed {
    /// What it asks for, whoever owns the groups.
    All,
    /// What it asks for, with its own groups, and with those in which it was granted.
    Some {
        /// What is needed in a group of others.
        full: Privileges,
        /// What is needed in its own.
        own: Privileges,
    },
}

/// Goes on only if the caller has some of `full`, or `own`, which lets it do the same with its own groups.
fn allowed(
    call: &Call,
    store: &str,
    namespace: &Namespace,
    full: Privileges,
    own: Privileges,
) -> ApiResult<Allowed> {
    let path = acl_path(store, namespace);
    let has = call.privileges(&path)?;
    if has.intersects(full) {
        return Ok(Allowed::All);
    }
    if !has.intersects(own) && !call.access().has_in_groups(call.who()?, &path, full | own) {
        return Err(ApiError::forbidden());
    }
    Ok(Allowed::Some { full, own })
}

/// The same for one group. Whoever may do nothing in it does not learn whether it is there.
fn allowed_in(
    call: &Call,
    (store, namespace, group): (&str, &Namespace, &Group),
    full: Privileges,
    own: Privileges,
) -> ApiResult<Allowed> {
    let may = allowed(call, store, namespace, full, own)?;
    if may != Allowed::All {
        let has = call.privileges_in_group(&acl_path(store, namespace), group)?;
        if !has.intersects(full | own) {
            return Err(ApiError::forbidden());
        }
    }
    Ok(may)
}

impl Allowed {
    /// Whether the caller may see or touch a group.
    fn covers(
        self,
        call: &Call,
        store: &Datastore,
        namespace: &Namespace,
        group: &GroupEntry,
    ) -> ApiResult<bool> {
        let Self::Some { full, own } = self else {
            return Ok(true);
        };
        let has = call.privileges_in_group(&acl_path(store.name(), namespace), &group.group)?;
        Ok(has.intersects(full) || (has.intersects(own) && call.who()?.owns_as(&store.owner_of(group))))
    }

    /// Goes on only if the caller may touch the group, and the group is there.
    fn require(self, call: &Call, store: &Datastore, namespace: &Namespace, group: &Group) -> ApiResult<()> {
        let found = store.group(namespace, group)?;
        if self.covers(call, store, namespace, &found)? {
            return Ok(());
        }
        let (who, owner) = (call.who()?, store.owner_of(&found));
        let message = format!("backup owner check failed ({who} != {owner})");
        Err(ApiError::bad_request(message))
    }
}

/// What somebody wants to do with the snapshots of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edit {
    /// Remove some of them.
    Remove,
    /// Protect some of them, or take that away.
    Protect,
}

impl Edit {
    /// What is needed in a group of others, and in one's own.
    const fn needs(self) -> (Privileges, Privileges) {
        match self {
            Self::Remove => (Privileges::DATASTORE_MODIFY, Privileges::DATASTORE_PRUNE),
            Self::Protect => (Privileges::DATASTORE_MODIFY, Privileges::DATASTORE_BACKUP),
        }
    }
}

/// Whether the caller may do this with the snapshots of a group, as these calls let it.
///
/// # Errors
/// The datastore cannot be read, or nobody known calls.
pub fn may_edit(
    call: &Call,
    store: &Datastore,
    (namespace, group): (&Namespace, &Group),
    edit: Edit,
) -> ApiResult<bool> {
    let (full, own) = edit.needs();
    let may = Allowed::Some { full, own };
    if let Some(found) = store.list()?.group(namespace, group) {
        return may.covers(call, store, namespace, found);
    }
    // Nobody owns what is empty.
    let has = call.privileges_in_group(&acl_path(store.name(), namespace), group)?;
    Ok(has.intersects(full))
}

/// Does something that removes recovery points, or lets them be removed, of one group; that may need a second person.
fn guarded_in_group<T>(
    call: &Call,
    (store, namespace, group): (&str, &Namespace, &Group),
    subject: &str,
    exact: &str,
    action: impl FnOnce() -> ApiResult<T>,
) -> ApiResult<T> {
    let guarded = Guarded {
        action: Action::Delete,
        path: &group_path(&acl_path(store, namespace), group),
        subject,
        exact,
        reason: None,
    };
    call.guarded(&guarded, action)
}

/// A group or a snapshot in its namespace, in words.
fn placed(store: &str, namespace: &Namespace, what: &dyn std::fmt::Display) -> String {
    match namespace.is_root() {
        true => format!("{what} in {store}"),
        false => format!("{namespace}/{what} in {store}"),
    }
}

/// Defines the parameters of calls: those that say what they are about, and more.
macro_rules! parameters {
    ($(#[$doc:meta])* struct $name:ident of store { $($(#[$meta:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "kebab-case", deny_unknown_fields)]
        struct $name {
            store: String,
            #[serde(default)]
            ns: crate::formats::ids::Namespace,
            $($(#[$meta])* $field: $type,)*
        }
    };
    ($(#[$doc:meta])* struct $name:ident of group { $($(#[$meta:meta])* $field:ident: $type:ty,)* }) => {
        $crate::service::rest::parameters! {
            $(#[$doc])*
            struct $name of store {
                backup_type: crate::formats::ids::BackupType,
                backup_id: crate::formats::ids::BackupId,
                $($(#[$meta])* $field: $type,)*
            }
        }

        impl $name {
            fn group(&self) -> crate::formats::ids::Group {
                crate::formats::ids::Group {
                    backup_type: self.backup_type,
                    backup_id: self.backup_id.clone(),
                }
            }
        }
    };
    ($(#[$doc:meta])* struct $name:ident of snapshot { $($(#[$meta:meta])* $field:ident: $type:ty,)* }) => {
        $crate::service::rest::parameters! {
            $(#[$doc])*
            struct $name of group {
                backup_time: crate::formats::ids::BackupTime,
                $($(#[$meta])* $field: $type,)*
            }
        }

        impl $name {
            fn snapshot(&self) -> crate::formats::ids::SnapshotName {
                crate::formats::ids::SnapshotName {
                    group: self.group(),
                    backup_time: self.backup_time,
                }
            }
        }
    };
}
use parameters;

/// The first line of notes, as lists show it.
fn first_line(notes: &str) -> Option<&str> {
    notes.lines().next().filter(|line| !line.is_empty())
}

/// The name of what a task is about: datastore, namespace and the rest.
fn task_id(store: &str, namespace: &Namespace, rest: Option<&str>) -> String {
    let mut id = store.to_string();
    if !namespace.is_root() || rest.is_some() {
        id.push(':');
    }
    if !namespace.is_root() {
        id.push_str(namespace.as_str());
        if rest.is_some() {
            id.push('/');
        }
    }
    id.push_str(rest.unwrap_or_default());
    id
}

/// A task that could not be begun.
fn no_task(error: std::io::Error) -> ApiError {
    tracing::error!("a task cannot be begun: {error}");
    ApiError::internal("the task cannot be begun; the server's log tells more")
}
