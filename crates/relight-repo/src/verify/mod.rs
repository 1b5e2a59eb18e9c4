//! Verification: reads packs whole and checks every tag and digest, checks that snapshots find what they need, and
//! remembers what was checked when, so that everything is read once in the time that a policy gives.
//!
//! A pack is judged by itself and a snapshot by its packs. What is found to be damaged is written down
//! (`suspects/`): from then on readers prefer other copies, and the next backup stores such chunks again. What was
//! checked is written down as well (`checks/`), and the packs that were not checked for the longest time come first.

pub(crate) mod checks;
pub(crate) mod fold;
pub(crate) mod health;
pub(crate) mod needs;
mod pack;
pub mod report;
mod run;
pub(crate) mod settle;
mod standing;
pub(crate) mod survey;

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;
use std::sync::Arc;

use jiff::Timestamp;

pub use report::{
    Affected, AffectedArchive, BadManifest, BadParity, BadRange, Damage, Figures, Finding, Oldest, Report,
};
pub use standing::{Standing, State, standing};

use crate::condemned;
use crate::control::{Control, Unit};
use crate::error::{RepoError, Result};
use crate::id::{ChunkId, PackId, SnapshotId};
use crate::index::PackState;
use crate::pack::reader::read_header;
use crate::read::ChunkReader;
use crate::repository::Repository;
use crate::snapshot::Snapshot;
use pack::Checked;
use settle::Learned;
use survey::{Candidate, Survey};

/// What is to be verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Every pack, and every snapshot's lists.
    Everything,
    /// So many runs verify everything: each takes its part of the bytes, those packs first that were not checked for
    /// the longest time (a pack that was never checked counts as checked when it was written). A run that is missed
    /// is made up for by the next, and nothing is read twice before all has been read once.
    Share(NonZeroU32),
    /// What these snapshots need.
    Snapshots(Vec<SnapshotId>),
    /// These packs, and those that earlier verifications found damaged.
    Packs(HashSet<PackId>),
    /// Manifests, lists, index, and that the packs are there with their size; no content is read.
    Structure,
}

/// How it is to be verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// What.
    pub scope: Scope,
    /// Packs that were found good since then are not read again.
    pub unless_checked_since: Option<Timestamp>,
}

impl Options {
    /// This, however lately it was checked.
    pub fn new(scope: Scope) -> Self {
        Self {
            scope,
            unless_checked_since: None,
        }
    }
}

/// Verifies. What is wrong with the repository is in the report; an error means that it could not be looked at.
///
/// # Errors
/// Where storage is not available, or gives an error where no data is concerned. What was checked until then is
/// remembered.
pub fn verify(repository: &Arc<Repository>, options: &Options, control: Control<'_>) -> Result<Report> {
    examine(repository, options, control).map(|(report, _)| report)
}

