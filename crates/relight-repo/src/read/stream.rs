//! Reads an archive in order with read-ahead: while one piece is used, the next ones are fetched and checked.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};

use super::chunk::ChunkReader;
use super::plan::{Buffers, Fetch, plan, threads};
use super::scan::check_length;
use crate::error::{RepoError, Result};
use crate::id::ChunkId;
use crate::tree::{Piece, Root, TreeReader};

/// Pieces are planned together up to this many bytes.
const BATCH: u64 = 16 << 20;
/// Content that is fetched ahead, about.
const AHEAD: u64 = 48 << 20;
/// Batches that are planned ahead: of pieces that hold nothing there could be any number.
const BATCHES: usize = 16;

/// The content of a piece; none stands for zeros.
pub type Content = Option<Arc<Vec<u8>>>;

/// The pieces of an archive in order, with their content.
pub struct PieceStream {
    reader: Arc<ChunkReader>,
    pieces: Box<dyn Iterator<Item = Result<Piece>> + Send>,
    batches: VecDeque<Arc<Batch>>,
    /// Number in the first batch of the piece that comes next.
    next: usize,
    ahead: u64,
    exhausted: bool,
    work: Option<Sender<(Arc<Batch>, Fetch)>>,
    threads: Vec<JoinHandle<()>>,
}

/// The content of a piece, or why there is none; nothing while it is being fetched.
type Slot = Option<Result<Arc<Vec<u8>>>>;

struct Batch {
    pieces: Vec<Piece>,
    bytes: u64,
    slots: Mutex<Vec<Slot>>,
    filled: Condvar,
}

/// Reads lists on behalf of an iterator that outlives the borrow of its source.
struct OwnedPieces {
    reader: Arc<ChunkReader>,
    root: Root,
    at: u64,
    some: VecDeque<Piece>,
}

impl Iterator for OwnedPieces {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Result<Piece>> {
        if self.some.is_empty() && self.at < self.root.size {
            let more = TreeReader::new(&*self.reader, self.root, self.at)
                .and_then(|tree| tree.take(512).collect::<Result<Vec<_>>>());
            match more {
                Ok(more) => self.some.extend(more),
                Err(error) => {
                    self.at = u64::MAX;
                    return Some(Err(error));
                }
            }
        }
        let piece = self.some.pop_front()?;
        self.at = piece.offset + piece.length;
        Some(Ok(piece))
    }
}

impl PieceStream {
    /// The pieces of `root` from the one that holds byte `from` on.
    pub fn new(reader: &Arc<ChunkReader>, root: Root, from: u64) -> Result<Self> {
        let pieces = OwnedPieces {
            reader: reader.clone(),
            root,
            at: from,
            some: VecDeque::new(),
        };
        Ok(Self::of(reader, Box::new(pieces)))
    }

    /// The one piece that holds byte `at`, without read-ahead; none beyond the end.
    pub fn single(reader: &Arc<ChunkReader>, root: Root, at: u64) -> Result<Option<(Piece, Content)>> {
        let Some(piece) = TreeReader::new(&**reader, root, at)?.next().transpose()? else {
            return Ok(None);
        };
        if piece.id == ChunkId::ZEROS {
            return Ok(Some((piece, None)));
        }
        let content = reader.read(&piece.id)?;
        check_length(reader.form(), &piece, &content)?;
        Ok(Some((piece, Some(Arc::new(content)))))
    }

    /// These pieces.
    pub fn of(reader: &Arc<ChunkReader>, pieces: Box<dyn Iterator<Item = Result<Piece>> + Send>) -> Self {
        let (work, queue) = crossbeam_channel::unbounded::<(Arc<Batch>, Fetch)>();
        let run = |_| {
            let (reader, queue) = (reader.clone(), queue.clone());
            std::thread::spawn(move || fetch_all(&reader, &queue))
        };
        Self {
            reader: reader.clone(),
            pieces,
            batches: VecDeque::new(),
            next: 0,
            ahead: 0,
            exhausted: false,
            work: Some(work),
            threads: (0..threads(reader)).map(run).collect(),
        }
    }

