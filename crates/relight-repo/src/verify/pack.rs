//! Checks one pack: every record, the table of contents, and what the index says of them.

use std::ops::Range;

use relight_keys::RepositoryId;
use xxhash_rust::xxh3::Xxh3;

use super::report::Damage;
use crate::control::Control;
use crate::error::{RepoError, Result};
use crate::id::ChunkId;
use crate::index::PackLine;
use crate::pack::Record;
use crate::pack::codec::Decoder;
use crate::pack::format::TRAILER;
use crate::pack::reader::{PackOpener, read_toc};
use crate::repository::Repository;
use crate::storage::{Storage, StorageError};

/// A request reads about this much.
const REQUEST: u64 = 8 << 20;

/// What was found in one pack.
#[derive(Debug, Default)]
pub(super) struct Checked {
    /// What is wrong with the pack around its chunks, or as a whole.
    pub around: Option<(Damage, String)>,
    /// Set where the pack as a whole could not be looked at (missing, no key, service down).
    pub whole: bool,
    /// Chunks whose record is wrong.
    pub corrupt: Vec<ChunkId>,
    /// Chunks that the disk did not give.
    pub unreadable: Vec<ChunkId>,
    /// It lies in a cold class.
    pub cold: bool,
    /// The service did not answer or refused: says nothing about the pack.
    pub service: Option<StorageError>,
    /// Bytes, chunks and content that were good, and chunks that were good at the second try.
    pub bytes: u64,
    pub chunks: u64,
    pub content: u64,
    pub flaky: u64,
    /// XXH3-128 of the pack, if all of it was read.
    pub digest: Option<u128>,
}

impl Checked {
    fn nothing(damage: Damage, why: String) -> Self {
        Self {
            around: Some((damage, why)),
            whole: true,
            ..Self::default()
        }
    }

    /// Whether everything is as it should be.
    pub fn is_good(&self) -> bool {
        self.around.is_none()
            && self.corrupt.is_empty()
            && self.unreadable.is_empty()
            && !self.cold
            && self.service.is_none()
    }

    fn failed(mut self, error: StorageError) -> Self {
        match error {
            StorageError::NotFound { .. } => {
                Self::nothing(Damage::Missing, "the pack is not there".to_string())
            }
            StorageError::Cold { .. } => {
                self.cold = true;
                self
            }
            error => {
                self.whole = true;
                self.around = Some((Damage::Unreadable, error.to_string()));
                self.service = Some(error);
                self
            }
        }
    }
}

/// Memory that a thread uses for one pack after the other.
pub(super) struct Checker<'a> {
    repository: &'a Repository,
    control: Control<'a>,
    decoder: Decoder,
    sealed: Vec<u8>,
    scratch: Vec<u8>,
}

impl<'a> Checker<'a> {
    pub fn new(repository: &'a Repository, control: Control<'a>) -> Result<Self> {
        Ok(Self {
            repository,
            control,
            decoder: Decoder::new().map_err(RepoError::Source)?,
            sealed: Vec::new(),
            scratch: Vec::new(),
        })
    }

