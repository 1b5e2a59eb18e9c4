//! Puts what was received into the repository: whole segments as they are complete, and every now and then the newest
//! piece of the one that is not.

use std::time::{Duration, Instant};

use super::options::Options;
use super::shared::{Shared, Stretch};
use super::spool::Spool;
use crate::lsn::Lsn;
use crate::wal::error::{Result, WalError};
use crate::wal::name::{SegmentName, Timeline, WalName};
use crate::wal::store::{LogStore, NewFile};
use crate::wal::summary::{Cluster, Summary};
use crate::wal::tail::{Head, PULSE, Tail, TailPiece};
use crate::wal::walk::Walker;

/// Segments that one snapshot of the log takes.
const TOGETHER: u64 = 8;
/// So many pieces of one segment are made one.
const PIECES: usize = 32;
/// Pieces that are larger together stay as they are.
const MOST_MERGED: usize = 48 << 20;
/// How often it is said that nothing new came.
const PULSE_EVERY: Duration = Duration::from_secs(10);
/// Waits between attempts when the repository does not answer.
const LEAST_WAIT: Duration = Duration::from_millis(250);
const MOST_WAIT: Duration = Duration::from_secs(10);

/// The segment that is not complete.
struct Current {
    timeline: Timeline,
    segment: u64,
    walker: Walker,
    /// What pieces hold of it already, from an earlier run.
    known: Vec<u8>,
    /// How far pieces hold it.
    stored: Lsn,
}

/// Stores what another thread receives.
pub struct Uploader<'a> {
    store: &'a LogStore,
    spool: &'a Spool,
    shared: &'a Shared,
    cluster: Cluster,
    options: &'a Options,
    every: Duration,
    tail: Tail,
    current: Option<Current>,
    /// How far the first stretch is in the repository.
    position: Option<Lsn>,
    put: Instant,
    pulse: Instant,
}

impl<'a> Uploader<'a> {
    /// Stores as the options say.
    pub fn new(
        store: &'a LogStore,
        spool: &'a Spool,
        shared: &'a Shared,
        cluster: Cluster,
        options: &'a Options,
    ) -> Self {
        let now = Instant::now();
        Self {
            store,
            spool,
            shared,
            cluster,
            options,
            every: options.every,
            tail: Tail::default(),
            current: None,
            position: None,
            put: now,
            pulse: now,
        }
    }

    /// Stores until it is told to end and everything is stored, or until something is wrong that waiting does not mend.
    pub fn run(mut self) {
        let mut wait = LEAST_WAIT;
        loop {
            match self.step() {
                Ok(true) => {
                    wait = LEAST_WAIT;
                    self.options.tell("repository", None);
                }
                Ok(false) => {
                    wait = LEAST_WAIT;
                    if self.shared.lock().ending && self.is_done() {
                        return;
                    }
                    self.shared.wait(self.every / 4);
                }
                Err(error) if error.is_passing() => {
                    tracing::warn!(
                        "{error}. What was received waits on this machine, and the server keeps the log; trying again"
                    );
                    self.options.tell("repository", Some(error.to_string()));
                    if self.shared.lock().ending {
                        self.fail(error);
                        return;
                    }
                    std::thread::sleep(wait);
                    wait = (wait * 2).min(MOST_WAIT);
                }
                Err(error) => {
                    self.fail(error);
                    return;
                }
            }
        }
    }

    fn fail(&self, error: WalError) {
        self.shared.change(|state| state.failure = Some(error));
    }

    fn is_done(&self) -> bool {
        let state = self.shared.lock();
        let nothing = state.files.is_empty() && state.gaps.is_empty();
        nothing
            && match (state.stretches.front(), self.position) {
                (None, _) => true,
                (Some(stretch), Some(position)) => state.stretches.len() == 1 && position >= stretch.received,
                (Some(stretch), None) => stretch.received == stretch.start,
            }
    }

    /// Stores something; false if there was nothing to store.
    fn step(&mut self) -> Result<bool> {
        if self.store_files()? {
            return Ok(true);
        }
        let (stretch, ending, only) = {
            let state = self.shared.lock();
            match state.stretches.front() {
                Some(stretch) => (*stretch, state.ending, state.stretches.len() == 1),
                None => return Ok(false),
            }
        };
        let position = match self.position {
            Some(position) => position,
            None => {
                // Not earlier: until the server lets this receiver begin, another one may be at work.
                self.tail = self.store.tail()?;
                *self.position.insert(stretch.start)
            }
        };
        let size = self.cluster.segment_size;
        let (first, last) = (size.segment_of(position), size.segment_of(stretch.received));
        if first < last {
            self.store_segments(&stretch, first, last.min(first + TOGETHER))?;
            return Ok(true);
        }
        if stretch.received > position {
            let now = stretch.ended || ending || self.put.elapsed() >= self.every;
            if now {
                self.store_piece(&stretch)?;
            }
            return Ok(now);
        }
        if stretch.ended {
            self.spool
                .remove(SegmentName::at(stretch.timeline, stretch.received, size))?;
            self.current = None;
            self.position = self.shared.change(|state| {
                state.stretches.pop_front();
                let next = state.stretches.front().map(|next| next.start);
                state.durable = next.unwrap_or(state.durable);
                next
            });
            return Ok(true);
        }
        if only && self.pulse.elapsed() >= PULSE_EVERY {
            self.store_pulse(&stretch)?;
        }
        Ok(false)
    }

