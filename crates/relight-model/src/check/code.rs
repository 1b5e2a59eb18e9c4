//! Codes of findings.

use std::fmt;

use serde::{Serialize, Serializer};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth a thought.
    Advice,
    /// Something is missing that a promise rests on.
    Warning,
    /// A promise cannot be kept.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Advice => "advice",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $severity:ident;)*) => {
        /// What kind of finding. Codes are stable: their meaning never changes, and none is used again.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            /// All codes.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// As it is written: `RL101`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $code,)*
                }
            }

            /// How bad findings of this kind are.
            pub const fn severity(self) -> Severity {
                match self {
                    $(Self::$name => Severity::$severity,)*
                }
            }
        }
    };
}

codes! {
    /// The schedule and the log leave longer without a recovery point than the RPO permits.
    RpoSchedule = "RL101", Error;
    /// What was measured says that a restore takes longer than the RTO.
    RtoSpeed = "RL102", Error;
    /// The storage's tier takes longer to be readable than the RTO permits.
    RtoTier = "RL103", Error;
    /// Points in time are promised by a method to which no log can be applied.
    NoPointInTime = "RL104", Error;
    /// The base snapshots do not reach back as far as points in time are promised.
    PointInTimeRetention = "RL105", Error;
    /// Snapshots are locked for longer than the retention keeps them.
    LockLongerThanRetention = "RL106", Warning;
    /// A copy promises points that the first repository forgets before they are copied.
    CopyTooRare = "RL107", Error;
    /// The runs that are due in a window need longer than it is open.
    WindowTooSmall = "RL108", Error;
    /// The schedule lies outside the window.
    ScheduleOutsideWindow = "RL109", Error;
    /// A workload has no policy.
    NoPolicy = "RL110", Error;
    /// The time for which a workload was excluded is over.
    ExclusionExpired = "RL111", Error;
    /// Something was found that the plan does not mention.
    Unprotected = "RL112", Error;
    /// Recovery is never tested.
    NoDrill = "RL113", Warning;
    /// Snapshots are never verified.
    NoVerify = "RL114", Warning;
    /// A replica is no backup.
    ReplicationIsNoBackup = "RL115", Error;
    /// Nothing is promised: no RPO or no RTO.
    NothingPromised = "RL116", Warning;
    /// The storage cannot make snapshots.
    StorageWithoutSnapshots = "RL117", Error;
    /// Many runs are due in the same minute.
    SameMinute = "RL118", Advice;
    /// Nothing is ever forgotten, or its space never collected.
    NeverForgotten = "RL119", Warning;
    /// There is only one repository.
    NoCopy = "RL120", Advice;
    /// The exercise does not know when to recover a workload.
    StageMissing = "RL121", Warning;
    /// Nobody is told when runs fail.
    NobodyTold = "RL122", Warning;
    /// A policy holds for nothing.
    UnusedPolicy = "RL123", Advice;
    /// Starts are spread over longer than the schedule leaves between two times.
    SpreadTooLong = "RL124", Warning;
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
