//! What is asked of a server before and after a base backup.

use jiff::Timestamp;
use relight_workloads::kind::Work;

use super::writer::BadPage;
use crate::base::pages::{Verdict, verify};
use crate::connect::Settings;
use crate::error::{PostgresError, Result};
use crate::protocol::{Connection, Mode, literal};

/// What a server says about itself.
pub struct ServerFacts {
    /// A connection for further questions.
    pub connection: Connection,
    /// Its version, such as `17.11`.
    pub version: String,
    /// Its major version.
    pub major: u32,
    /// Identity of the cluster.
    pub system: u64,
    /// Bytes of a data page.
    pub block_size: u32,
    /// Pages of one file of a relation.
    pub relation_segment: u32,
    /// Bytes of a segment of the log.
    pub segment_size: u32,
    /// Whether pages have checksums.
    pub checksums: bool,
    /// Whether it is a standby.
    pub standby: bool,
    /// Permissions of its data directory.
    pub directory_mode: u32,
}

/// Asks it, and gives a place of its own for further connections.
pub(super) fn visit(settings: &Settings, work: &Work) -> Result<(Settings, ServerFacts)> {
    let mut connection = Connection::open(settings, Mode::Queries)?;
    connection.set_cancelled(work.cancelled.clone());
    // All further connections have to reach the same server of several.
    let server = connection.same_server(settings);
    let set = connection.rows(
        "SELECT current_setting('block_size') AS block, \
         (SELECT setting::bigint FROM pg_catalog.pg_settings WHERE name = 'segment_size') AS relation, \
         (SELECT setting::bigint FROM pg_catalog.pg_settings WHERE name = 'wal_segment_size') AS segment, \
         current_setting('data_checksums') AS checksums, pg_catalog.pg_is_in_recovery() AS standby, \
         current_setting('data_directory_mode') AS mode, \
         (SELECT system_identifier FROM pg_catalog.pg_control_system()) AS system",
    )?;
    let strange = || PostgresError::damaged("the server's settings", "they make no sense");
    let row = set.first().ok_or_else(strange)?;
    let facts = ServerFacts {
        version: connection
            .parameter("server_version")
            .and_then(|version| version.split(' ').next())
            .unwrap_or_default()
            .to_string(),
        major: connection.major_version()?,
        system: row.parse("system").ok_or_else(strange)?,
        block_size: row
            .parse("block")
            .filter(|&size| size >= 1024)
            .ok_or_else(strange)?,
        relation_segment: row.parse("relation").ok_or_else(strange)?,
        segment_size: row.parse("segment").ok_or_else(strange)?,
        checksums: row.is_true("checksums"),
        standby: row.is_true("standby"),
        directory_mode: u32::from_str_radix(row.text("mode"), 8).unwrap_or(0o700),
        connection,
    };
    if !(14..=18).contains(&facts.major) {
        return Err(PostgresError::Refused(format!(
            "{} is PostgreSQL {}: versions 14 to 18 are supported",
            facts.connection.server(),
            facts.version
        )));
    }
    Ok((server, facts))
}

/// The server's clock.
pub(crate) fn clock(connection: &mut Connection) -> Result<Timestamp> {
    let text = connection
        .value("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")?;
    text.parse()
        .map_err(|_| PostgresError::damaged("the server's clock", format!("it says {text:?}")))
}

/// Transactions before this one have ended.
pub(super) fn next_transaction(connection: &mut Connection) -> Result<u64> {
    let text = connection.value("SELECT pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())")?;
    text.parse()
        .map_err(|_| PostgresError::damaged("the server's transactions", format!("it says {text:?}")))
}

/// Reads pages again whose checksums were wrong, and gives those that still are. If the server does not let them be read,
/// all of them.
pub(super) fn still_bad(connection: &mut Connection, bad: Vec<BadPage>) -> Vec<BadPage> {
    let Ok(block) = connection.value("SELECT current_setting('block_size')") else {
        return bad;
    };
    let block: u64 = block.parse().unwrap_or(8192);
    let relation = connection
        .value("SELECT setting FROM pg_catalog.pg_settings WHERE name = 'segment_size'")
        .ok()
        .and_then(|text| text.parse::<u32>().ok())
        .unwrap_or(131_072);
    bad.into_iter()
        .filter(|page| {
            let sql = format!(
                "SELECT encode(pg_catalog.pg_read_binary_file({}, {}, {block}, true), 'hex')",
                literal(&page.path),
                u64::from(page.page) * block
            );
            let Ok(text) = connection.value(&sql) else {
                return true;
            };
            let Ok(bytes) = hex::decode(text) else { return true };
            if bytes.len() as u64 != block {
                // It was cut off since; the log says so.
                return false;
            }
            let segment =
                super::pages::segment_of(page.path.rsplit('/').next().unwrap_or_default()).unwrap_or(0);
            let number = segment.wrapping_mul(relation).wrapping_add(page.page);
            // It changed since: it was being written when it was read, and the log holds it whole.
            matches!(verify(&bytes, number), Verdict::Bad { lsn } if lsn == page.lsn)
        })
        .collect()
}
