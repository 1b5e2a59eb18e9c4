//! The span of `keep-within`: calendar units, because "one month back" has no fixed length.

use std::fmt;
use std::str::FromStr;

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use serde::{Deserialize, Serialize};

use crate::size::shortened;

/// Calendar span back from the newest snapshot: `36h`, `7d`, `2w`, `6m` (months), `1y`, or several (`1y6m`).
///
/// Units are `h`, `d`, `w`, `m` or `mo`, and `y`, each at most once. Years, months, weeks and days are counted on the
/// calendar of the declared time zone: seven days before 12:00 is 12:00, whatever the clocks did in between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Within {
    years: u16,
    months: u16,
    weeks: u16,
    days: u16,
    hours: u16,
}

/// Why a text is no span for `keep-within`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WithinError {
    /// No number followed by a unit.
    #[error(
        "{text:?} is not a retention span: write numbers with units h, d, w, m (months) or y, such as 7d or 1y6m"
    )]
    Malformed {
        /// What was given, shortened.
        text: String,
    },
    /// The letters after a number are no unit.
    #[error("{unit:?} is not a unit of retention: use h, d, w, m (months) or y")]
    UnknownUnit {
        /// The unit as given, shortened.
        unit: String,
    },
    /// The same unit twice.
    #[error("the unit {unit:?} occurs twice in the retention span {text:?}")]
    RepeatedUnit {
        /// What was given, shortened.
        text: String,
        /// The unit.
        unit: String,
    },
    /// A number beyond the limit.
    #[error(
        "the retention span {text:?} is too long: at most {MAX_COUNT} of each unit, and {MAX_YEARS} years"
    )]
    TooLong {
        /// What was given, shortened.
        text: String,
    },
    /// Nothing would be kept.
    #[error("the retention span {text:?} is zero and would keep nothing: leave the rule out")]
    Zero {
        /// What was given, shortened.
        text: String,
    },
}

/// The largest number of any unit but years.
const MAX_COUNT: u16 = 60_000;
/// The largest number of years.
const MAX_YEARS: u16 = 1_000;

impl FromStr for Within {
    type Err = WithinError;

    fn from_str(text: &str) -> Result<Self, WithinError> {
        let malformed = || WithinError::Malformed {
            text: shortened(text),
        };
        let too_long = || WithinError::TooLong {
            text: shortened(text),
        };
        let mut within = Self::default();
        let mut rest = text.trim();
        while !rest.is_empty() {
            let unit_start = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(malformed)?;
            let (number, tail) = rest.split_at(unit_start);
            let tail = tail.trim_start();
            let unit_end = tail.find(|c: char| !c.is_alphabetic()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(unit_end);
            rest = tail.trim_start();
            if number.is_empty() || unit.is_empty() {
                return Err(malformed());
            }
            let count: u16 = number.parse().map_err(|_| too_long())?;
            let (field, limit) = match unit {
                "y" => (&mut within.years, MAX_YEARS),
                "m" | "mo" => (&mut within.months, MAX_COUNT),
                "w" => (&mut within.weeks, MAX_COUNT),
                "d" => (&mut within.days, MAX_COUNT),
                "h" => (&mut within.hours, MAX_COUNT),
                _ => {
                    return Err(WithinError::UnknownUnit {
                        unit: shortened(unit),
                    });
                }
            };
            if count > limit {
                return Err(too_long());
            }
            if *field != 0 {
                return Err(WithinError::RepeatedUnit {
                    text: shortened(text),
                    unit: unit.to_owned(),
                });
            }
            *field = count;
        }
        match within == Self::default() {
            true if text.trim().is_empty() => Err(malformed()),
            true => Err(WithinError::Zero {
                text: shortened(text),
            }),
            false => Ok(within),
        }
    }
}

impl Within {
    /// The oldest time that is still within this span before `newest`, on the calendar of `zone`.
    ///
    /// A span that reaches before the beginning of representable time keeps everything.
    pub fn oldest_kept(&self, newest: Timestamp, zone: &TimeZone) -> Timestamp {
        let span = Span::new()
            .try_years(self.years)
            .and_then(|span| span.try_months(self.months))
            .and_then(|span| span.try_weeks(self.weeks))
            .and_then(|span| span.try_days(self.days))
            .and_then(|span| span.try_hours(self.hours));
        span.and_then(|span| newest.to_zoned(zone.clone()).checked_sub(span))
            .map_or(Timestamp::MIN, |oldest| oldest.timestamp())
    }
}

impl fmt::Display for Within {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (count, unit) in [
            (self.years, 'y'),
            (self.months, 'm'),
            (self.weeks, 'w'),
            (self.days, 'd'),
            (self.hours, 'h'),
        ] {
            if count > 0 {
                write!(f, "{count}{unit}")?;
            }
        }
        Ok(())
    }
}

impl From<Within> for String {
    fn from(within: Within) -> Self {
        within.to_string()
    }
}

impl TryFrom<String> for Within {
    type Error = WithinError;

    fn try_from(text: String) -> Result<Self, WithinError> {
        text.parse()
    }
}
