//! Names of the protocol: types, ids and times of backups, groups, snapshots, namespaces, files of a snapshot.
//!
//! All of them come from the network and become parts of paths and object keys, so each has its own type, and a value
//! of it exists only if it is safe: no separators, no leading dot, limited length, ASCII.

mod file_name;
mod namespace;
mod time;

use std::fmt;
use std::str::FromStr;

use relight_model::Workload;
use serde::{Deserialize, Serialize};

pub use file_name::{FileKind, FileName};
pub use namespace::Namespace;
pub use time::BackupTime;

/// Longest id of a backup, and longest name of a file of a snapshot, in bytes.
pub const MAX_ID: usize = 128;

/// Why a text is not what it should be. The text itself is shown shortened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {text:?} {why}")]
pub struct NameError {
    what: &'static str,
    text: String,
    why: &'static str,
}

impl NameError {
    pub(crate) fn new(what: &'static str, text: &str, why: &'static str) -> Self {
        let text = text.chars().take(64).collect();
        Self { what, text, why }
    }
}

/// Implements the traits of a type that is a checked text: shown, parsed and serialised as that text.
macro_rules! as_text {
    ($name:ty) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use as_text;

/// Checks `[A-Za-z0-9_][A-Za-z0-9._-]*` of at most `most` bytes.
fn check_safe(what: &'static str, text: &str, most: usize) -> Result<(), NameError> {
    let refuse = |why| Err(NameError::new(what, text, why));
    if text.is_empty() {
        return refuse("is empty");
    }
    if text.len() > most {
        return refuse("is too long");
    }
    let allowed =
        |(at, b): (usize, u8)| b.is_ascii_alphanumeric() || b == b'_' || (at > 0 && (b == b'.' || b == b'-'));
    if !text.bytes().enumerate().all(allowed) {
        return refuse("may have letters, digits, '.', '_' and '-' only, and must not begin with '.' or '-'");
    }
    Ok(())
}

/// What kind of thing was backed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackupType {
    /// A virtual machine.
    Vm,
    /// A container.
    Ct,
    /// A physical or any other host.
    Host,
}

impl BackupType {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Vm, Self::Ct, Self::Host];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Vm => "vm",
            Self::Ct => "ct",
            Self::Host => "host",
        }
    }
}

impl fmt::Display for BackupType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for BackupType {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        found.ok_or_else(|| NameError::new("backup-type", text, "is not one of vm, ct and host"))
    }
}

/// The id of what was backed up: `100`, `web01.example.org`. At most [`MAX_ID`] bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackupId(String);

impl BackupId {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for BackupId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        check_safe("backup-id", text, MAX_ID)?;
        Ok(Self(text.to_string()))
    }
}

as_text!(BackupId);

/// A group: all snapshots of one thing in one namespace. Written `vm/100`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Group {
    /// Of what kind.
    pub backup_type: BackupType,
    /// Which.
    pub backup_id: BackupId,
}

impl Group {
    /// The workload of the repository that the group of `namespace` is. Fails only if the whole name is too long.
    pub fn workload(&self, namespace: &Namespace) -> Result<Workload, NameError> {
        let name = if namespace.is_root() {
            self.to_string()
        } else {
            format!("{namespace}/{self}")
        };
        name.parse()
            .map_err(|_| NameError::new("group", &name, "does not fit in the name of a workload"))
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.backup_type, self.backup_id)
    }
}

impl FromStr for Group {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let parts = text.split_once('/');
        let (backup_type, backup_id) =
            parts.ok_or_else(|| NameError::new("group", text, "is not written TYPE/ID"))?;
        Ok(Self {
            backup_type: backup_type.parse()?,
            backup_id: backup_id.parse()?,
        })
    }
}

/// A snapshot within a namespace. Written `vm/100/2023-11-14T22:13:21Z`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SnapshotName {
    /// Its group.
    #[serde(flatten)]
    pub group: Group,
    /// When it was taken.
    pub backup_time: BackupTime,
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.group, self.backup_time)
    }
}

impl FromStr for SnapshotName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let parts = text.rsplit_once('/');
        let (group, time) =
            parts.ok_or_else(|| NameError::new("snapshot", text, "is not written TYPE/ID/TIME"))?;
        Ok(Self {
            group: group.parse()?,
            backup_time: time.parse()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_has_group_and_time() {
        let name: SnapshotName = "vm/100/2023-11-14T22:13:21Z".parse().unwrap();
        assert_eq!(name.group.backup_type, BackupType::Vm);
        assert_eq!(name.group.backup_id.as_str(), "100");
        assert_eq!(name.backup_time.seconds(), 1_700_000_001);
        assert_eq!(name.to_string(), "vm/100/2023-11-14T22:13:21Z");
        let json = serde_json::to_value(&name).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"backup-type": "vm", "backup-id": "100", "backup-time": 1_700_000_001})
        );
        assert_eq!(serde_json::from_value::<SnapshotName>(json).unwrap(), name);
    }

    #[test]
    fn what_could_leave_its_folder_is_refused() {
        for id in [
            "", ".", "..", "../x", "a/b", "-rf", ".hidden", "a b", "ä", "a\0", "a\n", "a:b", "%2e",
        ] {
            assert!(id.parse::<BackupId>().is_err(), "{id:?}");
        }
        assert!("a".repeat(128).parse::<BackupId>().is_ok());
        assert!("a".repeat(129).parse::<BackupId>().is_err());
        assert!("qemu/100".parse::<Group>().is_err());
        assert!("VM".parse::<BackupType>().is_err());
    }

    #[test]
    fn a_group_is_a_workload() {
        let group: Group = "host/web01".parse().unwrap();
        assert_eq!(group.workload(&Namespace::ROOT).unwrap().as_str(), "host/web01");
        let namespace: Namespace = "lab/berlin".parse().unwrap();
        assert_eq!(
            group.workload(&namespace).unwrap().as_str(),
            "lab/berlin/host/web01"
        );
    }
}
