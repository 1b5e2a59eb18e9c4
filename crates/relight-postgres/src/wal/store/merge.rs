//! Replaces many small snapshots of a log by one that names the same archives. Each file is taken over a few times in its
//! life, because snapshots of about one size are merged.

use std::collections::BTreeMap;

use relight_repo::session::Session;
use relight_repo::snapshot::{Snapshot, SnapshotSpec};

use super::LogStore;
use super::catalog::Catalog;
use crate::wal::attributes::{self, GAP};
use crate::wal::error::Result;
use crate::wal::name::WalName;

/// So many snapshots of about one size become one.
const TOGETHER: usize = 16;
/// No snapshot holds more files: 64 GiB of segments of 16 MiB.
const MOST: usize = 4096;

/// How often its files were merged, about.
fn tier(snapshot: &Snapshot) -> u32 {
    (snapshot.archives.len().max(1)).ilog(TOGETHER)
}

/// Merges what is due.
pub(super) fn merge(store: &LogStore, session: &Session) -> Result<()> {
    let catalog = store.catalog()?;
    // Of names with two contents somebody has to decide.
    if !catalog.conflicts.is_empty() {
        return Ok(());
    }
    let mut tiers: BTreeMap<u32, Vec<&Snapshot>> = BTreeMap::new();
    for snapshot in catalog.logs.iter().filter(|log| log.archives.len() < MOST) {
        tiers.entry(tier(snapshot)).or_default().push(snapshot);
    }
    for snapshots in tiers.values().filter(|snapshots| snapshots.len() >= TOGETHER) {
        store.replace(session, &catalog, snapshots, |_| true)?;
    }
    Ok(())
}

impl LogStore {
    /// Publishes one snapshot with the files of several that `wanted` says are to be kept, then forgets these. Files
    /// that another snapshot holds, too, are kept there.
    pub(super) fn replace(
        &self,
        session: &Session,
        catalog: &Catalog,
        snapshots: &[&Snapshot],
        wanted: impl Fn(WalName) -> bool,
    ) -> Result<()> {
        let mut attributes = attributes::of_log(catalog.cluster.as_ref());
        let mut archives = Vec::new();
        let (mut times, mut promised) = (Vec::new(), None);
        let mut gaps = 0;
        for snapshot in snapshots {
            for archive in &snapshot.archives {
                let Ok(name) = archive.name.parse::<WalName>() else {
                    continue;
                };
                let here = catalog
                    .files
                    .get(&name)
                    .is_some_and(|kept| kept.snapshot == snapshot.id);
                if here && wanted(name) {
                    attributes::set_note(&mut attributes, name, &attributes::note(snapshot, name));
                    archives.push(archive.clone());
                }
            }
            for (_, gap) in snapshot
                .attributes
                .range(GAP.to_string()..)
                .take_while(|(key, _)| key.starts_with(GAP))
            {
                attributes.insert(format!("{GAP}{gaps}"), gap.clone());
                gaps += 1;
            }
            times.push(snapshot.time);
            promised = promised.max(snapshot.retain_until);
        }
        if !archives.is_empty() || gaps > 0 {
            archives.sort_by(|one, other| one.name.cmp(&other.name));
            let spec = SnapshotSpec {
                workload: self.workload.to_string(),
                time: times.into_iter().max(),
                host: self.repository.options().host.clone(),
                attributes,
                retain_until: promised,
                ..SnapshotSpec::default()
            };
            session.publish(spec, archives)?;
        }
        for snapshot in snapshots {
            self.repository.forget(snapshot.id)?;
        }
        Ok(())
    }
}
