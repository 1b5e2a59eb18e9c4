//! How times and events of a plan are shown.

use std::fmt::Display;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use relight_model::TimeSpan;
use relight_model::calendar::Event;

/// A time in the plan's time zone, for people.
pub fn shown(time: Timestamp, zone: &TimeZone) -> String {
    let local = zone.to_datetime(time);
    let form = if local.second() == 0 {
        "%a %Y-%m-%d %H:%M"
    } else {
        "%a %Y-%m-%d %H:%M:%S"
    };
    local.strftime(form).to_string()
}

/// The name of a time zone.
pub fn zone_name(zone: &TimeZone) -> &str {
    zone.iana_name().unwrap_or("UTC")
}

/// An event as people write it: without a date that is every date, and seconds that are 0.
pub fn event(event: &Event) -> String {
    let whole = event.to_string();
    let words = whole.split(' ').filter(|word| *word != "*-*-*").map(|word| {
        let short = word.strip_suffix(":00").filter(|short| short.contains(':'));
        short.unwrap_or(word)
    });
    words.collect::<Vec<_>>().join(" ")
}

/// An objective, in hours up to three days: everybody speaks of an RPO of 24 hours, not of a day.
pub fn objective(span: TimeSpan) -> String {
    let secs = span.duration().as_secs();
    match secs {
        3_600..=259_200 if secs.is_multiple_of(3_600) => format!("{} h", secs / 3_600),
        _ => span.to_string(),
    }
}

/// What may be there.
pub fn or_dash(value: Option<impl Display>) -> String {
    value.map_or_else(|| "-".into(), |value| value.to_string())
}

/// A time as an argument: exact, or a day or time of day in the plan's time zone.
#[derive(Clone, Copy, Debug)]
pub enum Moment {
    /// Exact.
    Exact(Timestamp),
    /// As a clock in the plan's time zone shows it.
    Civil(DateTime),
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(exact) = text.parse() {
            return Ok(Self::Exact(exact));
        }
        let civil = match text.parse::<Date>() {
            Ok(day) if !text.contains(['T', ' ', ':']) => Some(DateTime::from(day)),
            _ => text.parse().ok(),
        };
        civil.map(Self::Civil).ok_or_else(|| {
            "write a day such as 2027-12-31, a time such as 2027-12-31T02:00 in the plan's time zone, or an exact one such \
             as 2027-12-31T01:00:00Z"
                .into()
        })
    }
}

impl Moment {
    /// When that is.
    pub fn at(self, zone: &TimeZone) -> Result<Timestamp, String> {
        match self {
            Self::Exact(time) => Ok(time),
            Self::Civil(civil) => zone.to_timestamp(civil).map_err(|error| error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objectives_are_hours() {
        for (text, says) in [
            ("24h", "24 h"),
            ("3d", "72 h"),
            ("90m", "1 h 30 m"),
            ("7d", "7 d"),
        ] {
            assert_eq!(objective(text.parse().unwrap()), says);
        }
    }

    #[test]
    fn a_shown_event_means_the_same() {
        for (text, says) in [
            ("02:00", "02:00"),
            ("mon..fri 07:00", "mon..fri 07:00"),
            ("0/6:00", "00/6:00"),
            ("daily", "00:00"),
            ("quarterly", "*-01,04,07,10-01 00:00"),
            ("02:00:30 UTC", "02:00:30 UTC"),
            ("hourly", "*:00"),
            ("minutely", "*:*"),
        ] {
            let parsed: Event = text.parse().unwrap();
            let shown = event(&parsed);
            assert_eq!(shown.parse::<Event>().unwrap(), parsed, "{text}: {shown}");
            assert_eq!(shown.replace("/06", "/6"), says, "{text}");
        }
    }
}
