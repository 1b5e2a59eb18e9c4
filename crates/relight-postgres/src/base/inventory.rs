//! What belongs to a recovery besides the files of the cluster: configuration outside the data directory, and which
//! databases, extensions and libraries there were, so that the host of a restore can be made to match.

use serde::{Deserialize, Serialize};

use super::rows::RowCount;
use super::server::ServerFacts;
use crate::connect::Settings;
use crate::error::{PostgresError, Result};
use crate::protocol::{Connection, Mode, ResultSet, literal};

/// Name of the archive with the inventory.
pub const INVENTORY: &str = "inventory.json";
/// Name of the archive with the configuration outside the data directory.
pub const CONFIGURATION: &str = "configuration.json";

/// What a cluster consists of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Inventory {
    /// What the server says that it is.
    pub version: String,
    /// Settings that are not at their defaults, without secrets.
    pub settings: Vec<Setting>,
    /// Databases.
    pub databases: Vec<Database>,
    /// Roles, without passwords.
    pub roles: Vec<Role>,
    /// Rows of tables that did not change while the backup was taken.
    pub rows: Vec<RowCount>,
}

/// A setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// A database.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Database {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub bytes: u64,
    /// Encoding of its texts.
    pub encoding: String,
    /// Its collation.
    pub collation: String,
    /// Version of the collation's library that its indexes were built with.
    pub collation_version: Option<String>,
    /// Its extensions.
    pub extensions: Vec<Extension>,
}

/// An extension.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extension {
    /// Its name.
    pub name: String,
    /// The version that the database uses.
    pub version: String,
}

/// A role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// Whether it may log in.
    pub login: bool,
    /// Whether nothing is forbidden to it.
    pub superuser: bool,
}

/// A file outside the data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutsideFile {
    /// Where it is.
    pub path: String,
    /// What is in it.
    pub content: String,
}

pub(super) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec_pretty(value)
        .map_err(|error| PostgresError::damaged("the inventory", error.to_string()))
}

/// Reads an archive that holds one.
pub(super) fn decode(bytes: &[u8]) -> Result<Inventory> {
    serde_json::from_slice(bytes).map_err(|error| PostgresError::damaged("the inventory", error.to_string()))
}

/// Asks the server. What it does not tell is named in the remarks.
pub(super) fn take(facts: &mut ServerFacts, server: &Settings) -> (Inventory, Vec<OutsideFile>, Vec<String>) {
    let mut remarks = Vec::new();
    let mut inventory = Inventory {
        version: facts.connection.value("SELECT version()").unwrap_or_default(),
        ..Inventory::default()
    };
    let connection = &mut facts.connection;
    // Values that may hold passwords stay out.
    let settings = ask(
        connection,
        "SELECT name, setting FROM pg_catalog.pg_settings WHERE source NOT IN ('default', 'client', 'session') \
         AND name NOT IN ('primary_conninfo', 'ssl_passphrase_command', 'restore_command', 'archive_command', \
         'archive_cleanup_command', 'recovery_end_command') AND name NOT LIKE '%.%' ORDER BY name",
        &mut remarks,
    );
    inventory.settings = settings
        .iter()
        .map(|row| Setting {
            name: row.text("name").into(),
            value: row.text("setting").into(),
        })
        .collect();
    let roles = ask(
        connection,
        "SELECT rolname, rolcanlogin, rolsuper FROM pg_catalog.pg_roles WHERE rolname !~ '^pg_' ORDER BY rolname",
        &mut remarks,
    );
    inventory.roles = roles
        .iter()
        .map(|row| Role {
            name: row.text("rolname").into(),
            login: row.is_true("rolcanlogin"),
            superuser: row.is_true("rolsuper"),
        })
        .collect();
    let version = if facts.major >= 15 {
        "datcollversion"
    } else {
        "NULL"
    };
    let databases = ask(
        connection,
        &format!(
            "SELECT datname, pg_catalog.pg_encoding_to_char(encoding) AS encoding, datcollate, {version} AS collversion, \
             CASE WHEN pg_catalog.has_database_privilege(oid, 'CONNECT') THEN pg_catalog.pg_database_size(oid) END AS \
             bytes, datallowconn AND NOT datistemplate AND pg_catalog.has_database_privilege(oid, 'CONNECT') AS open \
             FROM pg_catalog.pg_database ORDER BY datname"
        ),
        &mut remarks,
    );
    for row in databases.iter() {
        let name = row.text("datname");
        inventory.databases.push(Database {
            name: name.into(),
            bytes: row.parse("bytes").unwrap_or(0),
            encoding: row.text("encoding").into(),
            collation: row.text("datcollate").into(),
            collation_version: row.get("collversion").map(Into::into),
            extensions: if row.is_true("open") {
                extensions(&server.in_database(name), &mut remarks)
            } else {
                Vec::new()
            },
        });
    }
    let outside = outside(connection, &mut remarks);
    (inventory, outside, remarks)
}

fn ask(connection: &mut Connection, sql: &str, remarks: &mut Vec<String>) -> ResultSet {
    connection.rows(sql).unwrap_or_else(|error| {
        remarks.push(format!("the inventory is not complete: {error}"));
        ResultSet::default()
    })
}

fn extensions(database: &Settings, remarks: &mut Vec<String>) -> Vec<Extension> {
    let sql = "SELECT extname, extversion FROM pg_catalog.pg_extension ORDER BY extname";
    let found = Connection::open(database, Mode::Queries).and_then(|mut connection| connection.rows(sql));
    match found {
        Ok(set) => set
            .iter()
            .map(|row| Extension {
                name: row.text("extname").into(),
                version: row.text("extversion").into(),
            })
            .collect(),
        Err(error) => {
            remarks.push(format!(
                "the extensions of database {} are not known: {error}",
                database.database
            ));
            Vec::new()
        }
    }
}

/// Configuration files that are not in the data directory, as Debian keeps them.
fn outside(connection: &mut Connection, remarks: &mut Vec<String>) -> Vec<OutsideFile> {
    let set = connection.rows(
        "SELECT DISTINCT path FROM (SELECT setting AS path FROM pg_catalog.pg_settings WHERE name IN ('config_file', \
         'hba_file', 'ident_file') UNION ALL SELECT sourcefile FROM pg_catalog.pg_settings WHERE sourcefile IS NOT NULL) f \
         WHERE path IS NOT NULL AND NOT starts_with(path, rtrim(current_setting('data_directory'), '/') || '/') ORDER BY path",
    );
    let set = match set {
        Ok(set) => set,
        Err(error) => {
            remarks.push(format!(
                "configuration outside the data directory is not saved: {error}; grant pg_read_all_settings and \
                 pg_read_server_files to the role"
            ));
            return Vec::new();
        }
    };
    let mut files = Vec::new();
    for row in set.iter() {
        let path = row.text("path");
        match connection.value(&format!("SELECT pg_catalog.pg_read_file({})", literal(path))) {
            Ok(content) => files.push(OutsideFile {
                path: path.into(),
                content,
            }),
            Err(error) => remarks.push(format!(
                "{path} is not saved: {error}; grant pg_read_server_files and EXECUTE on pg_read_file(text) to the role"
            )),
        }
    }
    files
}
