//! Packs that a collection has found to be useless.
//!
//! A condemned pack is never referred to again: writers that begin after its record is there do not see its chunks,
//! and those that began before check when they publish. It is deleted after a grace; the record stays, saying that
//! the pack is gone, for as long as any index segment mentions it. So `condemned` is final, and two collections
//! that know nothing of each other can never both rely on a pack that the other one deletes.

use std::collections::HashMap;

use jiff::Timestamp;
use relight_keys::ObjectKind;
use serde::{Deserialize, Serialize};

use crate::error::{RepoError, Result};
use crate::id::PackId;
use crate::index::PackState;
use crate::pack::PackKind;
use crate::sealed::Vault;
use crate::storage::Millis;

/// Folder of the records.
pub(crate) const PREFIX: &str = "condemned/";

/// What one collection condemned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Which collection: the generation of its lease.
    pub generation: u64,
    /// When, by the clock of the collector.
    pub time: Timestamp,
    /// The packs.
    pub packs: Vec<(PackKind, PackId)>,
    /// Whether they have been deleted.
    #[serde(default)]
    pub removed: bool,
}

/// A record with where and when it was written.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub key: String,
    /// By the clock of the storage.
    pub written: Millis,
    pub record: Record,
}

/// All records.
pub(crate) fn load(vault: Vault<'_>) -> Result<Vec<Stored>> {
    let mut records = Vec::new();
    for object in vault.storage.list(PREFIX)? {
        match vault.get_json(ObjectKind::CONDEMNED, &object.key) {
            Ok(record) => records.push(Stored {
                key: object.key,
                written: object.modified,
                record,
            }),
            // A collection removed it since it was listed: no segment mentions its packs any more.
            Err(RepoError::Storage(error)) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(records)
}

/// What all records say of packs.
pub(crate) fn load_states(vault: Vault<'_>) -> Result<HashMap<PackId, PackState>> {
    Ok(states(&load(vault)?))
}

/// What these records say of packs.
pub(crate) fn states(records: &[Stored]) -> HashMap<PackId, PackState> {
    let mut states = HashMap::new();
    for stored in records {
        let said = if stored.record.removed {
            PackState::Gone
        } else {
            PackState::Condemned
        };
        for (_, pack) in &stored.record.packs {
            let state = states.entry(*pack).or_insert(said);
            *state = said.max(*state);
        }
    }
    states
}
