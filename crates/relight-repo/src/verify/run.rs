//! Checks many packs in parallel, and remembers the checks while it goes on.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::checks::{self, Check};
use super::pack::{Checked, Checker};
use super::report::{BadParity, Damage};
use super::survey::{Candidate, Survey};
use crate::control::Control;
use crate::error::{RepoError, Result};
use crate::id::PackId;
use crate::pack::Record;
use crate::repository::Repository;

/// Checks are written down this often, so that a run that dies is not for nothing.
const FLUSH: Duration = Duration::from_secs(60);
/// So many packs in a row that the service does not give: it is not there, and asking on helps nobody.
const PATIENCE: usize = 8;

/// What came of it.
#[derive(Default)]
pub(super) struct Outcome {
    pub packs: Vec<(Candidate, Checked)>,
    pub parity: Vec<BadParity>,
    /// Checks of this run.
    pub checks: Vec<(PackId, Check)>,
    /// The service went away: this is its error.
    pub failure: Option<RepoError>,
}

struct Shared<'a> {
    repository: &'a Repository,
    survey: &'a Survey,
    control: Control<'a>,
    outcome: Mutex<Gathered>,
    failures: AtomicUsize,
    stopped: AtomicBool,
}

struct Gathered {
    outcome: Outcome,
    /// How many of the checks are written down.
    written: usize,
    flushed: Instant,
}

/// Reads and checks `chosen`, in this order.
pub(super) fn run(
    repository: &Repository,
    survey: &Survey,
    chosen: &[Candidate],
    control: Control<'_>,
) -> Result<Outcome> {
    let shared = Shared {
        repository,
        survey,
        control,
        outcome: Mutex::new(Gathered {
            outcome: Outcome::default(),
            written: 0,
            flushed: Instant::now(),
        }),
        failures: AtomicUsize::new(0),
        stopped: AtomicBool::new(false),
    };
    for part in survey.parts(chosen) {
        if shared.is_over() {
            break;
        }
        let next = AtomicUsize::new(0);
        let threads = repository.options().threads.max(4).min(part.len());
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    if let Err(error) = shared.work(&part, &next) {
                        shared.stop(error);
                    }
                });
            }
        });
    }
    let gathered = shared
        .outcome
        .into_inner()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    checks::store(repository.vault(), &gathered.outcome.checks[gathered.written..])?;
    Ok(gathered.outcome)
}

impl Shared<'_> {
    fn is_over(&self) -> bool {
        self.stopped.load(Ordering::Relaxed) || self.control.is_cancelled()
    }

    fn stop(&self, error: RepoError) {
        self.stopped.store(true, Ordering::Relaxed);
        let mut gathered = self
            .outcome
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        gathered.outcome.failure.get_or_insert(error);
    }

    fn work(&self, part: &[(Candidate, Vec<Record>)], next: &AtomicUsize) -> Result<()> {
        let mut checker = Checker::new(self.repository, self.control)?;
        while let Some((pack, records)) = part.get(next.fetch_add(1, Ordering::Relaxed)) {
            if self.is_over() {
                return Ok(());
            }
            let Some(mut checked) = checker.check(&pack.line, pack.size.unwrap_or(0), records) else {
                return Ok(());
            };
            match checked.service.take() {
                Some(error) if self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= PATIENCE => {
                    return Err(error.into());
                }
                Some(_) => {}
                None => self.failures.store(0, Ordering::Relaxed),
            }
            let parity = self.check_parity(pack, &checked);
            self.note(*pack, checked, parity)?;
        }
        Ok(())
    }

    /// Parity is worth something only if it is good when it is needed.
    fn check_parity(&self, pack: &Candidate, checked: &Checked) -> Option<BadParity> {
        let wanted = self.repository.settings().parity_percent > 0;
        let there = self.survey.parity.contains(&pack.line.id);
        let (true, Some(digest)) = ((wanted || there) && checked.is_good(), checked.digest) else {
            return None;
        };
        let state = crate::parity::check(self.repository.storage(), pack.line.id, pack.line.size, digest);
        let damage = match state {
            Ok(Some(true)) => return None,
            Ok(Some(false)) => Damage::Corrupt,
            Ok(None) if wanted => Damage::Missing,
            Ok(None) => return None,
            Err(error) => Damage::of(&error),
        };
        Some(BadParity {
            pack: pack.line.id,
            damage,
        })
    }

    fn note(&self, pack: Candidate, checked: Checked, parity: Option<BadParity>) -> Result<()> {
        let time = self.repository.now();
        let certain = checked
            .around
            .as_ref()
            .is_none_or(|(damage, _)| *damage <= Damage::Corrupt);
        let check = (!checked.cold && certain && checked.unreadable.is_empty()).then(|| {
            (
                pack.line.id,
                Check {
                    time,
                    good: checked.is_good(),
                },
            )
        });
        let mut gathered = self
            .outcome
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        gathered.outcome.checks.extend(check);
        gathered.outcome.parity.extend(parity);
        gathered.outcome.packs.push((pack, checked));
        if gathered.flushed.elapsed() < FLUSH {
            return Ok(());
        }
        gathered.flushed = Instant::now();
        let due = gathered.outcome.checks[gathered.written..].to_vec();
        gathered.written = gathered.outcome.checks.len();
        drop(gathered);
        checks::store(self.repository.vault(), &due)
    }
}
