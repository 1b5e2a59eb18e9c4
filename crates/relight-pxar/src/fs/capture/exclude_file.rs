//! `.pxarexclude` files in the tree.

use std::ffi::CStr;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::entries::open_file;
use super::report::ProblemKind;
use super::walk::Walk;
use crate::exclude::{EXCLUDE_FILE, Matcher, parse_file};
use crate::fs::listing::Listing;
use crate::fs::sink::ArchiveSink;
use crate::fs::stat::FileStat;

/// [`EXCLUDE_FILE`] as system calls want it.
const NAME: &CStr = c".pxarexclude";

/// Largest file of patterns that is heeded, in bytes.
const MAX_SIZE: u64 = 1 << 20;

fn read(dir: &OwnedFd) -> io::Result<Vec<u8>> {
    let file = match open_file(dir, NAME) {
        Ok(file) => file,
        // Gone, or a link, which is not followed.
        Err(Errno::NOENT | Errno::LOOP) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let stat = FileStat::of(&file)?;
    if !stat.is_file() {
        return Ok(Vec::new());
    }
    let mut content = Vec::new();
    file.take(MAX_SIZE + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_SIZE {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "it is larger than 1 MiB: no pattern in it is heeded",
        ));
    }
    Ok(content)
}

impl<S: ArchiveSink> Walk<'_, '_, '_, S> {
    /// The patterns in force within the directory whose path is the one under work: those around it, and its own.
    pub(super) fn patterns_within(
        &mut self,
        dir: &OwnedFd,
        listing: &Listing,
        outer: Option<&Matcher>,
    ) -> Option<Matcher> {
        if !self.options.exclude_files || !listing.contains(EXCLUDE_FILE) {
            return outer.cloned();
        }
        let content = read(dir).unwrap_or_else(|error| {
            self.note(ProblemKind::ExcludeFile, error);
            Vec::new()
        });
        let (patterns, errors) = parse_file(&content);
        for error in errors {
            self.note(ProblemKind::ExcludeFile, error);
        }
        match outer {
            Some(outer) => Some(outer.enter(&self.path, patterns)),
            None => Some(Matcher::new([]).enter(&self.path, patterns)),
        }
    }
}
