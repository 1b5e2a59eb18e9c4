//! Random access to an archive: directories through their look-up tables, entries by position.

mod list;
mod node;
mod window;

use std::collections::VecDeque;

use crate::entry::{ContentPlace, EntryKind, KindLayout, Window, parse, part};
use crate::error::DecodeError;
use crate::format::{
    self, GOODBYE, GOODBYE_ITEM_SIZE, GOODBYE_TAIL_MARKER, HEADER_SIZE, ItemHeader, Version, u64_at,
};
use crate::goodbye::GoodbyeItem;
use crate::payload;
use crate::read_at::ReadAt;
use crate::siphash::hash_name;

pub use list::ChildList;
use node::NOT_DIRECTORY;
pub use node::{Directory, FileContent, Node, NodeId};
use window::{Cache, CacheWindow, read};

/// Bytes read ahead for a single entry.
const ENTRY_BLOCK: usize = 512;
/// Bytes read ahead while a directory is listed.
const LIST_BLOCK: usize = 16 * 1024;
/// Smallest child: a FILENAME item of one byte and a HARDLINK item with an empty path.
const SMALLEST_CHILD: u64 = 18 + 25;
/// Reads an archive (version 1, or the metadata stream of version 2) anywhere.
#[derive(Debug)]
pub struct Accessor<R> {
    archive: R,
    size: u64,
    version: Version,
    prelude: Option<Vec<u8>>,
    /// Where the ENTRY item of the root lies.
    root: u64,
}

impl<R: ReadAt> Accessor<R> {
    /// Opens an archive: reads its beginning.
    pub fn open(archive: R) -> Result<Self, DecodeError> {
        let size = archive.size();
        let mut accessor = Self {
            archive,
            size,
            version: Version::V1,
            prelude: None,
            root: 0,
        };
        let mut cache = Cache::new(ENTRY_BLOCK);
        let (header, content) = accessor.first_item(&mut cache, 0, format::FORMAT_VERSION)?;
        if let Some(content) = content {
            accessor.version = match (content.len(), u64_at(&content, 0)) {
                (8, 1) => Version::V1,
                (8, 2) => Version::V2,
                (8, version) => return Err(DecodeError::UnknownVersion { version }),
                _ => return Err(DecodeError::damaged(0, "the version has the wrong size")),
            };
            accessor.root = header.size;
        }
        if accessor.version == Version::V2 {
            let (header, content) = accessor.first_item(&mut cache, accessor.root, format::PRELUDE)?;
            if content.is_some() {
                accessor.prelude = content;
                accessor.root = accessor.root.saturating_add(header.size);
            }
        }
        Ok(accessor)
    }

    /// The item at `position`, with its content where it is of that (bounded) kind.
    fn first_item(
        &self,
        cache: &mut Cache,
        position: u64,
        kind: u64,
    ) -> Result<(ItemHeader, Option<Vec<u8>>), DecodeError> {
        let mut window = self.window(cache, position, self.size);
        let bytes = window.require(HEADER_SIZE as usize)?;
        let bytes = bytes
            .first_chunk::<16>()
            .ok_or(DecodeError::Truncated { position })?;
        let header = ItemHeader::parse(bytes, position)?;
        if header.kind != kind {
            return Ok((header, None));
        }
        let size = header.size as usize;
        let content = part(window.require(size)?, &(HEADER_SIZE as usize..size)).to_vec();
        Ok((header, Some(content)))
    }

    /// Version of the archive.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The prelude of a version 2 archive, where there is one.
    pub fn prelude(&self) -> Option<&[u8]> {
        self.prelude.as_deref()
    }

    /// The bytes of the archive.
    pub fn archive(&self) -> &R {
        &self.archive
    }

    /// Id of the root directory.
    pub fn root_id(&self) -> NodeId {
        NodeId(self.size)
    }

    /// The root directory.
    pub fn root(&self) -> Result<Node, DecodeError> {
        self.node(self.root_id())
    }

    /// The entry an id names.
    pub fn node(&self, id: NodeId) -> Result<Node, DecodeError> {
        let mut cache = Cache::new(ENTRY_BLOCK);
        if id.is_directory() {
            let directory = self.directory_ending_at(id.0)?;
            let node = self.parse(
                &mut cache,
                directory.entry,
                directory.table,
                Some(directory.end),
                false,
            )?;
            return match node.kind() {
                EntryKind::Directory => Ok(node),
                _ => Err(DecodeError::damaged(
                    directory.entry,
                    "a look-up table does not belong to a directory",
                )),
            };
        }
        let node = self.parse(&mut cache, id.0 & !NOT_DIRECTORY, self.size, None, true)?;
        match node.kind() {
            EntryKind::Directory => Err(DecodeError::WrongKind(
                "this id does not name an entry of the archive",
            )),
            _ => Ok(node),
        }
    }