    fn store_files(&mut self) -> Result<bool> {
        let (files, gaps) = {
            let state = self.shared.lock();
            (state.files.clone(), state.gaps.clone())
        };
        if files.is_empty() && gaps.is_empty() {
            return Ok(false);
        }
        let (count, holes) = (files.len(), gaps.len());
        let mut push = self.store.begin_push()?;
        push.set_cluster(self.cluster);
        for file in files {
            push.add(file)?;
        }
        for gap in &gaps {
            push.add_gap(gap);
        }
        push.commit()?;
        self.shared.change(|state| {
            state.files.drain(..count);
            state.gaps.drain(..holes);
        });
        Ok(true)
    }

    fn advance(&mut self, to: Lsn) {
        self.position = Some(to);
        self.shared.change(|state| state.durable = to);
    }

    /// Stores the whole segments from `first` up to before `end`.
    fn store_segments(&mut self, stretch: &Stretch, first: u64, end: u64) -> Result<()> {
        let size = self.cluster.segment_size;
        let names: Vec<SegmentName> = (first..end)
            .map(|number| SegmentName::new(stretch.timeline, number, size))
            .collect();
        let mut push = self.store.begin_push()?;
        for name in &names {
            push.add(NewFile {
                name: WalName::Segment(*name),
                bytes: self.spool.read(*name)?,
                system: Some(self.cluster.system),
            })?;
        }
        push.commit()?;
        self.current = None;
        self.put = Instant::now();
        self.advance(size.start_of(end));
        for name in &names {
            self.spool.remove(*name)?;
        }
        self.drop_pieces(|timeline, number| timeline == stretch.timeline && (first..end).contains(&number))
    }

    /// Removes pieces of segments of which `gone` says so.
    fn drop_pieces(&mut self, gone: impl Fn(Timeline, u64) -> bool) -> Result<()> {
        let size = self.cluster.segment_size;
        let is_gone = |piece: &TailPiece| gone(piece.head.timeline, size.segment_of(piece.head.start));
        let numbers: Vec<u64> = self
            .tail
            .pieces
            .iter()
            .filter(|piece| is_gone(piece))
            .map(|piece| piece.number)
            .collect();
        self.store.remove_tail(numbers)?;
        self.tail.pieces.retain(|piece| !is_gone(piece));
        Ok(())
    }

    /// Stores what is new of the segment that is not complete.
    fn store_piece(&mut self, stretch: &Stretch) -> Result<()> {
        let size = self.cluster.segment_size;
        let segment = size.segment_of(stretch.received);
        let begins = size.start_of(segment);
        let mut current = match self.current.take() {
            Some(current) if (current.timeline, current.segment) == (stretch.timeline, segment) => current,
            _ => {
                let known = self.tail.segment(stretch.timeline, segment, size);
                let known = known.map(|known| known.bytes).unwrap_or_default();
                Current {
                    timeline: stretch.timeline,
                    segment,
                    walker: Walker::new(begins, size),
                    stored: begins.plus(known.len() as u64),
                    known,
                }
            }
        };
        let name = SegmentName::new(stretch.timeline, segment, size);
        let from = current.walker.position();
        let bytes = self
            .spool
            .read_part(name, from.since(begins), stretch.received.since(begins))?;
        self.compare(&current, name, from, &bytes)?;
        let mut head = Head::new(self.cluster, stretch.timeline, current.stored);
        let stored = current.stored;
        current.walker.feed(&bytes, &mut |at, event| {
            if at > stored {
                head.times.note(at, event);
            }
        })?;
        if stretch.received > stored {
            head.end = current.walker.end().unwrap_or(begins);
            let server = self
                .shared
                .lock()
                .server
                .filter(|(end, _)| *end <= stretch.received);
            head.confirmed = server.map(|(_, time)| time);
            let skip = usize::try_from(stored.since(from)).unwrap_or(usize::MAX);
            let piece = TailPiece {
                number: self.tail.next_number(),
                head,
                bytes: bytes.get(skip..).unwrap_or_default().to_vec(),
            };
            if let Err(error) = self.store.put_tail(&piece) {
                // The walk has passed these bytes: begin it anew.
                self.current = None;
                return Err(error);
            }
            self.tail.pieces.push(piece);
            current.stored = stretch.received;
        }
        self.current = Some(current);
        self.put = Instant::now();
        self.pulse = self.put;
        self.advance(stretch.received);
        self.merge_pieces(stretch.timeline, segment)
    }

