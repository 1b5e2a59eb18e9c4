//! Repairs packs: by their parity, and what parity cannot make good from other repositories.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::Serialize;

use crate::condemned;
use crate::control::{Control, Unit};
use crate::error::{RepoError, Result};
use crate::id::{ChunkId, PackId};
use crate::index::{PackLine, PackState};
use crate::pack::codec::Decoder;
use crate::pack::reader::{PackOpener, parse_toc};
use crate::parity::{self, Rebuilt};
use crate::read::{ChunkReader, Stored};
use crate::repository::Repository;
use crate::session::Session;
use crate::verify::survey::{Candidate, Survey};
use crate::verify::{self, Scope};

/// Rounds of fetching: behind each list node that came back there may be others that are lost.
const ROUNDS: usize = 20;

/// What is to be repaired, and by what.
#[derive(Default)]
pub struct PackOptions {
    /// Packs besides those that are known to be damaged: with unreadable sectors, or with damaged parity.
    pub packs: HashSet<PackId>,
    /// Other repositories that may hold the same chunks (copies), the best first.
    pub from: Vec<Arc<Repository>>,
}

/// What came of a repair.
#[derive(Debug, Default, Serialize)]
pub struct PackReport {
    /// Packs that parity brought back to what they were.
    pub rebuilt: Vec<PackId>,
    /// Packs that were found to be good without repair.
    pub good: Vec<PackId>,
    /// Packs whose parity could not help, and why.
    pub beyond_parity: Vec<(PackId, String)>,
    /// Packs that were given parity, or new parity.
    pub parity_written: Vec<PackId>,
    /// Chunks that were fetched from other repositories.
    pub fetched_chunks: u64,
    /// Their bytes of content.
    pub fetched_bytes: u64,
    /// Errors of other repositories, each once.
    pub fetch_errors: Vec<String>,
    /// What is still wrong: the findings that are needed are lost, and the snapshots concerned are named.
    pub rest: verify::Report,
}

/// Repairs what is damaged as far as it can be. Damaged packs of which something was fetched or stored again stay
/// where they are; the next collection moves what is good in them to new packs.
///
/// # Errors
/// Where storage is not available or full. What was repaired until then is repaired.
pub fn packs(
    repository: &Arc<Repository>,
    options: &PackOptions,
    control: Control<'_>,
) -> Result<PackReport> {
    let mut report = PackReport::default();
    let survey = Survey::take(repository)?;
    let suspects = survey.suspect_packs();
    let wanted: Vec<Candidate> = survey
        .packs
        .iter()
        .filter(|pack| {
            let id = &pack.line.id;
            pack.size != Some(pack.line.size) || suspects.contains(id) || options.packs.contains(id)
        })
        .copied()
        .collect();
    let total = wanted.len() as u64;
    control
        .progress
        .begin("rebuilding packs from parity", Unit::Items, total);
    for pack in &wanted {
        control.check()?;
        rebuild(repository, &pack.line, &mut report)?;
        control.progress.advance(1);
    }
    write_parity(repository, &survey, options, &mut report, control)?;
    drop(survey);

    let named: HashSet<PackId> = wanted.iter().map(|pack| pack.line.id).collect();
    let check = verify::Options::new(Scope::Packs(named));
    let (mut rest, mut lacking) = verify::examine(repository, &check, control)?;
    let mut hopeless: HashSet<ChunkId> = HashSet::new();
    for _ in 0..ROUNDS {
        lacking.retain(|chunk| !hopeless.contains(chunk));
        if lacking.is_empty() || options.from.is_empty() || rest.cancelled {
            break;
        }
        fetch(repository, options, &lacking, &mut hopeless, &mut report, control)?;
        (rest, lacking) = verify::examine(repository, &check, control)?;
    }
    report.rest = rest;
    Ok(report)
}

/// Brings one pack back by its parity, if it can be.
fn rebuild(repository: &Repository, line: &PackLine, report: &mut PackReport) -> Result<()> {
    let storage = repository.storage();
    let key = line.kind.key(line.id);
    let mut bytes = match parity::read_what_is_there(storage, &key) {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => Vec::new(),
        Err(error) => {
            report.beyond_parity.push((line.id, error.to_string()));
            return Ok(());
        }
    };
    if bytes.len() as u64 == line.size && check(repository, line, &bytes).is_ok() {
        report.good.push(line.id);
        return Ok(());
    }
    let why = match parity::rebuild(storage, line.id, &mut bytes) {
        Ok(Some(Rebuilt::Whole(_))) => match check(repository, line, &bytes) {
            // Its digest in the parity fits; without its key no more can be said.
            Ok(()) | Err(RepoError::KeyMissing { .. }) => {
                if put(repository, line, &bytes)? {
                    report.rebuilt.push(line.id);
                }
                return Ok(());
            }
            Err(error) => format!("what parity makes of it does not open: {error}"),
        },
        Ok(Some(Rebuilt::TooMuch { damaged, left })) => {
            format!("{damaged} blocks of it are damaged, and parity has {left} good ones")
        }
        Ok(None) => "it has no parity".to_string(),
        Err(error) => error.to_string(),
    };
    report.beyond_parity.push((line.id, why));
    Ok(())
}