    /// Opens a directory.
    pub fn directory(&self, node: &Node) -> Result<Directory, DecodeError> {
        match node.kind() {
            EntryKind::Directory => self.directory_ending_at(node.id.0),
            _ => Err(DecodeError::WrongKind("the entry is not a directory")),
        }
    }

    /// The children of a directory, sorted by name.
    pub fn children(&self, directory: &Directory) -> Result<Children<'_, R>, DecodeError> {
        Ok(Children {
            accessor: self,
            directory: *directory,
            items: self.child_items(directory)?.into(),
            cache: Cache::new(LIST_BLOCK),
        })
    }

    /// The records of a directory's children in the order of the archive, which is that of their names.
    fn child_items(&self, directory: &Directory) -> Result<Vec<GoodbyeItem>, DecodeError> {
        let mut items = Vec::new();
        let mut position = directory.table + HEADER_SIZE;
        let mut left = directory.count;
        let mut block = vec![0; (left.min(1024) * GOODBYE_ITEM_SIZE) as usize];
        while left > 0 {
            let count = left.min(1024);
            let length = count * GOODBYE_ITEM_SIZE;
            let part = &mut block[..length as usize];
            self.read(part, position)?;
            items.extend(part.as_chunks::<24>().0.iter().map(GoodbyeItem::parse));
            position += length;
            left -= count;
        }
        // The offset counts backwards from the table, so the first child has the largest.
        items.sort_unstable_by_key(|item| std::cmp::Reverse(item.offset));
        Ok(items)
    }

    /// The child of a directory with that name.
    pub fn lookup(&self, directory: &Directory, name: &[u8]) -> Result<Option<Node>, DecodeError> {
        let hash = hash_name(name);
        let mut cache = Cache::new(ENTRY_BLOCK);
        // Both sides of a record with the wanted hash but another name may hold the wanted name.
        let mut pending = vec![0];
        while let Some(mut index) = pending.pop() {
            while index < directory.count {
                let mut record = [0; GOODBYE_ITEM_SIZE as usize];
                self.read(
                    &mut record,
                    directory.table + HEADER_SIZE + index * GOODBYE_ITEM_SIZE,
                )?;
                let item = GoodbyeItem::parse(&record);
                let (smaller, larger) = (2 * index + 1, 2 * index + 2);
                index = match hash.cmp(&item.hash) {
                    std::cmp::Ordering::Less => smaller,
                    std::cmp::Ordering::Greater => larger,
                    std::cmp::Ordering::Equal => {
                        let node = self.child(&mut cache, directory, item)?;
                        if node.name() == name {
                            return Ok(Some(node));
                        }
                        pending.push(larger);
                        smaller
                    }
                };
            }
        }
        Ok(None)
    }

    /// The entry at a path from the root; empty components are passed over, links are not followed.
    pub fn lookup_path(&self, path: &[u8]) -> Result<Option<Node>, DecodeError> {
        let mut node = self.root()?;
        for name in path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            if !matches!(node.kind(), EntryKind::Directory) {
                return Ok(None);
            }
            match self.lookup(&self.directory(&node)?, name)? {
                Some(child) => node = child,
                None => return Ok(None),
            }
        }
        Ok(Some(node))
    }

    /// The entry a hard link points at, which is never a link itself; any other entry is handed back as it is.
    pub fn resolve_hardlink(&self, node: &Node) -> Result<Node, DecodeError> {
        let EntryKind::Hardlink { target_position, .. } = node.kind() else {
            return Ok(node.clone());
        };
        let target = self.parse(
            &mut Cache::new(ENTRY_BLOCK),
            target_position,
            node.position,
            None,
            true,
        )?;
        match target.kind() {
            EntryKind::Directory | EntryKind::Hardlink { .. } => Err(DecodeError::damaged(
                node.position,
                "a hard link points at a directory or another link",
            )),
            _ => Ok(target),
        }
    }

    /// The content of a regular file (not of a hard link, see [`Accessor::resolve_hardlink`]). `payload` is the payload
    /// stream of a version 2 archive; the header before the content is checked.
    pub fn content<'a>(
        &'a self,
        node: &Node,
        payload: Option<&'a dyn ReadAt>,
    ) -> Result<FileContent<'a>, DecodeError> {
        let EntryKind::File { size, content } = node.kind() else {
            return Err(DecodeError::WrongKind("the entry is not a regular file"));
        };
        let (source, start): (&dyn ReadAt, u64) = match (content, payload) {
            (ContentPlace::Inline { offset }, _) => (&self.archive, offset),
            (ContentPlace::Payload { offset }, Some(payload)) => {
                let mut header = [0; HEADER_SIZE as usize];
                read(payload, &mut header, offset)?;
                payload::check_header(&header, offset, size)?;
                (payload, payload::content_start(offset))
            }
            (ContentPlace::Payload { .. }, None) => {
                return Err(DecodeError::WrongKind(
                    "the content lies in the payload stream, which was not opened",
                ));
            }
        };
        if start.checked_add(size).is_none_or(|end| end > source.size()) {
            return Err(DecodeError::Truncated {
                position: source.size(),
            });
        }
        Ok(FileContent { source, start, size })
    }

    fn directory_ending_at(&self, end: u64) -> Result<Directory, DecodeError> {
        let damaged = |what| DecodeError::damaged(end, what);
        let tail_position = match end.checked_sub(GOODBYE_ITEM_SIZE) {
            Some(position) if end <= self.size => position,
            _ => return Err(damaged("a directory ends outside the archive")),
        };
        let mut record = [0; GOODBYE_ITEM_SIZE as usize];
        self.read(&mut record, tail_position)?;
        let tail = GoodbyeItem::parse(&record);
        let content = tail.size.wrapping_sub(HEADER_SIZE);
        if tail.hash != GOODBYE_TAIL_MARKER
            || tail.size < HEADER_SIZE + GOODBYE_ITEM_SIZE
            || !content.is_multiple_of(GOODBYE_ITEM_SIZE)
        {
            return Err(damaged("no look-up table ends where a directory should end"));
        }
        let bounds = end
            .checked_sub(tail.size)
            .and_then(|table| Some((table, table.checked_sub(tail.offset)?)));
        let Some((table, entry)) = bounds else {
            return Err(damaged("a directory begins outside the archive"));
        };
        // The table of the root, and no other, points back at the beginning of the stream.
        let entry = if entry == 0 { self.root } else { entry };
        if (entry == self.root) != (end == self.size) || entry < self.root {
            return Err(damaged(
                "the archive does not end with its root directory: its end is missing",
            ));
        }
        let count = content / GOODBYE_ITEM_SIZE - 1;
        if entry > table || count > (table - entry) / SMALLEST_CHILD {
            return Err(damaged(
                "a look-up table has more records than its directory has children",
            ));
        }
        let mut header = [0; HEADER_SIZE as usize];
        self.read(&mut header, table)?;
        if header != ItemHeader::new(GOODBYE, content).to_bytes() {
            return Err(damaged("a look-up table does not begin where its end says"));
        }
        Ok(Directory {
            entry,
            table,
            count,
            end,
        })
    }

    /// The child a record points at. In the size of a regular file the original counts the content as well, even
    /// where that lies in the payload stream, so a size is only a bound for reading; of a directory it is the size.
    fn child(
        &self,
        cache: &mut Cache,
        directory: &Directory,
        item: GoodbyeItem,
    ) -> Result<Node, DecodeError> {
        let outside =
            || DecodeError::damaged(directory.table, "a look-up table points outside its directory");
        let position = directory
            .table
            .checked_sub(item.offset)
            .filter(|&position| position > directory.entry);
        let position = position.ok_or_else(outside)?;
        let end = position.checked_add(item.size).ok_or_else(outside)?;
        let node = self.parse(cache, position, end.min(directory.table), Some(end), true)?;
        if node.id.is_directory() && end > directory.table {
            return Err(outside());
        }
        Ok(node)
    }

    /// Reads the entry at `position`, whose items end before `limit`. `end` is the end of the whole, where known; it
    /// must be for a directory.
    fn parse(
        &self,
        cache: &mut Cache,
        position: u64,
        limit: u64,
        end: Option<u64>,
        named: bool,
    ) -> Result<Node, DecodeError> {
        let mut window = self.window(cache, position, limit);
        let layout = parse(&mut window, self.version, named)?;
        let bytes = part(window.require(layout.length)?, &(0..layout.length)).to_vec();
        let id = match (&layout.kind, end) {
            (KindLayout::Directory, Some(end)) => NodeId(end),
            _ => NodeId::of_entry(position),
        };
        Ok(Node {
            id,
            position,
            bytes,
            layout,
        })
    }

    fn window<'w>(&'w self, cache: &'w mut Cache, position: u64, limit: u64) -> CacheWindow<'w, R> {
        CacheWindow::new(&self.archive, cache, position, limit)
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> Result<(), DecodeError> {
        read(&self.archive, buffer, offset)
    }
}

/// The children of a directory in archive order, which is that of their names.
#[derive(Debug)]
pub struct Children<'a, R> {
    accessor: &'a Accessor<R>,
    directory: Directory,
    items: VecDeque<GoodbyeItem>,
    cache: Cache,
}

impl<R: ReadAt> Iterator for Children<'_, R> {
    type Item = Result<Node, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.items.pop_front()?;
        Some(self.accessor.child(&mut self.cache, &self.directory, item))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.items.len(), Some(self.items.len()))
    }
}
