//! Entries that are not directories.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, openat, readlinkat};
use rustix::io::Errno;

use super::CaptureError;
use super::content;
use super::previous::PreviousKind;
use super::report::ProblemKind;
use super::walk::{FirstName, Walk};
use crate::format::MAX_PATH;
use crate::fs::progress::count;
use crate::fs::sink::ArchiveSink;
use crate::fs::stat::FileStat;
use crate::fs::stat_records::StatRecord;
use crate::payload;

/// Files from this size on are shown as the path under work.
const LARGE_FILE: u64 = 4 << 20;

/// Opens a regular file for reading. Should something else have taken its name, opening it neither follows nor waits.
pub(super) fn open_file(dir: &OwnedFd, name: &CStr) -> Result<File, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    match openat(dir, name, flags | OFlags::NOATIME, Mode::empty()) {
        // Leaving access times alone is for owners.
        Err(Errno::PERM) => openat(dir, name, flags, Mode::empty()),
        result => result,
    }
    .map(File::from)
}

impl<S: ArchiveSink> Walk<'_, '_, '_, S> {
    pub(super) fn file(
        &mut self,
        dir: &OwnedFd,
        name: &CStr,
        stat: &FileStat,
        unchanged: bool,
    ) -> Result<(), CaptureError> {
        if stat.nlink > 1 && self.further_name(name, stat)? {
            return Ok(());
        }
        if unchanged && self.unchanged_file(name, stat)? {
            return Ok(());
        }
        let file = match open_file(dir, name) {
            Ok(file) => file,
            Err(error) => {
                self.cannot_open(&error.into());
                return Ok(());
            }
        };
        let before = match FileStat::of(&file) {
            Ok(before) if before.is_file() => before,
            Ok(_) => {
                self.note(ProblemKind::Vanished, "another kind of object took its place");
                return Ok(());
            }
            Err(error) => {
                self.cannot_open(&error);
                return Ok(());
            }
        };
        self.read_file(name, &file, &before)
    }

    /// Adds a file that is linked under another name in the archive already. False where it is not, or where that
    /// name cannot be referred to.
    fn further_name(&mut self, name: &CStr, stat: &FileStat) -> Result<bool, CaptureError> {
        let Some(first) = self.links.get_mut(&stat.identity()) else {
            return Ok(false);
        };
        if first.path.len() > MAX_PATH {
            self.note(
                ProblemKind::LinkAsCopy,
                "the path of its first name is longer than 4096 bytes",
            );
            return Ok(false);
        }
        let added = self
            .encoder
            .add_hardlink(name.to_bytes(), &first.path, first.position);
        first.left = first.left.saturating_sub(1);
        if first.left == 0 {
            self.links.remove(&stat.identity());
        }
        if self.added(added)?.is_some() {
            self.report.counts.hardlinks += 1;
            count(&self.progress.others, 1);
            self.finish_entry(stat)?;
        }
        Ok(true)
    }

    /// Takes the file over from the previous archive. False where the sink has lost its content.
    fn unchanged_file(&mut self, name: &CStr, stat: &FileStat) -> Result<bool, CaptureError> {
        let Some(cursor) = &self.previous else {
            return Ok(false);
        };
        let (PreviousKind::File { size, offset }, Ok(raw)) = (cursor.kind, cursor.metadata()) else {
            return Ok(false);
        };
        let old = offset..payload::end(offset, size);
        let place = match self
            .sink
            .borrow_mut()
            .reuse_payload(old)
            .map_err(CaptureError::Sink)?
        {
            Some(place) if place >= self.encoder.payload_end() => place,
            _ => return Ok(false),
        };
        let added = self.encoder.add_file_ref(name.to_bytes(), raw, place, size);
        if let Some(position) = self.added(added)? {
            self.report.unchanged_files += 1;
            count(&self.progress.bytes, size);
            self.file_added(position, stat, size);
            self.finish_entry(stat)?;
        }
        Ok(true)
    }

    fn read_file(&mut self, name: &CStr, file: &File, before: &FileStat) -> Result<(), CaptureError> {
        if before.size >= LARGE_FILE {
            self.progress.set_current_path(&self.path);
        }
        let metadata = self.reader.open_object(file.as_fd(), before, &mut self.problems);
        let mut sink = self.sink.borrow_mut();
        sink.start_file(before.size).map_err(CaptureError::Sink)?;
        let place = sink.payload_position().map_err(CaptureError::Sink)?;
        sink.write_payload(&payload::header(before.size))
            .map_err(CaptureError::Sink)?;
        let copied = content::copy(&mut **sink, file, before, self.progress, self.cancel)?;
        drop(sink);
        let added = self
            .encoder
            .add_file_ref(name.to_bytes(), &metadata, place, before.size);
        let Some(position) = self.added(added)? else {
            return Ok(());
        };
        self.report.bytes_read += copied.read;
        self.file_added(position, before, before.size);
        let steady =
            FileStat::of(file).is_ok_and(|after| after.size == before.size && after.mtime == before.mtime);
        if let Some(error) = copied.error {
            self.note(ProblemKind::Incomplete, error);
        } else if copied.short {
            self.note(
                ProblemKind::ChangedWhileRead,
                "it became shorter; zeros fill its end",
            );
        } else if !steady {
            self.note(ProblemKind::ChangedWhileRead, "it was written to");
        } else {
            return self.finish_entry(before);
        }
        self.write_record(StatRecord::default())
    }

    fn file_added(&mut self, position: u64, stat: &FileStat, size: u64) {
        self.report.counts.files += 1;
        self.report.bytes += size;
        count(&self.progress.files, 1);
        if stat.nlink > 1 {
            // Later names refer to the entry read last: it is the one whose path may be short enough.
            let path = self.path.as_slice().into();
            self.links.insert(
                stat.identity(),
                FirstName {
                    position,
                    path,
                    left: stat.nlink - 1,
                },
            );
        }
    }

    pub(super) fn other(
        &mut self,
        dir: &OwnedFd,
        name: &CStr,
        stat: &FileStat,
        unchanged: bool,
    ) -> Result<(), CaptureError> {
        let name_bytes = name.to_bytes();
        let file_type = stat.file_type();
        let previous = self.previous.as_ref().filter(|_| unchanged);
        let raw = previous.and_then(|cursor| cursor.metadata().ok());
        let mut target = Vec::new();
        if file_type == FileType::Symlink {
            match previous.filter(|cursor| cursor.kind == PreviousKind::Symlink) {
                Some(cursor) => target.extend_from_slice(&cursor.target),
                None => match readlinkat(dir, name, Vec::new()) {
                    Ok(found) => target = found.into_bytes(),
                    Err(Errno::INVAL) => {
                        self.note(ProblemKind::Vanished, "another kind of object took its place");
                        return Ok(());
                    }
                    Err(error) => {
                        self.cannot_open(&error.into());
                        return Ok(());
                    }
                },
            }
        }
        let read;
        let metadata = match raw {
            Some(raw) => crate::EntryMetadata::Raw(raw),
            None => {
                read = self.reader.object_at(dir.as_fd(), name, stat, &mut self.problems);
                crate::EntryMetadata::Decoded(&read)
            }
        };
        let encoder = &mut self.encoder;
        let counts = &mut self.report.counts;
        let (added, counter) = match file_type {
            FileType::Symlink => (
                encoder.add_symlink(name_bytes, metadata, &target),
                &mut counts.symlinks,
            ),
            FileType::Fifo => (encoder.add_fifo(name_bytes, metadata), &mut counts.fifos),
            FileType::Socket => (encoder.add_socket(name_bytes, metadata), &mut counts.sockets),
            FileType::BlockDevice | FileType::CharacterDevice => {
                let (major, minor) = (u64::from(stat.rdev_major), u64::from(stat.rdev_minor));
                (
                    encoder.add_device(name_bytes, metadata, major, minor),
                    &mut counts.devices,
                )
            }
            _ => {
                self.problems.clear();
                self.note(ProblemKind::NotArchivable, "its kind is unknown");
                return Ok(());
            }
        };
        *counter += u64::from(added.is_ok());
        if self.added(added)?.is_some() {
            count(&self.progress.others, 1);
            self.finish_entry(stat)?;
        }
        Ok(())
    }
}
