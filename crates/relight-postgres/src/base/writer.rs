//! Takes the files of a cluster in order, cuts them into chunks by position, looks at their pages, and keeps the list.
//!
//! Pages change in place. Chunks of a fixed length from the beginning of each file therefore find again what did not
//! change, and a chunk of few pages is lost by a change of one. Segments of the log are cut by their content, as in the log
//! itself.

use std::io;
use std::sync::Arc;

use relight_repo::session::{ArchiveWriter, Session};
use relight_repo::snapshot::{Archive, ArchiveKind};

use super::TOGETHER;
use super::files::{Entry, EntryKind, FileList, Tablespace};
use super::pages::{self, Verdict};
use super::previous::{Composer, Previous};
use crate::error::{PostgresError, Result};
use crate::lsn::Lsn;

/// Name of the archive with the contents of files.
pub const CONTENT: &str = "base.content";
/// Name of the archive with the list of files.
pub const LIST: &str = "base.files";

/// Fills a buffer with what a file holds from a place on.
pub type ReadPart = Arc<dyn Fn(u64, &mut [u8]) -> io::Result<()> + Send + Sync>;

/// A page whose checksum is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadPage {
    /// The file.
    pub path: String,
    /// The page's number in the file.
    pub page: u32,
    /// The position in the log of its last change, as it tells.
    pub lsn: Lsn,
}

/// How pages are checked.
#[derive(Debug, Clone, Copy)]
pub struct PageRules {
    /// Bytes of a page.
    pub block: usize,
    /// Pages of one file of a relation.
    pub segment: u32,
    /// Where the backup began: what changed after it is put right by the log.
    pub start: Lsn,
}

/// Writes the content archive.
pub struct ContentWriter<'p> {
    writer: ArchiveWriter,
    list: FileList,
    rules: Option<PageRules>,
    current: Option<Current<'p>>,
    bad: Vec<BadPage>,
}

/// The file that is being taken.
struct Current<'p> {
    path: String,
    left: u64,
    how: How<'p>,
}

enum How<'p> {
    /// By position: what has come of the chunks that are handed on together.
    Chunks {
        chunk: Vec<u8>,
        pages: Option<u32>,
        at: u64,
    },
    /// By content.
    Log,
    /// Put together from what changed and an earlier backup.
    Composed(Box<Composer<'p>>, u32),
}

impl<'p> ContentWriter<'p> {
    /// With nothing in it yet.
    pub fn new(
        session: &Session,
        chunk: u64,
        tablespaces: Vec<Tablespace>,
        rules: Option<PageRules>,
    ) -> Result<Self> {
        Ok(Self {
            writer: session.archive(CONTENT, ArchiveKind::Stream)?,
            list: FileList::new(chunk, tablespaces),
            rules,
            current: None,
            bad: Vec::new(),
        })
    }

    /// A directory or a link.
    pub fn add(&mut self, entry: Entry) {
        self.list.entries.push(entry);
    }

    /// A file begins; its content follows.
    pub fn begin(&mut self, path: &str, size: u64, mode: u32, modified: i64) {
        self.list.entries.push(Entry {
            path: path.to_string(),
            kind: EntryKind::File {
                size,
                offset: self.writer.position(),
            },
            mode,
            modified,
            stamp: None,
        });
        let name = path.rsplit('/').next().unwrap_or_default();
        let how = if path.starts_with("pg_wal/") {
            How::Log
        } else {
            How::Chunks {
                chunk: Vec::new(),
                pages: self.rules.and_then(|_| relation_segment(path, name)),
                at: 0,
            }
        };
        self.current = Some(Current {
            path: path.to_string(),
            left: size,
            how,
        });
    }

    /// A file begins of which only what changed since `previous` comes, in `size` bytes.
    pub fn begin_changed(
        &mut self,
        path: &str,
        size: u64,
        (mode, modified): (u32, i64),
        previous: &'p Previous,
        block: u32,
    ) -> Result<()> {
        let Some(file) = previous.file(path)? else {
            return Err(PostgresError::damaged(
                path,
                "the server sent only what changed, but the earlier backup does not have the file",
            ));
        };
        let name = path.rsplit('/').next().unwrap_or_default();
        self.list.entries.push(Entry {
            path: path.to_string(),
            kind: EntryKind::File {
                size: 0,
                offset: self.writer.position(),
            },
            mode,
            modified,
            stamp: None,
        });
        let composer = Composer::new(path, file, block, self.list.chunk);
        self.current = Some(Current {
            path: path.to_string(),
            left: size,
            how: How::Composed(Box::new(composer), pages::segment_of(name).unwrap_or(0)),
        });
        Ok(())
    }

