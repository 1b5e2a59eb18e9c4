//! Calendar events: `mon..fri 02:00`, `*-*-1 03:30`, `daily`, in the syntax of systemd and Proxmox.
//!
//! `[WEEKDAYS] [[YEARS-]MONTHS-DAYS] [HOURS:MINUTES[:SECONDS]] [TIME ZONE]`, or one of the words `minutely`, `hourly`,
//! `daily`, `weekly`, `monthly`, `quarterly`, `semiannually`, `yearly`. Sources: systemd.time(7), "Calendar events", and
//! the page "Calendar Events" of Proxmox Backup Server.
//!
//! Each part is `*` or a list of `VALUE`, `FROM..TO`, each with an optional `/STEP`; a step without end goes on to the
//! end of the part (`8/2` in hours is 8, 10, … 22). With `~` in place of the last `-`, days count from the end of the
//! month: `*-*~1` is its last day. Beyond systemd, `*/STEP` counts from the part's first value, and ranges of weekdays
//! may cross Sunday. Not taken over: fractions of seconds, `@TIMESTAMP`.
//!
//! # When clocks change
//!
//! - A time that does not exist, because clocks were set forward over it, happens at the first instant after the gap,
//!   and not a second time if that instant is an event of its own. (systemd leaves such a day out.)
//! - A time that occurs twice, because clocks were set back, happens once: at its **first** occurrence.
//! - An event of *every* hour (`hourly`, `*:00/15`) goes by elapsed time instead: it happens in both of the two hours
//!   of the same name, so that its promise of one an hour holds in that night too.

mod field;
mod gap;
mod next;
mod parse;

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use field::Field;
pub use parse::EventError;

/// Points in time that recur by the calendar. See the [module](self) for the syntax.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Bit 0 is Monday. All seven where none are named.
    weekdays: u8,
    years: Field,
    months: Field,
    days: Field,
    /// Days count from the end of the month.
    days_from_end: bool,
    hours: Field,
    minutes: Field,
    seconds: Field,
    /// The event's own time zone, which prevails over the one passed in.
    zone: Option<TimeZone>,
}

impl Event {
    /// Reads an event.
    ///
    /// # Errors
    /// The text is no event, or one that never happens, such as 30 February.
    pub fn parse(text: &str) -> Result<Self, EventError> {
        parse::event(text)
    }

    /// The first time of the event that is later than `after`. `zone` holds where the event names no time zone of its
    /// own. `None` when it never happens again.
    pub fn next_after(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        next::next_after(self, after, self.zone.as_ref().unwrap_or(zone))
    }

    /// All times of the event later than `after`, in order.
    pub fn iter_after(&self, after: Timestamp, zone: &TimeZone) -> impl Iterator<Item = Timestamp> {
        let next = move |&after: &Timestamp| self.next_after(after, zone);
        std::iter::successors(next(&after), next)
    }

    /// The last time of the event that is later than `after` and not later than `until`: what is due when nobody
    /// looked in between, however often it would have happened.
    pub fn latest_between(&self, after: Timestamp, until: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let due_after = |t: Timestamp| self.next_after(t, zone).filter(|&due| due <= until);
        let mut found = due_after(after)?;
        // The usual case: nothing more is due.
        match due_after(found) {
            Some(later) => found = later,
            None => return Some(found),
        }
        // Between `found` and `beyond` the answer lies; events are whole seconds.
        let mut beyond = until;
        loop {
            let middle = Timestamp::from_second(found.as_second().midpoint(beyond.as_second())).ok()?;
            match due_after(middle.max(found)) {
                Some(later) => found = later,
                None if middle <= found => return Some(found),
                None => beyond = middle,
            }
        }
    }

    /// The time zone that the event names itself.
    pub fn zone(&self) -> Option<&TimeZone> {
        self.zone.as_ref()
    }
}

impl FromStr for Event {
    type Err = EventError;

    fn from_str(text: &str) -> Result<Self, EventError> {
        Self::parse(text)
    }
}

const WEEKDAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

const EVERY_DAY: u8 = 0b111_1111;

impl fmt::Display for Event {
    /// The normal form, with every part but the time zone: `mon..fri *-*-* 02:00:00`. It parses back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.weekdays != EVERY_DAY {
            let mut list = Vec::new();
            let mut day = 0;
            while day < WEEKDAYS.len() {
                let run = (self.weekdays >> day).trailing_ones() as usize;
                match run {
                    0 => {}
                    1 => list.push(WEEKDAYS[day].to_owned()),
                    2 => list.push(format!("{},{}", WEEKDAYS[day], WEEKDAYS[day + 1])),
                    _ => list.push(format!("{}..{}", WEEKDAYS[day], WEEKDAYS[day + run - 1])),
                }
                day += run.max(1);
            }
            write!(f, "{} ", list.join(","))?;
        }
        let dash = if self.days_from_end { '~' } else { '-' };
        write!(
            f,
            "{}-{}{dash}{} {}:{}:{}",
            self.years, self.months, self.days, self.hours, self.minutes, self.seconds
        )?;
        match &self.zone {
            Some(zone) => write!(f, " {}", zone.iana_name().unwrap_or("UTC")),
            None => Ok(()),
        }
    }
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
