//! Remembers which pack was checked when, so that a verification goes on where the last one stopped.
//!
//! Each run adds objects `checks/<random>` (version u32, count u32, then 32 bytes a check: pack 16, milliseconds since
//! 1970 i64, verdict u8, 7 zero); many are merged into one. Losing them costs nothing but checking again.

use std::collections::HashMap;

use jiff::Timestamp;
use relight_keys::ObjectKind;

use crate::error::{RepoError, Result};
use crate::id::{PackId, random};
use crate::sealed::Vault;
use crate::storage::PutOptions;

/// Folder of the records.
pub(crate) const PREFIX: &str = "checks/";
const VERSION: u32 = 1;
const HEADER: usize = 8;
const ENTRY: usize = 32;
/// Checks in one object at most: 8 MiB.
const MOST: usize = 1 << 18;
/// More objects than this are merged.
const OBJECTS: usize = 16;

/// The last check of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Check {
    /// When.
    pub time: Timestamp,
    /// Whether everything in the pack was as it should be.
    pub good: bool,
}

/// All that is remembered.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    pub packs: HashMap<PackId, Check>,
    objects: Vec<String>,
}

impl Checks {
    /// Reads all records.
    pub fn load(vault: Vault<'_>) -> Result<Self> {
        let mut checks = Self::default();
        for object in vault.storage.list(PREFIX)? {
            match vault.get(ObjectKind::VERIFICATION, &object.key) {
                Ok(plain) => match decode(&plain, &object.key) {
                    Ok(list) => list.into_iter().for_each(|(pack, check)| checks.add(pack, check)),
                    Err(error) => tracing::warn!(%error, "its packs count as not checked"),
                },
                Err(RepoError::Storage(error)) if error.is_not_found() => continue,
                Err(RepoError::Storage(error)) => return Err(error.into()),
                Err(error) => tracing::warn!(%error, "its packs count as not checked"),
            }
            checks.objects.push(object.key);
        }
        Ok(checks)
    }

    /// Takes note of a check.
    pub fn add(&mut self, pack: PackId, check: Check) {
        let known = self.packs.entry(pack).or_insert(check);
        if check.time >= known.time {
            *known = check;
        }
    }

    /// Merges the records of packs that `exists` says are there still, if there are many records.
    pub fn tidy(&self, vault: Vault<'_>, exists: impl Fn(&PackId) -> bool) -> Result<()> {
        if self.objects.len() <= OBJECTS {
            return Ok(());
        }
        let kept = self.packs.iter().filter(|(pack, _)| exists(pack));
        let kept: Vec<_> = kept.map(|(pack, check)| (*pack, *check)).collect();
        store(vault, &kept)?;
        for object in &self.objects {
            vault.storage.delete(object)?;
        }
        Ok(())
    }
}

/// Writes what was checked.
pub(crate) fn store(vault: Vault<'_>, list: &[(PackId, Check)]) -> Result<()> {
    for part in list.chunks(MOST) {
        let plain = encode(part);
        let name = format!("{PREFIX}{}", hex::encode(random::<16>()?));
        vault.put(ObjectKind::VERIFICATION, &name, &plain, &PutOptions::default())?;
    }
    Ok(())
}

pub(crate) fn encode(list: &[(PackId, Check)]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(HEADER + list.len() * ENTRY);
    plain.extend_from_slice(&VERSION.to_le_bytes());
    plain.extend_from_slice(&(list.len() as u32).to_le_bytes());
    for (pack, check) in list {
        plain.extend_from_slice(&pack.0);
        plain.extend_from_slice(&check.time.as_millisecond().to_le_bytes());
        plain.extend_from_slice(&[u8::from(check.good), 0, 0, 0, 0, 0, 0, 0]);
    }
    plain
}

pub(crate) fn decode(plain: &[u8], what: &str) -> Result<Vec<(PackId, Check)>> {
    let damaged = |why: &str| RepoError::damaged(what, why);
    let (header, rest) = plain
        .split_first_chunk::<HEADER>()
        .ok_or_else(|| damaged("it was cut short"))?;
    let number = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    if number(0) != VERSION {
        return Err(RepoError::TooNew {
            what: what.to_string(),
            found: number(0),
            known: VERSION,
        });
    }
    let (entries, odd) = rest.as_chunks::<ENTRY>();
    if !odd.is_empty() || entries.len() != number(4) as usize {
        return Err(damaged("it claims more or less than it holds"));
    }
    let read = |entry: &[u8; ENTRY]| {
        let (pack, rest) = entry.split_first_chunk::<16>()?;
        let (time, rest) = rest.split_first_chunk::<8>()?;
        let time = Timestamp::from_millisecond(i64::from_le_bytes(*time)).ok()?;
        let good = *rest.first()? == 1;
        Some((PackId(*pack), Check { time, good }))
    };
    let list = entries.iter().map(read).collect::<Option<_>>();
    list.ok_or_else(|| damaged("it holds an impossible time"))
}
