//! An earlier base backup, whose unchanged parts a new one takes over.

use std::collections::HashMap;
use std::sync::Arc;

use relight_repo::read::{ArchiveReader, ChunkReader};
use relight_repo::session::{ArchiveWriter, Session};
use relight_repo::snapshot::Snapshot;
use relight_repo::tree::{Piece, Root, TreeReader};

use super::attributes::About;
use super::files::EntryKind;
use super::{CONTENT, MANIFEST, load_list};
use crate::error::{PostgresError, Result};

/// No list of files of a server is longer.
const MANIFEST_MOST: u64 = 1 << 30;

/// An earlier base backup.
pub(super) struct Previous {
    pub about: About,
    /// Bytes of its chunks.
    pub chunk: u64,
    reader: Arc<ChunkReader>,
    root: Root,
    manifest: Option<Root>,
    files: HashMap<String, (u64, u64)>,
    /// What files are known by that were read on their host.
    stamps: HashMap<String, String>,
}

/// A file of it, read from front to back.
pub(super) struct PreviousFile<'p> {
    pieces: TreeReader<'p>,
    next: Option<Piece>,
    /// Where it begins in the archive.
    offset: u64,
    pub size: u64,
    content: ArchiveReader,
}

impl Previous {
    /// Reads its list of files.
    pub fn load(session: &Session, snapshot: &Snapshot, about: About) -> Result<Self> {
        let reader = Arc::new(ChunkReader::new(session.repository().clone())?);
        let list = load_list(&reader, snapshot)?;
        let stamps = list
            .entries
            .iter()
            .filter_map(|entry| Some((entry.path.clone(), entry.stamp.clone()?)));
        let stamps = stamps.collect();
        let files = list.entries.into_iter().filter_map(|entry| match entry.kind {
            EntryKind::File { size, offset } => Some((entry.path, (offset, size))),
            _ => None,
        });
        Ok(Self {
            about,
            chunk: list.chunk,
            files: files.collect(),
            stamps,
            root: snapshot.archive(CONTENT)?.root,
            manifest: snapshot.archive(MANIFEST).ok().map(|archive| archive.root),
            reader,
        })
    }

    /// Whether it holds the server's own list of files.
    pub fn has_manifest(&self) -> bool {
        self.manifest.is_some()
    }

    /// The server's own list of files.
    pub fn manifest(&self) -> Result<Option<Vec<u8>>> {
        let Some(root) = self.manifest.filter(|root| root.size <= MANIFEST_MOST) else {
            return Ok(None);
        };
        let mut bytes = vec![0; root.size as usize];
        ArchiveReader::new(self.reader.clone(), root).read_exact_at(&mut bytes, 0)?;
        Ok(Some(bytes))
    }

    /// Whether a file looks as it did.
    pub fn is_same(&self, path: &str, size: u64, stamp: &str) -> bool {
        self.stamps.get(path).is_some_and(|then| then == stamp)
            && self.files.get(path).is_some_and(|(_, then)| *then == size)
    }

    /// A file; none if it was not there.
    pub fn file(&self, path: &str) -> Result<Option<PreviousFile<'_>>> {
        let Some(&(offset, size)) = self.files.get(path) else {
            return Ok(None);
        };
        Ok(Some(PreviousFile {
            pieces: TreeReader::new(&*self.reader, self.root, offset)?,
            next: None,
            offset,
            size,
            content: ArchiveReader::new(self.reader.clone(), self.root),
        }))
    }
}

impl PreviousFile<'_> {
    /// Takes over `length` bytes at `at` as one chunk, if they are one. Places have to be asked for in order.
    pub fn take_over(&mut self, writer: &mut ArchiveWriter, at: u64, length: u64) -> Result<bool> {
        if at + length > self.size {
            return Ok(false);
        }
        let wanted = self.offset + at;
        loop {
            let piece = match self.next.take() {
                Some(piece) => piece,
                None => match self.pieces.next().transpose()? {
                    Some(piece) => piece,
                    None => return Ok(false),
                },
            };
            if piece.offset < wanted {
                continue;
            }
            if piece.offset == wanted && piece.length == length {
                if piece.id == relight_repo::ChunkId::ZEROS {
                    writer.push_zeros(length)?;
                    return Ok(true);
                }
                return Ok(writer.push_known(piece.id, length)?);
            }
            self.next = Some(piece);
            return Ok(false);
        }
    }

    /// Reads bytes at `at`; what is behind its end is zeros.
    pub fn read(&self, at: u64, bytes: &mut [u8]) -> Result<()> {
        let there = self.size.saturating_sub(at).min(bytes.len() as u64) as usize;
        self.content
            .read_exact_at(&mut bytes[..there], self.offset + at)?;
        bytes[there..].fill(0);
        Ok(())
    }
}

/// Puts a file together from an incremental one, as a server of 17 and later sends it, and the one of the earlier backup
/// (PostgreSQL source, `backup/basebackup_incremental.h` and `bin/pg_combinebackup/reconstruct.c`).
pub(super) struct Composer<'p> {
    path: String,
    previous: PreviousFile<'p>,
    block: u64,
    chunk: u64,
    header: Vec<u8>,
    plan: Option<Plan>,
    /// What has come of the current block.
    partial: Vec<u8>,
}

struct Plan {
    /// Numbers of the blocks that come, ascending.
    blocks: Vec<u32>,
    /// Bytes of zeros between header and blocks.
    padding: u64,
    /// Which block comes next.
    next: usize,
    /// The chunk that is being put together.
    at_chunk: u64,
    /// Its blocks.
    over: Vec<(u32, Vec<u8>)>,
    /// Bytes of the file.
    size: u64,
}

