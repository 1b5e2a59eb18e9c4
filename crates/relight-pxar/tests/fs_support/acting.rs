//! A source that does something while it is read.

use std::cell::Cell;
use std::io;
use std::ops::{ControlFlow, Range};

use relight_pxar::fs::extract::{ArchiveSource, ArchiveStream, ContentSource, Piece};

use super::MemoryArchive;

/// A source that does something now and then.
pub struct Acting<'a> {
    pub archive: &'a MemoryArchive,
    /// Called with the number of contents read before.
    pub content: &'a (dyn Fn(u64) -> io::Result<()> + Sync),
    /// Called with the number of times the metadata was opened before.
    pub metadata: &'a dyn Fn(u64),
    pub opened: Cell<u64>,
}

struct ActingContent<'a> {
    inner: Box<dyn ContentSource + 'a>,
    act: &'a (dyn Fn(u64) -> io::Result<()> + Sync),
    count: u64,
}

impl ContentSource for ActingContent<'_> {
    fn read(
        &mut self,
        range: Range<u64>,
        take: &mut dyn FnMut(Piece<'_>) -> ControlFlow<()>,
    ) -> io::Result<()> {
        self.count += 1;
        (self.act)(self.count - 1)?;
        self.inner.read(range, take)
    }
}

impl ArchiveSource for Acting<'_> {
    fn metadata(&self) -> io::Result<Box<dyn ArchiveStream + '_>> {
        (self.metadata)(self.opened.replace(self.opened.get() + 1));
        self.archive.metadata()
    }
    fn content(&self) -> io::Result<Box<dyn ContentSource + '_>> {
        Ok(Box::new(ActingContent {
            inner: self.archive.content()?,
            act: self.content,
            count: 0,
        }))
    }
}
