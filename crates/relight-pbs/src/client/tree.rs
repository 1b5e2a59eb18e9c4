//! Saves a file tree: what a capture of it gives becomes the two streams of a split archive, and beside them the stat
//! records by which the next backup knows what is unchanged.

use std::io::{self, Read};
use std::ops::Range;

use relight_pxar::fs::sink::ArchiveSink;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::runtime::Handle;

use super::source::RemoteArchive;
use super::{ArchiveWriter, BackupSession, Client, ClientError, ReaderSession, Result, SavedArchive};
use crate::formats::chunker::StreamChunker;
use crate::formats::index::Digest;
use crate::formats::manifest::Manifest;
use relight_workloads::files::{METADATA, PAYLOAD, STAT, is_padded_list};

/// Bytes that are gathered before they are handed on.
const GATHERED: usize = 512 << 10;
/// Where the manifest tells of trees, in its part that is not signed: nothing that is restored depends on it.
const ABOUT: &str = "relight-trees";
/// Length of the header before each file's content.
const HEADER: u64 = relight_pxar::format::HEADER_SIZE;

/// What the manifest tells of a tree beside its archives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct About {
    /// Where it was.
    path: String,
    /// Bytes of content of its files.
    live: u64,
    /// How many files it has.
    files: u64,
}

/// The same tree in the previous snapshot, of which unchanged files are taken over.
pub struct PreviousTree {
    metadata: RemoteArchive,
    stat: RemoteArchive,
    live: u64,
    /// The session in which it is read.
    _reader: ReaderSession,
}

impl PreviousTree {
    /// Its names and attributes from the beginning.
    pub fn metadata(&self) -> impl Read + '_ {
        self.metadata.stream()
    }

    /// Its stat records from the beginning.
    pub fn stats(&self) -> impl Read + '_ {
        self.stat.stream()
    }
}

impl BackupSession {
    /// The tree `name` of the previous snapshot, if it was saved from `path` by this client, which alone keeps what tells
    /// whether a file changed. Opens a second connection.
    ///
    /// # Errors
    /// What went wrong on the way. A previous snapshot that cannot be used is none.
    pub async fn previous_tree(
        &self,
        client: &Client,
        name: &str,
        path: &str,
    ) -> Result<Option<PreviousTree>> {
        let Some(manifest) = self.previous() else {
            return Ok(None);
        };
        let Some(about) = about(manifest, name).filter(|about| about.path == path) else {
            return Ok(None);
        };
        let mode = self.shared.crypt_mode();
        let is_there = |ending: &str| {
            let file = manifest.file(&format!("{name}{ending}.didx"));
            file.is_some_and(|file| file.crypt_mode == mode)
        };
        if ![METADATA, PAYLOAD, STAT].into_iter().all(is_there) {
            return Ok(None);
        }
        let open = async || {
            let reader = client
                .reader(manifest.snapshot(), self.shared.key.clone())
                .await?;
            Ok(PreviousTree {
                metadata: reader.blocking(&format!("{name}{METADATA}")).await?,
                stat: reader.blocking(&format!("{name}{STAT}")).await?,
                live: about.live.saturating_add(about.files.saturating_mul(HEADER)),
                _reader: reader,
            })
        };
        match open().await {
            Ok(tree) => Ok(Some(tree)),
            Err(
                error @ (ClientError::Connect { .. } | ClientError::Broken(_) | ClientError::Timeout { .. }),
            ) => Err(error),
            Err(error) => {
                tracing::warn!(
                    "the previous snapshot of {name} cannot be read, so every file is read: {error}"
                );
                Ok(None)
            }
        }
    }

    /// Begins the archives of a tree: `NAME.mpxar`, `NAME.ppxar` and `NAME.stat`. With the previous tree, what the capture
    /// finds unchanged is taken over by the chunks it lies in.
    ///
    /// # Errors
    /// Those of [`BackupSession::stream`].
    pub async fn tree(&self, name: &str, previous: Option<&PreviousTree>) -> Result<TreeSink> {
        let small = || StreamChunker::new(StreamChunker::CATALOG);
        let payload = StreamChunker::new(StreamChunker::TREE);
        let metadata = self.stream(&format!("{name}{METADATA}"), small()).await?;
        let stat = self.stream(&format!("{name}{STAT}"), small()).await?;
        let (payload, chunks) = self.stream_after(&format!("{name}{PAYLOAD}"), payload).await?;
        let reuse = previous.and_then(|previous| Reuse::new(chunks, previous.live));
        Ok(TreeSink {
            runtime: Handle::current(),
            metadata: Gathered::new(metadata),
            payload: Gathered::new(payload),
            stat: Gathered::new(stat),
            reuse,
        })
    }

    /// Notes of a saved tree what the next backup wants to know: where it was, bytes of content of its files, and how many
    /// they are.
    pub fn note_tree(&self, name: &str, path: &str, live: u64, files: u64) {
        let about = About {
            path: path.to_string(),
            live,
            files,
        };
        let mut notes = self
            .shared
            .notes
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let trees = notes.entry(ABOUT).or_insert_with(|| Value::Object(Map::new()));
        if let (Value::Object(trees), Ok(about)) = (trees, serde_json::to_value(about)) {
            trees.insert(name.to_string(), about);
        }
    }
}

