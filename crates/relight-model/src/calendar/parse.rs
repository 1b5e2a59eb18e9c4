//! Reading an event.

use jiff::civil::date;
use jiff::tz::TimeZone;

use super::field::{Field, Item};
use super::{EVERY_DAY, Event, WEEKDAYS, next};
use crate::size::shortened;

/// Why a text is no calendar event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventError {
    /// Nothing, or a text of more than 256 bytes.
    #[error("a calendar event is needed, such as \"daily\", \"mon..fri 02:00\" or \"*-*-1 03:30\"")]
    Empty,
    /// Something that is neither weekdays nor date nor time nor time zone, or that stands in the wrong place.
    #[error(
        "{word:?} is no part of a calendar event here: the order is [WEEKDAYS] [[YEARS-]MONTHS-DAYS] [HOURS:MINUTES[:SECONDS]] \
         [TIME ZONE], as in \"mon..fri 02:00\""
    )]
    UnknownWord {
        /// The word, shortened.
        word: String,
    },
    /// No weekday has this name.
    #[error(
        "{word:?} is neither a weekday (mon, tue, wed, thu, fri, sat, sun) nor one of minutely, hourly, daily, weekly, monthly, \
         quarterly, semiannually, yearly"
    )]
    UnknownWeekday {
        /// The name, shortened.
        word: String,
    },
    /// A value that is no number, or not in the range of its part.
    #[error("{value:?} is no value for the {part} of a calendar event: give {min} to {max}, or *")]
    BadValue {
        /// The value, shortened.
        value: String,
        /// Which part.
        part: &'static str,
        /// The least value.
        min: u16,
        /// The largest value.
        max: u16,
    },
    /// A range that ends before it begins.
    #[error(
        "the range {range:?} in the {part} of a calendar event ends before it begins: write two, such as 22..23,0..2"
    )]
    Backwards {
        /// The range, shortened.
        range: String,
        /// Which part.
        part: &'static str,
    },
    /// A step of zero, or one beyond the end of its part.
    #[error("{step:?} is no step for the {part} of a calendar event: give 1 to {max}")]
    BadStep {
        /// The step, shortened.
        step: String,
        /// Which part.
        part: &'static str,
        /// The largest step.
        max: u16,
    },
    /// Fractions of seconds.
    #[error("a calendar event happens at whole seconds; {value:?} has a fraction")]
    Fraction {
        /// The value, shortened.
        value: String,
    },
    /// The time zone database has no such zone.
    #[error("{name:?} is no time zone that this system knows: use a name such as UTC or Europe/Berlin")]
    UnknownZone {
        /// The name, shortened.
        name: String,
    },
    /// No date fits, such as 30 February.
    #[error("the calendar event {text:?} never happens: no date fits it")]
    Never {
        /// The event, shortened.
        text: String,
    },
}

/// No event that a person writes is longer.
const MAX_LEN: usize = 256;

/// Shorthands and what they stand for.
const SHORTHANDS: [(&str, &str); 12] = [
    ("minutely", "*-*-* *:*:00"),
    ("hourly", "*-*-* *:00:00"),
    ("daily", "*-*-* 00:00:00"),
    ("weekly", "mon *-*-* 00:00:00"),
    ("monthly", "*-*-01 00:00:00"),
    ("quarterly", "*-01,04,07,10-01 00:00:00"),
    ("semiannually", "*-01,07-01 00:00:00"),
    ("semi-annually", "*-01,07-01 00:00:00"),
    ("biannually", "*-01,07-01 00:00:00"),
    ("bi-annually", "*-01,07-01 00:00:00"),
    ("yearly", "*-01-01 00:00:00"),
    ("annually", "*-01-01 00:00:00"),
];

