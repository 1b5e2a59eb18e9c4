//! Whether something was done each time it was due: drills, verifications, copies.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use relight_model::Event;
use serde::Serialize;

/// What is due may end so much later: runs wait for their window, take their time and are tried again.
pub(super) const GRACE: SignedDuration = SignedDuration::from_hours(24);
/// So many missed times are named.
const MOST: usize = 12;

/// What became of the times at which something was due.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Occasions {
    /// So often it was due in the period, the last time at least a day before its end.
    pub due: u64,
    /// So often nothing good came of it until it was due again.
    pub missed: u64,
    /// The newest of those.
    pub missed_at: Vec<Timestamp>,
}

/// Follows them. A time is served by a good run that ends until the next time it is due.
#[derive(Debug, Clone)]
pub(super) struct Tracker {
    event: Event,
    zone: TimeZone,
    /// The next time that nobody has looked at.
    next: Option<Timestamp>,
    /// The last time that was due, and is not served yet.
    open: Option<Timestamp>,
    found: Occasions,
}

impl Tracker {
    /// From a time on.
    pub fn new(event: &Event, from: Timestamp, zone: &TimeZone) -> Self {
        let before = from.checked_sub(SignedDuration::from_secs(1)).unwrap_or(from);
        Self {
            event: event.clone(),
            zone: zone.clone(),
            next: event.next_after(before, zone),
            open: None,
            found: Occasions::default(),
        }
    }

    fn advance(&mut self, until: Timestamp) {
        while let Some(due) = self.next.filter(|due| *due <= until) {
            self.miss();
            self.found.due += 1;
            self.open = Some(due);
            self.next = self.event.next_after(due, &self.zone);
        }
    }

    fn miss(&mut self) {
        if let Some(due) = self.open.take() {
            self.found.missed += 1;
            self.found.missed_at.push(due);
            if self.found.missed_at.len() > MOST {
                self.found.missed_at.remove(0);
            }
        }
    }

    /// Something good ended.
    pub fn good(&mut self, ended: Timestamp) {
        self.advance(ended);
        self.open = None;
    }

    /// The period is over.
    pub fn finish(mut self, to: Timestamp) -> Occasions {
        self.advance(to);
        // What has just become due is not missed yet, and not kept either.
        match self.open {
            Some(due) if to.duration_since(due) < GRACE => self.found.due -= 1,
            _ => self.miss(),
        }
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        format!("2026-{text}:00Z").parse().unwrap()
    }

    fn followed(event: &str, from: &str, good: &[&str], to: &str) -> Occasions {
        let mut tracker = Tracker::new(&event.parse().unwrap(), at(from), &TimeZone::UTC);
        for time in good {
            tracker.good(at(time));
        }
        tracker.finish(at(to))
    }

    #[test]
    fn each_time_is_served_by_what_ends_before_the_next() {
        let kept = followed(
            "quarterly",
            "01-01T00:00",
            &["01-03T10:00", "04-01T02:00"],
            "06-30T00:00",
        );
        assert_eq!((kept.due, kept.missed), (2, 0));
        // Two in one quarter do not serve two quarters.
        let missed = followed(
            "quarterly",
            "01-01T00:00",
            &["01-03T10:00", "02-01T02:00"],
            "06-30T00:00",
        );
        assert_eq!((missed.due, missed.missed), (2, 1));
        assert_eq!(missed.missed_at, [at("04-01T00:00")]);
    }

    #[test]
    fn what_is_due_now_is_not_judged_yet() {
        let now = followed("quarterly", "01-01T00:00", &["01-03T10:00"], "04-01T20:00");
        assert_eq!((now.due, now.missed), (1, 0));
        let later = followed("quarterly", "01-01T00:00", &["01-03T10:00"], "04-02T01:00");
        assert_eq!((later.due, later.missed), (2, 1));
        // What was done before the period serves nothing in it.
        let before = followed("quarterly", "02-01T00:00", &["01-20T10:00"], "03-30T00:00");
        assert_eq!((before.due, before.missed), (0, 0));
    }
}
