//! How far apart the times of an event can lie.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::Event;

/// So many times are looked at from the beginning, and from each change of clocks.
const LOOKED_AT: usize = 1_500;
const AROUND_CHANGES: usize = 200;
/// Changes of clocks that are looked at: forward and back, this year and the next.
const CHANGES: usize = 4;
const DAY: SignedDuration = SignedDuration::from_hours(24);
const AHEAD: SignedDuration = SignedDuration::from_hours(24 * 800);

impl Event {
    /// The longest time between two times of the event in the two years from `from` on, the days on which clocks change
    /// included. `None` when it does not happen twice in that time.
    pub fn longest_gap(&self, from: Timestamp, zone: &TimeZone) -> Option<SignedDuration> {
        let zone = self.zone().unwrap_or(zone);
        let end = from.checked_add(AHEAD).ok()?;
        let changes = zone
            .following(from)
            .take(CHANGES)
            .map(|change| change.timestamp());
        let mut longest = self.gap_among(from, end, LOOKED_AT, zone);
        for change in changes.take_while(|&change| change < end) {
            let begin = change.checked_sub(DAY).ok()?;
            longest = longest.max(self.gap_among(begin, end, AROUND_CHANGES, zone));
        }
        longest
    }

    fn gap_among(
        &self,
        from: Timestamp,
        end: Timestamp,
        count: usize,
        zone: &TimeZone,
    ) -> Option<SignedDuration> {
        let mut last = None;
        let mut longest = None;
        for time in self
            .iter_after(from, zone)
            .take_while(|&time| time <= end)
            .take(count)
        {
            if let Some(last) = last {
                longest = longest.max(Some(time.duration_since(last)));
            }
            last = Some(time);
        }
        longest
    }
}
