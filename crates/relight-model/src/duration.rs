//! Lengths of time as an operator writes and reads them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::size::shortened;

/// A fixed length of time: objectives, grace times, limits, measurements.
///
/// Parsed from numbers with units, largest first or in any order: `45m`, `1h30m`, `1 h 30 m`, `2d`, `90 s`,
/// `250ms`, `1.5h`. Units: `ms`, `s`, `m` or `min` (minutes), `h`, `d` (24 hours), `w` (7 days). There is no month
/// here, because a month has no fixed length; retention's `keep-within` has one, where `m` means month.
/// A bare `0` needs no unit.
///
/// Displayed with the two largest units that matter (`3 m 20 s`, `1 d 4 h`, `850 ms`). Serialised to the millisecond, as
/// text (`3m 20s`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TimeSpan(pub Duration);

/// Why a text is not a length of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DurationError {
    /// No number where one is expected.
    #[error("{text:?} is not a duration: write numbers with units, such as 45m, 1h30m or 2d")]
    NoNumber {
        /// What was given, shortened.
        text: String,
    },
    /// A number without a unit: it could be seconds, minutes or days.
    #[error("the duration {text:?} lacks a unit: use ms, s, m (minutes), h, d or w")]
    NoUnit {
        /// What was given, shortened.
        text: String,
    },
    /// The letters after a number are no unit of time.
    #[error("{unit:?} is not a unit of time: use ms, s, m (minutes), h, d or w")]
    UnknownUnit {
        /// The unit as given, shortened.
        unit: String,
    },
    /// The same unit twice, which is more likely a slip than a sum.
    #[error("the unit {unit:?} occurs twice in the duration {text:?}")]
    RepeatedUnit {
        /// What was given, shortened.
        text: String,
        /// The unit.
        unit: &'static str,
    },
    /// Longer than the limit of 10,000 years.
    #[error("the duration {text:?} is too long")]
    TooLong {
        /// What was given, shortened.
        text: String,
    },
}

/// No objective, grace or measurement is longer; keeps later sums far from overflow.
const LONGEST: Duration = Duration::from_secs(10_000 * 366 * DAY);

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const WEEK: u64 = 7 * DAY;

/// Names and milliseconds of the units.
const UNITS: [(&str, u64); 6] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", MINUTE * 1_000),
    ("h", HOUR * 1_000),
    ("d", DAY * 1_000),
    ("w", WEEK * 1_000),
];

impl TimeSpan {
    /// `n` seconds.
    pub const fn from_secs(n: u64) -> Self {
        Self(Duration::from_secs(n))
    }

    /// The length as the standard library's type.
    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl From<Duration> for TimeSpan {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

/// One `number unit` pair at the head of `text`, and what follows it.
fn split_pair(text: &str) -> (&str, &str, &str) {
    let number_end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, rest) = text.split_at(number_end);
    let rest = rest.trim_start();
    let unit_end = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(unit_end);
    (number, unit, rest.trim_start())
}

impl FromStr for TimeSpan {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let no_number = || DurationError::NoNumber {
            text: shortened(text),
        };
        let too_long = || DurationError::TooLong {
            text: shortened(text),
        };
        let mut rest = text.trim();
        if rest == "0" {
            return Ok(Self::default());
        }
        if rest.is_empty() {
            return Err(no_number());
        }
        let mut seen = [false; UNITS.len()];
        let mut nanos: u128 = 0;
        while !rest.is_empty() {
            let (number, unit, after) = split_pair(rest);
            rest = after;
            if number.is_empty() {
                return Err(no_number());
            }
            if unit.is_empty() {
                return Err(DurationError::NoUnit {
                    text: shortened(text),
                });
            }
            let unit = if unit == "min" { "m" } else { unit };
            let position = UNITS.iter().position(|(name, _)| *name == unit).ok_or_else(|| {
                DurationError::UnknownUnit {
                    unit: shortened(unit),
                }
            })?;
            if std::mem::replace(&mut seen[position], true) {
                return Err(DurationError::RepeatedUnit {
                    text: shortened(text),
                    unit: UNITS[position].0,
                });
            }
            let unit_nanos = u128::from(UNITS[position].1) * 1_000_000;
            let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
            if whole.is_empty() || fraction.is_empty() || fraction.contains('.') {
                return Err(no_number());
            }
            let whole: u64 = whole.parse().map_err(|_| too_long())?;
            let digits: String = fraction.chars().take(9).collect();
            let scale = 10_u128.pow(u32::try_from(digits.len()).map_err(|_| no_number())?);
            let fraction: u128 = digits.parse().map_err(|_| no_number())?;
            nanos += u128::from(whole) * unit_nanos + fraction * unit_nanos / scale;
        }
        let span = u64::try_from(nanos / 1_000_000_000)
            .map(|secs| Duration::new(secs, (nanos % 1_000_000_000) as u32))
            .map_err(|_| too_long())?;
        if span > LONGEST {
            Err(too_long())
        } else {
            Ok(Self(span))
        }
    }
}

