//! What the way to the server and its host are like.

use std::path::Path;

use jiff::Timestamp;

use super::facts::Facts;
use super::findings::{good, other};
use super::{Finding, Level};
use crate::base::clock as server_clock;
use crate::protocol::Connection;

/// Clocks that differ by more seconds make it hard to say which time is meant.
const SKEW: i64 = 5;

pub(super) fn encryption(connection: &Connection) -> Finding {
    let subject = "encryption";
    if connection.is_encrypted() {
        good(subject, "TLS")
    } else if connection.is_local() {
        good(subject, "none, but the connection does not leave this host")
    } else {
        other(
            Level::Advice,
            subject,
            "none: everything that is saved can be read on its way",
            "turn ssl on in the server, and use sslmode=verify-full",
        )
    }
}

/// Free space where the log lies. Only the host itself can tell.
pub(super) fn room(connection: &mut Connection, facts: &Facts) -> Option<Finding> {
    let subject = "free space";
    let log: u64 = connection
        .value("SELECT sum(size) FROM pg_catalog.pg_ls_waldir()")
        .ok()?
        .parse()
        .ok()?;
    let there = format!("the log on the server has {} MiB", log >> 20);
    let directory = facts.data_directory.as_deref().filter(|_| connection.is_local());
    let free = directory.and_then(|directory| {
        let stat = rustix::fs::statvfs(Path::new(directory).join("pg_wal")).ok()?;
        stat.f_bavail.checked_mul(stat.f_frsize)
    });
    let Some(free) = free else {
        return Some(good(
            subject,
            format!("{there}; how much is free can only be seen on its host"),
        ));
    };
    let found = format!("{there}, and {} MiB are free", free >> 20);
    // A receiver may stand still for a while.
    if free > log.saturating_mul(2).max(1 << 30) {
        Some(good(subject, found))
    } else {
        Some(other(
            Level::Advice,
            subject,
            found,
            "make room where pg_wal lies: if the log cannot be sent for a while, it stays there",
        ))
    }
}

pub(super) fn clock(connection: &mut Connection) -> Finding {
    let subject = "clock";
    match server_clock(connection) {
        Ok(theirs) => {
            let skew = Timestamp::now().duration_since(theirs).as_secs();
            if skew.abs() <= SKEW {
                good(subject, "as here")
            } else {
                other(
                    Level::Advice,
                    subject,
                    format!("the server's differs from that of this host by {skew} s"),
                    "set both by NTP: times of recovery are those of the server",
                )
            }
        }
        Err(error) => other(Level::Advice, subject, error.to_string(), "try again"),
    }
}
