//! The walk over the tree: its loop, and directories.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CStr;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::fs::FileType;
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use super::previous::{Cursor, Previous};
use super::report::{CaptureReport, ProblemKind};
use super::root::Root;
use super::{CaptureError, CaptureOptions};
use crate::encoder::Encoder;
use crate::error::EncodeError;
use crate::exclude::Matcher;
use crate::format::MAX_DEPTH;
use crate::fs::dir_chain::{DirChain, open_dir};
use crate::fs::listing::{Lister, Listing};
use crate::fs::metadata::{MetadataProblem, MetadataReader};
use crate::fs::progress::{Progress, count, is_set};
use crate::fs::pseudo::is_pseudo;
use crate::fs::sink::ArchiveSink;
use crate::fs::stat::FileStat;
use crate::fs::stat_records::{self, StatRecord};
use crate::metadata::FileTime;
use crate::payload;

/// Bytes of stat records gathered before the sink gets them.
const STAT_BUFFER: usize = 32 * 1024;

/// Lets the encoder write to the sink that the walk writes contents to.
pub(super) struct MetadataWriter<'a, 's, S>(&'a RefCell<&'s mut S>);

impl<S: ArchiveSink> Write for MetadataWriter<'_, '_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write_metadata(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The first name of a file that has several.
pub(super) struct FirstName {
    pub position: u64,
    pub path: Box<[u8]>,
    /// Names of it that may still come.
    pub left: u32,
}

/// A directory on the way from the root to where the walk is.
struct Frame {
    listing: Listing,
    /// Index of the entry whose turn is next.
    next: usize,
    /// Bytes of its path.
    path_length: usize,
    /// The previous archive has this directory too, and its cursor is in it.
    in_step: bool,
    stat: FileStat,
    /// Exclude patterns in force here; none where there are none.
    matcher: Option<Matcher>,
}

/// The walk under way.
pub(super) struct Walk<'a, 's, 'p, S: ArchiveSink> {
    pub options: &'a CaptureOptions,
    pub previous: Option<Cursor<'p>>,
    pub sink: &'a RefCell<&'s mut S>,
    pub encoder: Encoder<MetadataWriter<'a, 's, S>>,
    pub reader: MetadataReader,
    /// Problems with the metadata of the entry under work.
    pub problems: Vec<MetadataProblem>,
    pub links: HashMap<(u64, u64), FirstName>,
    /// Path of the entry under work from the root.
    pub path: Vec<u8>,
    pub progress: &'a Progress,
    pub cancel: &'a AtomicBool,
    pub report: CaptureReport,
    chain: DirChain,
    frames: Vec<Frame>,
    lister: Lister,
    stats: Vec<u8>,
}

/// Captures the tree below `root`; see [`super::capture`].
pub(super) fn run<S: ArchiveSink>(
    root: Root,
    options: &CaptureOptions,
    previous: Option<Previous<'_>>,
    sink: &mut S,
    progress: &Progress,
    cancel: &AtomicBool,
) -> Result<CaptureReport, CaptureError> {
    let now = clock_gettime(ClockId::Realtime);
    let start = FileTime {
        secs: now.tv_sec,
        nanos: u32::try_from(now.tv_nsec).unwrap_or(0),
    };
    let mut report = CaptureReport::default();
    let mut previous = match previous.map(Cursor::open) {
        Some(Ok(cursor)) => Some(cursor),
        Some(Err(error)) => {
            report.previous_lost = Some(error.to_string());
            None
        }
        None => None,
    };

    // The previous start marker is taken over like a file, so that what follows it keeps its offsets.
    let marker = 0..payload::START_MARKER.len() as u64;
    let reused = match &previous {
        Some(_) => sink.reuse_payload(marker).map_err(CaptureError::Sink)?,
        None => None,
    };
    if reused != Some(0) {
        sink.write_payload(&payload::START_MARKER)
            .map_err(CaptureError::Sink)?;
    }

    let root_error = |source| CaptureError::Root {
        path: root.path.clone(),
        source,
    };
    let mut lister = Lister::new();
    let mut listing = lister.list(&root.dir).map_err(root_error)?;
    if let Some(only) = &root.only {
        listing.retain(only.to_bytes());
    }
    let mut reader = MetadataReader::new();
    let mut problems = Vec::new();
    let metadata = reader.open_object(root.dir.as_fd(), &root.stat, &mut problems);
    let in_step = previous.as_mut().is_some_and(Cursor::enter);
    let matcher = (!options.exclude.is_empty()).then(|| Matcher::new(options.exclude.iter().cloned()));
    let chain = DirChain::new(root.dir.try_clone().map_err(root_error)?).map_err(root_error)?;

    report.counts.directories = 1;
    let shared = RefCell::new(sink);
    let encoder = Encoder::new(MetadataWriter(&shared), options.prelude.as_deref(), &metadata)?;
    let mut walk = Walk {
        options,
        previous,
        sink: &shared,
        encoder,
        reader,
        problems,
        links: HashMap::new(),
        path: Vec::new(),
        progress,
        cancel,
        report,
        chain,
        frames: Vec::new(),
        lister,
        stats: Vec::with_capacity(STAT_BUFFER + stat_records::RECORD_SIZE),
    };
    walk.stats.extend_from_slice(&stat_records::header(start));
    walk.entered(&root.stat)?;
    let inner = walk.patterns_within(&root.dir, &listing, matcher.as_ref());
    walk.frames.push(Frame {
        listing,
        next: 0,
        path_length: 0,
        in_step,
        stat: root.stat,
        matcher: inner,
    });
    walk.walk()?;
    let Walk {
        encoder,
        stats,
        previous,
        mut report,
        ..
    } = walk;
    encoder.finish()?;
    let mut sink = shared.borrow_mut();
    sink.write_stat(&stats).map_err(CaptureError::Sink)?;
    sink.write_payload(&payload::TAIL_MARKER)
        .map_err(CaptureError::Sink)?;
    let unmatched = matcher.iter().flat_map(Matcher::unmatched);
    report
        .unmatched_patterns
        .extend(unmatched.map(|pattern| String::from_utf8_lossy(pattern.text()).into_owned()));
    if let Some(cursor) = previous {
        report.previous_lost = cursor.lost();
    }
    Ok(report)
}

