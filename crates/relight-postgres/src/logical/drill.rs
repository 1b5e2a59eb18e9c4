//! The drill of a dump: it is brought into a new cluster in a sandbox that nothing else can reach, and looked at.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use relight_repo::read::ChunkReader;
use relight_workloads::error::Result as WorkloadResult;
use relight_workloads::kind::{Subject, Work};
use relight_workloads::rehearse::{Probed, Rehearsal, Rehearse, Restored};

use super::{Dumps, Inventory, Loading, Source, inventory, load};
use crate::drill::probes::{self, Counted};
use crate::drill::sandbox::{self, INSIDE, Server};
use crate::drill::words::Words;
use crate::error::{PostgresError, Result};
use crate::launch::Programs;

/// What a server needs beside its data, in bytes.
const BESIDE: u64 = 512 << 20;
/// A new cluster is there within this time.
const MAKING: Duration = Duration::from_secs(600);

impl Rehearse for Dumps {
    fn check_probe(&self, subject: &Subject) -> WorkloadResult<()> {
        Words::of(subject).map(drop)
    }

    fn room(&self, rehearsal: &Rehearsal<'_>) -> WorkloadResult<u64> {
        // Indexes are made anew, and the log of all that is written.
        let dumped: u64 = rehearsal
            .snapshot
            .archives
            .iter()
            .map(|archive| archive.root.size)
            .sum();
        Ok(dumped.saturating_mul(3).saturating_add(BESIDE))
    }

    fn restore<'a>(&self, rehearsal: &Rehearsal<'a>, work: &Work) -> WorkloadResult<Box<dyn Restored + 'a>> {
        Ok(Box::new(restore(rehearsal, work)?))
    }
}

fn restore<'a>(rehearsal: &Rehearsal<'a>, work: &Work) -> Result<Drill<'a>> {
    let words = Words::of(rehearsal.subject).map_err(|error| PostgresError::Settings(error.to_string()))?;
    let reader: &Arc<ChunkReader> = rehearsal.reader;
    let held = inventory(reader, rehearsal.snapshot)?;
    let (bin, user) = if rehearsal.subject.source.is_empty() {
        (None, None)
    } else {
        let source = Source::of(rehearsal.subject)?;
        (source.bin, source.user)
    };
    let (bin, user) = (words.bin.clone().or(bin), words.user.clone().or(user));
    let owner = sandbox::owner(user.as_deref())?;
    let programs = Programs::find(held.major, bin.as_deref(), Some(owner))?;
    sandbox::let_in(rehearsal.sandbox, owner)?;
    work.note("making a new cluster");
    let data = rehearsal.sandbox.join("data");
    let made = sandbox::isolated(&programs, rehearsal.sandbox, "initdb")
        .args([
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
            "--data-checksums",
            "-D",
        ])
        .arg(Path::new(INSIDE).join("data"));
    let (good, said) = probes::run_isolated_for(&made, MAKING, work)?;
    if !good {
        return Err(PostgresError::Refused(format!(
            "no new cluster could be made for the drill: {said}"
        )));
    }
    let server = Server::start(&programs, rehearsal.sandbox, &data, &["postgres".into()], work)?;
    let loading = Loading {
        settings: server.settings(&server.superuser, "postgres")?,
        databases: Vec::new(),
        globals: true,
        bin,
    };
    let loaded = load(reader, rehearsal.snapshot, &held, &loading, work)?;
    Ok(Drill {
        rehearsal: *rehearsal,
        words,
        held,
        programs,
        server: Some(server),
        refused: loaded.refused,
        size: loaded.bytes,
    })
}

/// Databases in a sandbox.
struct Drill<'a> {
    rehearsal: Rehearsal<'a>,
    words: Words,
    held: Inventory,
    programs: Programs,
    server: Option<Server>,
    refused: Vec<String>,
    size: u64,
}

impl Drill<'_> {
    fn server(&self) -> Result<&Server> {
        self.server
            .as_ref()
            .ok_or_else(|| PostgresError::Refused("the server of the drill was stopped".into()))
    }
}

impl Restored for Drill<'_> {
    fn size(&self) -> u64 {
        self.size
    }

    fn probe(&mut self, work: &Work) -> WorkloadResult<Vec<Probed>> {
        let server = self.server()?;
        let databases: Vec<String> = self
            .held
            .databases
            .iter()
            .map(|database| database.name.clone())
            .collect();
        let mut probes = vec![
            probes::verdict("roles", "roles and tablespaces".into(), &self.refused),
            probes::opens(server, &databases),
        ];
        if self.words.amcheck {
            work.note("pg_amcheck looks at all tables and indexes");
            probes.push(probes::amcheck(
                &self.programs,
                self.rehearsal.sandbox,
                server,
                work,
            )?);
        }
        let counted: Vec<Counted<'_>> = self
            .held
            .databases
            .iter()
            .flat_map(|database| {
                let rows = database.rows.iter();
                rows.map(|(table, rows)| (database.name.as_str(), table.as_str(), *rows))
            })
            .collect();
        if self.words.rows && !counted.is_empty() {
            probes.push(probes::rows_exactly(server, &counted));
        }
        probes.extend(probes::queries(&self.words.sql, server, work)?);
        probes.extend(self.words.command.run(&self.rehearsal, work)?);
        Ok(probes)
    }

    fn spoil(&mut self, _: &Work) -> WorkloadResult<String> {
        let all = self.held.databases.iter().flat_map(|database| {
            let rows = database.rows.iter();
            rows.map(|(table, rows)| (*rows, &database.name, table))
        });
        let Some((rows, database, table)) = all.max().filter(|(rows, ..)| *rows > 0) else {
            return Err(PostgresError::Refused("there is no table that could be made wrong".into()).into());
        };
        let mut connection = self.server()?.connect(database)?;
        connection.query(&format!(
            "SET session_replication_role = replica; DELETE FROM ONLY {table} WHERE ctid = (SELECT min(ctid) FROM ONLY \
             {table})"
        ))?;
        Ok(format!("one of {rows} rows of {table} in {database} was deleted"))
    }

    fn stop(&mut self) -> WorkloadResult<()> {
        match self.server.take() {
            Some(server) => Ok(server.stop()?),
            None => Ok(()),
        }
    }
}
