//! What a drill looks at in a cluster that was brought back.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use relight_model::ByteSize;
use relight_repo::RepoError;
use relight_workloads::error::WorkloadError;
use relight_workloads::kind::Work;
use relight_workloads::rehearse::Probed;
use relight_workloads::rehearse::isolated::Isolated;

use super::sandbox::{INSIDE, Server, isolated};
use super::words::Query;
use super::{Drill, Goal};
use crate::base::RowCount;
use crate::base::control::{self, Control};
use crate::base::pages::segment_of;
use crate::error::{PostgresError, Result};
use crate::launch::{Programs, SANDBOX_PORT};

/// No program of a drill runs longer.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// So many things that are wrong are named.
const NAMED: usize = 5;
/// So many characters of what a program says are kept.
const SHOWN: usize = 600;

/// Everything that a running server is asked.
pub(super) fn run(drill: &Drill<'_>, server: &Server, work: &Work) -> Result<Vec<Probed>> {
    let mut probes = vec![recovered(server)?];
    let databases = databases(server)?;
    probes.push(opens(server, &databases));
    if drill.words.amcheck {
        work.note("pg_amcheck looks at all tables and indexes");
        probes.push(amcheck(&drill.programs, drill.rehearsal.sandbox, server, work)?);
    }
    if drill.words.rows && !drill.counted.is_empty() {
        probes.push(rows(server, &drill.counted, &drill.goal));
    }
    probes.extend(queries(&drill.words.sql, server, work)?);
    Ok(probes)
}

/// The queries of the operator.
pub(crate) fn queries(queries: &[Query], server: &Server, work: &Work) -> Result<Vec<Probed>> {
    let mut probes = Vec::new();
    for query in queries {
        if work.is_cancelled() {
            return Err(RepoError::Cancelled.into());
        }
        probes.push(ask(server, query));
    }
    Ok(probes)
}

/// How far it came.
fn recovered(server: &Server) -> Result<Probed> {
    let mut connection = server.connect("template1")?;
    let set = connection.rows(
        "SELECT pg_catalog.pg_is_in_recovery() AS recovering, (SELECT timeline_id FROM \
         pg_catalog.pg_control_checkpoint()) AS timeline, pg_catalog.pg_current_wal_lsn() AS lsn",
    )?;
    Ok(match set.first() {
        Some(row) if !row.is_true("recovering") => Probed::passed(
            "recovery",
            format!(
                "it works, on timeline {} at {}",
                row.text("timeline"),
                row.text("lsn")
            ),
        ),
        _ => Probed::failed("recovery", "it is still recovering"),
    })
}

fn databases(server: &Server) -> Result<Vec<String>> {
    let set = server
        .connect("template1")?
        .rows("SELECT datname FROM pg_catalog.pg_database WHERE datallowconn ORDER BY datname")?;
    Ok(set
        .rows
        .into_iter()
        .filter_map(|row| row.into_iter().next().flatten())
        .collect())
}

/// Whether every database can be connected to and its extensions can be loaded.
pub(crate) fn opens(server: &Server, databases: &[String]) -> Probed {
    let mut wrong = Vec::new();
    for database in databases {
        let missing = server.connect(database).and_then(|mut connection| {
            connection.rows(
                "SELECT e.extname || ' ' || e.extversion FROM pg_catalog.pg_extension e WHERE NOT EXISTS (SELECT FROM \
                 pg_catalog.pg_available_extension_versions a WHERE a.name = e.extname AND a.version = e.extversion)",
            )
        });
        match missing {
            Ok(set) => {
                let names = set.rows.iter().filter_map(|row| row.first()?.clone());
                wrong.extend(
                    names.map(|name| format!("{database}: extension {name} is not installed on this host")),
                );
            }
            Err(error) => wrong.push(format!("{database}: {error}")),
        }
    }
    let what = format!("{} databases and their extensions", databases.len());
    verdict("databases", what, &wrong)
}

/// Whether tables and indexes are in order.
pub(crate) fn amcheck(programs: &Programs, sandbox: &Path, server: &Server, work: &Work) -> Result<Probed> {
    let program = isolated(programs, sandbox, "pg_amcheck")
        .args(["--all", "--install-missing", "--jobs=2", "--host"])
        .arg(Server::socket_inside())
        .arg(format!("--port={SANDBOX_PORT}"))
        .arg(format!("--username={}", server.superuser));
    let (passed, said) = run_isolated(&program, work)?;
    Ok(Probed {
        name: "pg_amcheck".into(),
        passed,
        seen: if passed {
            "tables and indexes are in order".into()
        } else {
            said
        },
    })
}

/// Runs a program to its end: whether that was a good one, and what it said.
fn run_isolated(program: &Isolated, work: &Work) -> Result<(bool, String)> {
    run_isolated_for(program, LONGEST, work)
}

/// The same, but not longer than so long.
pub(crate) fn run_isolated_for(program: &Isolated, longest: Duration, work: &Work) -> Result<(bool, String)> {
    let refused = |error: WorkloadError| match error {
        WorkloadError::Repo(error) => PostgresError::Repo(error),
        other => PostgresError::Refused(other.to_string()),
    };
    let mut running = program.start().map_err(refused)?;
    let ended = running.wait(longest, &work.cancelled).map_err(refused)?;
    Ok((ended.is_success(), shown(&running.output())))
}

/// A table of a database, and how many rows it has to have.
pub(crate) type Counted<'a> = (&'a str, &'a str, u64);

