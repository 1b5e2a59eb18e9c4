//! Lists what there is, in the order that the protocol asks for.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::pass::Pass;
use crate::condemned::{self, Stored};
use crate::control::Unit;
use crate::error::{RepoError, Result};
use crate::id::{PackId, SnapshotId};
use crate::pack::PackKind;
use crate::session::announce::{self, FoundIntent, KEPT, Sessions};
use crate::settings::Descriptor;
use crate::snapshot::Snapshot;
use crate::storage::{Millis, PutOptions};
use crate::tree::Root;

/// Manifests are read by so many at once: each is small, and object storage is slow to answer.
const READERS: usize = 16;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A pack as it was listed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listed {
    pub kind: PackKind,
    pub size: u64,
    pub modified: Millis,
}

/// What there is.
pub(super) struct Survey {
    /// The time of the storage.
    pub now: Millis,
    /// Packs that were there before anything else was looked at.
    pub packs: HashMap<PackId, Listed>,
    /// Keys of the records that were there before the sessions were listed.
    pub old_records: HashSet<String>,
    /// All records.
    pub records: Vec<Stored>,
    /// Sessions that may publish, this collection's own not counted.
    pub alive: BTreeSet<String>,
    /// When the oldest of them was announced, by the clock of the storage.
    pub oldest_session: Option<Millis>,
    /// Marks of sessions that were given up.
    pub given_up: Vec<(String, Millis)>,
    /// Roots of all snapshots and of what living sessions are about to publish.
    pub roots: Vec<Root>,
    /// Roots of what sessions that were given up were about to publish. They cannot, so nothing is wrong if some of it
    /// is gone.
    pub faint_roots: Vec<Root>,
    /// Snapshots that were there.
    pub snapshots: HashSet<SnapshotId>,
    /// How many sessions were given up now.
    pub evicted: u64,
}

fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}

/// Whether `since` is more than `age` ago, by the clock of the storage.
pub(super) fn is_older(now: Millis, since: Millis, age: Duration) -> bool {
    now.saturating_sub(since) > millis(age)
}

/// Whether `since` is at least `age` ago. What was written more than a day in the future was written when the clock was
/// wrong: it is not waited for.
pub(super) fn has_age(now: Millis, since: Millis, age: Duration) -> bool {
    let passed = now.saturating_sub(since);
    passed >= millis(age) || passed < -millis(DAY)
}

/// Whether who was heard of at `renewed` has been silent for more than `limit`, or was heard of when the clock was wrong.
fn is_silent(now: Millis, renewed: Millis, limit: Duration) -> bool {
    is_older(now, renewed, limit) || now.saturating_sub(renewed) < -millis(DAY)
}