/// Checks the bytes of a whole pack as a verification does.
fn check(repository: &Repository, line: &PackLine, bytes: &[u8]) -> Result<()> {
    let (keys, id) = (repository.keys(), repository.id());
    let opener = PackOpener::new(id, keys, line.kind, line.id, line.key)?;
    let what = || format!("pack {}", line.id);
    let (header, records) = match parse_toc(bytes, id, keys, line.id) {
        // The key is there: so it is the header that is wrong.
        Err(RepoError::KeyMissing { .. }) => {
            return Err(RepoError::damaged(what(), "its header names another data key"));
        }
        other => other?,
    };
    if header.key != line.key || header.kind != line.kind {
        return Err(RepoError::damaged(what(), "its header contradicts the index"));
    }
    let mut decoder = Decoder::new().map_err(RepoError::Source)?;
    let mut scratch = Vec::new();
    for record in &records {
        let end = record.offset as usize + record.stored as usize;
        let sealed = bytes.get(record.offset as usize..end);
        let mut sealed = sealed
            .ok_or_else(|| RepoError::damaged(what(), "it was cut short"))?
            .to_vec();
        opener.check(record, &mut sealed, &mut decoder, &mut scratch)?;
    }
    Ok(())
}

/// Puts a pack back in its place, unless a collection has deleted it in the meantime.
fn put(repository: &Repository, line: &PackLine, bytes: &[u8]) -> Result<bool> {
    let states = condemned::load_states(repository)?;
    if states.get(&line.id) == Some(&PackState::Gone) {
        return Ok(false);
    }
    let mut options = repository.settings().pack_options(line.kind);
    options.retain_until = crate::retention::longest_lock(repository)?;
    repository
        .storage()
        .put(&line.kind.key(line.id), &[bytes], &options)?;
    Ok(true)
}

/// Gives parity to packs that lack it, and new parity to named packs whose own is damaged.
fn write_parity(
    repository: &Repository,
    survey: &Survey,
    options: &PackOptions,
    report: &mut PackReport,
    control: Control<'_>,
) -> Result<()> {
    let percent = repository.settings().parity_percent;
    if percent == 0 {
        return Ok(());
    }
    let due: Vec<&Candidate> = survey
        .packs
        .iter()
        .filter(|pack| !survey.parity.contains(&pack.line.id) || options.packs.contains(&pack.line.id))
        .collect();
    let bytes = due.iter().map(|pack| pack.line.size).sum();
    control.progress.begin("writing parity", Unit::Bytes, bytes);
    for pack in due {
        control.check()?;
        let line = &pack.line;
        control.progress.advance(line.size);
        // Parity of damaged bytes would make the damage last; a pack in a cold class keeps what it has.
        let Ok(bytes) = repository.storage().get(&line.kind.key(line.id)) else {
            continue;
        };
        if check(repository, line, &bytes).is_err() {
            continue;
        }
        let digest = xxhash_rust::xxh3::xxh3_128(&bytes);
        let state = parity::check(repository.storage(), line.id, bytes.len() as u64, digest);
        if !matches!(state, Ok(Some(true))) {
            parity::store(repository, line.id, line.kind, &[&bytes], percent)?;
            report.parity_written.push(line.id);
        }
    }
    Ok(())
}

/// Fetches chunks from other repositories and stores them here.
fn fetch(
    repository: &Arc<Repository>,
    options: &PackOptions,
    lacking: &HashSet<ChunkId>,
    hopeless: &mut HashSet<ChunkId>,
    report: &mut PackReport,
    control: Control<'_>,
) -> Result<()> {
    let sources: Vec<ChunkReader> = options
        .from
        .iter()
        .map(|source| ChunkReader::new(source.clone()))
        .collect::<Result<_>>()?;
    for source in &options.from {
        source.refresh()?;
    }
    let session = Session::begin(repository.clone(), Arc::new(AtomicBool::new(false)))?;
    let mut errors: BTreeSet<String> = report.fetch_errors.drain(..).collect();
    let total = lacking.len() as u64;
    control
        .progress
        .begin("fetching from other repositories", Unit::Items, total);
    // In a fixed order: neighbours stay neighbours when this is done again.
    let mut ordered: Vec<&ChunkId> = lacking.iter().collect();
    ordered.sort_unstable();
    for chunk in ordered {
        control.check()?;
        control.progress.advance(1);
        let found = sources.iter().find_map(|source| {
            let place = *source.repository().index().readable(chunk).first()?;
            match source.read_stored(chunk) {
                Ok(stored) => Some((place.pack.kind, stored)),
                Err(error) => {
                    let location = source.repository().storage().location();
                    errors.insert(format!("{location}: {error}"));
                    None
                }
            }
        });
        match found {
            Some((kind, stored)) => {
                let stored = Stored::parse(&stored)?;
                session.put_chunk(kind, *chunk, stored.encoded()?)?;
                report.fetched_chunks += 1;
                report.fetched_bytes += u64::from(stored.raw);
            }
            None => drop(hopeless.insert(*chunk)),
        }
    }
    session.keep_progress()?;
    report.fetch_errors = errors.into_iter().take(100).collect();
    Ok(())
}
