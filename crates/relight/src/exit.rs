//! What the exit code says. Scripts rely on it; the table is in `docs/commands.md`.

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Everything was done.
    Done,
    /// It failed; nothing was changed but what the message says.
    Failed,
    /// It was done, but not everything could be saved or restored: what is missing was named.
    Incomplete,
    /// It looked, and found damage or a promise that was not kept.
    Damage,
    /// What was asked for is known not to be there: the log ends before it.
    EndOfLog,
    /// It failed, and must not be taken for the end of the log: PostgreSQL gives its recovery up.
    Abort,
    /// Somebody asked to stop.
    Cancelled,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        // 2 is what the argument parser says of bad usage.
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed | Exit::EndOfLog => 1,
            Exit::Incomplete => 3,
            Exit::Damage => 4,
            Exit::Cancelled => 130,
            // More than 125, and neither what a shell says (126, 127) nor a signal (128 and up to 64 more).
            Exit::Abort => 200,
        })
    }
}
