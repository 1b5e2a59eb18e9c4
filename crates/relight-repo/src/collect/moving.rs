//! Moves chunks that are needed out of packs: opened, checked, and sealed again as they were compressed.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::atlas::Atlas;
use super::decide::Decision;
use super::figures::Report;
use super::mark::is_damage;
use super::pass::Pass;
use crate::control::Unit;
use crate::error::{RepoError, Result};
use crate::id::{ChunkId, PackId, SegmentId};
use crate::index::segment::MAX_ENTRIES;
use crate::index::{PackLine, Segment};
use crate::pack::codec::Decoder;
use crate::pack::format::TAG;
use crate::pack::reader::PackOpener;
use crate::pack::{self, PackBuffer, PackBuilder, PackKind, Record};
use crate::storage::{PutOptions, StorageError};
use crate::suspects;

/// A request covers at most this much.
const MOST: u64 = 8 << 20;
/// Two chunks are fetched together if what lies between them is not more than this.
const GAP: u64 = 64 << 10;
/// After so many packs what was moved is made part of the index and the packs are condemned: what a crash repeats.
const BATCH: usize = 64;
/// Room of a pack beyond the size at which it is full.
const SPARE: usize = 6 << 20;

/// A pack with what is needed of it, in the order in which it lies there.
struct Source {
    number: u32,
    line: PackLine,
    records: Vec<Record>,
}

/// Fills new packs. One a thread.
struct Filler<'a> {
    pass: &'a Pass<'a>,
    open: HashMap<PackKind, PackBuilder>,
    buffers: Vec<PackBuffer>,
    segment: Segment,
    decoder: Decoder,
    sealed: Vec<u8>,
    scratch: Vec<u8>,
}

/// What one thread has done.
struct Filled {
    segment: Segment,
    emptied: Vec<u32>,
    unreadable: Vec<u32>,
    corrupt: Vec<(PackId, Vec<ChunkId>)>,
}

impl Pass<'_> {
    /// Writes an index segment of packs that are durable.
    pub(super) fn store_segment(&self, mut segment: Segment) -> Result<()> {
        if segment.packs.is_empty() {
            return Ok(());
        }
        self.fence()?;
        segment.sort();
        let (repository, id) = (self.repository, SegmentId::random()?);
        let sealed = segment.seal(repository.keys().current(), repository.id(), id)?;
        Ok(repository
            .storage()
            .put(&Segment::key(id), &[&sealed], &PutOptions::default())?)
    }

    /// Moves what is needed, and condemns the packs that were rewritten. Returns condemned packs that still hold
    /// something that is needed and could not be read.
    pub(super) fn move_all(
        &mut self,
        atlas: &Atlas,
        decision: &Decision,
        report: &mut Report,
    ) -> Result<HashSet<PackId>> {
        let wanted: HashSet<u32> = decision.rescue.iter().chain(&decision.rewrite).copied().collect();
        if wanted.is_empty() {
            return Ok(HashSet::new());
        }
        let mut records: HashMap<u32, Vec<Record>> = HashMap::new();
        atlas.for_each(|pack, entry, live| {
            if live && wanted.contains(&pack) {
                records.entry(pack).or_default().push(entry.record);
            }
        });
        let mut sources: Vec<Source> = Vec::with_capacity(wanted.len());
        for number in decision.rescue.iter().chain(&decision.rewrite) {
            let mut records = records.remove(number).unwrap_or_default();
            records.sort_unstable_by_key(|record| record.offset);
            sources.push(Source {
                number: *number,
                line: atlas.packs[*number as usize].line,
                records,
            });
        }
        let total = sources.len() as u64;
        let mut kept = HashSet::new();
        let rewritten: HashSet<u32> = decision.rewrite.iter().copied().collect();
        self.control.progress.begin("rewrite packs", Unit::Items, total);
        for batch in sources.chunks(BATCH) {
            let filled = self.fill(batch)?;
            for pack in &filled.segment.packs {
                report.written.add(pack.size);
            }
            self.store_segments(filled.segment)?;
            if !filled.corrupt.is_empty() {
                // The next backup stores it again.
                let record = suspects::Record {
                    time: self.repository.now(),
                    corrupt: filled.corrupt,
                    ..suspects::Record::default()
                };
                suspects::store(self.repository.vault(), &record)?;
            }
            report.unreadable += filled.unreadable.len() as u64;
            kept.extend(
                filled
                    .unreadable
                    .iter()
                    .map(|number| atlas.packs[*number as usize].line.id),
            );
            let emptied: Vec<PackLine> = filled
                .emptied
                .iter()
                .filter(|number| rewritten.contains(number))
                .map(|number| atlas.packs[*number as usize].line)
                .collect();
            if !emptied.is_empty() {
                emptied.iter().for_each(|line| report.condemned.add(line.size));
                self.condemn(emptied.iter().map(|line| (line.kind, line.id)).collect())?;
            }
        }
        Ok(kept)
    }

    /// Stores a segment, in parts if it is large.
    fn store_segments(&self, whole: Segment) -> Result<()> {
        let mut counts = vec![0usize; whole.packs.len()];
        whole
            .entries
            .iter()
            .for_each(|entry| counts[entry.pack as usize] += 1);
        // Which part each pack goes to, and as which number.
        let (mut parts, mut places) = (vec![Segment::default()], Vec::with_capacity(counts.len()));
        let mut held = 0;
        for (line, count) in whole.packs.iter().zip(&counts) {
            if held > 0 && held + count > MAX_ENTRIES {
                parts.push(Segment::default());
                held = 0;
            }
            held += count;
            let part = parts.len() - 1;
            places.push((part, parts[part].packs.len() as u32));
            parts[part].packs.push(*line);
        }
        for entry in whole.entries {
            let (part, pack) = places[entry.pack as usize];
            parts[part].entries.push(crate::index::Entry { pack, ..entry });
        }
        parts.into_iter().try_for_each(|part| self.store_segment(part))
    }

    fn fill(&self, sources: &[Source]) -> Result<Filled> {
        // Each thread ends with a pack that is not full: few sources are for one.
        let threads = (sources.len() / 4).clamp(1, self.repository.options().threads.max(1));
        let next = AtomicUsize::new(0);
        let outcome = Mutex::new(Ok(Filled {
            segment: Segment::default(),
            emptied: Vec::new(),
            unreadable: Vec::new(),
            corrupt: Vec::new(),
        }));
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    let result = self.fill_one(sources, &next);
                    let mut outcome = outcome.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                    match (&mut *outcome, result) {
                        (Ok(all), Ok(filled)) => {
                            let first = all.segment.packs.len() as u32;
                            all.segment.packs.extend(filled.segment.packs);
                            all.segment
                                .entries
                                .extend(filled.segment.entries.iter().map(|entry| crate::index::Entry {
                                    pack: entry.pack + first,
                                    ..*entry
                                }));
                            all.emptied.extend(filled.emptied);
                            all.unreadable.extend(filled.unreadable);
                            all.corrupt.extend(filled.corrupt);
                        }
                        (Ok(_), Err(error)) => {
                            *outcome = Err(error);
                            next.store(sources.len(), Ordering::Relaxed);
                        }
                        (Err(_), _) => {}
                    }
                });
            }
        });
        outcome
            .into_inner()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn fill_one(&self, sources: &[Source], next: &AtomicUsize) -> Result<Filled> {
        let mut filler = Filler {
            pass: self,
            open: HashMap::new(),
            buffers: Vec::new(),
            segment: Segment::default(),
            decoder: Decoder::new().map_err(RepoError::Source)?,
            sealed: Vec::new(),
            scratch: Vec::new(),
        };
        let (mut emptied, mut unreadable, mut corrupt) = (Vec::new(), Vec::new(), Vec::new());
        while let Some(source) = sources.get(next.fetch_add(1, Ordering::Relaxed)) {
            self.control.check()?;
            self.control.progress.advance(1);
            match filler.take(source) {
                Ok(()) => emptied.push(source.number),
                Err(error)
                    if is_damage(&error)
                        || matches!(
                            error,
                            RepoError::KeyMissing { .. } | RepoError::Storage(StorageError::Cold { .. })
                        ) =>
                {
                    tracing::warn!(pack = %source.line.id, %error, "a pack cannot be rewritten; it is left alone");
                    if let RepoError::ChunkCorrupt { chunk, pack } = error {
                        corrupt.push((pack, vec![chunk]));
                    }
                    unreadable.push(source.number);
                }
                Err(error) => return Err(error),
            }
        }
        let open = std::mem::take(&mut filler.open);
        for (_, builder) in open {
            filler.store(builder)?;
        }
        Ok(Filled {
            segment: filler.segment,
            emptied,
            unreadable,
            corrupt,
        })
    }
}

