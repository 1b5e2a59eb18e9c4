//! What snapshots lose by what is wrong: walks their chunk lists and finds the bytes of archives that are concerned.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard};

use super::fold::{Folded, Visit, fold};
use super::health::Health;
use super::report::{Affected, AffectedArchive, BadRange, Damage};
use crate::control::Control;
use crate::error::{RepoError, Result};
use crate::id::{ChunkId, PackId};
use crate::read::ChunkReader;
use crate::snapshot::{Archive, Snapshot};
use crate::tree::NodeSource;
use crate::tree::node::Child;

/// Ranges that are listed for one archive, and in all.
const RANGES: usize = 4096;
const ALL_RANGES: usize = 100_000;
/// Chunks without a pack that are listed.
const STRAYS: usize = 4096;
/// Chunks that cannot be had and are remembered by name.
const CHUNKS: usize = 1 << 20;

/// What was found in the lists.
#[derive(Default)]
pub(crate) struct Lacking {
    /// List nodes of which nothing below can be had.
    nodes: HashMap<ChunkId, Damage>,
    /// Packs for want of which something is lacking.
    pub packs: HashSet<PackId>,
    /// Chunks that are needed and lie in no pack, or are not what the lists say.
    pub strays: HashMap<ChunkId, Damage>,
    /// Everything that is needed and cannot be had, up to a million.
    pub chunks: HashSet<ChunkId>,
    /// Nodes that turned out to be bad in these packs.
    pub hits: Vec<(PackId, ChunkId, Damage)>,
}

impl Lacking {
    fn want(&mut self, id: ChunkId) {
        if self.chunks.len() < CHUNKS {
            self.chunks.insert(id);
        }
    }
}

/// Asks of every chunk on the way whether it can be had.
struct Asker<'a> {
    health: &'a Health,
    lacking: Mutex<Lacking>,
}

impl Asker<'_> {
    fn lacking(&self) -> MutexGuard<'_, Lacking> {
        self.lacking
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn lack(&self, id: ChunkId, damage: Damage) {
        let damaged = self.health.places(&id).filter(|(_, _, damage)| damage.is_some());
        let packs: Vec<PackId> = damaged.map(|(pack, _, _)| pack.id).collect();
        let mut lacking = self.lacking();
        if packs.is_empty() && lacking.strays.len() < STRAYS {
            lacking.strays.insert(id, damage);
        }
        lacking.packs.extend(packs);
        lacking.want(id);
    }
}

/// What is wrong with a chunk that should be `span` bytes long.
fn judge(health: &Health, id: &ChunkId, span: u64) -> Option<Damage> {
    if let Some(damage) = health.verdict(id) {
        return Some(damage);
    }
    let fits = health
        .places(id)
        .any(|(_, record, damage)| damage.is_none() && u64::from(record.raw) == span);
    (!fits).then_some(Damage::Corrupt)
}

impl Visit for Asker<'_> {
    type Value = bool;

    fn leaf(&self, child: &Child) -> bool {
        let damage = judge(self.health, &child.id, child.span);
        if let Some(damage) = damage {
            self.lack(child.id, damage);
        }
        damage.is_some()
    }

    fn node(&self, _: ChunkId) -> bool {
        false
    }

    fn unreadable(&self, id: ChunkId, error: &RepoError) -> bool {
        let damage = self.health.verdict(&id).unwrap_or_else(|| Damage::of(error));
        let fine = self.health.places(&id).filter(|(_, _, damage)| damage.is_none());
        let fine: Vec<PackId> = fine.map(|(pack, _, _)| pack.id).collect();
        // A node that matches its digest and is no node was written so: no other copy can be better.
        if fine.is_empty() || matches!(error, RepoError::Damaged { .. } | RepoError::TooNew { .. }) {
            self.lack(id, damage);
        } else {
            let mut lacking = self.lacking();
            lacking.packs.extend(&fine);
            lacking.want(id);
            lacking
                .hits
                .extend(fine.into_iter().map(|pack| (pack, id, damage)));
        }
        self.lacking().nodes.insert(id, damage);
        true
    }

    fn misfit(&self, _: ChunkId, child: &Child) -> bool {
        self.lack(child.id, Damage::Corrupt);
        self.lacking().nodes.insert(child.id, Damage::Corrupt);
        true
    }

    fn join(&self, a: bool, b: bool) -> bool {
        a || b
    }
}

/// Looks through the lists of `snapshots`.
pub(crate) fn look_through(
    reader: &ChunkReader,
    snapshots: &[Snapshot],
    health: &Health,
    control: Control<'_>,
) -> Result<(Vec<Affected>, Lacking, u64)> {
    let asker = Asker {
        health,
        lacking: Mutex::default(),
    };
    let archives = || snapshots.iter().flat_map(|snapshot| &snapshot.archives);
    let roots = archives().map(|archive| (archive.root.id, archive.root.levels));
    let folded = fold(reader, roots, &asker, control)?;
    for archive in archives() {
        if archive.root.levels == 0 && archive.root.id != ChunkId::ZEROS {
            asker.leaf(&child(archive));
        }
    }
    let lacking = asker
        .lacking
        .into_inner()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    let mut finder = Finder {
        reader,
        health,
        folded: &folded,
        lacking: &lacking,
        ranges: 0,
    };
    let mut affected = Vec::new();
    for snapshot in snapshots {
        control.check()?;
        let mut archives = Vec::new();
        for archive in &snapshot.archives {
            let mut found = AffectedArchive {
                name: archive.name.clone(),
                kind: archive.kind,
                bytes: 0,
                ranges: Vec::new(),
            };
            finder.descend(&child(archive), archive.root.levels, 0, &mut found)?;
            if found.bytes > 0 {
                archives.push(found);
            }
        }
        if !archives.is_empty() {
            affected.push(Affected {
                snapshot: snapshot.id,
                workload: snapshot.workload.clone(),
                time: snapshot.time,
                archives,
            });
        }
    }
    let nodes = folded.len() as u64;
    Ok((affected, lacking, nodes))
}

fn child(archive: &Archive) -> Child {
    Child {
        span: archive.root.size,
        id: archive.root.id,
    }
}

/// Finds the bytes of archives that cannot be had, going down only where something is wrong.
struct Finder<'a> {
    reader: &'a ChunkReader,
    health: &'a Health,
    folded: &'a Folded<bool>,
    lacking: &'a Lacking,
    ranges: usize,
}

impl Finder<'_> {
    fn descend(&mut self, child: &Child, level: u8, offset: u64, found: &mut AffectedArchive) -> Result<()> {
        if child.id == ChunkId::ZEROS {
            return Ok(());
        }
        let damage = match level {
            0 => judge(self.health, &child.id, child.span),
            _ => self.lacking.nodes.get(&child.id).copied(),
        };
        if let Some(damage) = damage {
            found.bytes += child.span;
            if found.ranges.len() < RANGES && self.ranges < ALL_RANGES {
                self.ranges += 1;
                found.ranges.push(BadRange {
                    offset,
                    length: child.span,
                    chunk: child.id,
                    damage,
                });
            }
            return Ok(());
        }
        if level == 0 || self.folded.get(&child.id) != Some(true) {
            return Ok(());
        }
        let mut offset = offset;
        for below in &self.reader.node(child.id, level)?.children {
            self.descend(below, level - 1, offset, found)?;
            offset += below.span;
        }
        Ok(())
    }
}
