//! Goes through two sorted sides at once.

use std::cmp::Ordering;
use std::io;
use std::sync::atomic::AtomicBool;

use super::archive::ArchiveSide;
use super::content::{Against, Differs, pieces};
use super::links::{Group, Groups, Linked};
use super::tree::TreeSide;
use super::{CompareError, CompareOptions, Comparison, DifferenceKind, metadata};
use crate::entry::ContentPlace;
use crate::fs::extract::content::ContentFailure;
use crate::fs::extract::{Piece, Standing};
use crate::fs::progress::{Progress, count, is_set};
use crate::metadata::Metadata;

/// What an entry is on either side.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum EntryKind {
    Directory,
    File {
        size: u64,
        place: Option<ContentPlace>,
    },
    Symlink(Vec<u8>),
    Device {
        major: u64,
        minor: u64,
    },
    Fifo,
    Socket,
    /// A further name of a file, as an archive has it.
    Link,
    /// It could not be read.
    Broken,
}

/// An entry of either side.
#[derive(Debug)]
pub(super) struct Entry {
    pub name: Vec<u8>,
    pub kind: EntryKind,
    pub metadata: Option<Metadata>,
    pub group: Option<Group>,
    pub standing: Standing,
    /// What of it could not be read.
    pub problem: Option<String>,
}

impl Entry {
    /// One that could not be read.
    pub fn broken(name: &[u8], standing: Standing, error: &io::Error) -> Self {
        Self {
            name: name.to_vec(),
            kind: EntryKind::Broken,
            metadata: None,
            group: None,
            standing,
            problem: Some(error.to_string()),
        }
    }
}

/// What comes next on a side.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is only one of it at a time")]
pub(super) enum Found {
    Entry(Entry),
    Leave,
}

/// The first side.
pub(super) enum Side<'a> {
    Tree(Box<TreeSide>),
    Archive(Box<ArchiveSide<'a>>),
}

impl Side<'_> {
    fn next(&mut self, path: &[u8]) -> Result<Option<Found>, CompareError> {
        match self {
            Self::Tree(tree) => next(tree, path),
            Self::Archive(archive) => Ok(archive.next()?),
        }
    }

    fn skip_directory(&mut self) -> Result<(), CompareError> {
        match self {
            Self::Tree(tree) => tree.skip_directory(),
            Self::Archive(archive) => archive.skip_directory()?,
        }
        Ok(())
    }
}

fn next(tree: &mut TreeSide, path: &[u8]) -> Result<Option<Found>, CompareError> {
    use std::os::unix::ffi::OsStrExt;
    let path = || std::ffi::OsStr::from_bytes(path).into();
    tree.next()
        .map_err(|source| CompareError::Root { path: path(), source })
}

/// A comparison under way.
pub(super) struct Merge<'a> {
    first: Side<'a>,
    second: TreeSide,
    options: &'a CompareOptions,
    progress: &'a Progress,
    cancel: &'a AtomicBool,
    groups: Groups,
    found: Comparison,
    path: Vec<u8>,
    /// Path lengths of the open directories.
    levels: Vec<usize>,
    buffer: Vec<u8>,
}

impl<'a> Merge<'a> {
    pub fn new(
        first: Side<'a>,
        second: TreeSide,
        options: &'a CompareOptions,
        progress: &'a Progress,
        cancel: &'a AtomicBool,
    ) -> Self {
        Self {
            first,
            second,
            options,
            progress,
            cancel,
            groups: Groups::default(),
            found: Comparison::default(),
            path: Vec::new(),
            levels: Vec::new(),
            buffer: Vec::new(),
        }
    }