    /// More of the file.
    pub fn data(&mut self, mut bytes: &[u8]) -> Result<()> {
        let part = self.list.chunk as usize;
        let most = part.max(TOGETHER as usize);
        let Some(current) = &mut self.current else {
            return Err(PostgresError::damaged(
                "a base backup",
                "content came without a file",
            ));
        };
        current.left = current
            .left
            .checked_sub(bytes.len() as u64)
            .ok_or_else(|| PostgresError::damaged(&current.path, "more came of it than its size says"))?;
        match &mut current.how {
            How::Log => self.writer.write(bytes)?,
            How::Composed(composer, segment) => {
                let (rules, bad, path) = (self.rules, &mut self.bad, &current.path);
                let mut see = |number: u32, block: &[u8]| {
                    if let Some(rules) = rules {
                        let at = u64::from(number) * rules.block as u64;
                        look(path, block, at, *segment, rules, bad);
                    }
                };
                composer.data(&mut self.writer, bytes, &mut see)?;
            }
            How::Chunks { chunk, pages, at } => {
                while !bytes.is_empty() {
                    if chunk.capacity() == 0 {
                        let left = current.left + bytes.len() as u64;
                        chunk.reserve_exact(left.min(most as u64) as usize);
                    }
                    let count = bytes.len().min(most - chunk.len());
                    chunk.extend_from_slice(&bytes[..count]);
                    bytes = &bytes[count..];
                    if chunk.len() == most || (bytes.is_empty() && current.left == 0) {
                        if let (Some(segment), Some(rules)) = (*pages, self.rules) {
                            look(&current.path, chunk, *at, segment, rules, &mut self.bad);
                        }
                        *at += chunk.len() as u64;
                        self.writer.push_parts(std::mem::take(chunk), part)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The file is complete.
    pub fn end(&mut self) -> Result<()> {
        match self.current.take() {
            Some(current) if current.left > 0 => Err(PostgresError::damaged(
                current.path,
                format!("{} bytes less came of it than its size says", current.left),
            )),
            Some(Current {
                how: How::Composed(composer, _),
                ..
            }) => {
                let whole = composer.finish(&mut self.writer)?;
                if let Some(Entry {
                    kind: EntryKind::File { size, .. },
                    ..
                }) = self.list.entries.last_mut()
                {
                    *size = whole;
                }
                Ok(())
            }
            Some(_) => Ok(self.writer.cut()?),
            None => Ok(()),
        }
    }

    /// A file that threads read by themselves: `read` fills a part of it.
    pub fn read_file(&mut self, mut entry: Entry, read: ReadPart) -> Result<()> {
        let EntryKind::File { size, offset } = &mut entry.kind else {
            return Ok(());
        };
        let size = *size;
        *offset = self.writer.position();
        self.list.entries.push(entry);
        let (mut at, together) = (0, TOGETHER.max(self.list.chunk));
        while at < size {
            let length = together.min(size - at);
            let (read, from) = (read.clone(), at);
            self.writer.push_read_parts(
                length as usize,
                self.list.chunk as usize,
                Box::new(move |buffer: &mut [u8]| read(from, buffer)),
            )?;
            at += length;
        }
        Ok(())
    }

    /// A file that is what it was in an earlier backup. False if that one does not have it.
    pub fn take_over(&mut self, mut entry: Entry, previous: &Previous) -> Result<bool> {
        let EntryKind::File { size, offset } = &mut entry.kind else {
            return Ok(false);
        };
        let size = *size;
        let Some(mut file) = previous.file(&entry.path)? else {
            return Ok(false);
        };
        *offset = self.writer.position();
        let mut at = 0;
        while at < size {
            let length = self.list.chunk.min(size - at);
            if !file.take_over(&mut self.writer, at, length)? {
                let mut content = vec![0; length as usize];
                file.read(at, &mut content)?;
                self.writer.push_chunk(content)?;
            }
            at += length;
        }
        self.list.entries.push(entry);
        Ok(true)
    }

    /// The archive of contents, the list, and the pages whose checksums are wrong although they did not change since the
    /// backup began.
    pub fn finish(self) -> Result<(Archive, FileList, Vec<BadPage>)> {
        Ok((self.writer.finish()?, self.list, self.bad))
    }
}

/// The number of a relation's segment, if the file at `path` holds pages of one.
pub fn relation_segment(path: &str, name: &str) -> Option<u32> {
    let place = ["base/", "global/", "pg_tblspc/"];
    place
        .iter()
        .any(|place| path.starts_with(place))
        .then(|| pages::segment_of(name))
        .flatten()
}

/// Looks at the pages of a chunk that begins at byte `at` of a file.
pub fn look(path: &str, chunk: &[u8], at: u64, segment: u32, rules: PageRules, bad: &mut Vec<BadPage>) {
    let first = (at / rules.block as u64) as u32;
    for (number, page) in chunk.chunks_exact(rules.block).enumerate() {
        let page_number = first.wrapping_add(number as u32);
        let block = segment.wrapping_mul(rules.segment).wrapping_add(page_number);
        match pages::verify(page, block) {
            Verdict::Bad { lsn } if lsn < rules.start => bad.push(BadPage {
                path: path.to_string(),
                page: page_number,
                lsn,
            }),
            // It changed since, perhaps while it was read: the log holds it whole.
            Verdict::Bad { .. } | Verdict::Good => {}
        }
    }
}
