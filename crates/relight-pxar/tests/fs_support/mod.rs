//! An archive in memory, and trees to put in it.
#![allow(dead_code, clippy::unwrap_used)]

pub mod acting;
pub mod places;
pub mod tree;

use std::io;
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::sync::atomic::AtomicBool;

use relight_pxar::fs::capture::{CaptureError, CaptureOptions, CaptureReport, Previous, capture};
use relight_pxar::fs::compare::{CompareOptions, Comparison, compare_archive, compare_trees};
use relight_pxar::fs::extract::{
    ArchiveSource, ArchiveStream, ContentSource, ExtractOptions, Piece, RestoreError, RestoreReport, extract,
};
use relight_pxar::fs::progress::Progress;
use relight_pxar::fs::sink::ArchiveSink;
use relight_pxar::read_at::ReadAt;

/// Chunks that reuse works on, in bytes: small, so that neighbours share them.
const CHUNK: u64 = 4096;

/// A payload stream; runs of zeros take no memory.
#[derive(Debug, Default, Clone)]
pub struct Payload {
    parts: Vec<(u64, Part)>,
    size: u64,
}

#[derive(Debug, Clone)]
enum Part {
    Bytes(Vec<u8>),
    Zeros(u64),
}

impl Payload {
    pub fn size(&self) -> u64 {
        self.size
    }

    pub fn write(&mut self, bytes: &[u8]) {
        match self.parts.last_mut() {
            Some((_, Part::Bytes(part))) if part.len() < 1 << 20 => part.extend_from_slice(bytes),
            _ => self.parts.push((self.size, Part::Bytes(bytes.to_vec()))),
        }
        self.size += bytes.len() as u64;
    }

    pub fn zeros(&mut self, length: u64) {
        self.parts.push((self.size, Part::Zeros(length)));
        self.size += length;
    }

    pub fn pieces(
        &self,
        range: Range<u64>,
        take: &mut dyn FnMut(Piece<'_>) -> ControlFlow<()>,
    ) -> io::Result<()> {
        if range.end > self.size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let first = self
            .parts
            .partition_point(|(start, _)| *start <= range.start)
            .saturating_sub(1);
        for (start, part) in &self.parts[first..] {
            let length = match part {
                Part::Bytes(bytes) => bytes.len() as u64,
                Part::Zeros(length) => *length,
            };
            let from = range.start.max(*start);
            let to = range.end.min(start + length);
            if from >= to {
                continue;
            }
            let flow = match part {
                Part::Bytes(bytes) => take(Piece::Bytes(
                    &bytes[(from - start) as usize..(to - start) as usize],
                )),
                Part::Zeros(_) => take(Piece::Zeros(to - from)),
            };
            if flow.is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// An archive in memory.
#[derive(Debug, Default, Clone)]
pub struct MemoryArchive {
    pub metadata: Vec<u8>,
    pub stats: Vec<u8>,
    pub payload: Payload,
    /// Offer random access to the metadata.
    pub random: bool,
}

pub struct MemoryContent<'a>(&'a Payload, u64);

impl ContentSource for MemoryContent<'_> {
    fn read(
        &mut self,
        range: Range<u64>,
        take: &mut dyn FnMut(Piece<'_>) -> ControlFlow<()>,
    ) -> io::Result<()> {
        assert!(range.start >= self.1, "ranges rise");
        self.1 = range.end;
        self.0.pieces(range, take)
    }
}

impl ArchiveSource for MemoryArchive {
    fn metadata(&self) -> io::Result<Box<dyn ArchiveStream + '_>> {
        Ok(Box::new(io::Cursor::new(self.metadata.as_slice())))
    }

    fn content(&self) -> io::Result<Box<dyn ContentSource + '_>> {
        Ok(Box::new(MemoryContent(&self.payload, 0)))
    }

    fn random_access(&self) -> Option<&dyn ReadAt> {
        self.random.then_some(&self.metadata as &dyn ReadAt)
    }
}

/// A sink into memory, with an archive before it whose chunks it reuses.
#[derive(Debug, Default)]
pub struct MemorySink<'a> {
    pub archive: MemoryArchive,
    pub previous: Option<&'a MemoryArchive>,
    /// End of what was reused last, in the old and in the new stream.
    pub last: Option<(u64, u64)>,
    pub reused_bytes: u64,
    pub files_started: u64,
    /// Ranges of the old stream that are lost.
    pub lost: Vec<Range<u64>>,
}