/// Where the tree `name` of a snapshot was, if the manifest tells. Nobody vouches for it.
pub fn saved_from(manifest: &Manifest, name: &str) -> Option<String> {
    Some(about(manifest, name)?.path)
}

fn about(manifest: &Manifest, name: &str) -> Option<About> {
    let trees = manifest.unprotected.get(ABOUT)?;
    serde_json::from_value(trees.get(name)?.clone()).ok()
}

/// Takes the streams of a capture ([`relight_pxar::fs::capture::capture`]), which runs on a thread that may block: it must
/// not be one that runs asynchronous code.
pub struct TreeSink {
    runtime: Handle,
    metadata: Gathered,
    payload: Gathered,
    stat: Gathered,
    reuse: Option<Reuse>,
}

/// The previous payload, whose chunks the server has.
struct Reuse {
    /// Where each chunk ends, and its digest.
    chunks: Vec<(u64, Digest)>,
    run: Option<Run>,
}

/// Chunks that were appended one after the other: old and new offsets differ by the same amount.
#[derive(Clone, Copy)]
struct Run {
    old_start: u64,
    old_end: u64,
    new_start: u64,
    /// Number of the chunk that comes next.
    next: usize,
}

impl Reuse {
    /// None if so much of it is padding that the tree is better read once more as a whole.
    fn new(chunks: Vec<(Digest, u64)>, live: u64) -> Option<Self> {
        let size = chunks.iter().map(|(_, length)| *length).sum();
        if chunks.is_empty() || is_padded_list(size, live, chunks.iter().copied()) {
            return None;
        }
        let mut end = 0;
        let chunks = chunks.into_iter().map(|(digest, length)| {
            end += length;
            (end, digest)
        });
        Some(Self {
            chunks: chunks.collect(),
            run: None,
        })
    }

    fn begin(&self, number: usize) -> u64 {
        number.checked_sub(1).map_or(0, |before| self.chunks[before].0)
    }
}

struct Gathered {
    writer: ArchiveWriter,
    bytes: Vec<u8>,
    position: u64,
}

impl Gathered {
    fn new(writer: ArchiveWriter) -> Self {
        Self {
            writer,
            bytes: Vec::with_capacity(GATHERED),
            position: 0,
        }
    }

    fn write(&mut self, runtime: &Handle, bytes: &[u8]) -> io::Result<()> {
        if self.bytes.len() + bytes.len() > GATHERED {
            self.hand_on(runtime).map_err(io::Error::other)?;
        }
        self.position += bytes.len() as u64;
        if bytes.len() >= GATHERED {
            return runtime
                .block_on(self.writer.write(bytes))
                .map_err(io::Error::other);
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn push_known(&mut self, runtime: &Handle, digest: Digest, length: u64) -> Result<(), ClientError> {
        self.hand_on(runtime)?;
        runtime.block_on(self.writer.push_known(digest, length))?;
        self.position += length;
        Ok(())
    }

    fn hand_on(&mut self, runtime: &Handle) -> Result<(), ClientError> {
        if !self.bytes.is_empty() {
            runtime.block_on(self.writer.write(&self.bytes))?;
            self.bytes.clear();
        }
        Ok(())
    }

    fn finish(mut self, runtime: &Handle) -> Result<SavedArchive> {
        self.hand_on(runtime)?;
        runtime.block_on(self.writer.finish())
    }
}

impl TreeSink {
    /// Ends the archives, once the capture went to its end: metadata, payload, stat records. Blocks as the capture does.
    ///
    /// # Errors
    /// Those of [`ArchiveWriter::finish`].
    pub fn finish(self) -> Result<[SavedArchive; 3]> {
        let Self {
            runtime,
            metadata,
            payload,
            stat,
            ..
        } = self;
        Ok([
            metadata.finish(&runtime)?,
            payload.finish(&runtime)?,
            stat.finish(&runtime)?,
        ])
    }
}

impl ArchiveSink for TreeSink {
    fn write_metadata(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.metadata.write(&self.runtime, bytes)
    }

    fn write_stat(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stat.write(&self.runtime, bytes)
    }

    fn payload_position(&mut self) -> io::Result<u64> {
        Ok(self.payload.position)
    }

    fn write_payload(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(reuse) = &mut self.reuse {
            reuse.run = None;
        }
        self.payload.write(&self.runtime, bytes)
    }

    fn reuse_payload(&mut self, old: Range<u64>) -> io::Result<Option<u64>> {
        let Some(reuse) = &mut self.reuse else {
            return Ok(None);
        };
        let end = reuse.chunks.last().map_or(0, |(end, _)| *end);
        if old.is_empty() || old.end > end {
            return Ok(None);
        }
        let fits = |run: &Run| (run.old_start..=run.old_end).contains(&old.start);
        let mut run = match reuse.run.take().filter(fits) {
            Some(run) => run,
            None => {
                let next = reuse.chunks.partition_point(|(end, _)| *end <= old.start);
                let begin = reuse.begin(next);
                Run {
                    old_start: begin,
                    old_end: begin,
                    new_start: self.payload.position,
                    next,
                }
            }
        };
        while run.old_end < old.end {
            let (end, digest) = reuse.chunks[run.next];
            self.payload
                .push_known(&self.runtime, digest, end - run.old_end)
                .map_err(io::Error::other)?;
            run.old_end = end;
            run.next += 1;
        }
        reuse.run = Some(run);
        Ok(Some(run.new_start + (old.start - run.old_start)))
    }
}
