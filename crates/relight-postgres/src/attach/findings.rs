//! Judges a cluster's settings. Units of settings are those of `pg_settings`.

use super::facts::Facts;
use super::{Finding, Level};

/// Connections and slots that this program needs at once: a base backup, and the receiver of the log.
const NEEDED: i64 = 2;
/// Seconds after which a segment of the log should be closed even if little happens.
const ARCHIVE_TIMEOUT: i64 = 300;

pub(super) fn good(subject: &'static str, found: impl Into<String>) -> Finding {
    Finding {
        level: Level::Good,
        subject,
        found: found.into(),
        change: None,
    }
}

pub(super) fn other(
    level: Level,
    subject: &'static str,
    found: impl Into<String>,
    change: impl Into<String>,
) -> Finding {
    Finding {
        level,
        subject,
        found: found.into(),
        change: Some(change.into()),
    }
}

/// What the settings are worth.
pub(super) fn of(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![good(
        "version",
        format!(
            "PostgreSQL {}{}, cluster {}",
            facts.version,
            if facts.standby { ", a standby" } else { "" },
            facts.system
        ),
    )];
    findings.push(match facts.get("wal_level") {
        Some(level @ ("replica" | "logical")) => good("wal_level", level),
        level => other(
            Level::Problem,
            "wal_level",
            level.unwrap_or("not known"),
            "ALTER SYSTEM SET wal_level = 'replica'; then restart the server",
        ),
    });
    findings.push(free(facts, "max_wal_senders", facts.senders_used));
    findings.push(free(facts, "max_replication_slots", facts.slots_used));
    findings.push(match facts.number("max_slot_wal_keep_size") {
        -1 => other(
            Level::Advice,
            "max_slot_wal_keep_size",
            "no limit: a receiver that stands still lets the log fill the server's disk",
            "ALTER SYSTEM SET max_slot_wal_keep_size = '10GB' (less than the free space); SELECT pg_reload_conf()",
        ),
        size => good("max_slot_wal_keep_size", format!("{size} MiB")),
    });
    findings.extend(archiving(facts));
    if facts.is_on("fsync") {
        findings.push(good("fsync", "on"));
    } else {
        findings.push(other(
            Level::Problem,
            "fsync",
            "off: a crash of the host can destroy the cluster, and backups of it",
            "ALTER SYSTEM SET fsync = on; SELECT pg_reload_conf()",
        ));
    }
    if facts.is_on("full_page_writes") {
        findings.push(good("full_page_writes", "on"));
    } else {
        let change = "ALTER SYSTEM SET full_page_writes = on; SELECT pg_reload_conf()";
        findings.push(if facts.standby {
            other(
                Level::Problem,
                "full_page_writes",
                "off: a standby cannot be backed up",
                change,
            )
        } else {
            other(
                Level::Advice,
                "full_page_writes",
                "off: only the duration of a backup is safe, because the server turns it on for that",
                change,
            )
        });
    }
    findings.push(if facts.checksums {
        good("data_checksums", "on")
    } else {
        other(
            Level::Advice,
            "data_checksums",
            "off: damage of data pages is not noticed, neither by the server nor by backups",
            "stop the server, run pg_checksums --enable, start it",
        )
    });
    if facts.major >= 17 {
        findings.push(if facts.is_on("summarize_wal") {
            good("summarize_wal", "on: backups need not read what did not change")
        } else {
            other(
                Level::Advice,
                "summarize_wal",
                "off: each backup makes the server read and send everything",
                "ALTER SYSTEM SET summarize_wal = on; SELECT pg_reload_conf()",
            )
        });
    }
    for (name, bytes) in &facts.idle_slots {
        findings.push(other(
            Level::Advice,
            "replication slots",
            format!(
                "nobody reads slot {name}, which holds back {} MiB of log",
                bytes >> 20
            ),
            format!("start what reads it, or: SELECT pg_drop_replication_slot('{name}')"),
        ));
    }
    findings.push(good(
        "tablespaces",
        if facts.tablespaces.is_empty() {
            "none outside the data directory".into()
        } else {
            facts.tablespaces.join(", ")
        },
    ));
    findings.push(good("extensions", facts.extensions.join(", ")));
    findings
}

fn free(facts: &Facts, subject: &'static str, used: u32) -> Finding {
    let there = facts.number(subject);
    let needed = i64::from(used) + NEEDED;
    let found = format!("{there}, of which {used} in use");
    if there >= needed {
        good(subject, found)
    } else {
        other(
            Level::Problem,
            subject,
            found,
            format!("ALTER SYSTEM SET {subject} = {needed}; then restart the server"),
        )
    }
}

fn archiving(facts: &Facts) -> Vec<Finding> {
    let mode = facts.get("archive_mode").unwrap_or("not known");
    let command = facts.get("archive_command").unwrap_or_default();
    let mut findings = Vec::new();
    findings.push(match mode {
        "always" => other(
            Level::Problem,
            "archive_mode",
            "always: primary and standby would both push the same log",
            "ALTER SYSTEM SET archive_mode = 'on'; then restart the server",
        ),
        "on" if command.contains("wal-push") => good("archive_mode", "on, with relight wal-push"),
        "on" => good(
            "archive_mode",
            "on, with another command: the log has to come by a receiver",
        ),
        other => good(
            "archive_mode",
            format!("{other}: the log has to come by a receiver"),
        ),
    });
    if mode != "off" {
        if let Some(since) = &facts.archiving_fails {
            findings.push(other(
                Level::Problem,
                "archiving",
                format!("the archive command fails, last at {since}: log piles up on the server"),
                "look into the server's log for why, and put it right",
            ));
        }
        let timeout = facts.number("archive_timeout");
        if command.contains("wal-push") && (timeout == 0 || timeout > ARCHIVE_TIMEOUT) {
            findings.push(other(
                Level::Advice,
                "archive_timeout",
                format!("{timeout} s: as long as little happens, hours can pass before a segment is pushed"),
                "ALTER SYSTEM SET archive_timeout = '60s'; SELECT pg_reload_conf()",
            ));
        }
    }
    findings
}
