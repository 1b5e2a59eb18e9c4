//! Reads all pieces of an archive in parallel, each handed over as soon as it is there, in any order.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::chunk::ChunkReader;
use super::plan::{Buffers, plan};
use super::stored::{Form, Stored};
use crate::error::{RepoError, Result};
use crate::id::ChunkId;
use crate::tree::{Piece, Root, TreeReader};

/// Pieces are planned together up to this many bytes, so that neighbours in a pack are fetched in one request.
const BATCH: u64 = 64 << 20;

/// Threads that read, open, check and hand over: more than processors, because some always wait for storage, or for
/// where the content goes.
const READERS: usize = 16;

/// What a piece holds.
#[derive(Debug, Clone, Copy)]
pub enum Scan<'a> {
    /// This content, in the form in which the reader gives it.
    Data(&'a [u8]),
    /// As many zeros as the piece is long.
    Zeros,
}

/// Where the content of pieces goes that one thread reads.
pub(super) trait Taker {
    /// Takes the content of a piece.
    fn take(&mut self, piece: Piece, content: &[u8]) -> Result<()>;

    /// What follows is somewhere else.
    fn pause(&mut self) -> Result<()> {
        Ok(())
    }
}

struct Each<'t>(&'t (dyn Fn(Piece, Scan<'_>) -> Result<()> + Sync));

impl Taker for Each<'_> {
    fn take(&mut self, piece: Piece, content: &[u8]) -> Result<()> {
        (self.0)(piece, Scan::Data(content))
    }
}

/// Reads the archive `root` and calls `take` for each piece, from several threads. Ends at the first error.
pub fn scan(
    reader: &Arc<ChunkReader>,
    root: Root,
    cancelled: &AtomicBool,
    take: &(dyn Fn(Piece, Scan<'_>) -> Result<()> + Sync),
) -> Result<()> {
    let zeros = |piece| take(piece, Scan::Zeros);
    scan_with(reader, root, cancelled, &|| Each(take), &zeros)
}

/// The same with a taker for each thread.
pub(super) fn scan_with<T: Taker>(
    reader: &Arc<ChunkReader>,
    root: Root,
    cancelled: &AtomicBool,
    taker: &(dyn Fn() -> T + Sync),
    zeros: &dyn Fn(Piece) -> Result<()>,
) -> Result<()> {
    let failure: Mutex<Option<RepoError>> = Mutex::new(None);
    let failed = AtomicBool::new(false);
    let fail = |error| {
        failed.store(true, Ordering::Release);
        failure
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .get_or_insert(error);
    };
    let stopped = || failed.load(Ordering::Acquire) || cancelled.load(Ordering::Relaxed);
    let count = reader.repository().options().threads.max(READERS);
    let (sender, receiver) = crossbeam_channel::bounded::<(super::plan::Fetch, Arc<Vec<Piece>>)>(2 * count);
    std::thread::scope(|scope| {
        for _ in 0..count {
            let receiver = receiver.clone();
            scope.spawn(|| {
                let work = || -> Result<()> {
                    let mut decoder = reader.decoder()?;
                    let mut buffers = Buffers::default();
                    let mut taker = taker();
                    for (fetch, pieces) in receiver {
                        if stopped() {
                            continue;
                        }
                        fetch.run(reader, &mut decoder, &mut buffers, |numbers, content| {
                            for &number in numbers {
                                check_length(reader.form(), &pieces[number], content)?;
                                taker.take(pieces[number], content)?;
                            }
                            Ok(())
                        })?;
                        taker.pause()?;
                    }
                    Ok(())
                };
                if let Err(error) = work() {
                    fail(error);
                }
            });
        }
        drop(receiver);
        let feed = || -> Result<()> {
            let mut pieces = TreeReader::new(&**reader, root, 0)?;
            loop {
                let (mut batch, mut bytes) = (Vec::new(), 0);
                for piece in pieces.by_ref() {
                    let piece = piece?;
                    if piece.id == ChunkId::ZEROS {
                        zeros(piece)?;
                        continue;
                    }
                    bytes += piece.length;
                    batch.push(piece);
                    if bytes >= BATCH {
                        break;
                    }
                }
                if batch.is_empty() || stopped() {
                    return Ok(());
                }
                let batch = Arc::new(batch);
                for fetch in plan(reader, &batch)? {
                    if sender.send((fetch, batch.clone())).is_err() {
                        return Ok(());
                    }
                }
            }
        };
        if let Err(error) = feed() {
            fail(error);
        }
        drop(sender);
    });
    let failure = failure
        .into_inner()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    match failure {
        Some(error) => Err(error),
        None if cancelled.load(Ordering::Relaxed) => Err(RepoError::Cancelled),
        None => Ok(()),
    }
}

/// A list that names a chunk of another length is damaged, however good the chunk is.
pub(super) fn check_length(form: Form, piece: &Piece, given: &[u8]) -> Result<()> {
    let length = match form {
        Form::Content => given.len() as u64,
        Form::Stored | Form::Sealed => u64::from(Stored::parse(given)?.raw),
    };
    if length == piece.length {
        return Ok(());
    }
    let why = format!(
        "it says that chunk {} has {} bytes, but it has {length}",
        piece.id, piece.length
    );
    Err(RepoError::damaged("chunk list", why))
}
