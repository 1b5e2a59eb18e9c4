//! Clears away small things that nobody needs any more.

use std::collections::HashSet;

use super::figures::Report;
use super::pass::Pass;
use super::survey::{Survey, is_older};
use crate::error::Result;
use crate::id::{PackId, SnapshotId};
use crate::pack::PackKind;
use crate::session::announce::{self, KEPT};
use crate::storage::{Storage, StorageError};
use crate::{lease, parity, snapshot, suspects};

impl Pass<'_> {
    pub(super) fn clear_leftovers(
        &self,
        survey: &Survey,
        mentioned: &HashSet<PackId>,
        report: &mut Report,
    ) -> Result<()> {
        let vault = self.repository.vault();
        let storage = vault.storage;
        self.fence()?;
        for (session, when) in &survey.given_up {
            if is_older(survey.now, *when, KEPT) {
                announce::forget_given_up(vault, session)?;
                report.leftovers += 1;
            }
        }
        for object in storage.list(lease::CLOCK)? {
            if is_older(survey.now, object.modified, KEPT) {
                storage.delete(&object.key)?;
                report.leftovers += 1;
            }
        }
        // What verifications found in packs that are no more.
        for (key, record) in suspects::load_records(vault)? {
            let mut packs = record
                .lost
                .iter()
                .chain(record.corrupt.iter().map(|(pack, _)| pack));
            if !packs.any(|pack| mentioned.contains(pack)) {
                storage.delete(&key)?;
                report.leftovers += 1;
            }
        }
        // Notes about snapshots whose forgetting was interrupted, and their logs.
        let mut about = storage.list(snapshot::MARKS)?;
        about.extend(storage.list(snapshot::LOGS)?);
        for object in about {
            let id = object
                .key
                .strip_prefix(snapshot::MARKS)
                .or_else(|| object.key.strip_prefix(snapshot::LOGS))
                .and_then(|id| id.parse::<SnapshotId>().ok());
            let Some(id) = id.filter(|id| !survey.snapshots.contains(id)) else {
                continue;
            };
            // It may have been published since the snapshots were listed.
            match storage.head(&snapshot::Snapshot::key(id)) {
                Err(error) if error.is_not_found() => {
                    storage.delete(&object.key)?;
                    report.leftovers += 1;
                }
                Err(error) => return Err(error.into()),
                Ok(_) => {}
            }
        }
        self.clear_parity(survey, mentioned, report)?;
        report.leftovers += storage.sweep()? as u64;
        Ok(())
    }

    /// Parity of packs that are no more: a writer that was given up may have written it after its pack was deleted.
    fn clear_parity(&self, survey: &Survey, mentioned: &HashSet<PackId>, report: &mut Report) -> Result<()> {
        let storage = self.repository.storage();
        for object in storage.list(parity::PREFIX)? {
            let Some(pack) = parity::parse_key(&object.key).filter(|pack| !mentioned.contains(pack)) else {
                continue;
            };
            // A pack is stored before its parity: one that is not there any more was deleted.
            let is_there = match survey.packs.get(&pack) {
                Some(listed) => is_stored(storage, listed.kind, pack)?,
                None => {
                    is_stored(storage, PackKind::Data, pack)? || is_stored(storage, PackKind::Metadata, pack)?
                }
            };
            if is_there {
                continue;
            }
            match storage.delete(&object.key) {
                Ok(()) => report.leftovers += 1,
                Err(StorageError::Locked { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

fn is_stored(storage: &dyn Storage, kind: PackKind, pack: PackId) -> Result<bool> {
    match storage.head(&kind.key(pack)) {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error.into()),
    }
}