    fn read_ahead(&mut self) -> Result<()> {
        while !self.exhausted
            && (self.batches.is_empty() || (self.ahead < AHEAD && self.batches.len() < BATCHES))
        {
            let (mut pieces, mut bytes) = (Vec::new(), 0);
            // A chunk that comes several times (a tree in which files between others change has many) is fetched once.
            let mut distinct = HashSet::new();
            while bytes < BATCH && pieces.len() < 4096 {
                let Some(piece) = self.pieces.next().transpose()? else {
                    self.exhausted = true;
                    break;
                };
                if piece.id != ChunkId::ZEROS && distinct.insert(piece.id) {
                    bytes += piece.length;
                }
                pieces.push(piece);
            }
            if pieces.is_empty() {
                break;
            }
            let fetches = plan(&self.reader, &pieces)?;
            let slots = Mutex::new(pieces.iter().map(|_| None).collect());
            let batch = Arc::new(Batch {
                pieces,
                bytes,
                slots,
                filled: Condvar::new(),
            });
            self.ahead += bytes;
            for fetch in fetches {
                if let Some(work) = &self.work {
                    let _ = work.send((batch.clone(), fetch));
                }
            }
            self.batches.push_back(batch);
        }
        Ok(())
    }

    fn advance(&mut self) -> Result<Option<(Piece, Content)>> {
        self.read_ahead()?;
        let Some(batch) = self.batches.front().cloned() else {
            return Ok(None);
        };
        let piece = batch.pieces[self.next];
        let content = if piece.id == ChunkId::ZEROS {
            None
        } else {
            Some(batch.wait(self.next)?)
        };
        self.next += 1;
        if self.next == batch.pieces.len() {
            self.batches.pop_front();
            self.next = 0;
            self.ahead -= batch.bytes;
        }
        Ok(Some((piece, content)))
    }
}

impl Batch {
    fn wait(&self, number: usize) -> Result<Arc<Vec<u8>>> {
        let mut slots = self.slots.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        loop {
            if let Some(content) = slots[number].take() {
                return content;
            }
            slots = self
                .filled
                .wait(slots)
                .unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }

    fn fill(&self, numbers: &[usize], content: &dyn Fn() -> Result<Arc<Vec<u8>>>) {
        let mut slots = self.slots.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        for &number in numbers {
            slots[number] = Some(content());
        }
        self.filled.notify_all();
    }
}

fn fetch_all(reader: &ChunkReader, queue: &Receiver<(Arc<Batch>, Fetch)>) {
    let mut buffers = Buffers::default();
    let mut decoder = None;
    for (batch, fetch) in queue {
        let mut filled = Vec::new();
        let mut run = || {
            let decoder = match &mut decoder {
                Some(decoder) => decoder,
                none => none.insert(reader.decoder()?),
            };
            fetch.run(reader, decoder, &mut buffers, |numbers, content| {
                for &number in numbers {
                    check_length(reader.form(), &batch.pieces[number], content)?;
                }
                let content = Arc::new(content.to_vec());
                batch.fill(numbers, &|| Ok(content.clone()));
                filled.extend_from_slice(numbers);
                Ok(())
            })
        };
        if let Err(error) = run() {
            // Whoever waits for a piece of this request must not wait for ever. The error goes to the first of them;
            // the reader stops there.
            let error = Mutex::new(Some(error));
            let told = || {
                let first = error
                    .lock()
                    .unwrap_or_else(|poisoned| poisoned.into_inner())
                    .take();
                Err(first.unwrap_or_else(|| RepoError::Stopped("an earlier part could not be read".into())))
            };
            for (_, numbers) in &fetch.parts {
                if !numbers.iter().any(|number| filled.contains(number)) {
                    batch.fill(numbers, &told);
                }
            }
        }
    }
}

impl Iterator for PieceStream {
    type Item = Result<(Piece, Content)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance().transpose()
    }
}

impl Drop for PieceStream {
    fn drop(&mut self) {
        self.work = None;
        // What is queued is let go of, so that the threads end after the request they are at.
        self.batches.clear();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
