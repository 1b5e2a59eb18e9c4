//! What is suddenly different about a backup. Ransomware rewrites everything: the first sign of it is a backup to which
//! nearly everything is new, and which no longer compresses; data that was deleted shows as a size that fell.

use std::time::Duration;

use jiff::Timestamp;
use relight_model::{ByteSize, TimeSpan};
use serde::Serialize;

use crate::evidence::detail::Figures;
use crate::state::Run;

/// Fewer backups before say nothing about what is usual.
const ENOUGH: usize = 7;
/// So many times as much as ever before is sudden.
const TIMES: u64 = 3;
/// A size that changed by less is nobody's concern.
const SIZE: u64 = 256 << 20;
/// The same of what is new.
const ADDED: u64 = 64 << 20;
/// The same of how long it takes.
const TIME: Duration = Duration::from_secs(600);
/// Data of which more than so many percent is left after compression does not compress.
const DENSE: u64 = 95;
/// Data of which usually no more than so many percent is left does.
const LOOSE: u64 = 80;

/// What there is to compare of a good backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// The number of its run.
    pub run: u64,
    /// When it began.
    pub started: Timestamp,
    /// How long it took.
    pub took: TimeSpan,
    /// Bytes in all.
    pub size: Option<u64>,
    /// Bytes that were new.
    pub added: Option<u64>,
    /// Bytes by which the repository grew.
    pub stored: Option<u64>,
}

impl Sample {
    /// Of a run; nothing if it has not ended.
    pub fn of(run: &Run) -> Option<Self> {
        let Figures {
            size, added, stored, ..
        } = run.figures;
        Some(Self {
            run: run.number,
            started: run.started,
            took: super::between(run.started, run.ended?),
            size,
            added,
            stored,
        })
    }
}

/// What is different.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// How large it is.
    Size,
    /// How much of it was new.
    ChangeRate,
    /// How far what was new could be compressed.
    Compression,
    /// How long it took.
    Duration,
}

impl What {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Size, Self::ChangeRate, Self::Compression, Self::Duration];

    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::ChangeRate => "change-rate",
            Self::Compression => "compression",
            Self::Duration => "duration",
        }
    }
}

/// Something that is suddenly different.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Change {
    /// What.
    pub what: What,
    /// In words, with figures.
    pub reason: String,
}

/// What of the last sample differs suddenly from those before it, which are in their order.
pub fn changes(samples: &[Sample]) -> Vec<Change> {
    let Some((newest, before)) = samples.split_last() else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let mut find = |what, reason: Option<String>| found.extend(reason.map(|reason| Change { what, reason }));
    find(What::Size, size(newest, before));
    find(What::ChangeRate, change_rate(newest, before));
    find(What::Compression, compression(newest, before));
    find(What::Duration, duration(newest, before));
    found
}

/// The values of those that have one, sorted; nothing if too few have.
fn known<T: Ord>(before: &[Sample], value: impl Fn(&Sample) -> Option<T>) -> Option<Vec<T>> {
    let mut values: Vec<T> = before.iter().filter_map(value).collect();
    values.sort_unstable();
    (values.len() >= ENOUGH).then_some(values)
}

fn middle<T: Copy>(sorted: &[T]) -> Option<T> {
    sorted.get(sorted.len() / 2).copied()
}

/// The most that was seen, but for one in twenty: a weekly full backup is usual, one accident a year ago is not.
fn most<T: Copy>(sorted: &[T]) -> Option<T> {
    sorted.get(sorted.len() - 1 - sorted.len() / 20).copied()
}

fn size(newest: &Sample, before: &[Sample]) -> Option<String> {
    let (now, values) = (newest.size?, known(before, |sample| sample.size)?);
    let (least, usual, largest) = (*values.first()?, middle(&values)?, *values.last()?);
    let grown = now > largest.saturating_mul(2) && now - largest > SIZE;
    let shrunk = now < least / 2 && least - now > SIZE;
    (grown || shrunk).then(|| format!("{} in all, usually {}", ByteSize(now), ByteSize(usual)))
}

fn change_rate(newest: &Sample, before: &[Sample]) -> Option<String> {
    let (now, values) = (newest.added?, known(before, |sample| sample.added)?);
    let most = most(&values)?;
    (now > most.saturating_mul(TIMES) && now - most > ADDED).then(|| {
        format!(
            "{} were new, at most {} in {} backups before",
            ByteSize(now),
            ByteSize(most),
            values.len()
        )
    })
}

