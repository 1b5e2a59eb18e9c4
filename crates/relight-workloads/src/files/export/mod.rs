//! Folders of a snapshot as archives that every system can read.

mod items;
mod pax;
mod tar;
mod zip;

use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use relight_pxar::Metadata;
use relight_repo::RepoError;

use super::browse::{Kind, Place, View};
use crate::error::{Result, WorkloadError, from_io, into_io};

/// The format of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// POSIX tar with pax headers: owners, modes, times to the nanosecond, hard links, devices, extended attributes
    /// and ACLs (as GNU tar and libarchive write them). Sockets, inode flags and project ids have no place in it.
    Tar,
    /// Zip: owners, modes and times to the second. Hard links become files; devices, pipes and sockets have no place.
    Zip,
}

/// How an export went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Entries that were written.
    pub entries: u64,
    /// What the format has no place for, by path, and what it is.
    pub left_out: Vec<(Vec<u8>, Kind)>,
}

/// Something to be written.
struct Item {
    /// Its path in the export.
    path: Vec<u8>,
    kind: Kind,
    metadata: Metadata,
    /// Bytes of content.
    size: u64,
    /// What a symbolic link points at.
    target: Vec<u8>,
    /// Major and minor number.
    device: (u64, u64),
    /// The path in the export of which this is a further name.
    link: Option<Vec<u8>>,
}

/// Writes one format.
trait Writer {
    /// Writes an item; false if the format has no place for such. `content` gives exactly as many bytes as the item says.
    fn add(&mut self, item: &Item, content: &mut dyn Read) -> io::Result<bool>;

    /// Ends the archive.
    fn finish(&mut self) -> io::Result<()>;

    /// Whether it knows further names of a file.
    fn has_links(&self) -> bool;
}

/// Writes what is at `place` of `view`, with all below it, to `target`. `done` counts bytes of content.
///
/// # Errors
/// What goes wrong with reading or writing; what was written until then is then not a whole archive.
pub fn export(
    view: &View,
    place: &Place<'_>,
    format: Format,
    target: &mut dyn Write,
    done: &AtomicU64,
    cancelled: &AtomicBool,
) -> Result<Report> {
    let mut target = io::BufWriter::with_capacity(256 << 10, target);
    let mut report = Report::default();
    let mut writer: Box<dyn Writer + '_> = match format {
        Format::Tar => Box::new(tar::Tar::new(&mut target)),
        Format::Zip => Box::new(zip::Zip::new(&mut target)),
    };
    let has_links = writer.has_links();
    items::each(view, place, has_links, &mut |item, content| {
        let mut content = Counted {
            content,
            done,
            cancelled,
        };
        if writer
            .add(&item, &mut content)
            .map_err(|error| failed(error, &item.path))?
        {
            report.entries += 1;
        } else {
            report.left_out.push((item.path, item.kind));
        }
        Ok(())
    })?;
    writer.finish().map_err(|error| failed(error, b"the end"))?;
    drop(writer);
    target.flush().map_err(|error| failed(error, b"the end"))?;
    Ok(report)
}

/// Counts what is read, and ends it when somebody asks to stop.
struct Counted<'a> {
    content: &'a mut dyn Read,
    done: &'a AtomicU64,
    cancelled: &'a AtomicBool,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(into_io(RepoError::Cancelled));
        }
        let count = self.content.read(buffer)?;
        self.done.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

fn failed(error: io::Error, path: &[u8]) -> WorkloadError {
    match from_io(error) {
        Ok(error) => error.into(),
        Err(source) => {
            let path = super::browse::printable(path).into();
            WorkloadError::Io {
                action: "write",
                path,
                source,
            }
        }
    }
}

/// Writes the content of the file, image or stream at `place` to `target`. `done` counts bytes.
///
/// # Errors
/// [`WorkloadError::Refused`] for what has no content; what goes wrong with reading or writing.
pub fn content(
    view: &View,
    place: &Place<'_>,
    target: &mut dyn Write,
    done: &AtomicU64,
    cancelled: &AtomicBool,
) -> Result<()> {
    if let Place::Entry { tree, node, path } = place {
        let kind = Kind::of(&tree.resolved(node)?.kind(), 0);
        if kind != Kind::File {
            let path = super::browse::printable(path);
            return Err(WorkloadError::Refused(format!(
                "{path} is a {kind} and has no content of its own"
            )));
        }
    }
    items::content(view, place, target, done, cancelled)
}
