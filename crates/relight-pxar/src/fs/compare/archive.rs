//! An archive as one side of a comparison.

use std::io;

use super::links::Group;
use super::merge::{Entry, EntryKind, Found};
use super::{CompareError, CompareOptions};
use crate::entry::ContentPlace;
use crate::error::DecodeError;
use crate::fs::extract::content::{self, ContentFailure};
use crate::fs::extract::items::{Item, ItemKind, Items, Step};
use crate::fs::extract::{ArchiveSource, ContentSource, Piece, Selection};

/// Goes through an archive.
pub(super) struct ArchiveSide<'a> {
    items: Items<'a>,
    content: Option<Box<dyn ContentSource + 'a>>,
    selection: Selection,
}

impl<'a> ArchiveSide<'a> {
    pub fn open(source: &'a dyn ArchiveSource, options: &CompareOptions) -> Result<Self, CompareError> {
        let metadata = source.metadata().map_err(DecodeError::from)?;
        Ok(Self {
            items: Items::sequential(metadata)?,
            content: source.content().ok(),
            selection: options.selection.clone(),
        })
    }

    pub fn next(&mut self) -> Result<Option<Found>, DecodeError> {
        let (item, standing) = match self.items.next(&self.selection)? {
            None => return Ok(None),
            Some(Step::Leave) => return Ok(Some(Found::Leave)),
            Some(Step::Entry(item, standing)) => (item, standing),
        };
        let Item {
            name,
            position,
            metadata,
            kind,
        } = item;
        let mut group = None;
        let mut metadata = Some(metadata);
        let kind = match kind {
            ItemKind::Directory => EntryKind::Directory,
            ItemKind::File { size, content } => {
                group = Some(Group {
                    id: (0, position),
                    several: false,
                });
                EntryKind::File {
                    size,
                    place: Some(content),
                }
            }
            ItemKind::Symlink { target } => EntryKind::Symlink(target),
            ItemKind::Device { major, minor } => EntryKind::Device { major, minor },
            ItemKind::Fifo => EntryKind::Fifo,
            ItemKind::Socket => EntryKind::Socket,
            ItemKind::Hardlink { target_position, .. } => {
                group = Some(Group {
                    id: (0, target_position),
                    several: true,
                });
                metadata = None;
                EntryKind::Link
            }
        };
        Ok(Some(Found::Entry(Entry {
            name,
            kind,
            metadata,
            group,
            standing,
            problem: None,
        })))
    }

    pub fn skip_directory(&mut self) -> Result<(), DecodeError> {
        self.items.skip_directory()
    }

    /// Hands out the content of the file handed out last, until `take` fails.
    pub fn content(
        &mut self,
        place: ContentPlace,
        size: u64,
        stopped: &dyn Fn() -> bool,
        take: &mut dyn FnMut(Piece<'_>) -> io::Result<()>,
    ) -> Result<(), ContentFailure> {
        content::read(
            stopped,
            &mut self.items,
            self.content.as_deref_mut(),
            place,
            size,
            take,
        )
    }
}
