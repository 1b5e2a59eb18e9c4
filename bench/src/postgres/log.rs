//! The log: archiving, receiving and replaying it.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::rounds::START;
use super::tools::{Goal, ToolName};
use super::{Lab, Piece};
use crate::failure::{Doing, Failure, Result};
use crate::measure::Cost;

/// The log that was made for it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Log {
    /// Its bytes.
    pub bytes: u64,
    /// Its last segment.
    last: String,
    /// Where it ends.
    end: String,
    /// The moment that is restored, as PostgreSQL writes it.
    time: String,
    /// What was in the tables then.
    fingerprint: String,
}

/// Slots that keep the log for those who receive it.
const SLOTS: [(ToolName, &str); 2] = [(ToolName::Relight, "relight_main"), (ToolName::Barman, "barman")];

impl Lab {
    /// Makes the log while nothing is archived.
    fn make_log(&mut self) -> Result<Log> {
        let server = self.cluster.server.clone();
        server.set("archive_command", "")?;
        // No checkpoint comes between.
        server.set("max_wal_size", "16GB")?;
        for (_, slot) in SLOTS {
            server.sql(&format!(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{slot}'; \
                 SELECT pg_create_physical_replication_slot('{slot}', true)"
            ))?;
        }
        let start = server.sql("SELECT pg_current_wal_lsn()")?;
        let since = format!("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '{start}')::bigint");
        let bytes = || -> Result<u64> { server.sql(&since)?.parse().doing(|| "measure the log".to_owned()) };
        while bytes()? < self.wal_mib << 20 {
            server.pgbench(&["-n", "-c", "4", "-j", "2", "-T", "3"])?;
        }
        let time = server.sql("SELECT clock_timestamp()")?;
        let fingerprint = server.fingerprint()?;
        std::thread::sleep(Duration::from_secs(1));
        // The goal is reached where a later transaction is found.
        server.pgbench(&["-n", "-c", "1", "-t", "100"])?;
        let log = Log {
            bytes: bytes()?,
            last: server.sql("SELECT pg_walfile_name(pg_current_wal_lsn())")?,
            end: server.sql("SELECT pg_current_wal_lsn()")?,
            time,
            fingerprint,
        };
        server.sql("SELECT pg_switch_wal()")?;
        server.set("max_wal_size", "1GB")?;
        Ok(log)
    }

    /// Archives the log with each tool as the server does it, one segment after the other, from a standing backlog.
    pub fn archive(&mut self) -> Result<()> {
        let log = match &self.state.log {
            Some(log) => log.clone(),
            None => self.make_log()?,
        };
        self.state.log = Some(log.clone());
        let server = self.cluster.server.clone();
        let step = "archive_command";
        for at in self.order(step) {
            server.set("archive_command", "")?;
            std::thread::sleep(Duration::from_secs(1));
            let bytes = self.make_ready(&log)?;
            rustix::fs::sync();
            let began = Instant::now();
            let tool = &self.tools[at];
            tool.take_log()?;
            self.wait_archived()?;
            let archived = began.elapsed();
            if let Some(mut tidy) = self.tools[at].tidy_log() {
                super::Server::output(&mut tidy)?;
            }
            let name = self.tools[at].name.name();
            let cost = |wall| Cost {
                wall,
                ..Cost::default()
            };
            self.note(Piece::Archive, step, name, cost(archived), bytes, 0);
            if self.tools[at].tidy_log().is_some() {
                let whole = began.elapsed();
                self.note(Piece::Archive, "and compressed", name, cost(whole), bytes, 0);
            }
        }
        server.set("archive_command", "/bin/true")
    }

