//! The backup label, which tells a server where to begin recovery (PostgreSQL source, `access/transam/xlogbackup.c`;
//! documentation, "Making a Base Backup Using the Low Level API").

use crate::error::{PostgresError, Result};
use crate::lsn::Lsn;

/// Its path in the data directory.
pub const PATH: &str = "backup_label";
/// That of the map of tablespaces.
pub const MAP: &str = "tablespace_map";

/// What a backup label says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Where replay begins.
    pub start: Lsn,
    /// The timeline it begins on.
    pub timeline: u32,
    /// Whether the backup was taken from a standby.
    pub from_standby: bool,
    /// Of an incremental backup: where the earlier one began.
    pub since: Option<Lsn>,
}

impl Label {
    /// Reads its text.
    pub fn parse(text: &str) -> Result<Self> {
        let damaged = |why: &str| PostgresError::damaged(PATH, why);
        let value = |key: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix(": "))
        };
        let start = value("START WAL LOCATION")
            .and_then(|value| value.split(' ').next()?.parse().ok())
            .ok_or_else(|| damaged("it does not say where the log begins"))?;
        let timeline = value("START TIMELINE")
            .and_then(|value| value.trim().parse().ok())
            .ok_or_else(|| damaged("it does not say on which timeline"))?;
        Ok(Self {
            start,
            timeline,
            from_standby: value("BACKUP FROM") == Some("standby"),
            since: value("INCREMENTAL FROM LSN").and_then(|value| value.trim().parse().ok()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_as_servers_write_it() {
        let text = "START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\nCHECKPOINT LOCATION: 0/2000060\n\
                    BACKUP METHOD: streamed\nBACKUP FROM: primary\nSTART TIME: 2026-11-23 08:00:00 UTC\n\
                    LABEL: relight\nSTART TIMELINE: 1\n";
        let label = Label::parse(text).unwrap();
        assert_eq!((label.start, label.timeline), (Lsn(0x200_0028), 1));
        assert!(!label.from_standby);
        assert!(Label::parse("").is_err());
    }
}
