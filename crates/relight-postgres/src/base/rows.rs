//! Rows of tables, counted when a backup is taken, so that a drill can compare them.
//!
//! A count is only worth something if nothing changed while the backup was taken: then it is that of the state that the
//! backup brings back. What changed is told by the server's statistics of each table.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use relight_workloads::kind::Work;
use serde::{Deserialize, Serialize};

use super::server::ServerFacts;
use crate::connect::Settings;
use crate::protocol::{Connection, Mode, identifier};

/// Larger tables, by the planner's estimate, are not counted.
const MOST_ROWS: f64 = 2e6;
/// Nor are tables of more bytes: counting reads the whole table, on a server that others work with.
const MOST_BYTES: u64 = 1 << 30;
/// Counting ends after so long.
const TIME: Duration = Duration::from_secs(20);
/// So many tables are counted.
const TABLES: usize = 500;
/// Statistics of a transaction come so long after its end.
const LATE: Duration = Duration::from_millis(1100);

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

/// How much had been written to the tables of each database when a backup began.
pub(super) struct Activity {
    databases: Vec<(String, Vec<(String, String)>)>,
    /// The number of the next transaction, if none was under way that writes.
    next: Option<String>,
}

/// A table that was counted, and what had been written to it.
pub(super) struct Counted {
    count: RowCount,
    written: String,
}

impl Activity {
    /// Looks at it now. What cannot be looked at is not counted later.
    pub fn look(server: &Settings, facts: &mut ServerFacts) -> Self {
        let next = next(facts);
        let mut looked = Vec::new();
        for database in databases(facts) {
            if let Ok(mut connection) = Connection::open(&server.in_database(&database), Mode::Queries) {
                looked.push((database, tables(&mut connection)));
            }
        }
        Self {
            databases: looked,
            next,
        }
    }

    /// Runs `take`, and meanwhile counts the rows. If it fails nothing more is counted.
    pub fn count_beside<T, E>(
        &self,
        server: &Settings,
        work: &Work,
        take: impl FnOnce() -> Result<T, E>,
    ) -> Result<(T, Vec<Counted>), E> {
        let stop = Arc::new(AtomicBool::new(false));
        std::thread::scope(|scope| {
            let counting = scope.spawn(|| self.count(server, &stop));
            let taken = take();
            stop.store(taken.is_err(), Ordering::Relaxed);
            while !counting.is_finished() {
                if work.is_cancelled() {
                    stop.store(true, Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok((taken?, counting.join().unwrap_or_default()))
        })
    }

    fn count(&self, server: &Settings, stop: &Arc<AtomicBool>) -> Vec<Counted> {
        let (mut counted, began) = (Vec::new(), Instant::now());
        for (database, tables) in &self.databases {
            let Ok(mut connection) = Connection::open(&server.in_database(database), Mode::Queries) else {
                continue;
            };
            connection.set_cancelled(stop.clone());
            for (table, written) in tables {
                let left = TIME.saturating_sub(began.elapsed()).as_millis();
                if left == 0 || counted.len() >= TABLES || stop.load(Ordering::Relaxed) {
                    return counted;
                }
                let sql = format!("SET statement_timeout = {left}; SELECT count(*) FROM ONLY {table}");
                let rows = connection
                    .query(&sql)
                    .ok()
                    .and_then(|sets| sets.last()?.value()?.parse().ok());
                if let Some(rows) = rows {
                    let count = RowCount {
                        database: database.clone(),
                        table: table.clone(),
                        rows,
                    };
                    let written = written.clone();
                    counted.push(Counted { count, written });
                }
            }
        }
        counted
    }

    /// Those of the tables to which nothing was written since the look, now that the backup is complete.
    pub fn unchanged(
        &self,
        counted: Vec<Counted>,
        server: &Settings,
        facts: &mut ServerFacts,
    ) -> Vec<RowCount> {
        if self.next.is_some() && self.next == next(facts) {
            // No transaction at all has written meanwhile.
            return counted.into_iter().map(|table| table.count).collect();
        }
        if counted.is_empty() {
            return Vec::new();
        }
        std::thread::sleep(LATE);
        let mut now = BTreeMap::new();
        for (database, _) in &self.databases {
            if let Ok(mut connection) = Connection::open(&server.in_database(database), Mode::Queries) {
                let tables = tables(&mut connection).into_iter();
                now.extend(tables.map(|(table, written)| ((database.clone(), table), written)));
            }
        }
        let counts = counted.into_iter().filter_map(|table| {
            let key = (table.count.database.clone(), table.count.table.clone());
            (now.get(&key) == Some(&table.written)).then_some(table.count)
        });
        counts.collect()
    }
}

/// The number of the next transaction that writes; none while some have not ended.
fn next(facts: &mut ServerFacts) -> Option<String> {
    let snapshot = facts.connection.value("SELECT pg_catalog.pg_current_snapshot()");
    let snapshot = snapshot.ok()?;
    let (oldest, rest) = snapshot.split_once(':')?;
    let (next, under_way) = rest.split_once(':')?;
    (oldest == next && under_way.is_empty()).then(|| next.to_string())
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
         AND c.reltuples < {MOST_ROWS} \
         AND c.relpages < {MOST_BYTES} / pg_catalog.current_setting('block_size')::bigint \
         AND pg_catalog.has_table_privilege(c.oid, 'SELECT') \
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
