//! Packs that a collection has found to be useless.
//!
//! A condemned pack is never referred to again: writers that begin after its record is there do not see its chunks,
//! and those that began before check when they publish. It is deleted after a grace; the record stays, saying that
//! the pack is gone, for as long as anybody may hold an index that mentions it. So `condemned` is final, and two
//! collections that know nothing of each other can never both rely on a pack that the other one deletes.
//! The whole reasoning is in [`crate::collect`].

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use relight_keys::ObjectKind;
use serde::{Deserialize, Serialize};

use crate::error::{RepoError, Result};
use crate::id::PackId;
use crate::index::PackState;
use crate::pack::PackKind;
use crate::repository::Repository;
use crate::sealed::Vault;
use crate::storage::Millis;

/// Folder of the records.
pub(crate) const PREFIX: &str = "condemned/";
/// How often reading all records begins again because one of them went away meanwhile.
const TRIES: usize = 20;

/// What one collection condemned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Which collection: the generation of its lease.
    pub generation: u64,
    /// When, by the clock of the collector.
    pub time: Timestamp,
    /// Packs that are condemned and still there.
    pub packs: Vec<(PackKind, PackId)>,
    /// Packs that have been deleted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<(PackKind, PackId)>,
    /// When the record was first written, by the clock of the storage; known once it was written again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Millis>,
    /// Sessions that were there after the record was first written: they may still read the packs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readers: Option<BTreeSet<String>>,
    /// Sessions that were there after no index segment mentioned any of the packs: they may still hold an older
    /// index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holders: Option<BTreeSet<String>>,
}

impl Record {
    /// A new one.
    pub fn new(generation: u64, time: Timestamp, packs: Vec<(PackKind, PackId)>) -> Self {
        Self {
            generation,
            time,
            packs,
            gone: Vec::new(),
            since: None,
            readers: None,
            holders: None,
        }
    }

    /// Where a record is written that no other of any collection overwrites.
    pub fn key(generation: u64, number: usize) -> String {
        format!("{PREFIX}{generation:08}-{number:04}")
    }
}

/// A record with where and when it was written.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub key: String,
    /// By the clock of the storage.
    pub written: Millis,
    pub record: Record,
}

impl Stored {
    /// When the packs were condemned, by the clock of the storage.
    pub fn since(&self) -> Millis {
        self.record.since.unwrap_or(self.written)
    }
}

/// All records, at one moment at which all of them were there.
pub(crate) fn load(vault: Vault<'_>) -> Result<Vec<Stored>> {
    load_records(vault, false)
}

fn load_records(vault: Vault<'_>, lost_keys: bool) -> Result<Vec<Stored>> {
    for _ in 0..TRIES {
        // A record that is gone since it was listed may have been merged into one that was not listed.
        if let Some(records) = try_load(vault, lost_keys)? {
            return Ok(records);
        }
    }
    Err(RepoError::damaged(
        "the list of condemned packs",
        "it names records that are not there",
    ))
}

fn try_load(vault: Vault<'_>, lost_keys: bool) -> Result<Option<Vec<Stored>>> {
    let mut records = Vec::new();
    for object in vault.storage.list(PREFIX)? {
        match vault.get_json(ObjectKind::CONDEMNED, &object.key) {
            Ok(record) => records.push(Stored {
                key: object.key,
                written: object.modified,
                record,
            }),
            Err(RepoError::Storage(error)) if error.is_not_found() => return Ok(None),
            Err(RepoError::KeyMissing { .. }) if lost_keys => {}
            Err(error) => return Err(error),
        }
    }
    records.sort_by(|a: &Stored, b: &Stored| a.key.cmp(&b.key));
    Ok(Some(records))
}

/// What all records say of packs. Where the repository was opened although data keys are lost, records under such
/// keys are passed over: the packs in them are there or not, which is all that matters to who only reads.
pub(crate) fn load_states(repository: &Repository) -> Result<HashMap<PackId, PackState>> {
    let records = load_records(repository.vault(), repository.options().lost_keys)?;
    Ok(states(&records))
}

/// What these records say of packs.
pub(crate) fn states(records: &[Stored]) -> HashMap<PackId, PackState> {
    let mut states = HashMap::new();
    let mut say = |packs: &[(PackKind, PackId)], said: PackState| {
        for (_, pack) in packs {
            let state = states.entry(*pack).or_insert(said);
            *state = said.max(*state);
        }
    };
    for stored in records {
        say(&stored.record.packs, PackState::Condemned);
        say(&stored.record.gone, PackState::Gone);
    }
    states
}
