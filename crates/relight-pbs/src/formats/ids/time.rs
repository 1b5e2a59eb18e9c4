//! When a snapshot was taken.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::NameError;

/// The time of a snapshot in whole seconds since 1970, at least 1 and before the year 9999 ends. Shown as in names of
/// snapshots, `2023-11-14T22:13:21Z`; serialised as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct BackupTime(i64);

/// The last second that has a date in every time zone with a year of four digits.
const LAST: i64 = 253_402_207_200;
/// Length of the text.
const TEXT: usize = "2023-11-14T22:13:21Z".len();

impl BackupTime {
    /// That many seconds since 1970.
    pub fn new(seconds: i64) -> Result<Self, NameError> {
        if (1..=LAST).contains(&seconds) {
            Ok(Self(seconds))
        } else {
            Err(NameError::new(
                "backup-time",
                &seconds.to_string(),
                "is not a number of seconds between 1 and the year 9999",
            ))
        }
    }

    /// The second in which `time` lies; times that have no name are moved to the nearest that has.
    pub fn of(time: Timestamp) -> Self {
        Self(time.as_second().clamp(1, LAST))
    }

    /// Seconds since 1970.
    pub fn seconds(self) -> i64 {
        self.0
    }

    /// As a time.
    pub fn timestamp(self) -> Timestamp {
        Timestamp::from_second(self.0).unwrap_or(Timestamp::MAX)
    }
}

impl TryFrom<i64> for BackupTime {
    type Error = NameError;

    fn try_from(seconds: i64) -> Result<Self, NameError> {
        Self::new(seconds)
    }
}

impl From<BackupTime> for i64 {
    fn from(time: BackupTime) -> Self {
        time.0
    }
}

impl fmt::Display for BackupTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.timestamp().strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
    }
}

impl FromStr for BackupTime {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let refused = || NameError::new("backup-time", text, "is not written like 2023-11-14T22:13:21Z");
        if text.len() != TEXT || !text.is_ascii() {
            return Err(refused());
        }
        let time: Timestamp = text.parse().map_err(|_| refused())?;
        let time = Self::new(time.as_second())?;
        // The one way to write it: a name must not have two spellings.
        if time.to_string() == text {
            Ok(time)
        } else {
            Err(refused())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_one_spelling() {
        let time: BackupTime = "2023-11-15T01:15:02Z".parse().unwrap();
        assert_eq!(time.seconds(), 1_700_010_902);
        assert_eq!(time.to_string(), "2023-11-15T01:15:02Z");
        for text in [
            "2023-11-15 01:15:02Z",
            "2023-11-15t01:15:02z",
            "2023-11-15T01:15:60Z",
            "2023-11-15T01:15:02",
            "2023-11-15T01:15+01Z",
            "2023-02-30T01:15:02Z",
            "1970-01-01T00:00:00Z",
            "20231115T011502.00Z",
            "",
        ] {
            assert!(text.parse::<BackupTime>().is_err(), "{text}");
        }
        for seconds in [0, -1, i64::MIN, LAST + 1, i64::MAX] {
            assert!(BackupTime::new(seconds).is_err(), "{seconds}");
        }
        assert_eq!(BackupTime::new(LAST).unwrap().to_string(), "9999-12-30T22:00:00Z");
    }
}