/// Name, least and largest value of a part.
type Part = (&'static str, u16, u16);

const YEARS: Part = ("years", 1970, 9999);
const MONTHS: Part = ("months", 1, 12);
const DAYS: Part = ("days", 1, 31);
/// Ranges of these may be written either way round.
const DAYS_FROM_END: Part = ("days from the end of the month", 1, 31);
const HOURS: Part = ("hours", 0, 23);
const MINUTES: Part = ("minutes", 0, 59);
const SECONDS: Part = ("seconds", 0, 59);

fn any((_, min, max): Part) -> Field {
    Field {
        items: Vec::new(),
        min,
        max,
    }
}

pub(super) fn event(text: &str) -> Result<Event, EventError> {
    if text.trim().is_empty() || text.len() > MAX_LEN {
        return Err(EventError::Empty);
    }
    let mut words = text.split_whitespace().peekable();
    let shorthand = words.peek().and_then(|first| {
        let found = SHORTHANDS
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(first));
        found.map(|(_, meaning)| *meaning)
    });
    let mut event = Event {
        weekdays: EVERY_DAY,
        years: any(YEARS),
        months: any(MONTHS),
        days: any(DAYS),
        days_from_end: false,
        hours: Field::one(0, HOURS.1, HOURS.2),
        minutes: Field::one(0, MINUTES.1, MINUTES.2),
        seconds: Field::one(0, SECONDS.1, SECONDS.2),
        zone: None,
    };
    let unknown = |word: &str| EventError::UnknownWord {
        word: shortened(word),
    };
    if let Some(meaning) = shorthand {
        words.next();
        let mut meaning = meaning.split_whitespace().peekable();
        when(&mut event, &mut meaning)?;
    } else if when(&mut event, &mut words)? == 0 {
        return Err(unknown(words.peek().unwrap_or(&"")));
    }
    if let Some(word) = words.next() {
        if weekdays(word).is_ok() || word.contains(':') {
            return Err(unknown(word));
        }
        event.zone = Some(time_zone(word)?);
    }
    if let Some(word) = words.next() {
        return Err(unknown(word));
    }
    match next::not_before(&event, date(1970, 1, 1).at(0, 0, 0, 0)) {
        Some(_) => Ok(event),
        None => Err(EventError::Never {
            text: shortened(text),
        }),
    }
}

/// Reads weekdays, date and time, as far as they are there, and says how many of them were.
fn when<'t>(
    event: &mut Event,
    words: &mut std::iter::Peekable<impl Iterator<Item = &'t str>>,
) -> Result<usize, EventError> {
    let mut found = 0;
    if let Some(word) = words.next_if(|word| word.starts_with(|c: char| c.is_ascii_alphabetic())) {
        event.weekdays = weekdays(word)?;
        found += 1;
    }
    let is_time = |word: &str| word.contains(':');
    let begins_with_value = |word: &str| word.starts_with(|c: char| c.is_ascii_digit() || c == '*');
    if let Some(word) = words.next_if(|word| begins_with_value(word) && !is_time(word)) {
        read_date(event, word)?;
        found += 1;
    }
    if let Some(word) = words.next_if(|word| begins_with_value(word) && is_time(word)) {
        read_time(event, word)?;
        found += 1;
    }
    Ok(found)
}

/// `mon..fri,sun`: names may be abbreviated to three letters or written out, in any case.
fn weekdays(word: &str) -> Result<u8, EventError> {
    const NAMES: [&str; 7] = [
        "monday",
        "tuesday",
        "wednesday",
        "thursday",
        "friday",
        "saturday",
        "sunday",
    ];
    let day = |name: &str| {
        let lower = name.to_ascii_lowercase();
        let position = NAMES.iter().position(|full| *full == lower);
        let position = position.or_else(|| WEEKDAYS.iter().position(|short| *short == lower));
        position.ok_or_else(|| EventError::UnknownWeekday {
            word: shortened(name),
        })
    };
    let mut mask = 0;
    for item in word.trim_end_matches(',').split(',') {
        let (from, to) = item.split_once("..").unwrap_or((item, item));
        let (from, to) = (day(from)?, day(to)?);
        let length = (to + 7 - from) % 7;
        for at in from..=from + length {
            mask |= 1 << (at % 7);
        }
    }
    Ok(mask)
}

