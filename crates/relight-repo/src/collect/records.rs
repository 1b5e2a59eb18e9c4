//! The life of a record: written when packs are condemned, changed when they are deleted, removed when nobody can
//! know of them any more.

use std::collections::{BTreeSet, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use relight_keys::ObjectKind;

use super::CollectOptions;
use super::figures::Report;
use super::pass::Pass;
use super::survey::{Survey, has_age};
use crate::condemned::{Record, Stored};
use crate::control::Unit;
use crate::error::Result;
use crate::id::PackId;
use crate::pack::{self, PackKind};
use crate::session::announce;

/// Packs are deleted in batches of this many; the lease is checked before each.
const BATCH: usize = 64;
/// Packs that are deleted at once.
const AT_ONCE: usize = 8;
/// With so many records of deleted packs, they are merged.
const MOST_DONE: usize = 8;

/// Whether the packs of a record may be deleted in this pass, if nothing in them is needed.
pub(super) fn may_delete(stored: &Stored, survey: &Survey, options: &CollectOptions) -> bool {
    // The mark must have begun after the record was there.
    survey.old_records.contains(&stored.key)
        && has_age(survey.now, stored.since(), options.grace)
        && (!options.wait_for_sessions || readers(stored, survey).is_empty())
}

/// Sessions that were there when the packs were condemned and still are.
fn readers(stored: &Stored, survey: &Survey) -> BTreeSet<String> {
    match &stored.record.readers {
        Some(readers) => readers.intersection(&survey.alive).cloned().collect(),
        // The record was there before this pass listed the sessions: those that it found are the ones.
        None => survey.alive.clone(),
    }
}

impl Pass<'_> {
    /// Sessions that may be at work now, or wake up yet.
    fn sessions_now(&self) -> Result<BTreeSet<String>> {
        let listed = announce::list(self.repository.vault())?.into_iter();
        Ok(listed.filter(|key| Some(key) != self.own.as_ref()).collect())
    }

    fn write(&self, stored: &Stored) -> Result<()> {
        self.repository
            .vault()
            .put_json(ObjectKind::CONDEMNED, &stored.key, &stored.record)
    }

    /// Condemns packs.
    pub(super) fn condemn(&mut self, packs: Vec<(PackKind, PackId)>) -> Result<()> {
        let vault = self.repository.vault();
        let generation = self.fence()?;
        let mut stored = Stored {
            key: Record::key(generation, self.records),
            written: 0,
            record: Record::new(generation, self.repository.now(), packs),
        };
        self.records += 1;
        vault.put_json_new(ObjectKind::CONDEMNED, &stored.key, &stored.record)?;
        // From here on no new session sees what is in them. Those that are there now may.
        let readers = self.sessions_now()?;
        if !readers.is_empty() {
            stored.record.since = Some(vault.storage.head(&stored.key)?.modified);
            stored.record.readers = Some(readers);
            self.write(&stored)?;
        }
        Ok(())
    }

    /// Deletes the packs of a record, but those in `kept`.
    pub(super) fn delete(
        &self,
        stored: &mut Stored,
        kept: &HashSet<PackId>,
        survey: &Survey,
        report: &mut Report,
    ) -> Result<()> {
        let (due, mut remaining): (Vec<_>, Vec<_>) = std::mem::take(&mut stored.record.packs)
            .into_iter()
            .partition(|(_, id)| !kept.contains(id));
        stored.record.since = Some(stored.since());
        self.control
            .progress
            .begin("delete packs", Unit::Items, due.len() as u64);
        for batch in due.chunks(BATCH) {
            self.control.check()?;
            self.fence()?;
            for (name, deleted) in batch.iter().zip(self.delete_batch(batch)?) {
                let size = survey.packs.get(&name.1).map_or(0, |pack| pack.size);
                if deleted {
                    report.deleted.add(size);
                    stored.record.gone.push(*name);
                } else {
                    report.kept_by_lock.add(size);
                    remaining.push(*name);
                }
            }
        }
        stored.record.packs = remaining;
        self.write(stored)
    }

    /// Deletes packs, several at once. Says of each whether the storage did.
    fn delete_batch(&self, batch: &[(PackKind, PackId)]) -> Result<Vec<bool>> {
        let next = AtomicUsize::new(0);
        let outcome = Mutex::new(Ok(vec![false; batch.len()]));
        let delete = || {
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some((kind, id)) = batch.get(at) else { return };
                let deleted = pack::store::delete(self.repository, *kind, *id);
                self.control.progress.advance(1);
                let mut outcome = outcome.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                match (&mut *outcome, deleted) {
                    (Ok(all), Ok(deleted)) => all[at] = deleted,
                    (Ok(_), Err(error)) => *outcome = Err(error),
                    (Err(_), _) => return,
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE.min(batch.len()) {
                scope.spawn(delete);
            }
        });
        outcome
            .into_inner()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Notes which sessions hold a record up, so that the next pass need not wait for those that begin later.
    pub(super) fn note_readers(&self, stored: &mut Stored, survey: &Survey) -> Result<()> {
        let old = survey.old_records.contains(&stored.key);
        if old && stored.record.readers.is_none() && !stored.record.packs.is_empty() {
            stored.record.since = Some(stored.since());
            stored.record.readers = Some(survey.alive.clone());
            self.write(stored)?;
        }
        Ok(())
    }

    /// Removes records of whose packs nobody can know. `mentioned` are the packs of the index as it is now.
    pub(super) fn clear_records(&self, survey: &mut Survey, mentioned: &HashSet<PackId>) -> Result<()> {
        let is_over = |stored: &Stored| {
            stored.record.packs.is_empty() && !stored.record.gone.iter().any(|(_, id)| mentioned.contains(id))
        };
        if !survey.records.iter().any(is_over) {
            return Ok(());
        }
        // Listed after the index was read: whoever begins later reads no older index.
        let sessions = self.sessions_now()?;
        let mut cleared = HashSet::new();
        for stored in survey.records.iter_mut().filter(|stored| is_over(stored)) {
            let holders: BTreeSet<String> = match &stored.record.holders {
                Some(holders) => holders.intersection(&sessions).cloned().collect(),
                None => sessions.clone(),
            };
            if holders.is_empty() {
                self.fence()?;
                self.repository.storage().delete(&stored.key)?;
                cleared.insert(stored.key.clone());
            } else if stored.record.holders.is_none() {
                stored.record.holders = Some(holders);
                self.write(stored)?;
            }
        }
        survey.records.retain(|stored| !cleared.contains(&stored.key));
        Ok(())
    }

    /// Merges records of deleted packs into one: every session reads all records.
    pub(super) fn merge_records(&mut self, survey: &mut Survey) -> Result<()> {
        let is_done = |stored: &Stored| stored.record.packs.is_empty() && stored.record.holders.is_none();
        if survey.records.iter().filter(|stored| is_done(stored)).count() < MOST_DONE {
            return Ok(());
        }
        let (done, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut survey.records).into_iter().partition(is_done);
        survey.records = rest;
        let generation = self.fence()?;
        let mut merged = Stored {
            key: Record::key(generation, self.records),
            written: 0,
            record: Record::new(generation, self.repository.now(), Vec::new()),
        };
        self.records += 1;
        merged.record.gone = done
            .iter()
            .flat_map(|stored| stored.record.gone.clone())
            .collect();
        merged.record.gone.sort_unstable();
        merged.record.gone.dedup();
        self.write(&merged)?;
        for stored in done {
            self.fence()?;
            self.repository.storage().delete(&stored.key)?;
        }
        survey.records.push(merged);
        Ok(())
    }
}
