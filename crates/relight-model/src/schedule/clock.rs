//! Whether the clock can be trusted.

use std::fmt;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::signed;
use crate::duration::TimeSpan;

/// What the caller's clocks say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// The time of day.
    pub wall: Timestamp,
    /// A clock that nobody sets, and that goes on while the machine sleeps (`CLOCK_BOOTTIME`).
    pub monotonic: Duration,
    /// Tells apart the counts of `monotonic`: the same until the machine is booted again.
    pub boot: u64,
}

/// The wall clock may deviate so much from the monotonic one between two looks at them.
pub const PERMITTED_DEVIATION: SignedDuration = SignedDuration::from_mins(5);

/// After a boot, the wall clock may be so far after the last time that was trusted.
pub const PERMITTED_ADVANCE: SignedDuration = SignedDuration::from_hours(31 * 24);

/// Why the clock is not trusted. Until it is right again, or an operator has confirmed it, backups and copies go on and
/// everything else waits: nothing is forgotten, nothing collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "alarm", rename_all = "kebab-case")]
pub enum ClockAlarm {
    /// It was set while the machine ran. Schedules follow the time that was expected.
    Jumped {
        /// What it says.
        wall: Timestamp,
        /// What it should say.
        expected: Timestamp,
    },
    /// After a boot it is far ahead of the last trusted time.
    Ahead {
        /// What it says.
        wall: Timestamp,
        /// The last trusted time.
        trusted: Timestamp,
    },
    /// After a boot it is behind the last trusted time.
    Behind {
        /// What it says.
        wall: Timestamp,
        /// The last trusted time.
        trusted: Timestamp,
    },
}

impl fmt::Display for ClockAlarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const HELD: &str = "nothing is forgotten or collected until the clock is right or confirmed";
        match self {
            Self::Jumped { wall, expected } => {
                let by = TimeSpan(wall.duration_since(*expected).unsigned_abs());
                let way = if wall > expected { "forward" } else { "back" };
                write!(
                    f,
                    "the clock was set {way} by {by}: it says {wall}, and {expected} is expected; {HELD}"
                )
            }
            Self::Ahead { wall, trusted } | Self::Behind { wall, trusted } => {
                let by = TimeSpan(wall.duration_since(*trusted).unsigned_abs());
                let way = if wall > trusted { "after" } else { "before" };
                write!(
                    f,
                    "the clock says {wall}, {by} {way} the last time that was trusted, {trusted}; {HELD}"
                )
            }
        }
    }
}

/// What is remembered of clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// The last look at clocks that agreed, of this boot.
    anchor: Clock,
    /// The last time that was trusted.
    trusted: Timestamp,
    /// Why the clock is not trusted at present.
    alarm: Option<ClockAlarm>,
}

impl Watch {
    /// The first look at the clocks, which has nothing to be compared with.
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            anchor: clock,
            trusted: clock.wall,
            alarm: None,
        }
    }

    pub(super) fn alarm(&self) -> Option<ClockAlarm> {
        self.alarm
    }

    /// Looks at the clocks, and says what time it is for schedules.
    pub(super) fn look(&mut self, clock: Clock) -> Timestamp {
        if clock.boot == self.anchor.boot && clock.monotonic >= self.anchor.monotonic {
            let elapsed = signed(TimeSpan(clock.monotonic - self.anchor.monotonic));
            let expected = self.anchor.wall.checked_add(elapsed).unwrap_or(clock.wall);
            let was_wrong = matches!(
                self.alarm,
                Some(ClockAlarm::Ahead { .. } | ClockAlarm::Behind { .. })
            );
            let put_right = was_wrong && self.implausible(clock.wall).is_none();
            if !put_right && clock.wall.duration_since(expected).abs() > PERMITTED_DEVIATION {
                self.alarm = Some(ClockAlarm::Jumped {
                    wall: clock.wall,
                    expected,
                });
                return expected;
            }
        }
        self.anchor = clock;
        self.alarm = self.implausible(clock.wall);
        if self.alarm.is_none() {
            self.trusted = clock.wall;
        }
        clock.wall
    }

    /// What is wrong with a time, by the last one that was trusted.
    fn implausible(&self, wall: Timestamp) -> Option<ClockAlarm> {
        let trusted = self.trusted;
        let since = wall.duration_since(trusted);
        if since > PERMITTED_ADVANCE {
            Some(ClockAlarm::Ahead { wall, trusted })
        } else if since < -PERMITTED_DEVIATION {
            Some(ClockAlarm::Behind { wall, trusted })
        } else {
            None
        }
    }

    /// An operator says that the clock is right.
    pub(super) fn confirm(&mut self, clock: Clock) {
        *self = Self::new(clock);
    }
}