    /// Has the server archive the log again from where the newest backups begin. Gives its bytes.
    fn make_ready(&self, log: &Log) -> Result<u64> {
        let wal = self.cluster.server.data.join("pg_wal");
        let status = wal.join("archive_status");
        let mut bytes = 0;
        let entries = fs::read_dir(&wal).doing(|| format!("look into {}", wal.display()))?;
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_segment = name.len() == 24 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
            if !is_segment || name < self.state.first_segment || name > log.last {
                continue;
            }
            bytes += entry.metadata().map_or(0, |meta| meta.len());
            let done = status.join(format!("{name}.done"));
            if done.exists() {
                fs::rename(&done, status.join(format!("{name}.ready")))
                    .doing(|| format!("have {name} archived again"))?;
            }
        }
        Ok(bytes)
    }

    /// Restores to the end of the log, and replays it.
    pub fn recover(&mut self) -> Result<()> {
        let Some(log) = self.state.log.clone() else {
            return Err(Failure::new(
                "there is no log yet: run the piece `archive` before",
            ));
        };
        let step = "recover";
        for at in self.order(step) {
            let name = self.tools[at].name;
            if let Err(failure) = self.recover_one(at, &log, None) {
                self.note_failure(step, name, &failure);
            }
        }
        // The bound: the same backup, with a log that only has to be copied.
        if let Some(at) = self.tools.iter().position(|tool| tool.name == ToolName::Relight) {
            let wal = self.cluster.server.data.join("pg_wal");
            let copy = format!("cp {}/%f %p", wal.display());
            self.recover_one(at, &log, Some(&copy))?;
        }
        let _ = fs::remove_dir_all(self.root.join("restored"));
        Ok(())
    }

    fn recover_one(&mut self, at: usize, log: &Log, fetch: Option<&str>) -> Result<()> {
        let restored = self.restored();
        let name = match fetch {
            Some(_) => "cp",
            None => self.tools[at].name.name(),
        };
        // Barman takes no offset.
        let cost = self.restore_one(at, &restored, Goal::Time(&log.time), fetch)?;
        let began = Instant::now();
        let replayed = restored.start(&START).and_then(|()| restored.wait_recovered());
        let replay = began.elapsed();
        let same = replayed.and_then(|()| self.compare(&restored, &log.fingerprint));
        restored.stop_if_running()?;
        same?;
        let bytes = self.state.cluster_bytes + log.bytes;
        let wall = |wall| Cost {
            wall,
            ..Cost::default()
        };
        if fetch.is_none() {
            self.note(Piece::Recover, "restore command", name, cost, bytes, 0);
            let whole = wall(cost.wall + replay);
            self.note(Piece::Recover, "until the time is reached", name, whole, bytes, 0);
        }
        self.note(Piece::Recover, "of it replay", name, wall(replay), log.bytes, 0);
        Ok(())
    }

    /// Receives the log by the replication protocol, from a standing backlog.
    pub fn receive(&mut self) -> Result<()> {
        let Some(log) = self.state.log.clone() else {
            return Err(Failure::new(
                "there is no log yet: run the piece `archive` before",
            ));
        };
        for (name, slot) in SLOTS {
            let Some(tool) = self.tools.iter().find(|tool| tool.name == name) else {
                continue;
            };
            // Into a repository without the log.
            tool.make()?;
            self.cluster.server.set("archive_command", "/bin/true")?;
            let mut command = tool.receive();
            let server = &self.cluster.server;
            rustix::fs::sync();
            let began = Instant::now();
            let output = fs::File::create(self.root.join(format!("{}-receive.log", name.name())))
                .doing(|| "make a log".to_owned())?;
            let mut child = command
                .stdin(Stdio::null())
                .stderr(output.try_clone().doing(|| "share a log".to_owned())?)
                .stdout(output)
                .spawn()
                .doing(|| "start the receiver".to_owned())?;
            let arrived = format!(
                "SELECT coalesce(max(flush_lsn) >= '{}', false) FROM pg_stat_replication",
                log.end
            );
            let mut outcome = Ok(());
            while server.sql(&arrived)? != "t" {
                let ended = child.try_wait().doing(|| "look after the receiver".to_owned())?;
                if ended.is_some() || began.elapsed() > Duration::from_secs(900) {
                    outcome = Err(Failure::new(format!(
                        "the receiver does not get there: {ended:?}"
                    )));
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            let wall = began.elapsed();
            end(&mut child);
            server.sql(&format!("SELECT pg_drop_replication_slot('{slot}')"))?;
            let cost = Cost {
                wall,
                ..Cost::default()
            };
            match outcome {
                Ok(()) => self.note(Piece::Receive, "receiver", name.name(), cost, log.bytes, 0),
                Err(failure) => self.note_failure("receiver", name, &failure),
            }
        }
        Ok(())
    }
}

/// Asks a process to end, and waits for it.
fn end(child: &mut Child) {
    let _ = Command::new("kill").arg(child.id().to_string()).status();
    let _ = child.wait();
    // Its connection is closed a moment later.
    std::thread::sleep(Duration::from_secs(1));
}
