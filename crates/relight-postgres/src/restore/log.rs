//! Puts the log that a recovery needs into the data directory, so that its server needs neither the repository nor a key.

use std::collections::VecDeque;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use relight_repo::RepoError;
use relight_repo::read::ChunkReader;
use relight_workloads::kind::Work;
use serde::Serialize;

use super::layout::new_file;
use super::target::Goal;
use crate::base::About;
use crate::error::{PostgresError, Result};
use crate::wal::store::{Catalog, LogStore};
use crate::wal::tail::Tail;
use crate::wal::windows::Log;
use crate::wal::{SegmentName, Timeline, WalName};

/// Segments that are fetched at once.
const AT_ONCE: usize = 4;

/// What was put there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LogReport {
    /// Segments of the log.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What log is wanted.
#[derive(Debug, Clone, Copy)]
pub struct LogRequest<'a> {
    /// The base backup that recovery begins with.
    pub about: &'a About,
    /// The timeline that it ends on.
    pub timeline: Timeline,
    /// Where it ends.
    pub goal: &'a Goal,
}

/// The log that a recovery needs: from where its base backup begins to the goal, along the timelines that lead to the one
/// that is wanted.
pub struct NeededLog<'a> {
    store: &'a LogStore,
    catalog: &'a Catalog,
    files: Vec<(Source, WalName)>,
}

impl<'a> NeededLog<'a> {
    /// Finds out which files that are. The newest pieces have to be looked at before the catalog is: a piece that goes
    /// meanwhile goes because a snapshot has it.
    pub fn find(
        store: &'a LogStore,
        (catalog, tail): (&'a Catalog, &Tail),
        request: &LogRequest<'_>,
    ) -> Self {
        Self {
            store,
            catalog,
            files: wanted(catalog, tail, request.about, request.timeline, request.goal),
        }
    }

    /// Bytes of it.
    pub fn bytes(&self) -> u64 {
        let segments = self
            .files
            .iter()
            .filter(|(_, name)| matches!(name, WalName::Segment(_)))
            .count() as u64;
        segments.saturating_mul(self.catalog.segment_size().bytes())
    }

    /// Puts it into a data directory.
    pub(super) fn put(self, directory: &Path, owner: Option<(u32, u32)>, work: &Work) -> Result<LogReport> {
        let folder = directory.join("pg_wal");
        let reader = Arc::new(ChunkReader::new(self.store.repository().clone())?);
        let queue = Mutex::new(VecDeque::from(self.files));
        let (segments, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
        let take = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let run = || -> Result<()> {
            while let Some((source, as_name)) = take() {
                if work.is_cancelled() {
                    return Err(RepoError::Cancelled.into());
                }
                let content = match source {
                    Source::Kept(name) => {
                        self.store
                            .fetch_with(&reader, self.catalog, name)?
                            .ok_or_else(|| {
                                PostgresError::damaged(
                                    name.to_string(),
                                    "it was in the repository a moment ago, and is not any more",
                                )
                            })?
                    }
                    Source::Begun(bytes) => bytes,
                };
                let path = folder.join(as_name.to_string());
                new_file(&path, 0o600, owner)
                    .and_then(|()| fs::OpenOptions::new().write(true).open(&path))
                    .and_then(|file| file.write_all_at(&content, 0))
                    .map_err(PostgresError::io("write", &path))?;
                if matches!(as_name, WalName::Segment(_)) {
                    segments.fetch_add(1, Ordering::Relaxed);
                    bytes.fetch_add(content.len() as u64, Ordering::Relaxed);
                    work.done.fetch_add(content.len() as u64, Ordering::Relaxed);
                }
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(run)).collect();
            let mut outcome = Ok(());
            for thread in threads {
                let ended = thread.join().unwrap_or_else(|_| {
                    Err(PostgresError::Refused(
                        "a thread that fetches the log ended badly".into(),
                    ))
                });
                if outcome.is_ok() {
                    outcome = ended;
                }
            }
            outcome
        })?;
        Ok(LogReport {
            segments: segments.into_inner(),
            bytes: bytes.into_inner(),
        })
    }
}

/// Where a file of the log is taken from.
enum Source {
    /// A snapshot of the log.
    Kept(WalName),
    /// The newest pieces: a segment that was never completed, with zeros behind.
    Begun(Vec<u8>),
}

/// Files of the log that are needed, and the names that the server looks for them under.
fn wanted(
    catalog: &Catalog,
    tail: &Tail,
    about: &About,
    timeline: Timeline,
    goal: &Goal,
) -> Vec<(Source, WalName)> {
    let size = catalog.segment_size();
    let log = Log::of(catalog);
    let mut wanted = Vec::new();
    for name in catalog.files.keys() {
        if matches!(name, WalName::History(of) if *of <= timeline) {
            wanted.push((Source::Kept(*name), *name));
        }
    }
    let mut number = size.segment_of(about.start_lsn);
    for (on, until) in log.tree.path(timeline) {
        if on.0 < about.start_timeline {
            continue;
        }
        loop {
            let segment = SegmentName::new(on, number, size);
            let whole = WalName::Segment(segment);
            let found = [whole, WalName::Partial(segment)]
                .into_iter()
                .find_map(|name| Some((name, catalog.files.get(&name)?)));
            let begun = match found {
                Some((name, _)) if name == whole => None,
                _ => tail.segment(on, number, size),
            };
            let left = found.and_then(|(_, kept)| kept.note.end);
            let (source, times) = match (
                begun.filter(|begun| left.is_none_or(|left| left < begun.end)),
                found,
            ) {
                (Some(mut begun), _) => {
                    begun
                        .bytes
                        .resize(usize::try_from(size.bytes()).unwrap_or(begun.bytes.len()), 0);
                    (Source::Begun(begun.bytes), begun.times)
                }
                (None, Some((name, kept))) => (Source::Kept(name), kept.note.times.clone()),
                (None, None) => break,
            };
            wanted.push((source, whole));
            let is_behind = match goal {
                Goal::Time(time) => times.first_commit.is_some_and(|first| first > *time),
                Goal::Lsn(lsn) => size.start_of(number + 1) > *lsn,
                _ => false,
            };
            if is_behind {
                return wanted;
            }
            if until.is_some_and(|until| size.start_of(number + 1) > until) {
                // The next timeline begins within this segment: it has one of the same number.
                break;
            }
            number += 1;
        }
    }
    wanted
}