impl fmt::Display for TimeSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&human(self.0))
    }
}

fn human(duration: Duration) -> String {
    let secs = duration.as_secs();
    let pair = |large: u64, large_name: &str, small: u64, small_name: &str| {
        let (n, rest) = (secs / large, secs % large / small);
        if rest == 0 {
            format!("{n} {large_name}")
        } else {
            format!("{n} {large_name} {rest} {small_name}")
        }
    };
    match secs {
        0 => match duration.subsec_micros() {
            0 => "0 s".to_owned(),
            micros @ 1..1_000 => format!("{micros} µs"),
            micros => format!("{} ms", micros / 1_000),
        },
        1..10 => format!("{secs}.{:02} s", duration.subsec_millis() / 10),
        10..MINUTE => format!("{secs}.{} s", duration.subsec_millis() / 100),
        MINUTE..HOUR => pair(MINUTE, "m", 1, "s"),
        HOUR..DAY => pair(HOUR, "h", MINUTE, "m"),
        _ => pair(DAY, "d", HOUR, "h"),
    }
}

impl From<TimeSpan> for String {
    /// The exact text (to the millisecond), which parses back to the same length.
    fn from(span: TimeSpan) -> Self {
        let mut millis = span.0.as_millis();
        let mut parts = Vec::new();
        for (name, unit) in UNITS.iter().rev().filter(|(name, _)| *name != "w") {
            let n = millis / u128::from(*unit);
            millis %= u128::from(*unit);
            if n > 0 {
                parts.push(format!("{n}{name}"));
            }
        }
        if parts.is_empty() {
            "0s".to_owned()
        } else {
            parts.join(" ")
        }
    }
}

impl TryFrom<String> for TimeSpan {
    type Error = DurationError;

    fn try_from(text: String) -> Result<Self, DurationError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_read() {
        for (text, millis) in [
            ("0", 0),
            ("250ms", 250),
            ("90 s", 90_000),
            ("45m", 2_700_000),
            ("45 min", 2_700_000),
            ("1h30m", 5_400_000),
            ("1 h 30 m", 5_400_000),
            ("1.5h", 5_400_000),
            ("2d", 172_800_000),
            ("1w", 604_800_000),
        ] {
            assert_eq!(
                text.parse(),
                Ok(TimeSpan(Duration::from_millis(millis))),
                "{text}"
            );
        }
    }

    #[test]
    fn a_slip_is_an_error_that_names_it() {
        assert!(matches!(
            "".parse::<TimeSpan>(),
            Err(DurationError::NoNumber { .. })
        ));
        assert!(matches!(
            "h".parse::<TimeSpan>(),
            Err(DurationError::NoNumber { .. })
        ));
        assert!(matches!(
            "-5m".parse::<TimeSpan>(),
            Err(DurationError::NoNumber { .. })
        ));
        assert!(matches!(
            "15".parse::<TimeSpan>(),
            Err(DurationError::NoUnit { .. })
        ));
        assert!(matches!(
            "1h 30".parse::<TimeSpan>(),
            Err(DurationError::NoUnit { .. })
        ));
        assert!(matches!(
            "3 fortnights".parse::<TimeSpan>(),
            Err(DurationError::UnknownUnit { .. })
        ));
        assert!(matches!(
            "1h2h".parse::<TimeSpan>(),
            Err(DurationError::RepeatedUnit { unit: "h", .. })
        ));
        assert!(matches!(
            "99999999999w".parse::<TimeSpan>(),
            Err(DurationError::TooLong { .. })
        ));
        assert!(matches!(
            "99999999999999999999999s".parse::<TimeSpan>(),
            Err(DurationError::TooLong { .. })
        ));
    }

    #[test]
    fn tables_show_two_units() {
        for (millis, shown) in [
            (0, "0 s"),
            (850, "850 ms"),
            (1_234, "1.23 s"),
            (12_345, "12.3 s"),
            (200_000, "3 m 20 s"),
            (180_000, "3 m"),
            (3_660_000, "1 h 1 m"),
            (100_800_000, "1 d 4 h"),
            (8_640_000_000, "100 d"),
        ] {
            assert_eq!(TimeSpan(Duration::from_millis(millis)).to_string(), shown);
        }
        assert_eq!(TimeSpan(Duration::from_micros(19)).to_string(), "19 µs");
    }

    proptest! {
        #[test]
        fn any_text_gives_a_duration_or_an_error(text in ".*") {
            let _ = text.parse::<TimeSpan>();
        }

        #[test]
        fn the_exact_text_reads_back(millis in 0..300_000_000_000_000_u64) {
            let span = TimeSpan(Duration::from_millis(millis));
            let json = serde_json::to_string(&span).unwrap();
            prop_assert_eq!(serde_json::from_str::<TimeSpan>(&json).unwrap(), span);
        }
    }
}
