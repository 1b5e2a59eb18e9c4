//! What verifications found to be wrong: chunks that are corrupt, packs that are lost.
//!
//! Writers treat such chunks as not there, so that the next backup stores them again; readers try every other
//! place first.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use relight_keys::ObjectKind;
use serde::{Deserialize, Serialize};

use crate::error::{RepoError, Result};
use crate::id::{ChunkId, PackId, random};
use crate::sealed::Vault;

/// Folder of the records.
pub(crate) const PREFIX: &str = "suspects/";

/// What one verification found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// When.
    pub time: Timestamp,
    /// Packs that are not there.
    pub lost: Vec<PackId>,
    /// Corrupt chunks by pack.
    pub corrupt: Vec<(PackId, Vec<ChunkId>)>,
}

/// What all records say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Suspects {
    /// Packs that are not there.
    pub lost: Vec<PackId>,
    /// For each corrupt chunk the packs in which it is.
    pub corrupt: HashMap<ChunkId, Vec<PackId>>,
    /// Packs in which anything is corrupt, if only what is around their chunks.
    pub damaged: HashSet<PackId>,
}

/// Reads all records.
pub(crate) fn load(vault: Vault<'_>) -> Result<Suspects> {
    let mut all = Suspects::default();
    for (_, record) in load_records(vault)? {
        all.lost.extend(record.lost);
        for (pack, chunks) in record.corrupt {
            all.damaged.insert(pack);
            for chunk in chunks {
                all.corrupt.entry(chunk).or_default().push(pack);
            }
        }
    }
    Ok(all)
}

/// Reads all records with their keys.
pub(crate) fn load_records(vault: Vault<'_>) -> Result<Vec<(String, Record)>> {
    let mut records = Vec::new();
    for object in vault.storage.list(PREFIX)? {
        match vault.get_json(ObjectKind::VERIFICATION, &object.key) {
            Ok(record) => records.push((object.key, record)),
            Err(RepoError::Storage(error)) if error.is_not_found() => {}
            Err(error @ RepoError::Storage(_)) => return Err(error),
            // The damage of a record of damages must not keep anybody from the data: the next verification finds
            // again what it said.
            Err(error) => {
                tracing::warn!(%error, "what it says is suspect is taken for good until the next verification");
                if !matches!(error, RepoError::KeyMissing { .. }) {
                    records.push((object.key, Record::default()));
                }
            }
        }
    }
    Ok(records)
}

/// Writes what was found.
pub(crate) fn store(vault: Vault<'_>, record: &Record) -> Result<()> {
    let name = format!("{PREFIX}{}", hex::encode(random::<16>()?));
    vault.put_json(ObjectKind::VERIFICATION, &name, record)
}