    /// Fails if the server sends other bytes than it sent before.
    fn compare(&self, current: &Current, name: SegmentName, from: Lsn, bytes: &[u8]) -> Result<()> {
        let within = usize::try_from(from.since(self.cluster.segment_size.floor(from))).unwrap_or(usize::MAX);
        let known = current.known.get(within..).unwrap_or_default();
        if known.iter().zip(bytes).all(|(known, byte)| known == byte) {
            return Ok(());
        }
        Err(WalError::OtherContent {
            name: WalName::Segment(name),
            workload: self.store.workload().to_string(),
        })
    }

    fn merge_pieces(&mut self, timeline: Timeline, number: u64) -> Result<()> {
        let size = self.cluster.segment_size;
        let ours = |piece: &&TailPiece| {
            piece.head.timeline == timeline && size.segment_of(piece.head.start) == number
        };
        if self.tail.pieces.iter().filter(ours).count() < PIECES {
            return Ok(());
        }
        let numbers: Vec<u64> = self
            .tail
            .pieces
            .iter()
            .filter(ours)
            .map(|piece| piece.number)
            .collect();
        let confirmed = self
            .tail
            .pieces
            .iter()
            .filter(ours)
            .filter_map(|piece| piece.head.confirmed)
            .max();
        let Some(whole) = self.tail.segment(timeline, number, size) else {
            return Ok(());
        };
        if whole.bytes.len() > MOST_MERGED {
            return Ok(());
        }
        let mut head = Head::new(self.cluster, timeline, size.start_of(number));
        (head.end, head.times, head.confirmed) = (whole.end, whole.times, confirmed);
        let piece = TailPiece {
            number: self.tail.next_number(),
            head,
            bytes: whole.bytes,
        };
        self.store.put_tail(&piece)?;
        self.tail.pieces.push(piece);
        self.store.remove_tail(numbers.iter().copied())?;
        self.tail.pieces.retain(|piece| !numbers.contains(&piece.number));
        Ok(())
    }

    /// Says up to when nothing is missing.
    fn store_pulse(&mut self, stretch: &Stretch) -> Result<()> {
        self.pulse = Instant::now();
        let server = self.shared.lock().server;
        let Some((_, time)) = server.filter(|(end, _)| *end <= stretch.received) else {
            return Ok(());
        };
        let mut head = Head::new(self.cluster, stretch.timeline, stretch.received);
        head.confirmed = Some(time);
        self.store.put_tail(&TailPiece {
            number: PULSE,
            head,
            bytes: Vec::new(),
        })
    }
}

/// Stores what an earlier run left in the spool, which the server may not have any more, and removes pieces whose
/// segment is in a snapshot.
pub fn salvage(store: &LogStore, spool: &Spool) -> Result<()> {
    let catalog = store.catalog()?;
    let mut tail = store.tail()?;
    for name in spool.segments()? {
        let bytes = spool.read(name)?;
        let whole = WalName::Segment(name);
        if !catalog.files.contains_key(&whole)
            && let Ok(summary) = Summary::of(name, &bytes)
        {
            let size = summary.cluster.segment_size;
            if bytes.len() as u64 == size.bytes() && summary.broken.is_none() {
                let system = Some(summary.cluster.system);
                store.push(vec![NewFile {
                    name: whole,
                    bytes,
                    system,
                }])?;
            } else {
                let piece = salvage_part(&tail, name, &summary, &bytes);
                if let Some(piece) = piece {
                    store.put_tail(&piece)?;
                    tail.pieces.push(piece);
                }
            }
        }
        spool.remove(name)?;
    }
    let catalog = store.catalog()?;
    let size = catalog.segment_size();
    let is_whole = |piece: &&TailPiece| {
        let name = SegmentName::at(piece.head.timeline, piece.head.start, size);
        catalog.files.contains_key(&WalName::Segment(name))
    };
    let useless: Vec<u64> = tail
        .pieces
        .iter()
        .filter(is_whole)
        .map(|piece| piece.number)
        .collect();
    store.remove_tail(useless)
}

/// The part of a segment, up to its last record that is known to be good, that goes beyond what pieces hold.
fn salvage_part(tail: &Tail, name: SegmentName, summary: &Summary, bytes: &[u8]) -> Option<TailPiece> {
    let size = summary.cluster.segment_size;
    let known = tail.segment(name.timeline, name.number(size)?, size);
    let known = known.map(|known| known.bytes).unwrap_or_default();
    let good = usize::try_from(summary.checked.since(summary.start)).ok()?;
    if good <= known.len() || !bytes.starts_with(&known) {
        return None;
    }
    let stored = summary.start.plus(known.len() as u64);
    let mut head = Head::new(summary.cluster, name.timeline, stored);
    head.end = summary.checked;
    head.times = summary.times.clone();
    Some(TailPiece {
        number: tail.next_number(),
        head,
        bytes: bytes.get(known.len()..good)?.to_vec(),
    })
}
