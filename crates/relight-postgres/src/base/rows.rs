//! Rows of tables, counted when a backup is taken, so that a drill can compare them.
//!
//! A count is only worth something if nothing changed while the backup was taken: then it is that of the state that the
//! backup brings back. What changed is told by the server's statistics of each table.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::server::ServerFacts;
use crate::connect::Settings;
use crate::protocol::{Connection, Mode, identifier};

/// Larger tables, by the planner's estimate, are not counted.
const MOST_ROWS: f64 = 2e6;
/// Counting ends after so long.
const TIME: Duration = Duration::from_secs(20);
/// So many tables are counted.
const TABLES: usize = 500;

/// How many rows a table had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowCount {
    /// The database.
    pub database: String,
    /// The table, as SQL names it.
    pub table: String,
    /// Its rows.
    pub rows: u64,
}

/// How much had been written to each table of each database.
pub(super) struct Activity {
    writes: BTreeMap<(String, String), String>,
}

impl Activity {
    /// Looks at it now. What cannot be looked at is not counted later.
    pub fn look(server: &Settings, facts: &mut ServerFacts) -> Self {
        let mut writes = BTreeMap::new();
        for database in databases(facts) {
            let Ok(mut connection) = Connection::open(&server.in_database(&database), Mode::Queries) else {
                continue;
            };
            for (table, written) in tables(&mut connection) {
                writes.insert((database.clone(), table), written);
            }
        }
        Self { writes }
    }

    /// Counts the rows of tables that nothing was written to since.
    pub fn count(&self, server: &Settings, facts: &mut ServerFacts) -> Vec<RowCount> {
        let (mut counts, began) = (Vec::new(), Instant::now());
        for database in databases(facts) {
            let Ok(mut connection) = Connection::open(&server.in_database(&database), Mode::Queries) else {
                continue;
            };
            let mut counted: Vec<(String, String, u64)> = Vec::new();
            for (table, written) in tables(&mut connection) {
                let left = TIME.saturating_sub(began.elapsed()).as_millis();
                if left == 0 || counts.len() + counted.len() >= TABLES {
                    break;
                }
                let key = (database.clone(), table.clone());
                if self.writes.get(&key) != Some(&written) {
                    continue;
                }
                let sql = format!("SET statement_timeout = {left}; SELECT count(*) FROM ONLY {table}");
                let rows = connection
                    .query(&sql)
                    .ok()
                    .and_then(|sets| sets.last()?.value()?.parse().ok());
                if let Some(rows) = rows {
                    counted.push((table, written, rows));
                }
            }
            // Statistics of a transaction come after its end: once more, so that none slips through.
            let _ = connection.query("SET statement_timeout = 0; SELECT pg_catalog.pg_stat_clear_snapshot()");
            std::thread::sleep(Duration::from_millis(if counted.is_empty() { 0 } else { 1100 }));
            let now: BTreeMap<String, String> = tables(&mut connection).into_iter().collect();
            for (table, written, rows) in counted {
                if now.get(&table) == Some(&written) {
                    counts.push(RowCount {
                        database: database.clone(),
                        table,
                        rows,
                    });
                }
            }
        }
        counts
    }
}

fn databases(facts: &mut ServerFacts) -> Vec<String> {
    let sql = "SELECT datname FROM pg_catalog.pg_database WHERE datallowconn AND NOT datistemplate AND \
               pg_catalog.has_database_privilege(oid, 'CONNECT') ORDER BY datname";
    let set = facts.connection.rows(sql).unwrap_or_default();
    set.rows
        .into_iter()
        .filter_map(|row| row.into_iter().next().flatten())
        .collect()
}

/// Tables that may be read and are not too large, and what was written to each: by its file, which a rewrite changes, and
/// its statistics.
fn tables(connection: &mut Connection) -> Vec<(String, String)> {
    let sql = format!(
        "SELECT n.nspname AS schema, c.relname AS name, c.relfilenode || ' ' || s.n_tup_ins || ' ' || s.n_tup_upd || ' ' || \
         s.n_tup_del AS written FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         JOIN pg_catalog.pg_stat_user_tables s ON s.relid = c.oid WHERE c.relkind = 'r' AND c.relpersistence = 'p' \
         AND c.reltuples < {MOST_ROWS} AND pg_catalog.has_table_privilege(c.oid, 'SELECT') \
         AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') ORDER BY c.relpages, c.oid"
    );
    let set = connection.rows(&sql).unwrap_or_default();
    set.iter()
        .map(|row| {
            let table = format!(
                "{}.{}",
                identifier(row.text("schema")),
                identifier(row.text("name"))
            );
            (table, row.text("written").to_string())
        })
        .collect()
}