impl ArchiveSink for MemorySink<'_> {
    fn write_metadata(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.archive.metadata.extend_from_slice(bytes);
        Ok(())
    }

    fn write_stat(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.archive.stats.extend_from_slice(bytes);
        Ok(())
    }

    fn payload_position(&mut self) -> io::Result<u64> {
        Ok(self.archive.payload.size)
    }

    fn start_file(&mut self, _size: u64) -> io::Result<()> {
        self.files_started += 1;
        Ok(())
    }

    fn write_payload(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.archive.payload.write(bytes);
        Ok(())
    }

    fn write_zeros(&mut self, length: u64) -> io::Result<()> {
        self.archive.payload.zeros(length);
        Ok(())
    }

    fn reuse_payload(&mut self, old: Range<u64>) -> io::Result<Option<u64>> {
        let Some(previous) = self.previous else {
            return Ok(None);
        };
        if self
            .lost
            .iter()
            .any(|lost| lost.start < old.end && old.start < lost.end)
        {
            return Ok(None);
        }
        let end = old.end.next_multiple_of(CHUNK).min(previous.payload.size);
        let here = self.archive.payload.size;
        let (from, place) = match self.last {
            Some((old_end, new_end))
                if new_end == here && old.start <= old_end && old.start + CHUNK > old_end =>
            {
                (old_end, new_end - (old_end - old.start))
            }
            _ => {
                let start = old.start / CHUNK * CHUNK;
                (start, here + (old.start - start))
            }
        };
        if from < end {
            let payload = &mut self.archive.payload;
            previous.payload.pieces(from..end, &mut |piece| {
                match piece {
                    Piece::Bytes(bytes) => payload.write(bytes),
                    Piece::Zeros(length) => payload.zeros(length),
                }
                ControlFlow::Continue(())
            })?;
            self.reused_bytes += end - from;
        }
        self.last = Some((end.max(from), self.archive.payload.size));
        Ok(Some(place))
    }
}

pub fn try_capture_into(
    root: &Path,
    options: &CaptureOptions,
    sink: &mut MemorySink<'_>,
) -> Result<CaptureReport, CaptureError> {
    let previous = sink.previous.map(|archive| Previous {
        metadata: Box::new(archive.metadata.as_slice()),
        stats: Box::new(archive.stats.as_slice()),
    });
    capture(
        root,
        options,
        previous,
        sink,
        &Progress::default(),
        &AtomicBool::new(false),
    )
}

/// Captures a tree; the report must be free of problems.
pub fn capture_clean(root: &Path, previous: Option<&MemoryArchive>) -> (MemoryArchive, CaptureReport) {
    let mut sink = MemorySink {
        previous,
        ..MemorySink::default()
    };
    let report = try_capture_into(root, &CaptureOptions::default(), &mut sink).unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    assert_eq!(report.previous_lost, None);
    (sink.archive, report)
}

pub fn try_extract(
    archive: &MemoryArchive,
    target: &Path,
    options: &ExtractOptions,
) -> Result<RestoreReport, RestoreError> {
    extract(
        archive,
        target,
        options,
        &Progress::default(),
        &AtomicBool::new(false),
    )
}

/// Restores an archive; nothing may be lost.
pub fn extract_clean(archive: &MemoryArchive, target: &Path, options: &ExtractOptions) -> RestoreReport {
    let report = try_extract(archive, target, options).unwrap();
    assert!(report.losses.is_empty(), "{:?}", report.losses);
    report
}

pub fn compare(first: &Path, second: &Path) -> Comparison {
    let options = CompareOptions::default();
    compare_trees(
        first,
        second,
        &options,
        &Progress::default(),
        &AtomicBool::new(false),
    )
    .unwrap()
}

#[track_caller]
pub fn assert_same(first: &Path, second: &Path) {
    let comparison = compare(first, second);
    let shown: Vec<_> = comparison
        .differences
        .iter()
        .take(20)
        .map(ToString::to_string)
        .collect();
    assert!(
        comparison.is_equal(),
        "{} differences: {shown:#?}",
        comparison.total
    );
}

#[track_caller]
pub fn assert_same_as_archive(archive: &MemoryArchive, root: &Path) {
    let options = CompareOptions::default();
    let comparison = compare_archive(
        archive,
        root,
        &options,
        &Progress::default(),
        &AtomicBool::new(false),
    )
    .unwrap();
    let shown: Vec<_> = comparison
        .differences
        .iter()
        .take(20)
        .map(ToString::to_string)
        .collect();
    assert!(
        comparison.is_equal(),
        "{} differences: {shown:#?}",
        comparison.total
    );
}

/// Waits until changes made from now on get another time than a capture that began before, and are not taken for racy.
/// The clock cannot be moved, so times of the record are: two seconds are a long time in a test.
pub fn age(archive: &mut MemoryArchive) {
    // Seconds of the start of the capture, at byte 16 of the header of the stat records.
    let seconds = i64::from_le_bytes(archive.stats[16..24].try_into().unwrap());
    archive.stats[16..24].copy_from_slice(&(seconds + 3600).to_le_bytes());
}

/// Whether the tests run with all privileges.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs something as a user without privileges, in a thread of its own (Linux keeps credentials by thread).
pub fn as_nobody<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                if is_root() {
                    let gid = rustix::process::Gid::from_raw(65534);
                    let uid = rustix::process::Uid::from_raw(65534);
                    rustix::thread::set_thread_groups(&[]).unwrap();
                    rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
                    rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
                }
                work()
            })
            .join()
            .unwrap()
    })
}