impl Filler<'_> {
    /// Copies the chunks of a source.
    fn take(&mut self, source: &Source) -> Result<()> {
        let repository = self.pass.repository;
        let line = &source.line;
        let opener = PackOpener::new(repository.id(), repository.keys(), line.kind, line.id, line.key)?;
        let mut rest = source.records.as_slice();
        while let Some(first) = rest.first() {
            let start = u64::from(first.offset);
            let mut end = start;
            let together = rest
                .iter()
                .take_while(|record| {
                    let (from, to) = (
                        u64::from(record.offset),
                        u64::from(record.offset) + u64::from(record.stored),
                    );
                    let near = end == start || (from <= end + GAP && to - start <= MOST);
                    if near {
                        end = end.max(to);
                    }
                    near
                })
                .count();
            let (run, later) = rest.split_at(together);
            rest = later;
            let mut sealed = std::mem::take(&mut self.sealed);
            sealed.resize((end - start) as usize, 0);
            repository
                .storage()
                .get_range(&line.kind.key(line.id), start, &mut sealed)?;
            for record in run {
                let from = (u64::from(record.offset) - start) as usize;
                let part = &mut sealed[from..from + record.stored as usize];
                // Opens in place and checks the digest: what is copied is what it should be.
                opener.check(record, part, &mut self.decoder, &mut self.scratch)?;
                self.append(line.kind, record, &part[..part.len() - TAG])?;
            }
            self.sealed = sealed;
        }
        Ok(())
    }

    fn append(&mut self, kind: PackKind, record: &Record, payload: &[u8]) -> Result<()> {
        let repository = self.pass.repository;
        let full = match kind {
            PackKind::Data => repository.options().data_pack,
            PackKind::Metadata => repository.options().metadata_pack,
        };
        let mut builder = match self.open.remove(&kind) {
            Some(open) if open.fits(payload.len()) => open,
            other => {
                if let Some(open) = other {
                    self.store(open)?;
                }
                let buffer = self.buffers.pop();
                let buffer = buffer.unwrap_or_else(|| PackBuffer::new(full + SPARE));
                PackBuilder::new(kind, repository.id(), repository.keys().current(), buffer)?
            }
        };
        builder.append_encoded(record, payload);
        if builder.used() >= full {
            self.store(builder)
        } else {
            self.open.insert(kind, builder);
            Ok(())
        }
    }

    fn store(&mut self, builder: PackBuilder) -> Result<()> {
        let pack = builder.finish();
        let line = pack::store::put(self.pass.repository, &pack)?;
        let (buffer, records) = pack.into_buffer();
        self.buffers.push(buffer);
        self.segment.add_pack(line, &records);
        Ok(())
    }
}
