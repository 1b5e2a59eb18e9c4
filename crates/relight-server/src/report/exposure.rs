//! How much could have been lost at worst in a period, record by record.
//!
//! A recovery point counts from the moment its run ended well, and is as old as the moment its capture began. Between two
//! points the exposure grows until the second one is there; that is stricter than the time between the two captures.

use std::collections::VecDeque;

use jiff::Timestamp;
use relight_model::TimeSpan;
use serde::Serialize;

use super::cited::Citation;
use crate::evidence::detail::LogDetail;

/// So many gaps of a workload are named.
const MOST_GAPS: usize = 50;
/// So many runs that failed in a gap are named.
const MOST_CAUSES: usize = 3;
/// So many snapshots wait at most for what is written of the log.
const MOST_LATER: usize = 1000;

/// A time in which more could have been lost than was promised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// The newest point until then. None: the period began without any.
    pub begin: Option<Timestamp>,
    /// When the promise was broken.
    pub broken: Timestamp,
    /// When the next point was there, or the period ended.
    pub end: Timestamp,
    /// How much could have been lost at its end.
    pub exposure: TimeSpan,
    /// Whether it was still open when the period ended.
    pub open: bool,
    /// Why, as far as the evidence says.
    pub cause: String,
    /// The records that say so: the point before, what failed, the point that ended it.
    pub records: Vec<Citation>,
}

/// What failed since the last good point.
#[derive(Debug, Clone, Default)]
struct Causes {
    count: u64,
    newest: VecDeque<Citation>,
}

/// Follows the recovery points of one workload.
#[derive(Debug, Clone)]
pub(super) struct Exposure {
    from: Timestamp,
    to: Timestamp,
    permitted: Option<TimeSpan>,
    newest: Option<(Timestamp, Citation)>,
    /// The newest snapshot, without the log.
    snapshot: Option<(Timestamp, Citation)>,
    /// Snapshots that came while it is not known yet whether the log reached further then.
    later: Vec<(Timestamp, Timestamp, Citation)>,
    /// Whether the evidence says anything of a log.
    log: bool,
    causes: Causes,
    worst: Option<TimeSpan>,
    gaps: Vec<Gap>,
    gap_count: u64,
}

/// What came out.
#[derive(Debug, Clone)]
pub(super) struct Exposed {
    /// The most that could have been lost. None: there never was a recovery point.
    pub worst: Option<TimeSpan>,
    /// Whether the evidence says how far a log reached.
    pub log: bool,
    /// The newest point at the end of the period.
    pub newest: Option<(Timestamp, Citation)>,
    /// When it was more than permitted.
    pub gaps: Vec<Gap>,
    /// How many of those there were.
    pub gap_count: u64,
}

impl Exposure {
    /// Over a period, held against what is permitted.
    pub fn new(from: Timestamp, to: Timestamp, permitted: Option<TimeSpan>) -> Self {
        Self {
            from,
            to,
            permitted,
            newest: None,
            snapshot: None,
            later: Vec::new(),
            log: false,
            causes: Causes::default(),
            worst: None,
            gaps: Vec::new(),
            gap_count: 0,
        }
    }

    /// A good point was there at `available`.
    pub fn point(
        &mut self,
        point: Timestamp,
        available: Timestamp,
        citation: Citation,
        stops: &dyn Fn(Timestamp, Timestamp) -> Vec<Citation>,
    ) {
        // One that is dated later than it was there was dated by a wrong clock.
        let point = point.min(available);
        if self.log && self.later.len() < MOST_LATER {
            // The log may reach further than the newest snapshot: what is known of it is written down afterwards.
            self.later.push((point, available, citation));
            return;
        }
        self.take(point, available, citation, stops);
    }

    /// From `from` to `to` at most `exposure` could have been lost, because the log of the workload reached `reached` then, and
    /// `before` when that time began.
    pub fn log(
        &mut self,
        log: &LogDetail,
        citation: &Citation,
        stops: &dyn Fn(Timestamp, Timestamp) -> Vec<Citation>,
    ) {
        self.log = true;
        for (point, available, snapshot) in std::mem::take(&mut self.later) {
            if available <= log.from {
                self.take(point, available, snapshot, stops);
            } else if self.snapshot.as_ref().is_none_or(|(newest, _)| point > *newest) {
                self.snapshot = Some((point, snapshot));
            }
        }
        if log.from > self.from {
            self.consider(log.from.min(self.to), Some(citation), stops);
        }
        self.set(log.reached_before, citation);
        if log.to > self.from && log.from < self.to {
            self.worst = Some(self.worst.map_or(log.exposure, |worst| worst.max(log.exposure)));
            if self.permitted.is_some_and(|permitted| log.exposure > permitted) {
                let (cause, mut records) = self.cause(log.from, log.to, stops);
                let cause = if records.is_empty() {
                    "the log did not reach further".to_owned()
                } else {
                    format!("the log did not reach further; {cause}")
                };
                records.push(citation.clone());
                self.add_gap(Gap {
                    begin: Some(log.reached_before),
                    broken: log.from.max(self.from),
                    end: log.to.min(self.to),
                    exposure: log.exposure,
                    open: log.to >= self.to,
                    cause,
                    records,
                });
            }
        }
        self.set(log.reached, citation);
        self.causes = Causes::default();
    }