    pub fn run(mut self) -> Result<Comparison, CompareError> {
        let mut first = self.first.next(&[])?;
        let mut second = next(&mut self.second, &[])?;
        loop {
            if is_set(self.cancel) {
                return Err(CompareError::Cancelled);
            }
            let order = match (&first, &second) {
                (Some(Found::Entry(a)), Some(Found::Entry(b))) => a.name.cmp(&b.name),
                (Some(Found::Entry(_)), _) => Ordering::Less,
                (_, Some(Found::Entry(_))) => Ordering::Greater,
                (Some(Found::Leave), Some(Found::Leave)) => {
                    self.levels.pop();
                    Ordering::Equal
                }
                (None, _) | (_, None) => break,
            };
            if order.is_le()
                && let Some(Found::Entry(a)) = &first
            {
                self.set_path(&a.name);
            } else if let Some(Found::Entry(b)) = &second {
                self.set_path(&b.name);
            }
            match order {
                Ordering::Equal => {
                    if let (Some(Found::Entry(a)), Some(Found::Entry(b))) = (&first, &second) {
                        self.both(a, b)?;
                    }
                    first = self.first.next(&self.path)?;
                    second = next(&mut self.second, &self.path)?;
                }
                Ordering::Less => {
                    if let Some(Found::Entry(a)) = &first {
                        self.only(DifferenceKind::OnlyFirst, a);
                        if a.kind == EntryKind::Directory {
                            self.first.skip_directory()?;
                        }
                    }
                    first = self.first.next(&self.path)?;
                }
                Ordering::Greater => {
                    if let Some(Found::Entry(b)) = &second {
                        self.only(DifferenceKind::OnlySecond, b);
                        if b.kind == EntryKind::Directory {
                            self.second.skip_directory();
                        }
                    }
                    second = next(&mut self.second, &self.path)?;
                }
            }
        }
        Ok(self.found)
    }

