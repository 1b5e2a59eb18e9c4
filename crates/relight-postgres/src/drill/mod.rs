//! The recovery drill of a cluster: a base backup and the log up to any moment are restored into a sandbox, a server is
//! started there that nothing else can reach, and what came back is looked at.
//!
//! ```toml
//! probe = { sql = [{ database = "app", query = "SELECT count(*) > 0 FROM orders", expect = "t" }], amcheck = true }
//! ```

pub(crate) mod probes;
pub(crate) mod sandbox;
pub(crate) mod words;

use std::path::PathBuf;
use std::sync::Arc;

use relight_repo::Repository;
use relight_repo::snapshot::Snapshot;
use relight_workloads::error::{Result as WorkloadResult, WorkloadError};
use relight_workloads::kind::{Subject, Work};
use relight_workloads::rehearse::{Probed, Reach, Rehearsal, Rehearse, Restored};

use crate::base::{self, About, is_base};
use crate::error::{PostgresError, Result};
use crate::kind::{Clusters, Source};
use crate::launch::Programs;
use crate::restore::{self, Goal, Recovery, TablespaceMap};
use crate::wal::store::{Catalog, LogStore};
use crate::wal::tail::Tail;
use crate::wal::windows::{Base, Log, Window, view};
use sandbox::Server;
use words::Words;

/// What a server needs beside its files, in bytes: new log, temporary files, its own log.
const BESIDE: u64 = 512 << 20;

impl Rehearse for Clusters {
    fn check_probe(&self, subject: &Subject) -> WorkloadResult<()> {
        Words::of(subject).map(drop)
    }

    fn reach(&self, subject: &Subject, repository: &Arc<Repository>, snapshots: &[Snapshot]) -> Vec<Reach> {
        let store = LogStore::new(repository.clone(), subject.workload.clone(), Arc::default());
        let tail = store.tail().unwrap_or_else(|error| {
            tracing::warn!("{error}: the newest log is not drilled");
            Tail::default()
        });
        let windows = windows(&Catalog::of(snapshots.to_vec()), &tail, snapshots);
        let mut bases: Vec<(&Snapshot, About)> = snapshots
            .iter()
            .filter(|snapshot| is_base(snapshot))
            .filter_map(|snapshot| Some((snapshot, About::of(snapshot).ok()?)))
            .collect();
        bases.sort_by_key(|(_, about)| about.stop_time);
        let mut reach = Vec::new();
        for (number, (snapshot, about)) in bases.iter().enumerate() {
            let Some(window) = window_of(&windows, snapshot) else {
                continue;
            };
            // From where the next one begins, that is the one to begin with.
            let next = bases[number + 1..]
                .iter()
                .find(|(next, _)| window.bases.contains(&next.id))
                .map(|(_, next)| next.stop_time);
            reach.push(Reach {
                snapshot: snapshot.id,
                first: about.stop_time,
                last: next.unwrap_or(window.to.time).max(about.stop_time),
            });
        }
        reach
    }

    fn room(&self, rehearsal: &Rehearsal<'_>) -> WorkloadResult<u64> {
        let list = base::load_list(rehearsal.reader, rehearsal.snapshot).map_err(WorkloadError::from)?;
        let about = About::of(rehearsal.snapshot).map_err(WorkloadError::from)?;
        // No more than all of its log.
        let (catalog, tail) = newest(rehearsal)?;
        let log = window_of(&windows(&catalog, &tail, rehearsal.snapshots), rehearsal.snapshot)
            .map_or(0, |window| window.to.lsn.0.saturating_sub(about.start_lsn.0));
        Ok(list.bytes().saturating_add(log).saturating_add(BESIDE))
    }

    fn restore<'a>(&self, rehearsal: &Rehearsal<'a>, work: &Work) -> WorkloadResult<Box<dyn Restored + 'a>> {
        Ok(Box::new(restore(rehearsal, work)?))
    }
}

/// What can be recovered of a cluster with these base backups.
fn windows(catalog: &Catalog, tail: &Tail, snapshots: &[Snapshot]) -> Vec<Window> {
    let bases: Vec<Base> = snapshots.iter().filter_map(Base::of).collect();
    let mut log = Log::of(catalog);
    tail.add_to(&mut log);
    view(&log, &bases).windows
}

/// The log as it is now. Since the drill began, pieces that were the newest then may have come to lie in snapshots.
fn newest(rehearsal: &Rehearsal<'_>) -> Result<(Catalog, Tail)> {
    let store = LogStore::new(
        rehearsal.reader.repository().clone(),
        rehearsal.subject.workload.clone(),
        Arc::default(),
    );
    // In this order: a piece that goes meanwhile goes because a snapshot has it.
    let tail = store.tail()?;
    Ok((store.catalog()?, tail))
}

/// The window that a base backup is carried on in: on the newest timeline.
fn window_of<'w>(windows: &'w [Window], snapshot: &Snapshot) -> Option<&'w Window> {
    windows
        .iter()
        .filter(|window| window.bases.contains(&snapshot.id))
        .max_by_key(|window| (window.timeline, window.to.lsn))
}