    fn storage(&self) -> &'a dyn Storage {
        self.repository.storage()
    }

    fn id(&self) -> RepositoryId {
        self.repository.id()
    }

    /// Checks the pack of `line`, which is `size` bytes long in storage and holds `indexed` (by offset) as the index
    /// has it. None if somebody asked to stop.
    pub fn check(&mut self, line: &PackLine, size: u64, indexed: &[Record]) -> Option<Checked> {
        let (repository, keys) = (self.id(), self.repository.keys());
        let opener = match PackOpener::new(repository, keys, line.kind, line.id, line.key) {
            Ok(opener) => opener,
            Err(error) => return Some(Checked::nothing(Damage::of(&error), error.to_string())),
        };
        let mut checked = Checked::default();
        let toc = match read_toc(self.storage(), repository, keys, line.kind, line.id, size) {
            Ok((header, records)) if header.key == line.key => Some(records),
            Ok(_) => {
                let why = "its header names another data key than the index".to_string();
                checked.around = Some((Damage::Corrupt, why));
                None
            }
            Err(RepoError::Storage(error @ (StorageError::Short { .. } | StorageError::Io { .. }))) => {
                let damage = match error {
                    StorageError::Short { .. } => Damage::Corrupt,
                    _ => Damage::Unreadable,
                };
                checked.around = Some((damage, error.to_string()));
                None
            }
            Err(RepoError::Storage(error)) => return Some(checked.failed(error)),
            // The key is there, or its opener could not have been made: so the header is wrong, whatever it is.
            Err(error) => {
                checked.around = Some((Damage::Corrupt, error.to_string()));
                None
            }
        };
        let records = self.compare(line, toc.as_deref(), indexed, &mut checked);
        self.read(line, size, &records, &opener, checked)
    }

    /// What is to be checked: what the pack says it holds, or else what the index says.
    fn compare(
        &self,
        line: &PackLine,
        toc: Option<&[Record]>,
        indexed: &[Record],
        checked: &mut Checked,
    ) -> Vec<Record> {
        let Some(toc) = toc else {
            return indexed.to_vec();
        };
        let at = |record: &Record| record.offset;
        // Where the index is wrong, nothing can be read through it, however good the pack.
        for record in indexed {
            let there = toc
                .binary_search_by_key(&record.offset, at)
                .is_ok_and(|found| toc[found] == *record);
            if !there {
                checked.corrupt.push(record.id);
            }
        }
        if !checked.corrupt.is_empty() {
            let why = "the index contradicts its table of contents; run `relight repair index`";
            checked.around = Some((Damage::Corrupt, why.to_string()));
        } else if indexed.len() < toc.len() {
            let why = format!(
                "the index lacks {} of its {} chunks; run `relight repair index`",
                toc.len() - indexed.len(),
                toc.len()
            );
            checked.around = Some((Damage::Missing, why));
        }
        debug_assert!(line.size > 0);
        toc.to_vec()
    }

    fn read(
        &mut self,
        line: &PackLine,
        size: u64,
        records: &[Record],
        opener: &PackOpener,
        mut checked: Checked,
    ) -> Option<Checked> {
        let key = line.kind.key(line.id);
        let (fit, beyond): (Vec<_>, Vec<_>) = records
            .iter()
            .copied()
            .partition(|record| end(record) <= size.saturating_sub(TRAILER as u64));
        checked.corrupt.extend(beyond.iter().map(|record| record.id));
        let mut digest = Some(Xxh3::new());
        for (range, records) in requests(&fit, size) {
            if self.control.is_cancelled() {
                return None;
            }
            let length = (range.end - range.start) as usize;
            if self.sealed.len() < length {
                self.sealed.resize(length, 0);
            }
            match self
                .storage()
                .get_range(&key, range.start, &mut self.sealed[..length])
            {
                Ok(()) => {
                    if let Some(digest) = &mut digest {
                        digest.update(&self.sealed[..length]);
                    }
                    self.open_all(&key, opener, range.start, &fit[records], &mut checked);
                }
                // Some sectors cannot be read: which chunks are they?
                Err(StorageError::Io { .. } | StorageError::Short { .. }) => {
                    digest = None;
                    for record in &fit[records] {
                        self.open_one(&key, opener, record, &mut checked);
                    }
                    if range.end == size && checked.around.is_none() {
                        checked.around =
                            Some((Damage::Unreadable, "its table of contents cannot be read".into()));
                    }
                }
                Err(error) => return Some(checked.failed(error)),
            }
            checked.bytes += length as u64;
            self.control.progress.advance(length as u64);
        }
        checked.digest = digest.map(|digest| digest.digest128());
        if checked.around.is_none() && !checked.corrupt.is_empty() {
            let why = format!(
                "{} of its {} chunks are corrupt",
                checked.corrupt.len(),
                records.len()
            );
            checked.around = Some((Damage::Corrupt, why));
        }
        if checked.around.is_none() && !checked.unreadable.is_empty() {
            let why = format!(
                "{} of its {} chunks cannot be read",
                checked.unreadable.len(),
                records.len()
            );
            checked.around = Some((Damage::Unreadable, why));
        }
        Some(checked)
    }

    /// Opens what was read in one request from `start` on.
    fn open_all(
        &mut self,
        key: &str,
        opener: &PackOpener,
        start: u64,
        records: &[Record],
        checked: &mut Checked,
    ) {
        for record in records {
            let from = (u64::from(record.offset) - start) as usize;
            let sealed = &mut self.sealed[from..from + record.stored as usize];
            match opener.check(record, sealed, &mut self.decoder, &mut self.scratch) {
                Ok(()) => {
                    checked.chunks += 1;
                    checked.content += u64::from(record.raw);
                }
                // A bit may have flipped on the way and not where it lies.
                Err(_) => {
                    if self.open_one(key, opener, record, checked) {
                        checked.flaky += 1;
                        tracing::warn!(
                            chunk = %record.id,
                            pack = key,
                            "was wrong when first read and right when read again: look after memory and disks"
                        );
                    }
                }
            }
        }
    }

    /// Reads and opens one record. Whether it was good.
    fn open_one(&mut self, key: &str, opener: &PackOpener, record: &Record, checked: &mut Checked) -> bool {
        let mut sealed = vec![0; record.stored as usize];
        match self
            .storage()
            .get_range(key, u64::from(record.offset), &mut sealed)
        {
            Ok(()) => match opener.check(record, &mut sealed, &mut self.decoder, &mut self.scratch) {
                Ok(()) => {
                    checked.chunks += 1;
                    checked.content += u64::from(record.raw);
                    return true;
                }
                Err(_) => checked.corrupt.push(record.id),
            },
            Err(StorageError::Short { .. }) => checked.corrupt.push(record.id),
            Err(_) => checked.unreadable.push(record.id),
        }
        false
    }
}

