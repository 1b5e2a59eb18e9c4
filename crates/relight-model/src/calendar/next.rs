//! From an instant to the next instant of an event.

use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp, ToSpan};

use super::{EVERY_DAY, Event};

pub(super) fn next_after(event: &Event, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    if event.hours.is_full() {
        by_elapsed_time(event, after, zone)
    } else {
        once_a_day(event, after, zone)
    }
}

/// For events at named hours. [`instant`] never goes back while civil time goes on, so the first civil time of the
/// event whose instant is late enough is the answer.
fn once_a_day(event: &Event, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let mut civil = zone.to_datetime(after);
    loop {
        // In the second of two hours of the same name this leaves out what happened in the first.
        civil = later_than(event, civil)?;
        let instant = instant(civil, zone)?;
        if instant > after {
            return Some(instant);
        }
    }
}

/// When a civil time happens: at its first occurrence, or after the gap in which it is missing.
fn instant(civil: DateTime, zone: &TimeZone) -> Option<Timestamp> {
    match zone.to_ambiguous_timestamp(civil).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(civil).ok(),
        AmbiguousOffset::Fold { before, .. } => before.to_timestamp(civil).ok(),
        AmbiguousOffset::Gap { after, .. } => {
            // With the offset that holds after the gap, a time in the gap lies before it.
            let before_gap = after.to_timestamp(civil).ok()?;
            let transition = zone.following(before_gap).next();
            transition.map(|transition| transition.timestamp())
        }
    }
}

/// No change of clocks moves them by more.
const NEAR: SignedDuration = SignedDuration::from_hours(48);

/// For events of every hour: the civil time is followed as clocks show it, from one change of clocks to the next.
fn by_elapsed_time(event: &Event, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let mut civil = later_than(event, zone.to_datetime(after))?;
    let mut offset = zone.to_offset(after);
    let mut since = after;
    loop {
        let mut candidate = offset.to_timestamp(civil).ok()?;
        // Up to there no change of clocks matters, since no civil time of the event lies before.
        if let Ok(near) = candidate.checked_sub(NEAR)
            && near > since
        {
            (since, offset) = (near, zone.to_offset(near));
            candidate = offset.to_timestamp(civil).ok()?;
        }
        let change = zone.following(since).next();
        let Some(change) = change.filter(|change| change.timestamp() <= candidate) else {
            return Some(candidate);
        };
        since = change.timestamp();
        offset = change.offset();
        let shown = offset.to_datetime(since);
        if civil < shown {
            // It lies in the gap that ends here.
            return Some(since);
        }
        civil = not_before(event, shown)?;
    }
}

/// The first civil time of the event after `civil`.
fn later_than(event: &Event, civil: DateTime) -> Option<DateTime> {
    let whole = civil.with().subsec_nanosecond(0).build().ok()?;
    not_before(event, whole.checked_add(1.second()).ok()?)
}

/// The first civil time of the event at or after `civil`, a whole second.
pub(super) fn not_before(event: &Event, civil: DateTime) -> Option<DateTime> {
    let date = date_not_before(event, civil.date())?;
    if date == civil.date() {
        let now = (part(civil.hour()), part(civil.minute()), part(civil.second()));
        if let Some((hour, minute, second)) = time_not_before(event, now) {
            return at(date, hour, minute, second);
        }
    } else {
        return first_time(event, date);
    }
    first_time(event, date_not_before(event, date.tomorrow().ok()?)?)
}

fn first_time(event: &Event, date: Date) -> Option<DateTime> {
    at(
        date,
        event.hours.first()?,
        event.minutes.first()?,
        event.seconds.first()?,
    )
}

fn at(date: Date, hour: u16, minute: u16, second: u16) -> Option<DateTime> {
    let small = |value: u16| i8::try_from(value).ok();
    let (hour, minute, second) = (small(hour)?, small(minute)?, small(second)?);
    let time = jiff::civil::Time::new(hour, minute, second, 0).ok()?;
    Some(date.to_datetime(time))
}

/// A part of a date or time of jiff, none of which is negative here.
fn part(value: i8) -> u16 {
    u16::from(value.unsigned_abs())
}

/// The first time of day of the event at or after `(hour, minute, second)`.
fn time_not_before(event: &Event, (hour, minute, second): (u16, u16, u16)) -> Option<(u16, u16, u16)> {
    let (first_minute, first_second) = (event.minutes.first()?, event.seconds.first()?);
    if event.hours.allows(hour) {
        if event.minutes.allows(minute)
            && let Some(second) = event.seconds.next(second)
        {
            return Some((hour, minute, second));
        }
        if let Some(minute) = event.minutes.next(minute + 1) {
            return Some((hour, minute, first_second));
        }
    }
    let hour = event.hours.next(hour + 1)?;
    Some((hour, first_minute, first_second))
}

/// The first date of the event on or after `from`. Looks at each month at most once, so that even "never" is found in
/// milliseconds.
fn date_not_before(event: &Event, from: Date) -> Option<Date> {
    let mut year = u16::try_from(from.year()).unwrap_or(0);
    let mut month = part(from.month());
    let mut day = from.day();
    loop {
        let allowed = event.years.next(year)?;
        if allowed != year {
            (year, month, day) = (allowed, 1, 1);
        }
        while let Some(allowed) = event.months.next(month) {
            if allowed != month {
                (month, day) = (allowed, 1);
            }
            if let Some(date) = day_in_month(event, year, month, day) {
                return Some(date);
            }
            (month, day) = (month + 1, 1);
        }
        (year, month, day) = (year + 1, 1, 1);
    }
}

fn day_in_month(event: &Event, year: u16, month: u16, from: i8) -> Option<Date> {
    let first = Date::new(i16::try_from(year).ok()?, i8::try_from(month).ok()?, 1).ok()?;
    let length = first.days_in_month();
    let weekday_of_first = first.weekday().to_monday_zero_offset();
    (from..=length).find_map(|day| {
        let weekday = (weekday_of_first + day - 1) % 7;
        let on_weekday = event.weekdays == EVERY_DAY || event.weekdays & (1 << weekday) != 0;
        let on_day = if event.days_from_end {
            event.days.allows_from_end(part(length - day) + 1)
        } else {
            event.days.allows(part(day))
        };
        if on_weekday && on_day {
            first.with().day(day).build().ok()
        } else {
            None
        }
    })
}
