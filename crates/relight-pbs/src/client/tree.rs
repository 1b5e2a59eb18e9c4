//! Saves a file tree: what a capture of it gives becomes the two streams of a split archive.

use std::io;

use tokio::runtime::Handle;

use relight_pxar::fs::sink::ArchiveSink;

use super::{ArchiveWriter, BackupSession, ClientError, Result, SavedArchive};
use crate::formats::chunker::StreamChunker;

/// Bytes that are gathered before they are handed on.
const GATHERED: usize = 512 << 10;

impl BackupSession {
    /// Begins the archives of a tree, `NAME.mpxar` and `NAME.ppxar`.
    ///
    /// # Errors
    /// Those of [`BackupSession::stream`].
    pub async fn tree(&self, name: &str) -> Result<TreeSink> {
        let metadata = StreamChunker::new(StreamChunker::CATALOG);
        let payload = StreamChunker::new(StreamChunker::TREE);
        Ok(TreeSink {
            runtime: Handle::current(),
            metadata: Gathered::new(self.stream(&format!("{name}.mpxar"), metadata).await?),
            payload: Gathered::new(self.stream(&format!("{name}.ppxar"), payload).await?),
        })
    }
}

/// Takes the streams of a capture ([`relight_pxar::fs::capture::capture`]), which runs on a thread that may block: it must
/// not be one that runs asynchronous code. The stat records, which only repositories of Relight keep, are left aside.
pub struct TreeSink {
    runtime: Handle,
    metadata: Gathered,
    payload: Gathered,
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

    fn hand_on(&mut self, runtime: &Handle) -> Result<(), ClientError> {
        runtime.block_on(self.writer.write(&self.bytes))?;
        self.bytes.clear();
        Ok(())
    }

    fn finish(mut self, runtime: &Handle) -> Result<SavedArchive> {
        self.hand_on(runtime)?;
        runtime.block_on(self.writer.finish())
    }
}

impl TreeSink {
    /// Ends both archives, once the capture went to its end: metadata, then payload. Blocks as the capture does.
    ///
    /// # Errors
    /// Those of [`ArchiveWriter::finish`].
    pub fn finish(self) -> Result<[SavedArchive; 2]> {
        let Self {
            runtime,
            metadata,
            payload,
        } = self;
        Ok([metadata.finish(&runtime)?, payload.finish(&runtime)?])
    }
}

impl ArchiveSink for TreeSink {
    fn write_metadata(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.metadata.write(&self.runtime, bytes)
    }

    fn write_stat(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn payload_position(&mut self) -> io::Result<u64> {
        Ok(self.payload.position)
    }

    fn write_payload(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.payload.write(&self.runtime, bytes)
    }
}