/// Verifies, and says besides what it is that snapshots need and cannot have.
pub(crate) fn examine(
    repository: &Arc<Repository>,
    options: &Options,
    control: Control<'_>,
) -> Result<(Report, HashSet<ChunkId>)> {
    control.progress.begin("looking at what is there", Unit::Items, 0);
    let mut survey = Survey::take(repository)?;
    let mut report = Report::default();
    let snapshots = choose_snapshots(repository, &options.scope, &mut report)?;
    report.figures.all_packs = survey.packs.len() as u64;
    report.figures.all_bytes = survey.packs.iter().filter_map(|pack| pack.size).sum();
    report.figures.unindexed = survey.unindexed.len() as u64;

    let chosen = choose_packs(repository, &survey, options, &snapshots, control)?;
    let bytes = chosen.iter().filter_map(|pack| pack.size).sum();
    control.progress.begin("reading packs", Unit::Bytes, bytes);
    let outcome = run::run(repository, &survey, &chosen, control)?;
    let (mut learned, mut wanted) = (Learned::default(), HashSet::new());
    digest(repository, &mut survey, outcome.packs, &mut report, &mut learned)?;
    report.parity = outcome.parity;
    report.parity.sort_unstable_by_key(|bad| bad.pack);
    for (pack, check) in outcome.checks {
        survey.checks.add(pack, check);
    }

    report.cancelled = control.is_cancelled();
    let in_full = matches!(
        options.scope,
        Scope::Everything | Scope::Structure | Scope::Packs(_)
    );
    if !report.cancelled && outcome.failure.is_none() && (in_full || !survey.health.is_perfect()) {
        let reader = ChunkReader::new(repository.clone())?;
        control
            .progress
            .begin("looking through snapshots", Unit::Items, 0);
        match needs::look_through(&reader, &snapshots, &survey.health, control) {
            Ok((affected, mut lacking, nodes)) => {
                wanted = std::mem::take(&mut lacking.chunks);
                report.affected = affected;
                report.figures.list_nodes = nodes;
                report.figures.snapshots = snapshots.len() as u64;
                add_lacking(&mut report, &mut learned, lacking);
                add_locked(repository, &survey, &mut report)?;
            }
            Err(RepoError::Cancelled) => report.cancelled = true,
            Err(error) => return Err(error),
        }
    }
    let known: HashSet<PackId> = survey.packs.iter().map(|pack| pack.line.id).collect();
    // What a collection has removed in the meantime is nobody's damage.
    learned.good.extend(survey.suspect_packs().difference(&known));
    report.healed = settle::settle(repository, &survey.suspects, &learned)?;
    report.healed.retain(|pack| known.contains(pack));
    survey
        .checks
        .tidy(repository.vault(), |pack| known.contains(pack))?;
    report.figures.never_checked = known
        .iter()
        .filter(|pack| !survey.checks.packs.contains_key(*pack))
        .count() as u64;
    report.oldest = survey.oldest();
    report
        .findings
        .sort_by(|a, b| (b.needed, a.damage, a.pack).cmp(&(a.needed, b.damage, b.pack)));
    match outcome.failure {
        Some(error) => Err(error),
        None => Ok((report, wanted)),
    }
}

fn choose_snapshots(repository: &Repository, scope: &Scope, report: &mut Report) -> Result<Vec<Snapshot>> {
    let (mut good, bad) = repository.snapshots()?;
    let wanted: Option<HashSet<SnapshotId>> = match scope {
        Scope::Snapshots(ids) => Some(ids.iter().copied().collect()),
        _ => None,
    };
    let is_wanted = |id: &SnapshotId| wanted.as_ref().is_none_or(|wanted| wanted.contains(id));
    good.retain(|snapshot| is_wanted(&snapshot.id));
    for (snapshot, error) in bad {
        if is_wanted(&snapshot) {
            let (damage, detail) = (Damage::of(&error), error.to_string());
            report.manifests.push(BadManifest {
                snapshot,
                damage,
                detail,
            });
        }
    }
    for id in wanted.iter().flatten() {
        let found = good.iter().any(|snapshot| snapshot.id == *id)
            || report.manifests.iter().any(|bad| bad.snapshot == *id);
        if !found {
            return Err(RepoError::NoSuchSnapshot(id.short()));
        }
    }
    Ok(good)
}

