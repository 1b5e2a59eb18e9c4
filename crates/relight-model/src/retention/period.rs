//! The calendar period a snapshot falls into.

use std::fmt;

use jiff::civil::Date;
use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp, Zoned};
use serde::{Serialize, Serializer};

use super::policy::RuleKind;

/// A period of the calendar in a time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Period {
    /// An hour. The offset keeps apart the two hours of the same name when clocks are set back.
    Hour(Date, i8, Offset),
    /// A day.
    Day(Date),
    /// A week of ISO 8601: its year, which is not always the calendar year of its days, and its number.
    Week(i16, i8),
    /// A month of a year.
    Month(i16, i8),
    /// A year.
    Year(i16),
}

impl Period {
    /// The period of `rule` that holds `time`; `None` for rules that have no periods.
    pub(super) fn of(rule: RuleKind, time: Timestamp, zone: &TimeZone) -> Option<Self> {
        let local: Zoned = time.to_zoned(zone.clone());
        let date = local.date();
        Some(match rule {
            RuleKind::KeepLast | RuleKind::KeepWithin => return None,
            RuleKind::KeepHourly => Self::Hour(date, local.hour(), local.offset()),
            RuleKind::KeepDaily => Self::Day(date),
            RuleKind::KeepWeekly => {
                let week = date.iso_week_date();
                Self::Week(week.year(), week.week())
            }
            RuleKind::KeepMonthly => Self::Month(date.year(), date.month()),
            RuleKind::KeepYearly => Self::Year(date.year()),
        })
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hour(date, hour, offset) => write!(f, "{date} {hour:02}h{offset}"),
            Self::Day(date) => write!(f, "{date}"),
            Self::Week(year, week) => write!(f, "{year}-W{week:02}"),
            Self::Month(year, month) => write!(f, "{year}-{month:02}"),
            Self::Year(year) => write!(f, "{year}"),
        }
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
