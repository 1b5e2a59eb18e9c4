//! Gets files of a log back.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use relight_repo::RepoError;
use relight_repo::read::ChunkReader;
use relight_workloads::WorkloadError;

use super::LogStore;
use super::catalog::Catalog;
use crate::wal::error::{Result, WalError};
use crate::wal::name::{SegmentName, WalName};
use crate::wal::windows;

/// What became of a request for a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched {
    /// Its content.
    Found(Vec<u8>),
    /// It is not in the repository, and the log goes on nowhere behind it: this is its end.
    End,
}

impl LogStore {
    /// The content of a file in the catalog, checked; none if it is not in it.
    pub fn fetch(&self, catalog: &Catalog, name: WalName) -> Result<Option<Vec<u8>>> {
        let reader = Arc::new(ChunkReader::new(self.repository.clone())?);
        self.fetch_with(&reader, catalog, name)
    }

    /// The same, with a reader that is used for several.
    pub fn fetch_with(
        &self,
        reader: &Arc<ChunkReader>,
        catalog: &Catalog,
        name: WalName,
    ) -> Result<Option<Vec<u8>>> {
        let Some(kept) = catalog.files.get(&name) else {
            return Ok(None);
        };
        let size = kept.archive.root.size;
        let expected = match name {
            WalName::Segment(_) | WalName::Partial(_) => catalog.segment_size().bytes(),
            WalName::History(_) | WalName::Backup(..) => size,
        };
        // Also limits what is allocated.
        if size != expected || size > 1 << 30 {
            return Err(WalError::Size {
                name,
                found: size,
                expected,
            });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        let done = AtomicU64::new(0);
        relight_workloads::stream::restore(reader, &kept.archive, &mut bytes, &done, &self.cancelled)
            .map_err(|error| match error {
                WorkloadError::Repo(error) => WalError::Repo(error),
                other => WalError::Repo(RepoError::Stopped(other.to_string())),
            })?;
        Ok(Some(bytes))
    }

    /// What a server that recovers asks for: the file, or that this is the end of the log.
    ///
    /// # Errors
    /// Whatever is not known to be the end of the log is an error, because a server that is told of the end ends its
    /// recovery there and begins to write: [`WalError::Gap`] where the log goes on behind a hole,
    /// [`WalError::NoSuchWorkload`], [`WalError::Unreadable`], and all errors of the repository.
    pub fn recover(&self, name: WalName) -> Result<Fetched> {
        let catalog = self.catalog()?;
        if let Some(bytes) = self.fetch(&catalog, name)? {
            return Ok(Fetched::Found(bytes));
        }
        self.is_end(&catalog, name)?;
        Ok(Fetched::End)
    }

    /// The same, but where the log ends with the beginning of a segment that was never completed, that is taken for it,
    /// with zeros behind. For recoveries whose cluster is gone: a segment may still be completed otherwise.
    pub fn recover_partial(&self, name: WalName) -> Result<Fetched> {
        let catalog = self.catalog()?;
        if let Some(bytes) = self.fetch(&catalog, name)? {
            return Ok(Fetched::Found(bytes));
        }
        self.is_end(&catalog, name)?;
        let WalName::Segment(segment) = name else {
            return Ok(Fetched::End);
        };
        let size = catalog.segment_size();
        // That of a receiver, or the one that the server left when its timeline ended: whichever goes farther.
        let received = match segment.number(size) {
            Some(number) => self.tail()?.segment(segment.timeline, number, size),
            None => None,
        };
        let left = catalog
            .files
            .get(&WalName::Partial(segment))
            .and_then(|kept| kept.note.end);
        if let Some(received) = received.filter(|received| left.is_none_or(|left| left < received.end)) {
            let mut bytes = received.bytes;
            bytes.resize(usize::try_from(size.bytes()).unwrap_or(bytes.len()), 0);
            return Ok(Fetched::Found(bytes));
        }
        Ok(match self.fetch(&catalog, WalName::Partial(segment))? {
            Some(bytes) => Fetched::Found(bytes),
            None => Fetched::End,
        })
    }

    /// Fails unless the log is known to end before `name`, or never to have had it.
    pub fn is_end(&self, catalog: &Catalog, name: WalName) -> Result<()> {
        if catalog.is_empty() {
            return Err(WalError::NoSuchWorkload(self.workload.to_string()));
        }
        if let Some((id, error)) = catalog.unreadable.first() {
            return Err(WalError::Unreadable {
                name,
                count: catalog.unreadable.len(),
                first: format!("{}: {error}", id.short()),
            });
        }
        match name {
            WalName::Segment(segment) if is_hole(catalog, segment) => Err(WalError::Gap {
                name,
                workload: self.workload.to_string(),
            }),
            _ => Ok(()),
        }
    }
}

/// Whether the timeline's log goes on behind a segment that is missing, and began before it: a server that looks for a
/// segment on a timeline that was not there yet finds the timeline's beginning behind it, which is no hole.
fn is_hole(catalog: &Catalog, segment: SegmentName) -> bool {
    let size = catalog.segment_size();
    let Some(number) = segment.number(size) else {
        return false;
    };
    let kept: Vec<u64> = catalog
        .segments(segment.timeline)
        .map(|(number, _)| number)
        .collect();
    let begins = catalog
        .backups
        .iter()
        .filter_map(windows::Base::of)
        .filter(|base| base.timeline == segment.timeline)
        .map(|base| size.segment_of(base.start))
        .chain(kept.first().copied())
        .min();
    let goes_on = kept.last().is_some_and(|&last| last > number);
    goes_on && begins.is_some_and(|begins| begins <= number)
}
