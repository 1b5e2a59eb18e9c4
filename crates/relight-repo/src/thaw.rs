//! Makes data packs readable that lie in a cold storage class: finds those that a restore needs and asks for them.
//!
//! Lists, names and attributes lie in metadata packs, which are never put in a class. So what is needed is known
//! without reading anything cold.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Serialize;

use crate::control::{Control, Unit};
use crate::error::{RepoError, Result};
use crate::id::{ChunkId, PackId};
use crate::index::PackLine;
use crate::pack::PackKind;
use crate::read::ChunkReader;
use crate::storage::Thaw;
use crate::tree::{Root, TreeReader};

/// Requests to storage that are under way at once: each is short, and what takes time is the way.
const THREADS: usize = 8;

/// What is to be read of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needed {
    /// The archive.
    pub root: Root,
    /// Bytes of it, in rising order.
    pub ranges: Vec<Range<u64>>,
}

impl Needed {
    /// All of an archive.
    pub fn whole(root: Root) -> Self {
        let all = 0..root.size;
        Self {
            root,
            ranges: vec![all],
        }
    }
}

/// How far the packs that are needed have come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Data packs that are needed.
    pub packs: u64,
    /// Their bytes in storage.
    pub bytes: u64,
    /// Packs that can be read now.
    pub ready: u64,
    /// Packs that are being made readable.
    pub in_progress: u64,
    /// Packs that are not there: a verification tells what that means.
    pub missing: u64,
}

impl Report {
    /// Whether nothing has to be waited for.
    pub fn is_ready(&self) -> bool {
        self.in_progress == 0
    }
}

/// The data packs that hold `needed`, by their identity.
///
/// # Errors
/// Where lists cannot be read or name chunks that are nowhere.
pub fn packs(
    reader: &ChunkReader,
    needed: &[Needed],
    control: Control<'_>,
) -> Result<HashMap<PackId, PackLine>> {
    let mut packs = HashMap::new();
    for Needed { root, ranges } in needed {
        let mut done = 0;
        for range in ranges {
            // Neighbours in one piece are looked up once.
            let from = range.start.max(done);
            if from >= range.end {
                continue;
            }
            for piece in TreeReader::new(reader, *root, from)? {
                let piece = piece?;
                if piece.offset >= range.end {
                    break;
                }
                control.check()?;
                done = piece.offset.saturating_add(piece.length);
                if piece.id == ChunkId::ZEROS {
                    continue;
                }
                if let Some(place) = reader.locate(&piece.id)?.first()
                    && place.pack.kind == PackKind::Data
                {
                    packs.insert(place.pack.id, place.pack);
                }
            }
        }
    }
    Ok(packs)
}

/// Asks for every data pack that holds `needed` to be readable for `keep`, and says how many are. To be called again
/// until all are: packs that have been asked for are not asked for twice.
///
/// # Errors
/// As [`packs`], and where storage refuses or is not available; packs that were asked for until then stay so.
pub fn request(
    reader: &Arc<ChunkReader>,
    needed: &[Needed],
    keep: Duration,
    control: Control<'_>,
) -> Result<Report> {
    control
        .progress
        .begin("looking for what is needed", Unit::Items, 0);
    let packs: Vec<PackLine> = packs(reader, needed, control)?.into_values().collect();
    control
        .progress
        .begin("asking for packs", Unit::Items, packs.len() as u64);
    let report = Mutex::new(Report {
        packs: packs.len() as u64,
        bytes: packs.iter().map(|pack| pack.size).sum(),
        ..Report::default()
    });
    let failure: Mutex<Option<RepoError>> = Mutex::new(None);
    let next = AtomicUsize::new(0);
    let lock = || report.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let storage = reader.repository().storage();
    let ask = || -> Result<()> {
        while let Some(pack) = packs.get(next.fetch_add(1, Ordering::Relaxed)) {
            control.check()?;
            match storage.thaw(&pack.kind.key(pack.id), keep) {
                Ok(Thaw::Ready) => lock().ready += 1,
                Ok(Thaw::InProgress) => lock().in_progress += 1,
                Err(error) if error.is_not_found() => lock().missing += 1,
                Err(error) => return Err(error.into()),
            }
            control.progress.advance(1);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        for _ in 0..THREADS.min(packs.len()) {
            scope.spawn(|| {
                if let Err(error) = ask() {
                    // The others end after the request they are at.
                    next.store(packs.len(), Ordering::Relaxed);
                    let mut failure = failure.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                    failure.get_or_insert(error);
                }
            });
        }
    });
    match failure
        .into_inner()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
    {
        Some(error) => Err(error),
        None => Ok(report
            .into_inner()
            .unwrap_or_else(|poisoned| poisoned.into_inner())),
    }
}
