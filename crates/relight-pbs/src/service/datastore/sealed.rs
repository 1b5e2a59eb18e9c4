//! Snapshots whose contents clients encrypted, seen by somebody who may have the key.

use std::sync::{Arc, OnceLock};

use relight_repo::read::Unseal;
use relight_repo::snapshot::Snapshot;

use super::entry::{Body, Entry};
use super::error::{Result, StoreError};
use super::{Datastore, naming};
use crate::formats::blob::Blob;
use crate::formats::crypt::{CryptKey, Fingerprint};
use crate::formats::ids::{BackupTime, SnapshotName};
use crate::formats::manifest::CryptMode;

impl Unseal for CryptKey {
    fn unseal(&self, digest: &[u8; 32], blob: &[u8], length: usize) -> Option<Vec<u8>> {
        let blob = Blob::parse(blob).ok().filter(|blob| blob.kind().is_encrypted())?;
        let content = blob.decrypt(self, length).ok()?;
        (content.len() == length && self.digest(&content) == *digest).then_some(content)
    }
}

/// How the client of a snapshot protected it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protection {
    /// The key, as far as the manifest names it.
    pub fingerprint: Option<Fingerprint>,
    /// Whether contents are encrypted. If not, the manifest is signed, no more.
    pub encrypted: bool,
}

impl Datastore {
    /// A snapshot of the repository, whether it is listed or not, without what is noted of it.
    ///
    /// # Errors
    /// Its workload or its time cannot be shown as the protocol has them.
    pub fn entry_of(&self, snapshot: Snapshot) -> Result<Entry> {
        let group = naming::group_of(&snapshot.workload);
        let (namespace, group) = group
            .ok_or_else(|| StoreError::refused(format!("{} is no name of a group", snapshot.workload)))?;
        Ok(Entry {
            namespace,
            name: SnapshotName {
                group,
                backup_time: BackupTime::of(snapshot.time),
            },
            body: Arc::new(Body::new(snapshot)),
            marks: None,
            has_log: false,
            hidden: Vec::new(),
            served: OnceLock::new(),
        })
    }

    /// How the client that uploaded a snapshot protected it; none if it did not, or no client uploaded it.
    ///
    /// # Errors
    /// Its manifest cannot be read.
    pub fn protection(&self, entry: &Entry) -> Result<Option<Protection>> {
        let Some(manifest) = self.uploaded(entry)? else {
            return Ok(None);
        };
        let mut modes = manifest.files.iter().map(|file| file.crypt_mode);
        let encrypted = modes.any(|mode| mode == CryptMode::Encrypt);
        let signed = manifest.signature.is_some();
        Ok((encrypted || signed).then(|| Protection {
            fingerprint: manifest.key_fingerprint(),
            encrypted,
        }))
    }

    /// Sees whether a snapshot is what the owner of the key saved: whether the manifest is signed with it, and each file
    /// and chunk list is the one that the manifest names. Reads no content of chunks.
    ///
    /// # Errors
    /// What is not as it was saved; or that the snapshot was made with another key, or with none.
    pub fn check_signed(&self, entry: &Entry, key: &CryptKey) -> Result<()> {
        let refused = |why: String| {
            let snapshot = entry.id().short();
            Err(StoreError::refused(format!("snapshot {snapshot}: {why}")))
        };
        let Some(manifest) = self.uploaded(entry)? else {
            return refused("no client of the protocol saved it, so it has no signature".into());
        };
        if let Some(wanted) = manifest
            .key_fingerprint()
            .filter(|wanted| *wanted != key.fingerprint())
        {
            return refused(format!(
                "it was made with the client key {}, but the key given is {}",
                wanted.short(),
                key.fingerprint().short()
            ));
        }
        if let Err(error) = manifest
            .check_snapshot(&entry.name)
            .and_then(|()| manifest.check_signature(key))
        {
            return refused(error.to_string());
        }
        self.check_manifest(entry)
    }
}