fn restore<'a>(rehearsal: &Rehearsal<'a>, work: &Work) -> Result<Drill<'a>> {
    let words = Words::of(rehearsal.subject).map_err(|error| PostgresError::Settings(error.to_string()))?;
    let about = About::of(rehearsal.snapshot)?;
    let (bin, user) = if rehearsal.subject.source.is_empty() {
        (None, None)
    } else {
        let source = Source::of(rehearsal.subject)?;
        (source.bin, source.user)
    };
    let (bin, user) = (words.bin.clone().or(bin), words.user.clone().or(user));
    let owner = sandbox::owner(user.as_deref())?;
    let programs = Programs::find(about.major(), bin.as_deref(), Some(owner))?;
    let (catalog, tail) = newest(rehearsal)?;
    let windows = windows(&catalog, &tail, rehearsal.snapshots);
    let window = window_of(&windows, rehearsal.snapshot);
    let time = rehearsal.point.time;
    let goal = match window {
        _ if time <= about.stop_time => Goal::Immediate,
        // A server waits in vain for a record that says that the last commit's time has passed.
        Some(window) if time >= window.to.time => Goal::Latest,
        Some(_) => Goal::Time(time),
        None => {
            return Err(PostgresError::Refused(format!(
                "the log does not carry snapshot {} on to {time}",
                rehearsal.snapshot.id.short()
            )));
        }
    };
    let data = rehearsal.sandbox.join("data");
    sandbox::let_in(rehearsal.sandbox, owner)?;
    let mut recovery = Recovery::immediate();
    recovery.goal = goal.clone();
    if let Some(window) = window.filter(|_| goal != Goal::Immediate) {
        recovery.timeline = restore::Timeline::Number(window.timeline.0);
    }
    let options = restore::Options {
        directory: data.clone(),
        tablespaces: TablespaceMap {
            others: Some(rehearsal.sandbox.join("tablespaces")),
            ..TablespaceMap::default()
        },
        owner: Some(owner),
        recovery,
        delta: false,
        sync: false,
    };
    work.note(&format!("restoring {} to {goal}", rehearsal.subject.workload));
    let store = LogStore::new(
        rehearsal.reader.repository().clone(),
        rehearsal.subject.workload.clone(),
        work.cancelled.clone(),
    );
    let log = window.filter(|_| goal != Goal::Immediate).map(|window| {
        let request = restore::LogRequest {
            about: &about,
            timeline: window.timeline,
            goal: &goal,
        };
        restore::NeededLog::find(&store, (&catalog, &tail), &request)
    });
    let report = restore::restore(rehearsal.reader, rehearsal.snapshot, &options, log, work)?;
    sandbox::link_tablespaces(&data)?;
    let size = report.bytes + report.log.bytes;
    let inventory = base::load_inventory(rehearsal.reader, rehearsal.snapshot)?;
    Ok(Drill {
        rehearsal: *rehearsal,
        words,
        programs,
        data,
        goal,
        size,
        superusers: inventory
            .roles
            .iter()
            .filter(|role| role.superuser && role.login)
            .map(|role| role.name.clone())
            .collect(),
        counted: inventory.rows,
        server: None,
    })
}

/// A cluster in a sandbox.
struct Drill<'a> {
    rehearsal: Rehearsal<'a>,
    words: Words,
    programs: Programs,
    data: PathBuf,
    goal: Goal,
    size: u64,
    /// Roles that may do everything, as of the backup.
    superusers: Vec<String>,
    /// Rows that were counted when the backup was taken.
    counted: Vec<base::RowCount>,
    server: Option<Server>,
}

impl Restored for Drill<'_> {
    fn size(&self) -> u64 {
        self.size
    }

    fn start(&mut self, work: &Work) -> WorkloadResult<()> {
        work.note("starting the server and replaying the log");
        self.server = Some(Server::start(
            &self.programs,
            self.rehearsal.sandbox,
            &self.data,
            &self.superusers,
            work,
        )?);
        Ok(())
    }

    fn probe(&mut self, work: &Work) -> WorkloadResult<Vec<Probed>> {
        if self.server.is_none() {
            self.start(work)?;
        }
        let mut probes = Vec::new();
        if let Some(server) = &self.server {
            probes = probes::run(self, server, work)?;
        }
        probes.extend(self.words.command.run(&self.rehearsal, work)?);
        if self.words.checksums {
            // Only of a server at rest can all pages be looked at.
            self.stop()?;
            work.note("looking at the checksums of all pages");
            probes.push(probes::checksums(
                &self.programs,
                self.rehearsal.sandbox,
                &self.data,
                work,
            )?);
        }
        Ok(probes)
    }

    fn spoil(&mut self, _: &Work) -> WorkloadResult<String> {
        self.stop()?;
        Ok(probes::spoil(&self.data)?)
    }

    fn stop(&mut self) -> WorkloadResult<()> {
        match self.server.take() {
            Some(server) => Ok(server.stop()?),
            None => Ok(()),
        }
    }
}
