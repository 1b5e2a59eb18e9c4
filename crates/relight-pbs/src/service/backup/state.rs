//! What a backup session has come to: open indexes, files that are complete, whether it is finished.

use std::collections::HashMap;

use relight_repo::snapshot::Archive;

use super::dynamic::DynamicWriter;
use super::fixed::FixedWriter;
use crate::formats::ids::FileName;
use crate::formats::index::Digest;
use crate::service::http::{ApiError, ApiResult};

/// Most indexes that a session opens, as the original has it.
const MAX_WRITERS: u32 = 256;
/// Most files of a snapshot.
const MAX_FILES: usize = 1024;

/// An index that is being written.
pub(super) enum Writer {
    Fixed(FixedWriter),
    Dynamic(DynamicWriter),
}

impl Writer {
    pub fn name(&self) -> &FileName {
        match self {
            Self::Fixed(writer) => &writer.name,
            Self::Dynamic(writer) => &writer.name,
        }
    }
}

/// A file that is complete.
pub(super) struct FileDone {
    pub name: FileName,
    /// What it is in the repository; of an index with encrypted chunks, and of it alone, also the index.
    pub archives: Vec<Archive>,
    /// As a manifest has it.
    pub csum: Digest,
}

/// What a session has come to.
#[derive(Default)]
pub(super) struct State {
    last: u32,
    pub writers: HashMap<u32, Writer>,
    pub files: Vec<FileDone>,
    /// Content of the manifest's blob, once it was uploaded.
    pub manifest: Option<Vec<u8>>,
    /// The client's log, a blob. No manifest names it, and no snapshot needs it.
    pub log: Option<Vec<u8>>,
    pub finished: bool,
}

impl State {
    /// Fails once the session is finished.
    pub fn check(&self) -> ApiResult<()> {
        if self.finished {
            return Err(ApiError::bad_request("backup already marked as finished."));
        }
        Ok(())
    }

    /// Fails if a file of that name, or one that would take its place in the repository, is there or being written.
    pub fn check_name(&self, name: &FileName) -> ApiResult<()> {
        self.check()?;
        let is_blob = |name: &FileName| name.as_str().ends_with(".blob");
        let same = |other: &FileName| {
            other == name || (!is_blob(other) && !is_blob(name) && other.stem() == name.stem())
        };
        let mut names = self.files.iter().map(|file| &file.name);
        let is_log = self.log.is_some() && name.as_str() == FileName::CLIENT_LOG;
        if is_log || names.any(same) || self.writers.values().any(|writer| same(writer.name())) {
            return Err(ApiError::bad_request(format!(
                "file '{name}' already exists in this backup"
            )));
        }
        if self.files.len() + self.writers.len() >= MAX_FILES {
            return Err(ApiError::bad_request("the backup has too many files"));
        }
        Ok(())
    }

    /// Takes up an index that begins. Gives its number.
    pub fn open(&mut self, writer: Writer) -> ApiResult<u32> {
        self.check_name(writer.name())?;
        if self.last >= MAX_WRITERS {
            return Err(ApiError::bad_request("too many writers in one backup"));
        }
        self.last += 1;
        self.writers.insert(self.last, writer);
        Ok(self.last)
    }

    /// The image's index of that number.
    pub fn fixed(&mut self, wid: u32) -> ApiResult<&mut FixedWriter> {
        self.check()?;
        match self.writers.get_mut(&wid) {
            Some(Writer::Fixed(writer)) => Ok(writer),
            _ => Err(no_writer("fixed", wid)),
        }
    }

    /// The stream's index of that number.
    pub fn dynamic(&mut self, wid: u32) -> ApiResult<&mut DynamicWriter> {
        self.check()?;
        match self.writers.get_mut(&wid) {
            Some(Writer::Dynamic(writer)) => Ok(writer),
            _ => Err(no_writer("dynamic", wid)),
        }
    }

    /// Takes an image's index out, to end it.
    pub fn take_fixed(&mut self, wid: u32) -> ApiResult<FixedWriter> {
        self.fixed(wid)?;
        match self.writers.remove(&wid) {
            Some(Writer::Fixed(writer)) => Ok(writer),
            _ => Err(no_writer("fixed", wid)),
        }
    }

    /// Takes a stream's index out, to end it.
    pub fn take_dynamic(&mut self, wid: u32) -> ApiResult<DynamicWriter> {
        self.dynamic(wid)?;
        match self.writers.remove(&wid) {
            Some(Writer::Dynamic(writer)) => Ok(writer),
            _ => Err(no_writer("dynamic", wid)),
        }
    }
}

fn no_writer(kind: &str, wid: u32) -> ApiError {
    ApiError::bad_request(format!("{kind} writer '{wid}' not registered"))
}
