//! The previous archive, read in step with the walk so that unchanged entries are recognised.
//!
//! Both are sorted by the same order, so each is read once and nothing is looked up: entries only in the previous archive
//! are passed over, those only in the tree are new.

use std::io::Read;

use super::super::stat::FileStat;
use super::super::stat_records::{StatReader, StatRecord};
use crate::decoder::{Decoder, Event};
use crate::entry::{ContentPlace, Entry, EntryKind};
use crate::error::DecodeError;
use crate::metadata::{FileTime, Stat};
use crate::metadata_items::RawMetadata;

/// How long before its start a capture may have seen a change without seeing all of it: clocks of file systems tick
/// coarsely, some in steps of two seconds.
const RACY_SECONDS: i64 = 2;

/// The streams of the previous capture of the same tree.
pub struct Previous<'a> {
    /// Its metadata stream.
    pub metadata: Box<dyn Read + 'a>,
    /// Its stat records.
    pub stats: Box<dyn Read + 'a>,
}

impl std::fmt::Debug for Previous<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Previous { .. }")
    }
}

/// What the previous archive has of an entry besides metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PreviousKind {
    Directory,
    File {
        size: u64,
        offset: u64,
    },
    /// The target is in [`Cursor::target`].
    Symlink,
    Device {
        major: u64,
        minor: u64,
    },
    FifoOrSocket,
    Hardlink,
}

/// What the cursor stands at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// An entry of the current directory.
    Entry,
    /// The end of the current directory.
    End,
    /// The previous archive cannot be read on.
    Lost,
}

/// See the module. Works within one directory of the previous archive at a time, the one in step with the walk.
pub(super) struct Cursor<'a> {
    decoder: Decoder<Box<dyn Read + 'a>>,
    stats: StatReader<Box<dyn Read + 'a>>,
    /// Changes from this time on may have been missed.
    racy_from: FileTime,
    place: Place,
    name: Vec<u8>,
    metadata: Vec<u8>,
    pub target: Vec<u8>,
    pub kind: PreviousKind,
    stat: Stat,
    record: StatRecord,
    lost: Option<String>,
}

impl<'a> Cursor<'a> {
    /// Opens the streams and stands at the root.
    pub fn open(previous: Previous<'a>) -> Result<Self, DecodeError> {
        let stats = StatReader::new(previous.stats)?;
        let start = stats.start();
        let mut cursor = Self {
            decoder: Decoder::new(previous.metadata)?,
            stats,
            racy_from: FileTime {
                secs: start.secs.saturating_sub(RACY_SECONDS),
                nanos: start.nanos,
            },
            place: Place::End,
            name: Vec::new(),
            metadata: Vec::new(),
            target: Vec::new(),
            kind: PreviousKind::Directory,
            stat: Stat::default(),
            record: StatRecord::default(),
            lost: None,
        };
        cursor.read()?;
        Ok(cursor)
    }

    /// Why the archive was not read to its end.
    pub fn lost(self) -> Option<String> {
        self.lost
    }

    /// Moves to the entry `name` of the current directory. Names must come in rising order. Whether there is one.
    pub fn find(&mut self, name: &[u8]) -> bool {
        loop {
            match self.place {
                Place::Entry if self.name.as_slice() < name => self.pass(),
                Place::Entry => return self.name.as_slice() == name,
                Place::End | Place::Lost => return false,
            }
        }
    }

    /// Goes into the directory the cursor stands at. False where it is none.
    pub fn enter(&mut self) -> bool {
        if self.place != Place::Entry || self.kind != PreviousKind::Directory {
            return false;
        }
        self.step();
        true
    }

    /// Leaves the directory entered last, behind all that is left in it.
    pub fn leave(&mut self) {
        while self.place == Place::Entry {
            self.pass();
        }
        if self.place == Place::End {
            self.step();
        }
    }

    /// Whether the entry the cursor stands at is `stat` unchanged. What the kernel says of the change time covers
    /// content and all metadata; size, times, owner and mode are compared too, since they cost nothing.
    ///
    /// A change within [`RACY_SECONDS`] before the previous capture may have happened after that capture had looked
    /// without the clock of the file system having moved on. The modification time need not be asked: it is later than
    /// the change time only where somebody set it so.
    pub fn is_unchanged(&self, stat: &FileStat) -> bool {
        let size_equal = match self.kind {
            PreviousKind::File { size, .. } => size == stat.size,
            PreviousKind::Hardlink => false,
            _ => true,
        };
        self.place == Place::Entry
            && size_equal
            && self.record.matches(stat)
            && self.stat.mtime == stat.mtime
            && self.stat.mode == stat.mode
            && self.stat.uid == stat.uid
            && self.stat.gid == stat.gid
            && stat.ctime < self.racy_from
    }

    /// The metadata of the entry the cursor stands at.
    pub fn metadata(&self) -> Result<RawMetadata<'_>, DecodeError> {
        RawMetadata::new(&self.metadata)
    }

    /// Moves behind the entry the cursor stands at and all that is in it.
    fn pass(&mut self) {
        let result = if self.kind == PreviousKind::Directory {
            self.skip_children()
        } else {
            Ok(())
        };
        match result {
            Ok(()) => self.step(),
            Err(error) => self.lose(&error),
        }
    }

    fn skip_children(&mut self) -> Result<(), DecodeError> {
        let depth = self.decoder.depth();
        while self.decoder.depth() >= depth {
            match self.decoder.next()? {
                Some(Event::Entry(_)) => {
                    self.stats.next()?;
                }
                Some(Event::EndDirectory { .. }) => {}
                None => break,
            }
        }
        Ok(())
    }

    fn step(&mut self) {
        if let Err(error) = self.read() {
            self.lose(&error);
        }
    }

    fn lose(&mut self, error: &DecodeError) {
        self.place = Place::Lost;
        self.lost = Some(error.to_string());
    }

    fn read(&mut self) -> Result<(), DecodeError> {
        let Some(Event::Entry(entry)) = self.decoder.next()? else {
            self.place = Place::End;
            return Ok(());
        };
        self.record = self.stats.next()?;
        let Entry {
            name, kind, metadata, ..
        } = entry;
        self.name.clear();
        self.name.extend_from_slice(name);
        self.metadata.clear();
        self.target.clear();
        if let Some(raw) = metadata {
            self.metadata.extend_from_slice(raw.items());
            self.stat = raw.stat();
        }
        self.kind = match kind {
            EntryKind::Directory => PreviousKind::Directory,
            EntryKind::File {
                size,
                content: ContentPlace::Payload { offset },
            } => PreviousKind::File { size, offset },
            // A version 1 archive has no payload stream to take anything from.
            EntryKind::File { .. } | EntryKind::Hardlink { .. } => PreviousKind::Hardlink,
            EntryKind::Symlink { target } => {
                self.target.extend_from_slice(target);
                PreviousKind::Symlink
            }
            EntryKind::Device { major, minor } => PreviousKind::Device { major, minor },
            EntryKind::Fifo | EntryKind::Socket => PreviousKind::FifoOrSocket,
        };
        self.place = Place::Entry;
        Ok(())
    }
}
