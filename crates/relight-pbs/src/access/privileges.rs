//! Privileges, by the names of the original where it has them.

use std::ops::{BitAnd, BitOr, BitOrAssign};

/// A set of privileges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Privileges(u64);

macro_rules! privileges {
    ($($bit:literal $constant:ident $name:literal $doc:literal,)*) => {
        impl Privileges {
            $(
                #[doc = $doc]
                pub const $constant: Self = Self(1 << $bit);
            )*
            /// All there are.
            pub const ALL: Self = Self(0 $(| 1 << $bit)*);
            /// Each with its name.
            pub const NAMES: &'static [(&'static str, Self)] = &[$(($name, Self::$constant),)*];
        }
    };
}

privileges! {
    0 SYS_AUDIT "Sys.Audit" "See the state of the server: status, tasks of others, users.",
    1 SYS_MODIFY "Sys.Modify" "Change how the server works.",
    2 SYS_POWER_MANAGEMENT "Sys.PowerManagement" "Stop tasks of others and the server.",
    3 DATASTORE_AUDIT "Datastore.Audit" "See a datastore and list what is in it.",
    4 DATASTORE_ALLOCATE "Datastore.Allocate" "Make and remove datastores.",
    5 DATASTORE_MODIFY "Datastore.Modify" "Change a datastore: namespaces, owners, notes of others, collection.",
    6 DATASTORE_READ "Datastore.Read" "Restore what is in it, whoever owns it.",
    7 DATASTORE_VERIFY "Datastore.Verify" "Have it verified.",
    8 DATASTORE_BACKUP "Datastore.Backup" "Make backups, and read one's own.",
    9 DATASTORE_PRUNE "Datastore.Prune" "Remove one's own backups.",
    10 PERMISSIONS_MODIFY "Permissions.Modify" "Change users' privileges.",
    11 REMOTE_AUDIT "Remote.Audit" "See other servers that are known.",
    12 REMOTE_MODIFY "Remote.Modify" "Change which are known.",
    13 REMOTE_READ "Remote.Read" "Copy from them.",
    14 SYS_CONSOLE "Sys.Console" "A shell on the server; nothing here grants or needs one.",
    15 REALM_ALLOCATE "Realm.Allocate" "Make and remove realms.",
    16 REMOTE_DATASTORE_BACKUP "Remote.DatastoreBackup" "Copy to a datastore of another server.",
    17 REMOTE_DATASTORE_MODIFY "Remote.DatastoreModify" "Change a datastore of another server.",
    18 REMOTE_DATASTORE_PRUNE "Remote.DatastorePrune" "Remove backups on another server.",
    // What the original has no word for.
    19 RUNS_ASK "Runs.Ask" "Have a workload backed up, copied, verified or drilled now, as the plan says it is done.",
    20 RESTORE_PLACE "Restore.Place" "Have the server restore to a place that its configuration allows.",
    21 RESTORE_PRODUCTION "Restore.Production" "Have the server restore over what is in production.",
    22 KEYS_MANAGE "Keys.Manage" "See which keys open a repository, and have them tested, added and retired.",
    23 APPROVAL_DECIDE "Approval.Decide" "Approve or deny what somebody else asks for.",
    24 EVIDENCE_READ "Evidence.Read" "Read the evidence and reports of what it proves.",
}

impl Privileges {
    /// None.
    pub const NONE: Self = Self(0);

    /// The privilege of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMES
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, one)| *one)
    }

    /// The names of those in the set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES
            .iter()
            .filter(move |(_, one)| self.contains(*one))
            .map(|(name, _)| *name)
    }

    /// Whether all of these are in it.
    pub const fn contains(self, all: Self) -> bool {
        self.0 & all.0 == all.0
    }

    /// Whether some of these are in it.
    pub const fn intersects(self, some: Self) -> bool {
        self.0 & some.0 != 0
    }

    /// Whether none is.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those of both, for constants.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOr for Privileges {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Privileges {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl BitAnd for Privileges {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}