impl<S: ArchiveSink> Walk<'_, '_, '_, S> {
    fn walk(&mut self) -> Result<(), CaptureError> {
        while let Some(frame) = self.frames.last_mut() {
            if is_set(self.cancel) {
                return Err(CaptureError::Cancelled);
            }
            if frame.next >= frame.listing.len() {
                self.leave()?;
                continue;
            }
            let index = frame.next;
            frame.next += 1;
            // The names are lent out while the entry may push a frame of its own.
            let listing = std::mem::take(&mut frame.listing);
            let level = self.frames.len() - 1;
            let result = self.entry(listing.name(index), listing.kind(index), level);
            if let Some(frame) = self.frames.get_mut(level) {
                frame.listing = listing;
            }
            result?;
        }
        Ok(())
    }

    /// Captures one entry of the directory at `level`.
    fn entry(&mut self, name: &CStr, kind: FileType, level: usize) -> Result<(), CaptureError> {
        let frame = &self.frames[level];
        let (in_step, parent) = (frame.in_step, frame.stat);
        self.path.truncate(frame.path_length);
        let dir = match self.chain.current() {
            Ok(dir) => Arc::clone(dir),
            Err(error) => {
                // What is left in the directory cannot be reached any more.
                self.note(ProblemKind::Vanished, error);
                self.frames[level].next = usize::MAX;
                return Ok(());
            }
        };
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name.to_bytes());
        if kind != FileType::Unknown && self.is_excluded(level, kind) {
            return Ok(());
        }
        let matched = in_step
            && self
                .previous
                .as_mut()
                .is_some_and(|cursor| cursor.find(name.to_bytes()));
        let stat = match FileStat::at(dir.as_fd(), name) {
            Ok(stat) => stat,
            Err(error) => {
                self.cannot_open(&error);
                return Ok(());
            }
        };
        let unchanged = matched
            && self
                .previous
                .as_ref()
                .is_some_and(|cursor| cursor.is_unchanged(&stat));
        match stat.file_type() {
            FileType::Directory => self.directory(&dir, name, &stat, &parent, matched, unchanged),
            FileType::RegularFile => self.file(&dir, name, &stat, unchanged),
            _ => self.other(&dir, name, &stat, unchanged),
        }
    }

    fn is_excluded(&mut self, level: usize, kind: FileType) -> bool {
        let Some(matcher) = &self.frames[level].matcher else {
            return false;
        };
        let excluded = matcher.excludes(&self.path, kind == FileType::Directory);
        self.report.excluded += u64::from(excluded);
        excluded
    }

    fn directory(
        &mut self,
        parent_dir: &OwnedFd,
        name: &CStr,
        found: &FileStat,
        parent: &FileStat,
        matched: bool,
        unchanged: bool,
    ) -> Result<(), CaptureError> {
        if self.encoder.depth() >= MAX_DEPTH {
            self.note(
                ProblemKind::NotArchivable,
                "directories are nested deeper than 4096",
            );
            return Ok(());
        }
        let crossing = !found.same_mount(parent);
        if crossing && self.options.one_file_system {
            self.report.mount_points.push(self.path.clone());
            return self.closed_directory(parent_dir, name, found);
        }
        let dir = match open_dir(parent_dir, name) {
            Ok(dir) => dir,
            Err(error) => {
                let gone = self.cannot_open(&error.into());
                return if gone {
                    Ok(())
                } else {
                    self.closed_directory(parent_dir, name, found)
                };
            }
        };
        if crossing && self.options.skip_pseudo && is_pseudo(dir.as_fd()) {
            self.report.mount_points.push(self.path.clone());
            return self.closed_directory(parent_dir, name, found);
        }
        let stat = match FileStat::of(&dir) {
            Ok(stat) => stat,
            Err(error) => {
                self.cannot_open(&error);
                return Ok(());
            }
        };
        let listing = self.lister.list(&dir).unwrap_or_else(|error| {
            self.note(ProblemKind::Unreadable, error);
            Listing::default()
        });
        let raw = match &self.previous {
            Some(cursor) if unchanged && stat == *found => cursor.metadata().ok(),
            _ => None,
        };
        let added = match raw {
            Some(raw) => self.encoder.start_directory(name.to_bytes(), raw),
            None => {
                let metadata = self.reader.open_object(dir.as_fd(), &stat, &mut self.problems);
                self.encoder.start_directory(name.to_bytes(), &metadata)
            }
        };
        if self.added(added)?.is_none() {
            return Ok(());
        }
        self.report.counts.directories += 1;
        self.entered(&stat)?;
        let in_step = matched && self.previous.as_mut().is_some_and(Cursor::enter);
        let outer = self.frames.last().and_then(|frame| frame.matcher.clone());
        let matcher = self.patterns_within(&dir, &listing, outer.as_ref());
        self.chain.push(name, dir, stat.identity());
        self.frames.push(Frame {
            listing,
            next: 0,
            path_length: self.path.len(),
            in_step,
            stat,
            matcher,
        });
        Ok(())
    }

    /// Archives a directory without what is in it.
    fn closed_directory(
        &mut self,
        parent: &OwnedFd,
        name: &CStr,
        stat: &FileStat,
    ) -> Result<(), CaptureError> {
        let metadata = self
            .reader
            .object_at(parent.as_fd(), name, stat, &mut self.problems);
        let added = self.encoder.start_directory(name.to_bytes(), &metadata);
        if self.added(added)?.is_some() {
            self.encoder.end_directory()?;
            self.report.counts.directories += 1;
            // Nothing was seen of what is in it, so it is never unchanged.
            self.write_record(StatRecord::default())?;
        }
        Ok(())
    }

    /// Notes a directory that was added, the root included.
    fn entered(&mut self, stat: &FileStat) -> Result<(), CaptureError> {
        count(&self.progress.directories, 1);
        self.progress.set_current_path(&self.path);
        self.finish_entry(stat)
    }

    fn leave(&mut self) -> Result<(), CaptureError> {
        if let Some(frame) = self.frames.pop() {
            self.lister.recycle(frame.listing);
            if frame.in_step
                && let Some(cursor) = &mut self.previous
            {
                cursor.leave();
            }
            self.encoder.end_directory()?;
            self.chain.pop();
        }
        Ok(())
    }

    /// Reports a problem with the path under work.
    pub fn note(&mut self, kind: ProblemKind, detail: impl std::fmt::Display) {
        self.report.problems.push(&self.path, kind, detail);
    }

    /// Reports that the path under work could not be opened; whether because it is not there any more.
    pub fn cannot_open(&mut self, error: &io::Error) -> bool {
        let gone = matches!(
            Errno::from_io_error(error),
            // Another kind of object has taken the name: a link, a socket, a device without a driver, not a directory.
            Some(Errno::NOENT | Errno::LOOP | Errno::NOTDIR | Errno::NXIO | Errno::NODEV | Errno::STALE)
        );
        self.note(
            if gone {
                ProblemKind::Vanished
            } else {
                ProblemKind::Unreadable
            },
            error,
        );
        gone
    }

    /// Sorts out what the encoder says: an entry the format cannot hold is reported, anything else ends the capture.
    pub fn added(&mut self, result: Result<u64, EncodeError>) -> Result<Option<u64>, CaptureError> {
        match result {
            Ok(position) => Ok(Some(position)),
            Err(
                error @ (EncodeError::Name { .. } | EncodeError::Metadata(_) | EncodeError::Order { .. }),
            ) => {
                self.problems.clear();
                self.note(ProblemKind::NotArchivable, error);
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Ends an entry that was added and whose content, if any, is whole: reports problems with its metadata and writes
    /// its record. With problems the record says nothing, so that the next capture tries again.
    pub fn finish_entry(&mut self, stat: &FileStat) -> Result<(), CaptureError> {
        let record = if self.problems.is_empty() {
            StatRecord::of(stat)
        } else {
            StatRecord::default()
        };
        for MetadataProblem { part, error } in std::mem::take(&mut self.problems) {
            self.note(ProblemKind::Metadata(part), error);
        }
        self.write_record(record)
    }

    /// Writes the record of the entry added last.
    pub fn write_record(&mut self, record: StatRecord) -> Result<(), CaptureError> {
        for MetadataProblem { part, error } in std::mem::take(&mut self.problems) {
            self.note(ProblemKind::Metadata(part), error);
        }
        self.stats.extend_from_slice(&record.to_bytes());
        if self.stats.len() >= STAT_BUFFER {
            self.sink
                .borrow_mut()
                .write_stat(&self.stats)
                .map_err(CaptureError::Sink)?;
            self.stats.clear();
        }
        Ok(())
    }
}