impl Pass<'_> {
    /// Fails if the storage does not hold this repository (any more).
    fn check_place(&self) -> Result<()> {
        let repository = self.repository;
        if Descriptor::load(repository.storage())?.repository()? == repository.id() {
            Ok(())
        } else {
            Err(RepoError::NotARepository {
                location: repository.storage().location(),
            })
        }
    }

    pub(super) fn survey(&self) -> Result<Survey> {
        let vault = self.repository.vault();
        self.check_place()?;
        let old_records = condemned::load(vault)?.into_iter().map(|stored| stored.key);
        let old_records = old_records.collect();
        let packs = self.list_packs()?;
        let latest = packs.values().map(|pack| pack.modified).max();
        let now = match self.lease {
            Some(lease) => lease.acquired(),
            // Only asked for what would be done: the host's clock will do.
            None => latest.unwrap_or(0).max(self.repository.now().as_millisecond()),
        };
        let sessions = announce::load(vault)?;
        let mut survey = Survey {
            now,
            packs,
            old_records,
            records: Vec::new(),
            alive: BTreeSet::new(),
            oldest_session: None,
            given_up: Vec::new(),
            roots: Vec::new(),
            faint_roots: Vec::new(),
            snapshots: HashSet::new(),
            evicted: 0,
        };
        let intents = self.take_sessions(&mut survey, sessions)?;
        self.take_snapshots(&mut survey)?;
        self.take_intents(&mut survey, intents)?;
        // Lists that came from the empty mount point of a disk that went away must not be believed.
        self.check_place()?;
        self.repository.refresh()?;
        survey.records = condemned::load(vault)?;
        Ok(survey)
    }

    fn list_packs(&self) -> Result<HashMap<PackId, Listed>> {
        let mut packs = HashMap::new();
        for kind in PackKind::ALL {
            for object in self.repository.storage().list(kind.prefix())? {
                if let Some((kind, id)) = PackKind::parse_key(&object.key) {
                    let (size, modified) = (object.size, object.modified);
                    packs.insert(id, Listed { kind, size, modified });
                }
            }
        }
        Ok(packs)
    }

    /// Gives dead sessions up. Returns what they were about to publish.
    fn take_sessions(&self, survey: &mut Survey, sessions: Sessions) -> Result<Vec<FoundIntent>> {
        let vault = self.repository.vault();
        survey.given_up = sessions.given_up;
        for session in &sessions.live {
            if Some(&session.key) == self.own.as_ref() {
                continue;
            }
            let dead = session.announcement.is_dead(&self.repository.options().host)
                || is_silent(survey.now, session.renewed, self.options.session_timeout);
            if !dead {
                let since = session.since();
                survey.oldest_session = Some(survey.oldest_session.map_or(since, |oldest| oldest.min(since)));
                survey.alive.insert(session.key.clone());
                continue;
            }
            if self.lease.is_some() {
                tracing::info!(
                    session = session.key,
                    host = session.announcement.host,
                    "gives a session up"
                );
                announce::evict(vault, session)?;
                survey.evicted += 1;
            }
        }
        let mut of_the_dead = Vec::new();
        for found in sessions.intents {
            if survey.alive.contains(&found.session) {
                survey.roots.extend(found.intent.roots);
            } else if is_older(survey.now, found.written, KEPT) && self.lease.is_some() {
                // Nobody can publish under this name after that, whenever he wakes up.
                let name = Snapshot::key(found.intent.snapshot);
                match vault.storage.put_new(&name, &[], &PutOptions::default()) {
                    Ok(()) => {}
                    // It was published after all (the list of snapshots comes later), or is void already.
                    Err(error) if error.is_already_exists() => {}
                    Err(error) => return Err(error.into()),
                }
                vault.storage.delete(&found.key)?;
            } else {
                of_the_dead.push(found);
            }
        }
        Ok(of_the_dead)
    }

    /// Keeps what sessions that are no more were about to publish, for as long as it is not known that they have or
    /// cannot.
    fn take_intents(&self, survey: &mut Survey, intents: Vec<FoundIntent>) -> Result<()> {
        for found in intents {
            if !survey.snapshots.contains(&found.intent.snapshot) {
                survey.faint_roots.extend(found.intent.roots);
            } else if self.lease.is_some() {
                self.repository.storage().delete(&found.key)?;
            }
        }
        Ok(())
    }

    fn take_snapshots(&self, survey: &mut Survey) -> Result<()> {
        let ids = self.repository.snapshot_ids()?;
        self.control
            .progress
            .begin("read manifests", Unit::Items, ids.len() as u64);
        let next = AtomicUsize::new(0);
        let collected = Mutex::new(Ok::<_, RepoError>(Vec::with_capacity(ids.len())));
        let read = || {
            while let Some(id) = ids.get(next.fetch_add(1, Ordering::Relaxed)) {
                if self.control.check().is_err() {
                    return;
                }
                let snapshot = self.repository.snapshot(*id);
                let mut collected = collected.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                match (&mut *collected, snapshot) {
                    (Ok(snapshots), Ok(snapshot)) => {
                        snapshots.push(snapshot);
                        drop(collected);
                        self.control.progress.advance(1);
                    }
                    // Forgotten since it was listed.
                    (Ok(_), Err(RepoError::NoSuchSnapshot(_))) => {}
                    // What it needs is not known: nothing may be deleted.
                    (Ok(_), Err(error)) => *collected = Err(error),
                    (Err(_), _) => return,
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..READERS.min(ids.len()) {
                scope.spawn(read);
            }
        });
        self.control.check()?;
        let snapshots = collected
            .into_inner()
            .unwrap_or_else(|poisoned| poisoned.into_inner())?;
        for snapshot in snapshots {
            survey.snapshots.insert(snapshot.id);
            survey
                .roots
                .extend(snapshot.archives.iter().map(|archive| archive.root));
        }
        Ok(())
    }
}