/// How many percent of what was new is left when it is stored. Too little says nothing.
fn left(sample: &Sample) -> Option<u64> {
    let (added, stored) = (sample.added?, sample.stored?);
    (added >= ADDED).then(|| stored.saturating_mul(100) / added)
}

fn compression(newest: &Sample, before: &[Sample]) -> Option<String> {
    let (now, values) = (left(newest)?, known(before, left)?);
    let (usual, most) = (middle(&values)?, *values.last()?);
    (now > DENSE && usual <= LOOSE && most <= DENSE).then(|| {
        format!("{now} % of what was new are left after compression, usually {usual} %: it may be encrypted")
    })
}

fn duration(newest: &Sample, before: &[Sample]) -> Option<String> {
    let (now, values) = (newest.took.0, known(before, |sample| Some(sample.took.0))?);
    let most = most(&values)?;
    (now > most.saturating_mul(TIMES as u32) && now.saturating_sub(most) > TIME).then(|| {
        let most = TimeSpan(Duration::from_secs(most.as_secs()));
        let now = TimeSpan(Duration::from_secs(now.as_secs()));
        format!("it took {now}, at most {most} before")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn sample(run: u64, size: u64, added: u64, stored: u64, minutes: u64) -> Sample {
        Sample {
            run,
            started: Timestamp::from_second(run as i64 * 86_400).unwrap(),
            took: TimeSpan::from_secs(minutes * 60),
            size: Some(size),
            added: Some(added),
            stored: Some(stored),
        }
    }

    /// Four weeks of a machine of 100 GiB, on Saturdays with more.
    fn weeks() -> Vec<Sample> {
        let usual = |n: u64| {
            let added = if n % 7 == 6 { 6 * GIB } else { GIB + n * (10 << 20) };
            sample(n, 100 * GIB + n * GIB / 4, added, added / 2, 10 + n % 5)
        };
        (0..28).map(usual).collect()
    }

    fn found(newest: Sample) -> Vec<What> {
        let mut samples = weeks();
        samples.push(newest);
        changes(&samples).iter().map(|change| change.what).collect()
    }

    #[test]
    fn what_is_usual_is_no_alarm() {
        assert_eq!(changes(&[]), []);
        let weeks = weeks();
        for end in 1..=weeks.len() {
            assert_eq!(changes(&weeks[..end]), [], "after {end}");
        }
        assert_eq!(found(sample(28, 108 * GIB, 9 * GIB, 5 * GIB, 30)), []);
    }

    #[test]
    fn a_machine_that_was_encrypted_is_noticed() {
        let encrypted = sample(28, 107 * GIB, 90 * GIB, 90 * GIB, 100);
        assert_eq!(
            found(encrypted),
            [What::ChangeRate, What::Compression, What::Duration]
        );
        // Slowly, no more of it a day than on a Saturday.
        assert_eq!(
            found(sample(28, 107 * GIB, 6 * GIB, 6 * GIB, 14)),
            [What::Compression]
        );
    }

    #[test]
    fn a_machine_that_was_emptied_is_noticed() {
        assert_eq!(found(sample(28, GIB, 0, 0, 1)), [What::Size]);
        assert_eq!(found(sample(28, 300 * GIB, 2 * GIB, GIB, 10)), [What::Size]);
        let mut samples = weeks();
        samples.push(sample(28, GIB, 0, 0, 1));
        let change = &changes(&samples)[0];
        assert_eq!(change.reason, "1.00 GiB in all, usually 103 GiB");
    }

    #[test]
    fn little_things_and_young_machines_are_left_alone() {
        let small = |n: u64, added: u64| sample(n, 1 << 20, added, added, 0);
        let mut samples: Vec<Sample> = (0..20).map(|n| small(n, 10)).collect();
        samples.push(small(20, 10 << 20));
        assert_eq!(changes(&samples), []);
        let young = [
            sample(0, GIB, GIB, GIB, 1),
            sample(1, 90 * GIB, 90 * GIB, GIB, 90),
        ];
        assert_eq!(changes(&young), []);
    }
}
