//! Times as they are shown: in the time zone of the plan.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::report::Report;

/// Times as they are shown.
pub(super) struct Times(TimeZone);

impl Times {
    pub fn of(report: &Report) -> Self {
        Self(TimeZone::get(&report.period.time_zone).unwrap_or(TimeZone::UTC))
    }

    pub fn at(&self, time: Timestamp) -> String {
        self.0.to_datetime(time).strftime("%Y-%m-%d %H:%M").to_string()
    }

    pub fn day(&self, time: Timestamp) -> String {
        let shown = self.0.to_datetime(time);
        match shown.time() == jiff::civil::Time::midnight() {
            true => shown.date().to_string(),
            false => self.at(time),
        }
    }

    /// The last day before a moment, where that is midnight.
    pub fn last_day(&self, time: Timestamp) -> String {
        let shown = self.0.to_datetime(time);
        let midnight = shown.time() == jiff::civil::Time::midnight();
        match shown.date().yesterday().ok().filter(|_| midnight) {
            Some(day) => day.to_string(),
            None => self.at(time),
        }
    }
}