    fn set_path(&mut self, name: &[u8]) {
        self.path.truncate(self.levels.last().copied().unwrap_or(0));
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name);
    }

    fn only(&mut self, kind: DifferenceKind, entry: &Entry) {
        // A directory on the way to something selected says nothing by itself.
        if entry.standing == Standing::Inside {
            self.found.push(&self.path, kind, "");
        }
    }

    fn both(&mut self, first: &Entry, second: &Entry) -> Result<(), CompareError> {
        for problem in [&first.problem, &second.problem].into_iter().flatten() {
            self.found.push(&self.path, DifferenceKind::Unreadable, problem);
        }
        self.found.entries += 1;
        let is_root = self.levels.is_empty();
        let is_directory = |entry: &Entry| entry.kind == EntryKind::Directory;
        if is_directory(first) && is_directory(second) {
            self.levels.push(self.path.len());
            self.progress.set_current_path(&self.path);
            count(&self.progress.directories, 1);
        } else {
            // The one that is no directory has no end to wait for.
            if is_directory(first) {
                self.first.skip_directory()?;
            }
            if is_directory(second) {
                self.second.skip_directory();
            }
        }
        let linked = self.groups.see(first.group, second.group);
        let unknown_link =
            first.kind == EntryKind::Link && linked == Linked::New && self.options.selection.is_all();
        if linked == Linked::Differently || unknown_link {
            self.found.push(&self.path, DifferenceKind::Links, "");
        }
        let same_kind = self.kinds(first, second, linked)?;
        if let (true, Some(a), Some(b)) = (
            same_kind && first.standing == Standing::Inside,
            &first.metadata,
            &second.metadata,
        ) && (self.options.roots || !is_root)
        {
            metadata::compare(&self.path, a, b, self.options, &mut self.found);
        }
        Ok(())
    }

    /// Compares what is special to a kind; whether both are of the same.
    fn kinds(&mut self, first: &Entry, second: &Entry, linked: Linked) -> Result<bool, CompareError> {
        match (&first.kind, &second.kind) {
            (EntryKind::Broken, _) | (_, EntryKind::Broken) => return Ok(false),
            // Its target has been compared.
            (EntryKind::Link, EntryKind::File { .. }) => count(&self.progress.others, 1),
            (EntryKind::Directory, EntryKind::Directory)
            | (EntryKind::Fifo, EntryKind::Fifo)
            | (EntryKind::Socket, EntryKind::Socket) => {}
            (EntryKind::File { size: a, place }, EntryKind::File { size: b, .. }) => {
                count(&self.progress.files, 1);
                if a != b {
                    self.found.push(
                        &self.path,
                        DifferenceKind::Size,
                        format_args!("{a} and {b} bytes"),
                    );
                } else if self.options.content && linked != Linked::Again {
                    self.contents(*place, *a)?;
                }
            }
            (EntryKind::Symlink(a), EntryKind::Symlink(b)) => {
                if a != b {
                    let detail = format!(
                        "{} and {}",
                        String::from_utf8_lossy(a),
                        String::from_utf8_lossy(b)
                    );
                    self.found.push(&self.path, DifferenceKind::Target, detail);
                }
            }
            (
                EntryKind::Device { major, minor },
                EntryKind::Device {
                    major: other_major,
                    minor: other_minor,
                },
            ) => {
                if (major, minor) != (other_major, other_minor) {
                    let detail = format!("{major}:{minor} and {other_major}:{other_minor}");
                    self.found.push(&self.path, DifferenceKind::Device, detail);
                }
            }
            _ => {
                self.found.push(&self.path, DifferenceKind::Kind, "");
                return Ok(false);
            }
        }
        let types =
            [&first.metadata, &second.metadata].map(|metadata| metadata.as_ref().map(Metadata::file_type));
        if let [Some(a), Some(b)] = types
            && a != b
        {
            // Block and character devices.
            self.found.push(&self.path, DifferenceKind::Kind, "");
            return Ok(false);
        }
        Ok(true)
    }

    fn contents(&mut self, place: Option<ContentPlace>, size: u64) -> Result<(), CompareError> {
        let Some(file) = self.second.take_file() else {
            return Ok(());
        };
        let mut against = Against::new(file, std::mem::take(&mut self.buffer));
        let mut differs = None;
        let (progress, cancel) = (self.progress, self.cancel);
        let mut take = |piece: Piece<'_>| -> io::Result<bool> {
            if is_set(cancel) {
                return Ok(false);
            }
            let length = match piece {
                Piece::Bytes(bytes) => bytes.len() as u64,
                Piece::Zeros(length) => length,
            };
            count(&progress.bytes, length);
            if let Err(Differs(position)) = against.take(piece)? {
                differs = Some(position);
            }
            Ok(differs.is_none())
        };
        let result = match (&mut self.first, place) {
            (Side::Archive(archive), Some(place)) => {
                let stop = || io::Error::from(io::ErrorKind::Interrupted);
                let mut take = |piece: Piece<'_>| if take(piece)? { Ok(()) } else { Err(stop()) };
                match archive.content(place, size, &|| is_set(cancel), &mut take) {
                    Err(ContentFailure::Archive(error) | ContentFailure::Write(error)) => Err(error),
                    Ok(()) | Err(ContentFailure::Stopped) => Ok(()),
                }
            }
            (Side::Tree(tree), _) => match tree.take_file() {
                Some(mut file) => pieces(&mut file, size, &mut take).and_then(|whole| {
                    if whole {
                        Ok(())
                    } else {
                        Err(io::ErrorKind::UnexpectedEof.into())
                    }
                }),
                None => Ok(()),
            },
            (Side::Archive(_), None) => Ok(()),
        };
        self.buffer = against.into_buffer();
        match (differs, result) {
            (Some(position), _) => {
                let detail = format!("within the first {position} bytes");
                self.found.push(&self.path, DifferenceKind::Content, detail);
            }
            (None, Err(error)) => self.found.push(&self.path, DifferenceKind::Unreadable, error),
            (None, Ok(())) => self.found.bytes += size,
        }
        Ok(())
    }
}
