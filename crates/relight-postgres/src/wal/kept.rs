//! What the server asks before and after it forgets snapshots.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use jiff::SignedDuration;
use relight_model::workload::Workload;
use relight_repo::snapshot::Snapshot;
use relight_repo::{Repository, SnapshotId};
use relight_workloads::error::Result;
use relight_workloads::kind::{KeepsLog, Subject};
use relight_workloads::log::{Following, Windows};

use super::retention::Promise;
use super::store::LogStore;
use super::{copied, follow, outlook};
use crate::error::PostgresError;
use crate::kind::{Clusters, Source};

impl KeepsLog for Clusters {
    fn needed(
        &self,
        repository: &Arc<Repository>,
        workload: &Workload,
        point_in_time: SignedDuration,
    ) -> Result<BTreeSet<SnapshotId>> {
        let store = LogStore::new(repository.clone(), workload.clone(), Arc::default());
        let promise = Promise {
            point_in_time: Some(point_in_time),
            now: repository.now(),
        };
        let expiry = store
            .plan_expiry(&promise, &|_| true)
            .map_err(PostgresError::from)?;
        Ok(expiry.needed)
    }

    fn expire(
        &self,
        repository: &Arc<Repository>,
        workload: &Workload,
        point_in_time: Option<SignedDuration>,
        cancelled: &Arc<AtomicBool>,
    ) -> Result<u64> {
        let store = LogStore::new(repository.clone(), workload.clone(), cancelled.clone());
        let promise = Promise {
            point_in_time,
            now: repository.now(),
        };
        let expiry = store.expire(&promise, &|_| true).map_err(PostgresError::from)?;
        Ok((expiry.forget.len() + expiry.replace.len()) as u64)
    }

    fn windows(&self, repository: &Arc<Repository>, workload: &Workload) -> Result<Option<Windows>> {
        let windows = outlook::windows(repository, workload).map_err(PostgresError::from)?;
        Ok(windows)
    }

    fn copy(
        &self,
        from: &Arc<Repository>,
        to: &Arc<Repository>,
        workload: &Workload,
        copy: &mut dyn FnMut(&[Snapshot]) -> Result<()>,
    ) -> Result<()> {
        let store = |repository: &Arc<Repository>| {
            LogStore::new(repository.clone(), workload.clone(), Arc::default())
        };
        let (from, to) = (store(from), store(to));
        // In this order: a piece that goes meanwhile goes because a snapshot has it.
        let tail = from.tail().map_err(PostgresError::from)?;
        let wanted = copied::wanted(&from, &to).map_err(PostgresError::from)?;
        if !wanted.is_empty() {
            copy(&wanted)?;
        }
        copied::bring_tail(&tail.pieces, &to).map_err(PostgresError::from)?;
        Ok(())
    }

    fn follow(
        &self,
        subject: &Subject,
        repository: &Arc<Repository>,
        following: &Arc<Following>,
    ) -> Result<()> {
        let source = Source::of(subject)?;
        follow::follow(&source, &subject.workload, repository, following).map_err(PostgresError::from)?;
        Ok(())
    }
}
