//! What is known of a snapshot without reading it: its verdict follows from the last checks of its packs.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use serde::Serialize;

use super::fold::{Visit, fold};
use super::health::Health;
use super::report::Damage;
use super::survey::Survey;
use crate::control::Control;
use crate::error::{RepoError, Result};
use crate::id::{ChunkId, PackId, SnapshotId};
use crate::read::ChunkReader;
use crate::repository::Repository;
use crate::snapshot::Snapshot;
use crate::tree::node::Child;

/// What is known of a snapshot's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum State {
    /// All of it was found good; the part that was not checked for the longest time was checked then.
    Verified {
        /// When.
        since: Timestamp,
    },
    /// Nothing is known to be wrong, but parts were never checked.
    Unverified,
    /// Something of it cannot be restored now.
    Damaged {
        /// The worst that is known.
        damage: Damage,
    },
}

/// The verdict on a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Its workload.
    pub workload: String,
    /// Its time.
    pub time: Timestamp,
    /// The verdict.
    #[serde(flatten)]
    pub state: State,
}

/// What is known of everything under a node: the oldest check (milliseconds since 1970) and the worst damage.
#[derive(Clone, Copy)]
struct Known {
    checked: i64,
    damage: Option<Damage>,
}

const NOTHING: Known = Known {
    checked: i64::MAX,
    damage: None,
};
const NEVER: i64 = i64::MIN;

struct Asker<'a> {
    survey: &'a Survey,
}

impl Asker<'_> {
    fn chunk(&self, id: &ChunkId) -> Known {
        let good = self
            .survey
            .health
            .places(id)
            .filter(|(_, _, damage)| damage.is_none());
        // A bad pack in which this chunk is not bad was checked no less.
        let checked = good.map(|(pack, _, _)| {
            let check = self.survey.checks.packs.get(&pack.id);
            check.map_or(NEVER, |check| check.time.as_millisecond())
        });
        match checked.max() {
            Some(checked) => Known {
                checked,
                damage: None,
            },
            None => Known {
                checked: NEVER,
                damage: self.survey.health.verdict(id),
            },
        }
    }
}

impl Visit for Asker<'_> {
    type Value = Known;

    fn leaf(&self, child: &Child) -> Known {
        self.chunk(&child.id)
    }

    fn node(&self, id: ChunkId) -> Known {
        self.chunk(&id)
    }

    fn unreadable(&self, _: ChunkId, error: &RepoError) -> Known {
        Known {
            checked: NEVER,
            damage: Some(Damage::of(error)),
        }
    }

    fn misfit(&self, _: ChunkId, _: &Child) -> Known {
        Known {
            checked: NEVER,
            damage: Some(Damage::Corrupt),
        }
    }

    fn join(&self, a: Known, b: Known) -> Known {
        Known {
            checked: a.checked.min(b.checked),
            damage: match (a.damage, b.damage) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            },
        }
    }
}

/// The verdicts on `snapshots`, in their order. Reads lists, no content.
///
/// # Errors
/// Where storage is not available.
pub fn standing(
    repository: &Arc<Repository>,
    snapshots: &[Snapshot],
    control: Control<'_>,
) -> Result<Vec<Standing>> {
    let survey = Survey::take(repository)?;
    let reader = ChunkReader::new(repository.clone())?;
    let asker = Asker { survey: &survey };
    let archives = snapshots.iter().flat_map(|snapshot| &snapshot.archives);
    let roots = archives.map(|archive| (archive.root.id, archive.root.levels));
    let folded = fold(&reader, roots, &asker, control)?;
    let judge = |snapshot: &Snapshot| {
        let known = snapshot.archives.iter().fold(NOTHING, |known, archive| {
            let root = archive.root;
            let of_root = match root.levels {
                _ if root.id == ChunkId::ZEROS => NOTHING,
                0 => asker.chunk(&root.id),
                _ => folded.get(&root.id).unwrap_or(NOTHING),
            };
            asker.join(known, of_root)
        });
        let state = match (known.damage, known.checked) {
            (Some(damage), _) => State::Damaged { damage },
            (None, NEVER) => State::Unverified,
            // Nothing but zeros: there is nothing that could be wrong.
            (None, i64::MAX) => State::Verified {
                since: snapshot.published,
            },
            (None, checked) => match Timestamp::from_millisecond(checked) {
                Ok(since) => State::Verified { since },
                Err(_) => State::Unverified,
            },
        };
        Standing {
            snapshot: snapshot.id,
            workload: snapshot.workload.clone(),
            time: snapshot.time,
            state,
        }
    };
    Ok(snapshots.iter().map(judge).collect())
}

/// Gathers the packs of everything on the way.
struct Gatherer<'a> {
    health: &'a Health,
    packs: Mutex<HashSet<PackId>>,
}

impl Gatherer<'_> {
    fn gather<'c>(&self, ids: impl Iterator<Item = &'c ChunkId>) {
        for id in ids {
            let mut packs = self.packs.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            packs.extend(self.health.places(id).map(|(pack, _, _)| pack.id));
        }
    }
}

impl Visit for Gatherer<'_> {
    type Value = ();

    fn leaf(&self, child: &Child) {
        self.gather(std::iter::once(&child.id));
    }

    fn node(&self, id: ChunkId) {
        self.gather(std::iter::once(&id));
    }

    fn unreadable(&self, id: ChunkId, _: &RepoError) {
        self.gather(std::iter::once(&id));
    }

    fn misfit(&self, _: ChunkId, _: &Child) {}

    fn join(&self, (): (), (): ()) {}
}

/// Every pack in which something of `snapshots` lies.
pub(crate) fn packs_of(
    repository: &Arc<Repository>,
    health: &Health,
    snapshots: &[Snapshot],
    control: Control<'_>,
) -> Result<HashSet<PackId>> {
    let reader = ChunkReader::new(repository.clone())?;
    let gatherer = Gatherer {
        health,
        packs: Mutex::default(),
    };
    let archives = || snapshots.iter().flat_map(|snapshot| &snapshot.archives);
    fold(
        &reader,
        archives().map(|archive| (archive.root.id, archive.root.levels)),
        &gatherer,
        control,
    )?;
    gatherer.gather(
        archives()
            .map(|archive| &archive.root.id)
            .filter(|id| **id != ChunkId::ZEROS),
    );
    Ok(gatherer
        .packs
        .into_inner()
        .unwrap_or_else(|poisoned| poisoned.into_inner()))
}
