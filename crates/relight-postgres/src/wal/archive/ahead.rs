//! Fetching ahead: a process that stays behind a call of `restore_command` and keeps the next segments ready, until the
//! server asks for no more.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use relight_repo::read::ChunkReader;

use super::spool::{Spool, write_new};
use crate::wal::error::{Result, WalError};
use crate::wal::name::{SegmentName, WalName};
use crate::wal::store::{Catalog, LogStore};

/// How it fetches ahead.
#[derive(Debug, Clone)]
pub struct Ahead {
    /// So many segments are kept ready.
    pub segments: u64,
    /// So many are fetched at once.
    pub threads: usize,
    /// It ends when nothing was asked for so long.
    pub idle: Duration,
}

impl Default for Ahead {
    fn default() -> Self {
        Self {
            segments: 8,
            threads: 3,
            idle: Duration::from_secs(20),
        }
    }
}

const TICK: Duration = Duration::from_millis(5);
/// How often it looks for segments that were not there.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Keeps the segments ready that follow what the server asked for last. Returns when nobody asks any more; at once if
/// another process does the same.
pub fn fetch_ahead<E: From<WalError>>(
    spool: &Spool,
    ahead: &Ahead,
    cancelled: &AtomicBool,
    open: impl FnOnce() -> Result<LogStore, E>,
) -> Result<(), E> {
    let Some(lock) = spool.lock()? else {
        return Ok(());
    };
    let result = open().and_then(|store| Ok(run(&store, spool, ahead, cancelled)?));
    // Nobody needs it any more; and what was left by one that was killed goes as well.
    spool.sweep(|_| true);
    drop(lock);
    result
}

fn run(store: &LogStore, spool: &Spool, ahead: &Ahead, cancelled: &AtomicBool) -> Result<()> {
    let reader = Arc::new(ChunkReader::new(store.repository().clone())?);
    let mut catalog = store.catalog()?;
    let mut looked = Instant::now();
    let mut last = None;
    let mut asked = Instant::now();
    while !cancelled.load(Ordering::Relaxed) && asked.elapsed() < ahead.idle {
        let cursor = spool.cursor();
        if cursor != last {
            (last, asked) = (cursor, Instant::now());
        }
        let Some(WalName::Segment(cursor)) = last else {
            std::thread::sleep(TICK);
            continue;
        };
        let wanted = following(&catalog, cursor, ahead.segments);
        spool.sweep(|name| !wanted.contains(&name));
        let missing: Vec<WalName> = wanted
            .iter()
            .copied()
            .filter(|name| !spool.fetched(*name).exists())
            .take(ahead.threads)
            .collect();
        if missing.is_empty() {
            std::thread::sleep(TICK);
        } else {
            fetch(store, &reader, &catalog, spool, &missing)?;
        }
        if (wanted.len() as u64) < ahead.segments && looked.elapsed() > LOOK_AGAIN {
            store.repository().refresh()?;
            catalog = store.catalog()?;
            looked = Instant::now();
        }
    }
    Ok(())
}

/// The segments in the log that follow one without a hole.
fn following(catalog: &Catalog, cursor: SegmentName, count: u64) -> BTreeSet<WalName> {
    let size = catalog.segment_size();
    let Some(number) = cursor.number(size) else {
        return BTreeSet::new();
    };
    (number + 1..=number.saturating_add(count))
        .map(|number| WalName::Segment(SegmentName::new(cursor.timeline, number, size)))
        .take_while(|name| catalog.files.contains_key(name))
        .collect()
}

fn fetch(
    store: &LogStore,
    reader: &Arc<ChunkReader>,
    catalog: &Catalog,
    spool: &Spool,
    names: &[WalName],
) -> Result<()> {
    spool.make()?;
    // Says at once what is coming, so that nobody fetches it a second time.
    for name in names {
        let path = spool.fetching(*name);
        write_new(&path, &[]).map_err(WalError::io("write", &path))?;
    }
    let one = |name: WalName| -> Result<()> {
        let (coming, ready) = (spool.fetching(name), spool.fetched(name));
        let Some(bytes) = store.fetch_with(reader, catalog, name)? else {
            return Ok(());
        };
        write_new(&coming, &bytes).map_err(WalError::io("write", &coming))?;
        fs::rename(&coming, &ready).map_err(WalError::io("rename", &coming))
    };
    std::thread::scope(|scope| {
        let running: Vec<_> = names.iter().map(|name| scope.spawn(|| one(*name))).collect();
        let ended = running.into_iter().map(|thread| {
            thread
                .join()
                .unwrap_or_else(|_| Err(WalError::Refused("a thread that fetches ahead panicked".into())))
        });
        ended.collect::<Vec<_>>().into_iter().collect()
    })
}