/// Whether there are as many rows as when they were counted.
pub(crate) fn rows_exactly(server: &Server, counted: &[Counted<'_>]) -> Probed {
    let (what, wrong) = compare(server, counted);
    verdict("rows", what, &wrong)
}

/// Compares numbers of rows. Behind the end of the backup they may have changed.
fn rows(server: &Server, counted: &[RowCount], goal: &Goal) -> Probed {
    let counted: Vec<Counted<'_>> = counted
        .iter()
        .map(|count| (count.database.as_str(), count.table.as_str(), count.rows))
        .collect();
    let (what, wrong) = compare(server, &counted);
    if *goal == Goal::Immediate {
        return verdict("rows", what, &wrong);
    }
    // Transactions behind the backup may have done that.
    let behind = if wrong.is_empty() {
        String::new()
    } else {
        format!("; since then {}", named(&wrong))
    };
    Probed::passed("rows", format!("{what}{behind}"))
}

/// How many tables have as many rows, in words, and those that have not.
fn compare(server: &Server, counted: &[Counted<'_>]) -> (String, Vec<String>) {
    let mut connections = BTreeMap::new();
    let (mut same, mut wrong) = (0, Vec::new());
    for (database, table, expected) in counted {
        if !connections.contains_key(database) {
            match server.connect(database) {
                Ok(connection) => {
                    connections.insert(*database, connection);
                }
                Err(error) => {
                    wrong.push(format!("{database}: {error}"));
                    continue;
                }
            }
        }
        let Some(connection) = connections.get_mut(database) else {
            continue;
        };
        match connection.value(&format!("SELECT count(*) FROM ONLY {table}")) {
            Ok(rows) if rows == expected.to_string() => same += 1,
            Ok(rows) => wrong.push(format!("{database}.{table}: {rows} instead of {expected}")),
            Err(error) => wrong.push(format!("{database}.{table}: {error}")),
        }
    }
    let what = format!(
        "{same} of {} tables have as many rows as when the backup was taken",
        counted.len()
    );
    (what, wrong)
}

fn ask(server: &Server, query: &Query) -> Probed {
    let name = format!("sql: {}", query.query.chars().take(60).collect::<String>());
    let answer = server
        .connect(&query.database)
        .and_then(|mut connection| connection.query(&query.query));
    match answer {
        Err(error) => Probed::failed(name, error.to_string()),
        Ok(sets) => {
            let value = sets.iter().rev().find_map(|set| set.value());
            let rows = sets.iter().map(|set| set.rows.len()).sum::<usize>();
            match (&query.expect, value) {
                (Some(expected), Some(value)) if expected == value => Probed::passed(name, value),
                (Some(expected), value) => Probed::failed(
                    name,
                    format!("{} instead of {expected}", value.unwrap_or("nothing")),
                ),
                (None, _) if rows > 0 => Probed::passed(name, value.unwrap_or("NULL")),
                (None, _) => Probed::failed(name, "no row"),
            }
        }
    }
}

/// Looks at the checksums of all pages of a server at rest.
pub(super) fn checksums(programs: &Programs, sandbox: &Path, data: &Path, work: &Work) -> Result<Probed> {
    let path = data.join(control::PATH);
    let bytes = fs::read(&path).map_err(PostgresError::io("read", &path))?;
    if !Control::parse(&bytes)?.checksums {
        return Ok(Probed::passed("checksums", "the cluster has none"));
    }
    let inside = Path::new(INSIDE).join(data.strip_prefix(sandbox).unwrap_or(data));
    let program = isolated(programs, sandbox, "pg_checksums")
        .args(["--check", "-D"])
        .arg(inside);
    let (passed, seen) = run_isolated(&program, work)?;
    Ok(Probed {
        name: "checksums".into(),
        passed,
        seen,
    })
}

/// Makes the first page of the largest table or index wrong: no server reads it, and its checksum is wrong.
pub(super) fn spoil(data: &Path) -> Result<String> {
    let mut largest: Option<(u64, PathBuf)> = None;
    let base = data.join("base");
    let folders = fs::read_dir(&base).map_err(PostgresError::io("look into", &base))?;
    for folder in folders.flatten() {
        for entry in fs::read_dir(folder.path()).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_main = segment_of(&name) == Some(0) && !name.contains(['_', '.']);
            let size = entry.metadata().map_or(0, |meta| meta.len());
            if is_main && largest.as_ref().is_none_or(|(most, _)| size > *most) {
                largest = Some((size, entry.path()));
            }
        }
    }
    let Some((size, path)) = largest.filter(|(size, _)| *size >= 8192) else {
        return Err(PostgresError::Refused(
            "there is no table that could be made wrong".into(),
        ));
    };
    let file = OpenOptions::new()
        .write(true)
        .open(&path)
        .map_err(PostgresError::io("open", &path))?;
    file.write_all_at(&[0xa5; 64], 0)
        .map_err(PostgresError::io("write", &path))?;
    let shown = path.strip_prefix(data).unwrap_or(&path);
    Ok(format!(
        "the header of page 0 of {} ({}) was overwritten",
        shown.display(),
        ByteSize(size)
    ))
}

/// Whether nothing is wrong about something.
pub(crate) fn verdict(name: &str, what: String, wrong: &[String]) -> Probed {
    if wrong.is_empty() {
        Probed::passed(name, what)
    } else {
        Probed::failed(name, format!("{} wrong: {}", wrong.len(), named(wrong)))
    }
}

fn named(wrong: &[String]) -> String {
    let more = wrong.len().saturating_sub(NAMED);
    let mut text = wrong[..wrong.len().min(NAMED)].join("; ");
    if more > 0 {
        text.push_str(&format!("; and {more} more"));
    }
    text
}

/// What a program said, in one line.
fn shown(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let text: String = lines
        .join(" / ")
        .chars()
        .filter(|char| !char.is_control())
        .collect();
    text.chars().take(SHOWN).collect()
}