/// The packs to be read, in order. Those of a wrong length are always among them: which chunks are concerned?
fn choose_packs(
    repository: &Arc<Repository>,
    survey: &Survey,
    options: &Options,
    snapshots: &[Snapshot],
    control: Control<'_>,
) -> Result<Vec<Candidate>> {
    let suspects = survey.suspect_packs();
    let is_odd = |pack: &Candidate| pack.size.is_some_and(|size| size != pack.line.size);
    let is_due = |pack: &Candidate| {
        let fresh = |since| pack.check.is_some_and(|check| check.good && check.time >= since);
        suspects.contains(&pack.line.id) || !options.unless_checked_since.is_some_and(fresh)
    };
    let all = survey
        .packs
        .iter()
        .filter(|pack| pack.size.is_some() && repository.keys().get(pack.line.key).is_some());
    let chosen = match &options.scope {
        Scope::Everything => all.filter(|pack| is_odd(pack) || is_due(pack)).copied().collect(),
        Scope::Structure => all.filter(|pack| is_odd(pack)).copied().collect(),
        Scope::Packs(packs) => {
            let is_named =
                |pack: &Candidate| packs.contains(&pack.line.id) || suspects.contains(&pack.line.id);
            all.filter(|pack| is_odd(pack) || is_named(pack))
                .copied()
                .collect()
        }
        Scope::Share(runs) => {
            let total: u64 = survey.packs.iter().filter_map(|pack| pack.size).sum();
            let mut left = i128::from(total.div_ceil(u64::from(runs.get())));
            let mut take = |pack: &&Candidate| {
                let taken = left > 0;
                left -= if taken { i128::from(pack.line.size) } else { 0 };
                // What was found damaged is looked at every time: has it been repaired?
                (taken && is_due(pack)) || is_odd(pack) || suspects.contains(&pack.line.id)
            };
            all.filter(|pack| take(pack)).copied().collect()
        }
        Scope::Snapshots(_) => {
            let needed = standing::packs_of(repository, &survey.health, snapshots, control)?;
            let is_needed = |pack: &&Candidate| needed.contains(&pack.line.id) && is_due(pack);
            all.filter(is_needed).copied().collect()
        }
    };
    Ok(chosen)
}

/// Takes what was found in packs into the report and the state of health.
fn digest(
    repository: &Repository,
    survey: &mut Survey,
    outcome: Vec<(Candidate, Checked)>,
    report: &mut Report,
    learned: &mut Learned,
) -> Result<()> {
    let vanished = |(_, checked): &(Candidate, Checked)| {
        matches!(checked.around, Some((Damage::Missing, _))) && checked.whole
    };
    let mut collected = HashMap::new();
    if outcome.iter().any(vanished) {
        repository.refresh()?;
        collected = condemned::load_states(repository)?;
        let still = repository.index().packs();
        for (pack, _) in &outcome {
            if !still.contains_key(&pack.line.id) {
                collected.insert(pack.line.id, PackState::Gone);
            }
        }
    }
    for (pack, checked) in outcome {
        let (line, figures) = (&pack.line, &mut report.figures);
        if checked.whole && collected.contains_key(&line.id) {
            survey.health.clear(line.id);
            continue;
        }
        figures.packs += u64::from(!checked.cold && !checked.whole);
        figures.bytes += checked.bytes;
        figures.chunks += checked.chunks;
        figures.content += checked.content;
        figures.flaky += checked.flaky;
        figures.cold += u64::from(checked.cold);
        if checked.cold {
            continue;
        }
        survey.health.clear(line.id);
        if checked.is_good() {
            learned.good.insert(line.id);
            continue;
        }
        let health = &mut survey.health;
        health.spoil(line.id, Damage::Unreadable, checked.unreadable.iter().copied());
        health.spoil(line.id, Damage::Corrupt, checked.corrupt.iter().copied());
        let (damage, detail) = checked
            .around
            .unwrap_or_else(|| (Damage::Corrupt, "some of its chunks are corrupt".to_string()));
        if checked.whole {
            health.lose(line.id, damage);
            if damage == Damage::Missing {
                learned.lost.insert(line.id);
            }
        } else if damage == Damage::Corrupt || !checked.corrupt.is_empty() {
            learned.damaged.insert(line.id, checked.corrupt.clone());
        }
        let mut chunks = checked.corrupt;
        chunks.extend(checked.unreadable);
        report.findings.push(Finding {
            pack: Some(line.id),
            kind: Some(line.kind),
            damage,
            chunks,
            needed: false,
            detail,
        });
    }
    // What nobody tried to read.
    for pack in &survey.packs {
        let found = match pack.size {
            None => (Damage::Missing, "the pack is not there".to_string()),
            Some(_) if repository.keys().get(pack.line.key).is_none() => {
                let why = format!(
                    "it is sealed under data key {}, which is not in the keyring",
                    pack.line.key
                );
                (Damage::KeyMissing, why)
            }
            Some(_) => continue,
        };
        if found.0 == Damage::Missing {
            learned.lost.insert(pack.line.id);
        }
        report.findings.push(Finding {
            pack: Some(pack.line.id),
            kind: Some(pack.line.kind),
            damage: found.0,
            chunks: Vec::new(),
            needed: false,
            detail: found.1,
        });
    }
    add_remembered(survey, report, learned);
    Ok(())
}