    /// Up to this moment the log reaches, or to that of the newest snapshot.
    fn set(&mut self, reached: Timestamp, citation: &Citation) {
        let log = Some((reached, citation.clone()));
        self.newest = match self.snapshot.clone() {
            Some(snapshot) if snapshot.0 > reached => Some(snapshot),
            _ => log,
        };
    }

    fn take(
        &mut self,
        point: Timestamp,
        available: Timestamp,
        citation: Citation,
        stops: &dyn Fn(Timestamp, Timestamp) -> Vec<Citation>,
    ) {
        if available > self.from {
            self.consider(available.min(self.to), Some(&citation), stops);
        }
        if self.snapshot.as_ref().is_none_or(|(newest, _)| point > *newest) {
            self.snapshot = Some((point, citation.clone()));
        }
        if self.newest.as_ref().is_none_or(|(newest, _)| point > *newest) {
            self.newest = Some((point, citation));
        }
        self.causes = Causes::default();
    }

    /// A run gave no good point.
    pub fn failed(&mut self, citation: Citation) {
        self.causes.count += 1;
        self.causes.newest.push_back(citation);
        if self.causes.newest.len() > MOST_CAUSES {
            self.causes.newest.pop_front();
        }
    }

    fn consider(
        &mut self,
        end: Timestamp,
        by: Option<&Citation>,
        stops: &dyn Fn(Timestamp, Timestamp) -> Vec<Citation>,
    ) {
        let begin = self.newest.as_ref().map(|(point, _)| *point);
        let since = begin.unwrap_or(self.from);
        let exposure = between(since, end).unwrap_or_default();
        self.worst = Some(self.worst.map_or(exposure, |worst| worst.max(exposure)));
        let Some(permitted) = self.permitted.filter(|permitted| exposure > *permitted) else {
            return;
        };
        let (cause, causes) = self.cause(since, end, stops);
        let before = self.newest.iter().map(|(_, citation)| citation.clone());
        let records = before.chain(causes).chain(by.cloned()).collect();
        let broken = jiff::SignedDuration::try_from(permitted.0)
            .ok()
            .and_then(|permitted| since.checked_add(permitted).ok());
        self.add_gap(Gap {
            begin,
            broken: broken.unwrap_or(end).max(self.from),
            end,
            exposure,
            open: by.is_none(),
            cause,
            records,
        });
    }

    fn add_gap(&mut self, gap: Gap) {
        self.gap_count += 1;
        if self.gaps.len() < MOST_GAPS {
            self.gaps.push(gap);
        }
    }

    fn cause(
        &self,
        begin: Timestamp,
        end: Timestamp,
        stops: &dyn Fn(Timestamp, Timestamp) -> Vec<Citation>,
    ) -> (String, Vec<Citation>) {
        if let Some(last) = self.causes.newest.back() {
            let cause = match self.causes.count {
                1 => format!("a run gave no good snapshot: {}", last.what),
                count => format!("{count} runs gave no good snapshot, the last: {}", last.what),
            };
            return (cause, self.causes.newest.iter().cloned().collect());
        }
        let stopped = stops(begin, end);
        match stopped.is_empty() {
            true => (
                "no run was recorded in this time that gave an earlier one".into(),
                stopped,
            ),
            false => ("the server was stopped or started in this time".into(), stopped),
        }
    }

    /// The period is over.
    pub fn finish(mut self, stops: &dyn Fn(Timestamp, Timestamp) -> Vec<Citation>) -> Exposed {
        for (point, available, snapshot) in std::mem::take(&mut self.later) {
            self.take(point, available, snapshot, stops);
        }
        self.consider(self.to, None, stops);
        Exposed {
            log: self.log,
            worst: self.worst.filter(|_| self.newest.is_some()),
            newest: self.newest,
            gaps: self.gaps,
            gap_count: self.gap_count,
        }
    }
}

/// From one moment to a later one.
pub(super) fn between(earlier: Timestamp, later: Timestamp) -> Option<TimeSpan> {
    later.duration_since(earlier).try_into().ok().map(TimeSpan)
}

#[cfg(test)]
mod tests {
    use relight_model::objective::worst_exposure;

