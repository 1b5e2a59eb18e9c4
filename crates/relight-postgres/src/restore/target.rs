//! How far a server is to replay, and which base backup it can begin with.

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;

use crate::error::{PostgresError, Result};
use crate::lsn::Lsn;

/// How far to replay (documentation of PostgreSQL, "Recovery Target").
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Goal {
    /// To the end of the log.
    Latest,
    /// As soon as it is consistent: the end of the base backup.
    Immediate,
    /// To a time.
    Time(Timestamp),
    /// To a position in the log.
    Lsn(Lsn),
    /// To the end of a transaction.
    Transaction(u64),
    /// To a point that `pg_create_restore_point` named.
    Name(String),
}

/// Which timeline to follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Timeline {
    /// The newest that the log has.
    Latest,
    /// That of the base backup.
    Current,
    /// This one.
    Number(u32),
}

/// What the server does when it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It begins to work, on a new timeline.
    Promote,
    /// It waits, and can be looked at.
    Pause,
    /// It stops.
    Shutdown,
}

/// How a server is to recover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// How far.
    pub goal: Goal,
    /// Whether what the goal names is replayed too.
    pub inclusive: bool,
    /// Along which timeline.
    pub timeline: Timeline,
    /// And then.
    pub action: Action,
    /// The command that fetches a segment of the log (`%f`) to a path (`%p`). None: there is only the log that lies in the
    /// base backup.
    pub restore_command: Option<String>,
    /// Become a standby of this primary instead of working alone. The connection string must not hold a password.
    pub standby: bool,
    /// Let the restored cluster write its log where the original did.
    pub keep_archiving: bool,
}

impl Recovery {
    /// To the end of the base backup.
    pub fn immediate() -> Self {
        Self {
            goal: Goal::Immediate,
            inclusive: true,
            timeline: Timeline::Current,
            action: Action::Promote,
            restore_command: None,
            standby: false,
            keep_archiving: false,
        }
    }

    /// To a goal, with a command that fetches the log.
    pub fn to(goal: Goal, restore_command: String) -> Self {
        Self {
            goal,
            timeline: Timeline::Latest,
            restore_command: Some(restore_command),
            ..Self::immediate()
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("the end of the log"),
            Self::Immediate => f.write_str("the end of the base backup"),
            Self::Time(time) => write!(f, "{time}"),
            Self::Lsn(lsn) => write!(f, "{lsn}"),
            Self::Transaction(xid) => write!(f, "transaction {xid}"),
            Self::Name(name) => write!(f, "the restore point {name}"),
        }
    }
}

/// Reads a time as people write it: RFC 3339 with an offset or `Z`.
pub fn goal_time(text: &str) -> Result<Timestamp> {
    text.parse().map_err(|_| {
        PostgresError::Refused(format!(
            "{:?} is no point in time: write it with its offset, such as 2026-11-23T08:15:00+01:00 or \
             2026-11-23T07:15:00Z",
            text.chars().take(64).collect::<String>()
        ))
    })
}
