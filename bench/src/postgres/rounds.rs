//! Backups and restores.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::cluster::Server;
use super::tools::{Goal, ToolName};
use super::{Lab, Piece, load, size_of};
use crate::data;
use crate::failure::{Doing, Failure, Result};
use crate::measure::{self, Cost};

/// Changes of a run: at random or side by side.
const CHANGES: [(bool, &str); 4] = [
    (true, "random 1 % of the rows"),
    (false, "contiguous 1 % of the rows"),
    (true, "random again"),
    (false, "contiguous again"),
];

impl Lab {
    /// A first backup of each tool into a new repository.
    pub fn first(&mut self) -> Result<()> {
        self.round(Piece::First, "first backup", true)
    }

    /// Backups after changes.
    pub fn changed(&mut self) -> Result<()> {
        // Five of its copies would need five times the cluster's space.
        self.tools.retain(|tool| tool.name != ToolName::BarmanCopy);
        let copies = self.root.join(ToolName::BarmanCopy.name());
        if copies.exists() {
            fs::remove_dir_all(&copies).doing(|| format!("remove {}", copies.display()))?;
        }
        for (number, (at_random, step)) in (1..).zip(CHANGES) {
            let server = &self.cluster.server;
            server.set("archive_command", "/bin/true")?;
            server.set("wal_keep_size", "0")?;
            load::change(server, at_random, number)?;
            self.settle()?;
            // A second one lets go of the log before the first.
            self.cluster.server.sql("CHECKPOINT")?;
            self.round(Piece::Changed, step, false)?;
        }
        Ok(())
    }

    /// A backup of each tool.
    fn round(&mut self, piece: Piece, step: &str, first: bool) -> Result<()> {
        let server = self.cluster.server.clone();
        self.state.first_segment = server.sql("SELECT pg_walfile_name(pg_current_wal_lsn())")?;
        server.set("wal_keep_size", "16GB")?;
        self.state.log = None;
        data::read_all(&server.data)?;
        for at in self.order(step) {
            let tool = &self.tools[at];
            let name = tool.name;
            if first {
                tool.make()?;
            } else {
                tool.take_log()?;
            }
            let folder = tool.repository();
            let before = size_of(&folder, &[])?;
            server.sql("CHECKPOINT")?;
            rustix::fs::sync();
            // Files that changed in the last seconds are read once more by the next backup of some tools.
            std::thread::sleep(Duration::from_secs(3));
            let log = self.root.join(format!("{}.log", name.name()));
            let _ = fs::remove_file(&log);
            let outcome = measure::run(&mut tool.backup(first), &log);
            match outcome {
                Err(failure) => self.note_failure(step, name, &failure),
                Ok(cost) => {
                    server.sql("SELECT pg_switch_wal()")?;
                    self.wait_archived()?;
                    let tool = &self.tools[at];
                    if let Some(mut tidy) = tool.tidy_log() {
                        Server::output(&mut tidy)?;
                    }
                    let added = size_of(&folder, &[])?.saturating_sub(before);
                    tool.keep_newest()?;
                    let bytes = self.state.cluster_bytes;
                    self.note(piece, step, name.name(), cost, bytes, added);
                }
            }
        }
        server.set("archive_command", "/bin/true")?;
        Ok(())
    }

    /// Who comes first changes from step to step.
    pub fn order(&self, step: &str) -> Vec<usize> {
        let count = self.tools.len().max(1);
        let first = step.bytes().map(usize::from).sum::<usize>() % count;
        (0..count).map(|number| (first + number) % count).collect()
    }

    /// Waits until the server has nothing left to archive.
    pub fn wait_archived(&self) -> Result<()> {
        let began = std::time::Instant::now();
        while !self.waiting()?.is_empty() {
            if began.elapsed() > Duration::from_secs(900) {
                return Err(Failure::new("the server's archiver does not come to an end"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Segments that the server has to archive.
    fn waiting(&self) -> Result<Vec<PathBuf>> {
        let folder = self.cluster.server.data.join("pg_wal/archive_status");
        let entries = fs::read_dir(&folder).doing(|| format!("look into {}", folder.display()))?;
        let paths = entries.flatten().map(|entry| entry.path());
        Ok(paths
            .filter(|path| path.extension().is_some_and(|ending| ending == "ready"))
            .collect())
    }

    /// Restores the newest backup of each tool, starts a server on it and looks what is in it.
    pub fn restore(&mut self) -> Result<()> {
        let step = "restore";
        for at in self.order(step) {
            let name = self.tools[at].name;
            let restored = self.restored();
            let outcome = self
                .restore_one(at, &restored, Goal::Consistent, None)
                .and_then(|cost| {
                    restored.start(&START)?;
                    restored.wait_recovered()?;
                    self.compare(&restored, &self.state.fingerprint)?;
                    Ok(cost)
                });
            restored.stop_if_running()?;
            match outcome {
                Ok(cost) => {
                    let bytes = self.state.cluster_bytes;
                    self.note(Piece::Restore, step, name.name(), cost, bytes, 0);
                }
                Err(failure) => self.note_failure(step, name, &failure),
            }
        }
        let _ = fs::remove_dir_all(self.root.join("restored"));
        Ok(())
    }

    /// The server that is started on what was restored.
    pub fn restored(&self) -> Server {
        let mut server = self.cluster.server.clone();
        server.data = self.root.join("restored");
        server.socket = self.root.join("restored-socket");
        server.port = 5498;
        server
    }

    /// Restores into an empty folder, with the repository out of the page cache.
    pub fn restore_one(
        &self,
        at: usize,
        restored: &Server,
        goal: Goal<'_>,
        fetch: Option<&str>,
    ) -> Result<Cost> {
        let tool = &self.tools[at];
        restored.stop_if_running()?;
        let _ = fs::remove_dir_all(&restored.data);
        let _ = fs::remove_dir_all(tool.folder.join("staging"));
        if tool.name == ToolName::Barman {
            restored.give(&tool.folder.join("staging"))?;
        }
        if tool.name != ToolName::Relight {
            restored.give(&restored.data)?;
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(&restored.data, fs::Permissions::from_mode(0o700))
                .doing(|| "set permissions".to_owned())?;
        }
        rustix::fs::sync();
        data::put_out_of_cache(&tool.folder)?;
        std::thread::sleep(Duration::from_secs(2));
        let log = self.root.join(format!("{}.log", tool.name.name()));
        measure::run(&mut tool.restore(&restored.data, goal, fetch), &log)
    }

    /// Whether the tables hold what they held.
    pub fn compare(&self, restored: &Server, wanted: &str) -> Result<()> {
        let found = restored.fingerprint()?;
        if found == wanted {
            return Ok(());
        }
        Err(Failure::new(format!(
            "the restored tables are not what they were: {} instead of {}",
            found.replace('\n', " "),
            wanted.replace('\n', " ")
        )))
    }
}

/// Settings of a server on restored files.
pub const START: [&str; 1] = ["archive_mode=off"];
