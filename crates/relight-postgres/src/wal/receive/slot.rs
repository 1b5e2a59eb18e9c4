//! The receiver's slot on the server: what makes the server keep the log until it is durable in the repository, and what
//! fills the server's disk if nobody receives.

use serde::Serialize;

use super::options::Options;
use crate::error::PostgresError;
use crate::lsn::Lsn;
use crate::protocol::{Connection, literal};
use crate::wal::error::{Result, WalError};

/// A slot as the server shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SlotState {
    /// The oldest log that the server keeps for it; none if nothing is kept.
    pub restart: Option<Lsn>,
    /// `reserved`, `extended`, `unreserved` (about to be lost) or `lost`.
    pub status: String,
    /// Bytes that may still be written before the slot is lost, if there is a limit.
    pub safe: Option<i64>,
    /// Whether somebody is connected to it.
    pub active: bool,
    /// The server's limit for what slots keep, in bytes; none is no limit (`max_slot_wal_keep_size`).
    pub limit: Option<u64>,
    /// How far the server has written.
    pub current: Lsn,
}

impl SlotState {
    /// Asks the server, on a connection for queries. None if there is no such slot.
    pub fn look(connection: &mut Connection, slot: &str) -> Result<Option<Self>, PostgresError> {
        let set = connection.rows(&format!(
            "SELECT slot_type, restart_lsn, wal_status, safe_wal_size, active, \
             (SELECT setting::bigint FROM pg_settings WHERE name = 'max_slot_wal_keep_size') AS keep, \
             CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_lsn() END AS current \
             FROM pg_replication_slots WHERE slot_name = {}",
            literal(slot)
        ))?;
        let Some(row) = set.first() else {
            return Ok(None);
        };
        if row.text("slot_type") != "physical" {
            return Err(PostgresError::Refused(format!(
                "the slot {slot} is not a physical one: name another with --slot"
            )));
        }
        let restart = row.parse("restart_lsn");
        let megabytes: Option<i64> = row.parse("keep");
        Ok(Some(Self {
            restart,
            status: row.text("wal_status").to_string(),
            safe: row.parse("safe_wal_size"),
            active: row.is_true("active"),
            limit: megabytes.and_then(|megabytes| u64::try_from(megabytes).ok()?.checked_mul(1 << 20)),
            current: row.parse("current").or(restart).unwrap_or_default(),
        }))
    }

    /// Bytes that the server keeps for it.
    pub fn kept(&self) -> u64 {
        self.restart.map_or(0, |restart| self.current.since(restart))
    }

    /// Whether the server has thrown away what the slot was to keep.
    pub fn is_lost(&self) -> bool {
        self.status == "lost"
    }

    /// What is to be said about it, if anything. `alarm` is how many bytes may be kept without a word.
    pub fn alarm(&self, slot: &str, alarm: u64) -> Option<String> {
        let kept = self.kept();
        let mib = kept >> 20;
        match self.status.as_str() {
            "lost" => Some(format!(
                "slot {slot} is lost: the server has removed log that was not received yet. Make a new base backup, then \
                 the window goes on from there"
            )),
            "unreserved" => Some(format!(
                "slot {slot} is about to be lost: the server keeps {mib} MiB for it, which is all that \
                 max_slot_wal_keep_size allows. Find out why the receiver is behind"
            )),
            _ if self.limit.is_some_and(|limit| kept > limit / 2) => Some(format!(
                "slot {slot}: the server keeps {mib} MiB for it, more than half of max_slot_wal_keep_size; beyond it the \
                 log gets a gap"
            )),
            _ if kept > alarm => Some(format!(
                "slot {slot}: the server keeps {mib} MiB of log for it{}",
                match self.limit {
                    Some(_) => "",
                    None =>
                        ", and max_slot_wal_keep_size is not set: it will fill its disk rather than drop it",
                }
            )),
            _ => None,
        }
    }
}

/// Makes the slot, or makes it again if it was lost.
pub(super) fn ready(
    replication: &mut Connection,
    queries: &mut Connection,
    options: &Options,
) -> Result<SlotState> {
    let name = &options.slot;
    let valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if name.is_empty() || name.len() > 63 || !name.bytes().all(valid) {
        return Err(WalError::Refused(format!(
            "{name:?} is not the name of a slot: lower-case letters, digits and _, at most 63 of them"
        )));
    }
    let found = SlotState::look(queries, name)?;
    match found {
        Some(slot) if !slot.is_lost() => return Ok(slot),
        Some(_) if options.create_slot => {
            tracing::warn!(
                "slot {name} was lost; it is made anew, and the log has a gap: make a new base backup"
            );
            replication.query(&format!("DROP_REPLICATION_SLOT {name}"))?;
        }
        None if options.create_slot => {}
        _ => {
            return Err(WalError::Refused(format!(
                "there is no slot {name} on the server that can be used; leave --no-create-slot out, or make it with \
                 SELECT pg_create_physical_replication_slot('{name}', true)"
            )));
        }
    }
    replication.query(&format!("CREATE_REPLICATION_SLOT {name} PHYSICAL RESERVE_WAL"))?;
    let slot = SlotState::look(queries, name)?;
    slot.ok_or_else(|| WalError::Refused(format!("slot {name} is gone right after it was made")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_raises_an_alarm_before_it_is_lost() {
        let mut slot = SlotState {
            restart: Some(Lsn(1 << 30)),
            status: "reserved".into(),
            safe: None,
            active: true,
            limit: None,
            current: Lsn((1 << 30) + (200 << 20)),
        };
        assert_eq!(slot.kept(), 200 << 20);
        assert_eq!(slot.alarm("s", 1 << 30), None);
        assert!(slot.alarm("s", 100 << 20).unwrap().contains("fill its disk"));
        slot.limit = Some(300 << 20);
        assert!(slot.alarm("s", 1 << 30).unwrap().contains("half"));
        slot.status = "unreserved".into();
        assert!(slot.alarm("s", 1 << 30).unwrap().contains("about to be lost"));
        slot.status = "lost".into();
        assert!(slot.is_lost() && slot.alarm("s", 1 << 30).unwrap().contains("new base backup"));
    }
}
