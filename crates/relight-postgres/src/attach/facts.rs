//! What a cluster says about itself.

use serde::Serialize;

use crate::error::{PostgresError, Result};
use crate::protocol::Connection;

/// What matters of a cluster's settings and state.
#[derive(Debug, Clone, Serialize)]
pub struct Facts {
    /// Identity of the cluster, as text because it does not fit what many programs take for a number.
    pub system: String,
    /// The server's version.
    pub version: String,
    /// Its major version.
    pub major: u32,
    /// Whether it is a standby.
    pub standby: bool,
    /// Whether data pages have checksums.
    pub checksums: bool,
    /// Bytes of all databases that may be seen.
    pub bytes: u64,
    /// Tablespaces outside the data directory.
    pub tablespaces: Vec<String>,
    /// Extensions of the database that was connected to.
    pub extensions: Vec<String>,
    /// Where its data are, if that may be known.
    pub data_directory: Option<String>,
    /// Connections for replication that are in use.
    pub senders_used: u32,
    /// Slots that are there.
    pub slots_used: u32,
    /// Slots that hold back log and nobody reads: name and bytes.
    pub idle_slots: Vec<(String, u64)>,
    /// Since when archiving fails, if it does.
    pub archiving_fails: Option<String>,
    #[serde(skip)]
    settings: Vec<(String, String)>,
}

impl Facts {
    pub(super) fn ask(connection: &mut Connection) -> Result<Self> {
        let major = connection.major_version()?;
        if !(14..=18).contains(&major) {
            return Err(PostgresError::Refused(format!(
                "{} is PostgreSQL {}: versions 14 to 18 are supported",
                connection.server(),
                connection.parameter("server_version").unwrap_or_default()
            )));
        }
        let settings = connection.rows("SELECT name, setting FROM pg_catalog.pg_settings")?;
        let settings = settings
            .iter()
            .map(|row| (row.text("name").to_string(), row.text("setting").to_string()))
            .collect();
        let set = connection.rows(
            "SELECT (SELECT system_identifier FROM pg_catalog.pg_control_system()) AS system, \
             pg_catalog.pg_is_in_recovery() AS standby, \
             (SELECT sum(pg_catalog.pg_database_size(oid)) FROM pg_catalog.pg_database \
              WHERE pg_catalog.has_database_privilege(oid, 'CONNECT')) AS bytes, \
             (SELECT count(*) FROM pg_catalog.pg_stat_replication) AS senders, \
             (SELECT count(*) FROM pg_catalog.pg_replication_slots) AS slots, \
             (SELECT last_failed_time::text FROM pg_catalog.pg_stat_archiver WHERE last_failed_time > \
              coalesce(last_archived_time, '-infinity')) AS failed",
        )?;
        let strange = || PostgresError::damaged("the server's settings", "they make no sense");
        let row = set.first().ok_or_else(strange)?;
        let texts = |connection: &mut Connection, sql: &str| -> Result<Vec<String>> {
            let set = connection.rows(sql)?;
            Ok(set
                .rows
                .into_iter()
                .filter_map(|row| row.into_iter().next().flatten())
                .collect())
        };
        let position = if row.is_true("standby") {
            "pg_catalog.pg_last_wal_receive_lsn()"
        } else {
            "pg_catalog.pg_current_wal_lsn()"
        };
        let idle = connection.rows(&format!(
            "SELECT slot_name AS name, pg_catalog.pg_wal_lsn_diff({position}, restart_lsn)::bigint AS bytes \
             FROM pg_catalog.pg_replication_slots WHERE NOT active AND restart_lsn IS NOT NULL"
        ))?;
        let facts = Self {
            system: row.text("system").to_string(),
            version: connection
                .parameter("server_version")
                .and_then(|version| version.split(' ').next())
                .unwrap_or_default()
                .to_string(),
            major,
            standby: row.is_true("standby"),
            bytes: row.parse("bytes").unwrap_or(0),
            senders_used: row.parse("senders").unwrap_or(0),
            slots_used: row.parse("slots").unwrap_or(0),
            archiving_fails: row.get("failed").map(String::from),
            idle_slots: idle
                .iter()
                .filter_map(|row| Some((row.text("name").to_string(), row.parse("bytes")?)))
                .collect(),
            tablespaces: texts(
                connection,
                "SELECT spcname || ' at ' || pg_catalog.pg_tablespace_location(oid) FROM pg_catalog.pg_tablespace \
                 WHERE pg_catalog.pg_tablespace_location(oid) <> '' ORDER BY spcname",
            )?,
            extensions: texts(
                connection,
                "SELECT extname || ' ' || extversion FROM pg_catalog.pg_extension ORDER BY extname",
            )?,
            checksums: false,
            data_directory: None,
            settings,
        };
        Ok(Self {
            checksums: facts.is_on("data_checksums"),
            data_directory: facts
                .get("data_directory")
                .filter(|path| !path.is_empty())
                .map(String::from),
            ..facts
        })
    }

    /// A setting, if the role may see it.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.settings.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(super) fn is_on(&self, name: &str) -> bool {
        self.get(name) == Some("on")
    }

    pub(super) fn number(&self, name: &str) -> i64 {
        self.get(name).and_then(|value| value.parse().ok()).unwrap_or(0)
    }
}