    use super::*;

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + hour * 3600).unwrap()
    }

    fn cited(sequence: u64) -> Citation {
        Citation {
            sequence,
            time: at(0),
            what: "backup".into(),
        }
    }

    fn over(points: &[(i64, i64)], from: i64, to: i64, permitted: i64) -> Exposed {
        let permitted = TimeSpan::from_secs(permitted as u64 * 3600);
        let mut exposure = Exposure::new(at(from), at(to), Some(permitted));
        for (n, (point, available)) in points.iter().enumerate() {
            exposure.point(at(*point), at(*available), cited(n as u64 + 1), &|_, _| {
                Vec::new()
            });
        }
        exposure.finish(&|_, _| Vec::new())
    }

    #[test]
    fn runs_that_take_no_time_are_judged_as_the_model_judges_points() {
        for seed in 0..200_i64 {
            let mut hours: Vec<i64> = (0..12).map(|n| (seed * 37 + n * n * 11 + n * 5) % 100).collect();
            hours.sort_unstable();
            let points: Vec<(i64, i64)> = hours.iter().map(|hour| (*hour, *hour)).collect();
            let exposed = over(&points, 30, 100, 24);
            let expected = worst_exposure(hours.iter().map(|hour| at(*hour)), at(30), at(100));
            assert_eq!(exposed.worst, expected, "{hours:?}");
        }
    }

    #[test]
    fn a_point_counts_from_the_end_of_its_run() {
        // Captured at 0 and 24, there at 1 and 26: just before 26 the newest is 26 hours old.
        let exposed = over(&[(0, 1), (24, 26)], 2, 30, 24);
        assert_eq!(exposed.worst, Some(TimeSpan::from_secs(26 * 3600)));
        let gap = &exposed.gaps[0];
        assert_eq!((gap.begin, gap.broken, gap.end), (Some(at(0)), at(24), at(26)));
        assert_eq!(
            gap.records.iter().map(|one| one.sequence).collect::<Vec<_>>(),
            [1, 2]
        );
        assert!(!gap.open);
    }

    #[test]
    fn nothing_at_all_is_no_measurement_but_a_gap() {
        let exposed = over(&[], 0, 48, 24);
        assert_eq!((exposed.worst, exposed.gap_count), (None, 1));
        assert!(exposed.gaps[0].open && exposed.gaps[0].begin.is_none());
    }

    #[test]
    fn a_clock_that_was_wrong_hides_nothing_later() {
        // A point dated far in the future is no newer one of anything that follows.
        let exposed = over(&[(0, 1), (500, 2), (24, 25)], 0, 48, 24);
        assert_eq!(exposed.gap_count, 0);
        let exposed = over(&[(0, 1), (500, 2), (27, 28)], 0, 48, 24);
        assert_eq!(exposed.gap_count, 1);
    }

    fn log(from: i64, to: i64, reached: i64, exposure: u64) -> LogDetail {
        LogDetail {
            workload: "pg/main".parse().unwrap(),
            repository: "main".into(),
            from: at(from),
            to: at(to),
            reached_before: at(from),
            reached: at(reached),
            exposure: TimeSpan::from_secs(exposure),
            gaps: 0,
        }
    }

    #[test]
    fn a_log_counts_from_when_it_was_followed_whenever_snapshots_come() {
        let stops = |_, _| Vec::new();
        let mut exposure = Exposure::new(at(0), at(50), Some(TimeSpan::from_secs(60)));
        exposure.point(at(0), at(0), cited(1), &stops);
        // From hour 0 on the log is followed, with a snapshot in between, of which the record comes first.
        exposure.log(&log(0, 10, 10, 16), &cited(2), &stops);
        exposure.point(at(14), at(15), cited(3), &stops);
        exposure.log(&log(10, 20, 20, 30), &cited(4), &stops);
        // Nothing came for five hours, then it went on.
        exposure.log(&log(20, 25, 20, 5 * 3600), &cited(5), &stops);
        exposure.log(&log(25, 50, 50, 20), &cited(6), &stops);
        let exposed = exposure.finish(&stops);
        assert!(exposed.log);
        assert_eq!(exposed.worst, Some(TimeSpan::from_secs(5 * 3600)));
        let gaps: Vec<_> = exposed.gaps.iter().map(|gap| (gap.broken, gap.end)).collect();
        assert_eq!(gaps[0], (at(20), at(25)), "{gaps:?}");
        assert_eq!(exposed.newest.unwrap().0, at(50));
    }

    #[test]
    fn a_server_that_was_away_did_not_follow_the_log() {
        let stops = |_, _| Vec::new();
        let mut exposure = Exposure::new(at(0), at(50), Some(TimeSpan::from_secs(3600)));
        exposure.point(at(0), at(0), cited(1), &stops);
        exposure.log(&log(0, 10, 10, 16), &cited(2), &stops);
        let mut later = log(30, 50, 50, 16);
        later.reached_before = at(10);
        exposure.log(&later, &cited(3), &stops);
        let exposed = exposure.finish(&stops);
        assert_eq!(exposed.worst, Some(TimeSpan::from_secs(20 * 3600)));
        assert_eq!((exposed.gap_count, exposed.gaps[0].end), (1, at(30)));
    }
}