fn read_date(event: &mut Event, word: &str) -> Result<(), EventError> {
    let unknown = || EventError::UnknownWord {
        word: shortened(word),
    };
    let last = word.rfind(['-', '~']).ok_or_else(unknown)?;
    event.days_from_end = word[last..].starts_with('~');
    let (before, day) = (&word[..last], &word[last + 1..]);
    let (year, month) = match before.split_once('-') {
        Some((year, month)) => (Some(year), month),
        None => (None, before),
    };
    if month.contains(['-', '~']) {
        return Err(unknown());
    }
    if let Some(year) = year {
        event.years = field(year, YEARS)?;
    }
    event.months = field(month, MONTHS)?;
    event.days = field(day, if event.days_from_end { DAYS_FROM_END } else { DAYS })?;
    Ok(())
}

fn read_time(event: &mut Event, word: &str) -> Result<(), EventError> {
    let parts: Vec<&str> = word.split(':').collect();
    let (hour, minute, second) = match parts.as_slice() {
        [hour, minute] => (*hour, *minute, None),
        [hour, minute, second] => (*hour, *minute, Some(*second)),
        _ => {
            return Err(EventError::UnknownWord {
                word: shortened(word),
            });
        }
    };
    event.hours = field(hour, HOURS)?;
    event.minutes = field(minute, MINUTES)?;
    if let Some(second) = second {
        if second.replace("..", "").contains('.') {
            return Err(EventError::Fraction {
                value: shortened(second),
            });
        }
        event.seconds = field(second, SECONDS)?;
    }
    Ok(())
}

/// A part: `*`, or a list of values, ranges and steps.
fn field(text: &str, part: Part) -> Result<Field, EventError> {
    let mut field = any(part);
    let mut every = false;
    for item in text.split(',') {
        match read_item(item, part)? {
            Some(item) => field.items.push(item),
            None => every = true,
        }
    }
    if every {
        field.items.clear();
    }
    Ok(field)
}

/// `None` stands for `*`.
fn read_item(text: &str, part: Part) -> Result<Option<Item>, EventError> {
    let (name, min, max) = part;
    let (values, step) = match text.split_once('/') {
        Some((values, step)) => (values, Some(step)),
        None => (text, None),
    };
    let step = step
        .map(|step| {
            let number: Option<u16> = number(step).filter(|number| (1..=max).contains(number));
            number.ok_or_else(|| EventError::BadStep {
                step: shortened(step),
                part: name,
                max,
            })
        })
        .transpose()?;
    let whole = Item {
        from: min,
        to: None,
        step,
    };
    if values == "*" {
        return Ok(step.map(|_| whole));
    }
    let (from, to) = match values.split_once("..") {
        Some((from, to)) => (from, Some(to)),
        None => (values, None),
    };
    let from = value(from, part)?;
    let to = to.map(|to| value(to, part)).transpose()?;
    if to.is_some_and(|to| to < from) && name != DAYS_FROM_END.0 {
        return Err(EventError::Backwards {
            range: shortened(values),
            part: name,
        });
    }
    Ok(Some(Item { from, to, step }))
}

fn value(text: &str, part: Part) -> Result<u16, EventError> {
    let (name, min, max) = part;
    let read = number(text).map(|number| match (name == YEARS.0, number) {
        // Years of two digits, as systemd reads them.
        (true, 0..70) => 2000 + number,
        (true, 70..100) => 1900 + number,
        _ => number,
    });
    let value = read.filter(|value| (min..=max).contains(value));
    value.ok_or_else(|| EventError::BadValue {
        value: shortened(text),
        part: name,
        min,
        max,
    })
}

/// Digits only: `parse` alone would take a sign.
fn number(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn time_zone(name: &str) -> Result<TimeZone, EventError> {
    if name.eq_ignore_ascii_case("utc") {
        return Ok(TimeZone::UTC);
    }
    TimeZone::get(name).map_err(|_| EventError::UnknownZone {
        name: shortened(name),
    })
}
