//! Roles: named sets of privileges. Those of the original by its names, and Relight's, which keep apart who makes backups, who
//! reads them and who proves it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Privileges;

macro_rules! roles {
    ($($variant:ident $doc:literal $set:expr,)*) => {
        /// A named set of privileges.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Role {
            $(#[doc = $doc] $variant,)*
        }

        impl Role {
            /// All there are.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => stringify!($variant),)*
                }
            }

            /// What it is for.
            pub const fn comment(self) -> &'static str {
                match self {
                    $(Self::$variant => $doc,)*
                }
            }

            /// Its privileges.
            pub const fn privileges(self) -> Privileges {
                match self {
                    $(Self::$variant => $set,)*
                }
            }
        }
    };
}

const fn all_of(set: &[Privileges]) -> Privileges {
    let mut sum = Privileges::NONE;
    let mut at = 0;
    while at < set.len() {
        sum = sum.union(set[at]);
        at += 1;
    }
    sum
}

use Privileges as P;

roles! {
    Admin "May do everything." P::ALL,
    Audit "Sees the server and what is in its datastores, changes nothing." all_of(&[
        P::SYS_AUDIT, P::DATASTORE_AUDIT, P::EVIDENCE_READ,
    ]),
    NoAccess "May do nothing, whatever rules above say." P::NONE,
    DatastoreAdmin "May do everything in a datastore." all_of(&[
        P::DATASTORE_AUDIT, P::DATASTORE_MODIFY, P::DATASTORE_READ, P::DATASTORE_VERIFY, P::DATASTORE_BACKUP,
        P::DATASTORE_PRUNE,
    ]),
    DatastoreReader "Lists and restores everything in a datastore." all_of(&[P::DATASTORE_AUDIT, P::DATASTORE_READ]),
    DatastoreBackup "Makes backups and restores its own." P::DATASTORE_BACKUP,
    DatastorePowerUser "Makes, restores and removes its own backups." all_of(&[P::DATASTORE_BACKUP, P::DATASTORE_PRUNE]),
    DatastoreAudit "Lists what is in a datastore." P::DATASTORE_AUDIT,
    RemoteAudit "Sees other servers that are known." P::REMOTE_AUDIT,
    RemoteAdmin "Manages other servers, and copies from them." all_of(&[
        P::REMOTE_AUDIT, P::REMOTE_MODIFY, P::REMOTE_READ,
    ]),
    RemoteSyncOperator "Copies from other servers." all_of(&[P::REMOTE_AUDIT, P::REMOTE_READ]),
    RemoteSyncPushOperator "Copies to other servers." all_of(&[P::REMOTE_AUDIT, P::REMOTE_DATASTORE_BACKUP]),
    RemoteDatastorePowerUser "Copies to other servers, and removes its own there." all_of(&[
        P::REMOTE_AUDIT, P::REMOTE_DATASTORE_BACKUP, P::REMOTE_DATASTORE_PRUNE,
    ]),
    RemoteDatastoreAdmin "Copies to other servers, and manages what is there." all_of(&[
        P::REMOTE_AUDIT, P::REMOTE_DATASTORE_BACKUP, P::REMOTE_DATASTORE_MODIFY, P::REMOTE_DATASTORE_PRUNE,
    ]),
    Viewer "Sees workloads, recovery points, runs and drills, changes nothing and reads no data." P::DATASTORE_AUDIT,
    Operator "Has backups, copies, verifications and drills done; reads no data, removes nothing." all_of(&[
        P::DATASTORE_AUDIT, P::DATASTORE_VERIFY, P::RUNS_ASK,
    ]),
    RestoreOperator "Restores and reads data; makes no backups, removes nothing." all_of(&[
        P::DATASTORE_AUDIT, P::DATASTORE_READ, P::RESTORE_PLACE, P::RESTORE_PRODUCTION,
    ]),
    KeyOfficer "Keeps the keys of repositories; reads no data." all_of(&[P::DATASTORE_AUDIT, P::KEYS_MANAGE]),
    Auditor "Reads evidence, reports and the plan, and sees everything; reads no data, changes nothing." all_of(&[
        P::SYS_AUDIT, P::DATASTORE_AUDIT, P::REMOTE_AUDIT, P::EVIDENCE_READ,
    ]),
    Approver "Decides on what others may not do alone." all_of(&[P::DATASTORE_AUDIT, P::APPROVAL_DECIDE]),
    Administrator "May do everything; what needs a second person needs one still." P::ALL,
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|role| role.name() == text);
        found.copied().ok_or_else(|| {
            let text: String = text.chars().take(64).collect();
            let names: Vec<_> = Self::ALL.iter().map(|role| role.name()).collect();
            format!("there is no role {text:?}; the roles are {}", names.join(", "))
        })
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A role as somebody has it: one of [`Role`], or one that this server made for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldRole {
    name: Arc<str>,
    privileges: Privileges,
}

impl HeldRole {
    /// One of the server's own.
    pub fn own(name: &str, privileges: Privileges) -> Self {
        Self {
            name: name.into(),
            privileges,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its privileges.
    pub fn privileges(&self) -> Privileges {
        self.privileges
    }

    /// Whether it takes everything away.
    pub fn is_no_access(&self) -> bool {
        *self.name == *Role::NoAccess.name()
    }
}

impl From<Role> for HeldRole {
    fn from(role: Role) -> Self {
        Self::own(role.name(), role.privileges())
    }
}

impl Serialize for HeldRole {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name)
    }
}

impl fmt::Display for HeldRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name)
    }
}