/// How an incremental file begins.
const MAGIC: u32 = 0xd3ae_1f0d;
/// No file of a relation has more blocks.
const MOST_BLOCKS: u32 = 1 << 24;

impl<'p> Composer<'p> {
    /// Nothing has come of it yet.
    pub fn new(path: &str, previous: PreviousFile<'p>, block: u32, chunk: u64) -> Self {
        Self {
            path: path.to_string(),
            previous,
            block: u64::from(block),
            chunk,
            header: Vec::new(),
            plan: None,
            partial: Vec::new(),
        }
    }

    fn damaged(&self, why: &str) -> PostgresError {
        PostgresError::damaged(format!("what the server sent of {}", self.path), why)
    }

    /// Takes bytes; `look` sees every block with its number.
    pub fn data(
        &mut self,
        writer: &mut ArchiveWriter,
        mut bytes: &[u8],
        look: &mut dyn FnMut(u32, &[u8]),
    ) -> Result<()> {
        while !bytes.is_empty() {
            if self.plan.is_none() {
                let wanted = self.header_length()?;
                let count = bytes.len().min(wanted - self.header.len());
                self.header.extend_from_slice(&bytes[..count]);
                bytes = &bytes[count..];
                if self.header.len() == self.header_length()? {
                    self.plan = Some(self.make_plan()?);
                }
                continue;
            }
            let Some(plan) = &mut self.plan else { continue };
            if plan.padding > 0 {
                let count = plan.padding.min(bytes.len() as u64);
                plan.padding -= count;
                bytes = &bytes[count as usize..];
                continue;
            }
            let Some(&number) = plan.blocks.get(plan.next) else {
                return Err(self.damaged("there is more of it than it announced"));
            };
            let count = bytes.len().min(self.block as usize - self.partial.len());
            self.partial.extend_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            if self.partial.len() as u64 == self.block {
                let block = std::mem::take(&mut self.partial);
                look(number, &block);
                plan.next += 1;
                self.take_block(writer, number, block)?;
            }
        }
        Ok(())
    }

    /// Bytes of magic, two lengths and the numbers of blocks, as far as is known.
    fn header_length(&self) -> Result<usize> {
        let Some(count) = self.header.get(4..8) else {
            return Ok(12);
        };
        let count = count
            .first_chunk::<4>()
            .map_or(0, |count| u32::from_ne_bytes(*count));
        if count > MOST_BLOCKS {
            return Err(self.damaged("it announces more blocks than a file can have"));
        }
        Ok(12 + 4 * count as usize)
    }

    fn make_plan(&self) -> Result<Plan> {
        let words: Vec<u32> = self
            .header
            .as_chunks::<4>()
            .0
            .iter()
            .map(|word| u32::from_ne_bytes(*word))
            .collect();
        let [magic, count, truncated, blocks @ ..] = &words[..] else {
            return Err(self.damaged("its header is cut off"));
        };
        if *magic != MAGIC || blocks.len() != *count as usize || *truncated > MOST_BLOCKS {
            return Err(self.damaged("it is no incremental file of a format that is known"));
        }
        if !blocks.is_sorted_by(|a, b| a < b) || blocks.last().is_some_and(|last| *last >= MOST_BLOCKS) {
            return Err(self.damaged("its blocks are not in order"));
        }
        let header = self.header.len() as u64;
        let padding = if blocks.is_empty() {
            0
        } else {
            header.next_multiple_of(self.block) - header
        };
        let last = blocks.last().map_or(0, |last| last + 1);
        Ok(Plan {
            padding,
            next: 0,
            at_chunk: 0,
            over: Vec::new(),
            size: u64::from((*truncated).max(last)) * self.block,
            blocks: blocks.to_vec(),
        })
    }

    fn take_block(&mut self, writer: &mut ArchiveWriter, number: u32, block: Vec<u8>) -> Result<()> {
        let chunk = u64::from(number) * self.block / self.chunk;
        self.flush_until(writer, chunk)?;
        if let Some(plan) = &mut self.plan {
            plan.over.push((number, block));
        }
        Ok(())
    }

    /// Writes all chunks before this one.
    fn flush_until(&mut self, writer: &mut ArchiveWriter, chunk: u64) -> Result<()> {
        let Some(plan) = &mut self.plan else { return Ok(()) };
        while plan.at_chunk < chunk {
            let at = plan.at_chunk * self.chunk;
            let length = self.chunk.min(plan.size.saturating_sub(at));
            plan.at_chunk += 1;
            if length == 0 {
                continue;
            }
            let over = std::mem::take(&mut plan.over);
            if over.is_empty() && self.previous.take_over(writer, at, length)? {
                continue;
            }
            let mut content = vec![0; length as usize];
            self.previous.read(at, &mut content)?;
            for (number, block) in over {
                let begin = (u64::from(number) * self.block - at) as usize;
                content[begin..begin + block.len()].copy_from_slice(&block);
            }
            writer.push_chunk(content)?;
        }
        Ok(())
    }

    /// Everything has come: writes the rest and gives the file's size.
    pub fn finish(mut self, writer: &mut ArchiveWriter) -> Result<u64> {
        let size = match &self.plan {
            Some(plan) if plan.next == plan.blocks.len() && self.partial.is_empty() => plan.size,
            _ => return Err(self.damaged("it is cut off")),
        };
        self.flush_until(writer, size.div_ceil(self.chunk))?;
        Ok(size)
    }
}
