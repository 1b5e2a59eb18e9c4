//! What is kept about all snapshots of one workload together (who owns them, notes), and about namespaces, which may
//! hold no snapshot at all. Sealed, under names that tell nothing.

use std::collections::BTreeMap;

use relight_keys::ObjectKind;
use serde::{Deserialize, Serialize};

use crate::error::{RepoError, Result};
use crate::repository::Repository;
use crate::snapshot::Snapshot;

/// Folder of these records.
pub const PREFIX: &str = "groups/";
/// The version this program writes.
const VERSION: u32 = 1;

/// What a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// The snapshots of one workload, named as it is.
    Group,
    /// The namespace of that name.
    Namespace,
}

/// What is kept about a group or a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    version: u32,
    /// What it is about.
    pub subject: Subject,
    /// The name of that.
    pub name: String,
    /// Who owns it, in the words of whoever checks that; empty if nobody said.
    #[serde(default)]
    pub owner: String,
    /// Words of the operator.
    #[serde(default)]
    pub notes: String,
    /// Anything else.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
}

impl Record {
    /// A record that says nothing yet.
    pub fn new(subject: Subject, name: &str) -> Self {
        Self {
            version: VERSION,
            subject,
            name: name.to_string(),
            owner: String::new(),
            notes: String::new(),
            attributes: BTreeMap::new(),
        }
    }
}

fn key(repository: &Repository, subject: Subject, name: &str) -> String {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    context.update(&repository.keys().secret("group names v1"));
    context.update(&[match subject {
        Subject::Group => 1,
        Subject::Namespace => 2,
    }]);
    context.update(name.as_bytes());
    format!("{PREFIX}{}", hex::encode(&context.finish().as_ref()[..16]))
}

fn load(repository: &Repository, key: &str) -> Result<Option<Record>> {
    match repository.vault().get_json::<Record>(ObjectKind::GROUP, key) {
        Ok(record) if record.version != VERSION => Err(RepoError::TooNew {
            what: key.to_string(),
            found: record.version,
            known: VERSION,
        }),
        Ok(record) => Ok(Some(record)),
        Err(RepoError::Storage(error)) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

impl Repository {
    /// What is kept about one group or namespace.
    pub fn group(&self, subject: Subject, name: &str) -> Result<Option<Record>> {
        load(self, &key(self, subject, name))
    }

    /// The record at a key under [`PREFIX`]; none if it is gone.
    pub fn group_at(&self, key: &str) -> Result<Option<Record>> {
        load(self, key)
    }

    /// All that is kept about groups and namespaces. A record that cannot be read is left out with a warning: what it
    /// says is less than the snapshots that it is about.
    pub fn groups(&self) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        for object in self.storage().list(PREFIX)? {
            match load(self, &object.key) {
                Ok(record) => records.extend(record),
                Err(error @ RepoError::Storage(_)) => return Err(error),
                Err(error) => tracing::warn!(%error, "owner and notes of a group cannot be read"),
            }
        }
        Ok(records)
    }

    /// Keeps this about a group or namespace, in place of what was kept.
    pub fn set_group(&self, record: &Record) -> Result<()> {
        let key = key(self, record.subject, &record.name);
        self.vault().put_json(ObjectKind::GROUP, &key, record)
    }

    /// Forgets what is kept about a group or namespace. Its snapshots stay.
    pub fn remove_group(&self, subject: Subject, name: &str) -> Result<()> {
        Ok(self.storage().delete(&key(self, subject, name))?)
    }
}

/// Copies what is kept about the groups of these snapshots, where the target has nothing.
pub(crate) fn copy<'a>(
    source: &Repository,
    target: &Repository,
    snapshots: impl Iterator<Item = &'a Snapshot>,
) -> Result<()> {
    let workloads: std::collections::BTreeSet<&str> =
        snapshots.map(|snapshot| snapshot.workload.as_str()).collect();
    if workloads.is_empty() {
        return Ok(());
    }
    let concerns = |record: &Record| match record.subject {
        Subject::Group => workloads.contains(record.name.as_str()),
        Subject::Namespace => {
            let inside = format!("{}/", record.name);
            workloads.iter().any(|workload| workload.starts_with(&inside))
        }
    };
    for record in source.groups()?.iter().filter(|record| concerns(record)) {
        if target.group(record.subject, &record.name)?.is_none() {
            target.set_group(record)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use relight_keys::{KeyFile, SystemEntropy};

    use super::*;
    use crate::settings::Settings;
    use crate::storage::Storage;
    use crate::storage::memory::MemoryStorage;
    use crate::{OpenOptions, keyring};

    fn repository() -> (tempfile::TempDir, Arc<MemoryStorage>, Repository) {
        let storage = Arc::new(MemoryStorage::new());
        let key = KeyFile::generate(&mut SystemEntropy).unwrap();
        keyring::initialise(
            &*storage,
            &key,
            "test",
            jiff::Timestamp::now(),
            Settings::default(),
        )
        .unwrap();
        let keys = keyring::unlock(&*storage, &key).unwrap().into_keys();
        let cache = tempfile::tempdir().unwrap();
        let options = OpenOptions::new(cache.path());
        let repository = Repository::open(storage.clone(), keys, options).unwrap();
        (cache, storage, repository)
    }

    #[test]
    fn a_record_is_kept_replaced_and_removed() {
        let (_cache, storage, repository) = repository();
        assert_eq!(repository.group(Subject::Group, "vm/100").unwrap(), None);
        let mut record = Record::new(Subject::Group, "vm/100");
        record.owner = "root@pam".into();
        repository.set_group(&record).unwrap();
        record.notes = "web server".into();
        repository.set_group(&record).unwrap();
        let namespace = Record::new(Subject::Namespace, "vm/100");
        repository.set_group(&namespace).unwrap();
        assert_eq!(
            repository.group(Subject::Group, "vm/100").unwrap(),
            Some(record.clone())
        );
        assert_eq!(repository.groups().unwrap().len(), 2);
        let listed = storage.list(PREFIX).unwrap();
        // Not the name, which identities in hexadecimal digits can only have a part of.
        assert!(listed.iter().all(|object| !object.key.contains("vm")));
        repository.remove_group(Subject::Group, "vm/100").unwrap();
        assert_eq!(repository.groups().unwrap(), [namespace]);
    }

    #[test]
    fn a_record_that_is_damaged_hides_no_other() {
        let (_cache, storage, repository) = repository();
        for name in ["vm/1", "vm/2"] {
            repository.set_group(&Record::new(Subject::Group, name)).unwrap();
        }
        let name = key(&repository, Subject::Group, "vm/1");
        storage.put(&name, &[b"rubbish"], &Default::default()).unwrap();
        assert_eq!(
            repository.groups().unwrap(),
            [Record::new(Subject::Group, "vm/2")]
        );
        assert!(repository.group(Subject::Group, "vm/1").is_err());
    }
}
