//! Calendar events against an oracle that looks at every minute of a clock on the wall.

use std::collections::BTreeSet;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use proptest::collection::btree_set;
use proptest::prelude::*;
use relight_model::calendar::Event;

/// An event as plain sets of values, beside the text that the library reads.
#[derive(Debug, Clone)]
struct Plain {
    weekdays: BTreeSet<i8>,
    months: BTreeSet<i8>,
    days: BTreeSet<i8>,
    from_end: bool,
    hours: BTreeSet<i8>,
    minutes: BTreeSet<i8>,
}

impl Plain {
    fn text(&self) -> String {
        const NAMES: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
        let list = |values: &BTreeSet<i8>| {
            let words: Vec<String> = values.iter().map(i8::to_string).collect();
            if words.is_empty() {
                "*".to_owned()
            } else {
                words.join(",")
            }
        };
        let weekdays: Vec<&str> = self.weekdays.iter().map(|&day| NAMES[day as usize]).collect();
        format!(
            "{} *-{}{}{} {}:{}",
            weekdays.join(","),
            list(&self.months),
            if self.from_end { '~' } else { '-' },
            list(&self.days),
            list(&self.hours),
            list(&self.minutes)
        )
    }

    fn holds(&self, shown: DateTime) -> bool {
        let among = |values: &BTreeSet<i8>, value: i8| values.is_empty() || values.contains(&value);
        let day = if self.from_end {
            shown.date().days_in_month() - shown.day() + 1
        } else {
            shown.day()
        };
        among(&self.weekdays, shown.weekday().to_monday_zero_offset())
            && among(&self.months, shown.month())
            && among(&self.days, day)
            && among(&self.hours, shown.hour())
            && among(&self.minutes, shown.minute())
    }

    /// Every time of the event in the given minutes, by watching the clock.
    fn watch(&self, from: Timestamp, minutes: i64, zone: &TimeZone) -> Vec<Timestamp> {
        let minute = SignedDuration::from_mins(1);
        let every_hour = self.hours.is_empty() || self.hours.len() == 24;
        let mut shown_before = BTreeSet::new();
        let mut last = zone.to_datetime(from - minute);
        let mut found = Vec::new();
        for n in 0..minutes {
            let instant = from + SignedDuration::from_mins(n);
            let shown = zone.to_datetime(instant);
            // What the clock left out since the minute before.
            let mut left_out = last.checked_add(minute).unwrap();
            let mut due = false;
            while left_out < shown {
                due |= self.holds(left_out);
                left_out = left_out.checked_add(minute).unwrap();
            }
            let repeated = !shown_before.insert(shown) && !every_hour;
            if due || (self.holds(shown) && !repeated) {
                found.push(instant);
            }
            last = shown;
        }
        found
    }
}

fn plain() -> impl Strategy<Value = Plain> {
    let few = |low: i8, high: i8, most: usize| btree_set(low..=high, 0..=most);
    let hours = prop_oneof![
        3 => few(0, 23, 5),
        2 => few(0, 4, 4),
        1 => Just((0..24).collect()),
    ];
    (
        few(0, 6, 4),
        few(1, 12, 6),
        few(1, 31, 20),
        any::<bool>(),
        hours,
        few(0, 59, 4),
    )
        .prop_map(|(weekdays, months, days, from_end, hours, minutes)| Plain {
            weekdays,
            months,
            days,
            from_end,
            hours,
            minutes,
        })
}

/// Days around changes of clocks, and ordinary ones.
fn beginnings() -> impl Strategy<Value = (TimeZone, Timestamp)> {
    let place = |zone: &'static str, from: &'static str| {
        Just((TimeZone::get(zone).unwrap(), from.parse::<Timestamp>().unwrap()))
    };
    prop_oneof![
        place("Europe/Berlin", "2026-03-28T12:00:00Z"),
        place("Europe/Berlin", "2026-10-24T12:00:00Z"),
        place("America/New_York", "2026-03-07T12:00:00Z"),
        place("America/New_York", "2026-10-31T12:00:00Z"),
        place("Australia/Lord_Howe", "2026-04-03T12:00:00Z"),
        place("Australia/Lord_Howe", "2026-10-02T12:00:00Z"),
        place("Asia/Beirut", "2026-03-27T12:00:00Z"),
        place("Pacific/Apia", "2011-12-28T12:00:00Z"),
        place("UTC", "2028-02-27T12:00:00Z"),
        place("Asia/Kathmandu", "2026-12-30T12:00:00Z"),
    ]
}

const DAYS: i64 = 4;

proptest! {
    #[test]
    fn every_time_is_found_and_no_other(plain in plain(), (zone, from) in beginnings()) {
        let Ok(event) = plain.text().parse::<Event>() else {
            // Only what has no date at all is refused.
            let year = "2024-01-01T00:00:00Z".parse::<Timestamp>().unwrap();
            prop_assert!(plain.watch(year, 366 * 24 * 60, &TimeZone::UTC).is_empty());
            return Ok(());
        };
        let minutes = DAYS * 24 * 60;
        let end = from + SignedDuration::from_mins(minutes);
        let just_before = from - SignedDuration::from_nanos(1);
        let found: Vec<Timestamp> =
            event.iter_after(just_before, &zone).take_while(|&t| t < end).collect();
        let watched = plain.watch(from, minutes, &zone);
        prop_assert_eq!(&found, &watched, "{}", event);
        let last = event.latest_between(just_before, end - SignedDuration::from_secs(1), &zone);
        prop_assert_eq!(last, watched.last().copied(), "{}", event);
    }

    #[test]
    fn asking_at_any_instant_gives_the_next_time(plain in plain(), (zone, from) in beginnings(), second in 0..DAYS * 86_400) {
        let Ok(event) = plain.text().parse::<Event>() else { return Ok(()) };
        let asked = from + SignedDuration::from_secs(second);
        let all = plain.watch(from, (DAYS + 1) * 24 * 60, &zone);
        if let Some(&expected) = all.iter().find(|&&t| t > asked) {
            prop_assert_eq!(event.next_after(asked, &zone), Some(expected), "{}", event);
        }
    }

    #[test]
    fn any_text_gives_an_event_that_reads_back_or_an_error(text in "[a-z0-9*/.,:~ -]{0,24}|.{0,30}") {
        if let Ok(event) = text.parse::<Event>() {
            prop_assert_eq!(event.to_string().parse::<Event>().unwrap(), event);
        }
    }
}
