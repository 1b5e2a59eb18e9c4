//! What was measured, as the caller knows it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::duration::TimeSpan;
use crate::objective::forecast::Measurement;
use crate::plan::WorkloadEntry;
use crate::size::{ByteSize, Rate};
use crate::workload::Workload;

/// What is known beside the plan. What is not known is left out, and then not judged.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The present time.
    pub now: Timestamp,
    /// By workload.
    pub workloads: BTreeMap<Workload, WorkloadFacts>,
    /// By name.
    pub repositories: BTreeMap<String, RepositoryFacts>,
    /// What was found in the estate, protected or not.
    pub discovered: Vec<Workload>,
    /// Storages that cannot make snapshots.
    pub storages_without_snapshots: BTreeSet<String>,
}

/// What is known of a workload.
#[derive(Clone, Debug, Default)]
pub struct WorkloadFacts {
    /// Its size at the last backup.
    pub size: Option<ByteSize>,
    /// How long its backups take, at worst of late.
    pub backup_time: Option<TimeSpan>,
    /// How old its log was at worst when the next piece arrived.
    pub log_lag: Option<TimeSpan>,
    /// Its drills.
    pub drills: Vec<Measurement>,
}

/// What is known of a repository.
#[derive(Clone, Debug, Default)]
pub struct RepositoryFacts {
    /// How fast restores from it were.
    pub restore_rate: Option<Rate>,
    /// How fast backups of new data into it were.
    pub backup_rate: Option<Rate>,
}

impl Facts {
    /// Nothing is known but the time.
    pub fn at(now: Timestamp) -> Self {
        Self {
            now,
            workloads: BTreeMap::new(),
            repositories: BTreeMap::new(),
            discovered: Vec::new(),
            storages_without_snapshots: BTreeSet::new(),
        }
    }

    /// The size of a workload: as measured, or as the plan says.
    pub(super) fn size(&self, entry: &WorkloadEntry) -> Option<ByteSize> {
        let measured = self.workloads.get(&entry.name.value).and_then(|facts| facts.size);
        measured.or_else(|| entry.size.map(|size| size.value))
    }

    /// How long a backup of a workload takes: as measured, or all of it at the repository's measured speed.
    pub(super) fn backup_time(&self, entry: &WorkloadEntry, repository: &str) -> Option<TimeSpan> {
        let measured = self
            .workloads
            .get(&entry.name.value)
            .and_then(|facts| facts.backup_time);
        measured.or_else(|| {
            let rate = self.repositories.get(repository)?.backup_rate?;
            time_for(self.size(entry)?, rate)
        })
    }
}

/// How long `size` takes at `rate`; `None` at no speed at all.
pub(super) fn time_for(size: ByteSize, rate: Rate) -> Option<TimeSpan> {
    (rate.0 > 0).then(|| TimeSpan::from_secs(size.0.div_ceil(rate.0)))
}