fn end(record: &Record) -> u64 {
    u64::from(record.offset) + u64::from(record.stored)
}

/// Requests that together read all of a pack of `size` bytes, each with the records (by number) that lie in it.
fn requests(records: &[Record], size: u64) -> Vec<(Range<u64>, Range<usize>)> {
    let mut requests = Vec::new();
    let (mut start, mut first, mut reach) = (0, 0, 0);
    for (number, record) in records.iter().enumerate() {
        reach = end(record).max(reach);
        let next = records
            .get(number + 1)
            .map_or(size, |next| u64::from(next.offset));
        // Never within a record, also where a damaged index lets them overlap.
        if reach - start >= REQUEST && next >= reach {
            requests.push((start..reach, first..number + 1));
            (start, first) = (reach, number + 1);
        }
    }
    // What is behind the last record is short, unless the pack has grown.
    while size.saturating_sub(start) > REQUEST && first == records.len() {
        requests.push((start..start + REQUEST, first..first));
        start += REQUEST;
    }
    if start < size {
        requests.push((start..size, first..records.len()));
    }
    requests
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::Codec;
    use crate::pack::format::HEADER;

    #[test]
    fn requests_cover_the_pack_and_hold_their_records() {
        let mut offset = HEADER as u32;
        let records: Vec<Record> = (0..40u32)
            .map(|number| {
                let stored = 1 + number * 97_531 % 3_000_000;
                let record = Record {
                    id: ChunkId::default(),
                    offset,
                    stored,
                    raw: 1,
                    codec: Codec::Plain,
                };
                offset += stored;
                record
            })
            .collect();
        let size = u64::from(offset) + 5000;
        let mut at = (0, 0);
        for (bytes, numbers) in requests(&records, size) {
            assert_eq!((bytes.start, numbers.start), at);
            assert!(bytes.end - bytes.start < REQUEST + 4_000_000);
            for record in &records[numbers.clone()] {
                assert!(u64::from(record.offset) >= bytes.start && end(record) <= bytes.end);
            }
            at = (bytes.end, numbers.end);
        }
        assert_eq!(at, (size, 40));
        assert_eq!(requests(&[], 100), [(0..100, 0..0)]);
    }
}
