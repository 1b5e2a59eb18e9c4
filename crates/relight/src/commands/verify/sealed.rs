//! Snapshots that a client encrypted or signed, checked with its key: what no server can do.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use relight_pbs::formats::crypt::CryptKey;
use relight_repo::read::{ChunkReader, PieceStream};
use relight_repo::snapshot::Archive;
use relight_repo::tree::{Piece, TreeReader};
use relight_repo::{ChunkId, RepoError, Repository, SnapshotId};
use serde::Serialize;

use crate::client_key::{self, Clients, failed};
use crate::failure::{Failure, Result};

/// What was found.
#[derive(Debug, Default, Serialize)]
pub struct SealedReport {
    /// Snapshots that were made with the key.
    pub snapshots: u64,
    /// Chunks that were opened; each once.
    pub chunks: u64,
    /// Bytes of their content.
    pub bytes: u64,
    /// What is not as its owner saved it.
    pub problems: Vec<String>,
}

impl SealedReport {
    /// Whether everything is as it was saved.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Checks all snapshots that were made with the key, or those of `only` that were: signature, files, lists, and with
/// `contents` every chunk.
pub fn check(
    repository: &Arc<Repository>,
    key: Arc<CryptKey>,
    only: Option<Vec<SnapshotId>>,
    contents: bool,
    cancelled: &AtomicBool,
) -> Result<SealedReport> {
    let clients = Clients::new(repository.clone())?;
    let reader = client_key::reader(repository.clone(), Some(key.clone()))?;
    let mut report = SealedReport::default();
    let mut seen = HashSet::new();
    for snapshot in repository.snapshots()?.0 {
        if only.as_ref().is_some_and(|only| !only.contains(&snapshot.id)) {
            continue;
        }
        let protection = clients
            .store()
            .protection(&clients.entry(&snapshot)?)
            .map_err(failed)?;
        if protection.is_none_or(|found| found.fingerprint != Some(key.fingerprint())) {
            continue;
        }
        report.snapshots += 1;
        if let Err(failure) = clients.check(&snapshot, Some(&key)) {
            report.problems.push(failure.to_string());
        }
        for archive in snapshot.archives.iter().filter(|_| contents) {
            match chunks(&reader, archive, &mut seen, &mut report, cancelled) {
                Err(Failure::Repo(RepoError::Cancelled)) => return Err(RepoError::Cancelled.into()),
                Err(failure) => {
                    let problem = format!("snapshot {}, {}: {failure}", snapshot.id.short(), archive.name);
                    report.problems.push(problem);
                }
                Ok(()) => {}
            }
        }
    }
    Ok(report)
}

/// Opens the chunks of an archive that were not seen before.
fn chunks(
    reader: &Arc<ChunkReader>,
    archive: &Archive,
    seen: &mut HashSet<ChunkId>,
    report: &mut SealedReport,
    cancelled: &AtomicBool,
) -> Result<()> {
    let mut new: Vec<Piece> = Vec::new();
    for piece in TreeReader::new(&**reader, archive.root, 0)? {
        let piece = piece?;
        if piece.id != ChunkId::ZEROS && seen.insert(piece.id) {
            new.push(piece);
        }
    }
    for item in PieceStream::of(reader, Box::new(new.into_iter().map(Ok))) {
        if cancelled.load(Ordering::Relaxed) {
            return Err(RepoError::Cancelled.into());
        }
        let (piece, _) = item?;
        report.chunks += 1;
        report.bytes += piece.length;
    }
    Ok(())
}