/// What earlier verifications found in packs that this one did not read.
fn add_remembered(survey: &Survey, report: &mut Report, learned: &Learned) {
    let kinds: HashMap<PackId, _> = survey
        .packs
        .iter()
        .map(|pack| (pack.line.id, pack.line.kind))
        .collect();
    let mut remembered: HashMap<PackId, HashSet<ChunkId>> = HashMap::new();
    for (_, record) in &survey.suspects {
        for (pack, chunks) in &record.corrupt {
            let looked_at = learned.good.contains(pack)
                || learned.lost.contains(pack)
                || learned.damaged.contains_key(pack);
            if !looked_at && kinds.contains_key(pack) {
                remembered.entry(*pack).or_default().extend(chunks);
            }
        }
    }
    for (pack, chunks) in remembered {
        if report.findings.iter().any(|found| found.pack == Some(pack)) {
            continue;
        }
        report.findings.push(Finding {
            pack: Some(pack),
            kind: kinds.get(&pack).copied(),
            damage: Damage::Corrupt,
            chunks: chunks.into_iter().collect(),
            needed: false,
            detail: "an earlier verification found it damaged; run `relight repair packs`".to_string(),
        });
    }
}

/// Packs that only that part of the index knows for which the key is missing.
fn add_locked(repository: &Repository, survey: &Survey, report: &mut Report) -> Result<()> {
    if repository.index().locked().is_empty() {
        return Ok(());
    }
    let needed = report.findings.iter().any(|found| found.pack.is_none());
    for (kind, pack) in &survey.unindexed {
        let header = read_header(repository.storage(), repository.id(), *kind, *pack);
        let lost = header.map(|header| (repository.keys().get(header.key).is_none(), header.key));
        if let Ok((true, key)) = lost {
            report.findings.push(Finding {
                pack: Some(*pack),
                kind: Some(*kind),
                damage: Damage::KeyMissing,
                chunks: Vec::new(),
                needed,
                detail: format!("it is sealed under data key {key}, which is not in the keyring"),
            });
        }
    }
    Ok(())
}

/// Takes what the snapshots lack into the report.
fn add_lacking(report: &mut Report, learned: &mut Learned, lacking: needs::Lacking) {
    for (pack, chunk, damage) in &lacking.hits {
        if *damage == Damage::Corrupt {
            learned.more.push((*pack, *chunk));
        }
        report.findings.push(Finding {
            pack: Some(*pack),
            kind: None,
            damage: *damage,
            chunks: vec![*chunk],
            needed: true,
            detail: format!("list node {chunk} is {}", damage.word()),
        });
    }
    for found in &mut report.findings {
        found.needed |= found.pack.is_some_and(|pack| lacking.packs.contains(&pack));
    }
    for (chunk, damage) in lacking.strays {
        let detail = match damage {
            Damage::Missing => "a chunk that snapshots need is in no pack".to_string(),
            Damage::KeyMissing => {
                "a chunk that snapshots need is in no pack that the keyring has the data key of".to_string()
            }
            _ => "a chunk that snapshots need is not what their lists say".to_string(),
        };
        report.findings.push(Finding {
            pack: None,
            kind: None,
            damage,
            chunks: vec![chunk],
            needed: true,
            detail,
        });
    }
}
