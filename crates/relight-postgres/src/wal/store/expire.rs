//! Lets go of files of a log that nothing needs any more.

use std::collections::BTreeSet;

use relight_repo::SnapshotId;
use relight_repo::session::Session;
use relight_repo::snapshot::Snapshot;
use serde::Serialize;

use super::LogStore;
use super::catalog::Catalog;
use crate::wal::error::{Result, WalError};
use crate::wal::name::WalName;
use crate::wal::retention::{self, Promise};
use crate::wal::windows::{self, Base};

/// What may go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Expiry {
    /// Base backups that must stay for the sake of what is promised.
    pub needed: BTreeSet<SnapshotId>,
    /// Files of the log that nothing needs any more.
    pub files: BTreeSet<WalName>,
    /// Snapshots of the log that hold nothing else, and are forgotten.
    pub forget: Vec<SnapshotId>,
    /// Snapshots of the log that are replaced by one with fewer files.
    pub replace: Vec<SnapshotId>,
}

impl LogStore {
    /// What may go, if the base backups stay of which `stays` says so.
    ///
    /// # Errors
    /// [`WalError::Refused`] if snapshots cannot be read: what they need is not known.
    pub fn plan_expiry(&self, promise: &Promise, stays: &dyn Fn(SnapshotId) -> bool) -> Result<Expiry> {
        let catalog = self.catalog()?;
        self.plan(&catalog, promise, stays)
    }

    fn plan(
        &self,
        catalog: &Catalog,
        promise: &Promise,
        stays: &dyn Fn(SnapshotId) -> bool,
    ) -> Result<Expiry> {
        if let Some((id, error)) = catalog.unreadable.first() {
            return Err(WalError::Refused(format!(
                "nothing of the log of {} was forgotten, because {} snapshots of the repository cannot be read, and what \
                 they need is not known ({}: {error}); run `relight verify`",
                self.workload,
                catalog.unreadable.len(),
                id.short()
            )));
        }
        let log = self.log(catalog)?;
        let bases: Vec<Base> = catalog.backups.iter().filter_map(Base::of).collect();
        let needed = retention::needed_bases(&windows::view(&log, &bases), &bases, promise);
        let kept: Vec<Base> = bases.into_iter().filter(|base| stays(base.snapshot)).collect();
        let files = retention::expired(catalog.files.keys().copied(), &log, &kept, promise);
        let mut expiry = Expiry {
            needed,
            files,
            ..Expiry::default()
        };
        for snapshot in &catalog.logs {
            if snapshot.retain_until.is_some_and(|until| until > promise.now) {
                continue;
            }
            let names = || {
                snapshot
                    .archives
                    .iter()
                    .filter_map(|archive| archive.name.parse::<WalName>().ok())
            };
            let gone = names().filter(|name| expiry.files.contains(name)).count();
            if gone == 0 || names().count() != snapshot.archives.len() {
                continue;
            }
            if gone == snapshot.archives.len() {
                expiry.forget.push(snapshot.id);
            } else if gone * 2 >= snapshot.archives.len() {
                expiry.replace.push(snapshot.id);
            }
        }
        Ok(expiry)
    }

    /// Lets go of what may go, if the base backups stay of which `stays` says so. The oldest goes first, so that an
    /// interruption leaves no hole.
    pub fn expire(&self, promise: &Promise, stays: &dyn Fn(SnapshotId) -> bool) -> Result<Expiry> {
        let catalog = self.catalog()?;
        let expiry = self.plan(&catalog, promise, stays)?;
        let mut going: Vec<&Snapshot> = catalog
            .logs
            .iter()
            .filter(|snapshot| expiry.forget.contains(&snapshot.id))
            .collect();
        going.sort_by_key(|snapshot| snapshot.archives.iter().map(|archive| archive.name.clone()).min());
        for snapshot in going {
            self.repository.forget(snapshot.id)?;
        }
        if !expiry.replace.is_empty() {
            let session = Session::begin(self.repository.clone(), self.cancelled.clone())?;
            for snapshot in catalog
                .logs
                .iter()
                .filter(|snapshot| expiry.replace.contains(&snapshot.id))
            {
                self.replace(&session, &catalog, &[snapshot], |name| {
                    !expiry.files.contains(&name)
                })?;
            }
        }
        Ok(expiry)
    }
}
