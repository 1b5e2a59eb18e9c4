//! Relight, pgBackRest and Barman: how each is set up and called.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::ValueEnum;
use relight_keys::{KeyFile, SystemEntropy};
use serde::{Deserialize, Serialize};

use super::cluster::Server;
use crate::failure::{Doing, Result};

/// One of the tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ToolName {
    Relight,
    #[value(name = "pgbackrest")]
    PgBackRest,
    /// With pg_basebackup, compressed by the server.
    Barman,
    /// With rsync, neither compressed nor encrypted: another class, for comparison.
    BarmanCopy,
}

impl ToolName {
    pub const ALL: [Self; 4] = [Self::Relight, Self::PgBackRest, Self::Barman, Self::BarmanCopy];

    pub fn name(self) -> &'static str {
        match self {
            Self::Relight => "relight",
            Self::PgBackRest => "pgbackrest",
            Self::Barman => "barman",
            Self::BarmanCopy => "barman-copy",
        }
    }
}

/// A tool with its configuration and repository.
pub struct Tool {
    pub name: ToolName,
    /// Everything of it.
    pub folder: PathBuf,
    program: PathBuf,
    server: Server,
}

/// Where a restore ends.
#[derive(Clone, Copy)]
pub enum Goal<'a> {
    /// As soon as the cluster is consistent.
    Consistent,
    /// At this time, as PostgreSQL writes it.
    Time(&'a str),
}

/// Name of the cluster in each tool.
const CLUSTER: &str = "main";

impl Tool {
    pub fn new(name: ToolName, root: &Path, relight: &Path, server: &Server) -> Self {
        let program = match name {
            ToolName::Relight => relight.to_owned(),
            ToolName::PgBackRest => PathBuf::from("pgbackrest"),
            ToolName::Barman | ToolName::BarmanCopy => PathBuf::from("barman"),
        };
        Self {
            name,
            folder: root.join(name.name()),
            program,
            server: server.clone(),
        }
    }

    /// The folder that its backups and its log are in.
    pub fn repository(&self) -> PathBuf {
        match self.name {
            ToolName::Barman | ToolName::BarmanCopy => self.folder.join("home"),
            _ => self.folder.join("repository"),
        }
    }

    pub fn version(&self) -> Result<String> {
        let version = Server::output(Command::new(&self.program).arg(match self.name {
            ToolName::PgBackRest => "version",
            _ => "--version",
        }))?;
        Ok(version.lines().next().unwrap_or_default().to_owned())
    }

    /// The program with what it always needs, run as the server's user.
    pub fn command(&self) -> Command {
        let mut command = self.server.command(&self.program);
        match self.name {
            ToolName::Relight => {
                command
                    .env("RELIGHT_REPOSITORY", self.repository())
                    .env("RELIGHT_KEY_FILE", self.folder.join("key"))
                    .env("RELIGHT_CACHE_DIR", self.folder.join("cache"));
            }
            ToolName::PgBackRest => {
                let config = self.folder.join("pgbackrest.conf");
                command.arg(format!("--config={}", config.display()));
                command.arg(format!("--stanza={CLUSTER}"));
            }
            ToolName::Barman | ToolName::BarmanCopy => {
                command.arg("-c").arg(self.folder.join("barman.conf"));
            }
        }
        command
    }

    fn connection(&self) -> String {
        let (socket, port) = (self.server.socket.display(), self.server.port);
        format!("host={socket} port={port} user=postgres dbname=postgres")
    }

    fn folders(&self, names: &[&str]) -> Result<()> {
        self.server.give(&self.folder)?;
        names
            .iter()
            .try_for_each(|name| self.server.give(&self.folder.join(name)))
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.folder.join(name);
        fs::write(&path, text).doing(|| format!("write {}", path.display()))
    }

    /// Makes an empty repository; an earlier one is removed. From then on the cluster's log goes to it.
    pub fn make(&self) -> Result<()> {
        if self.folder.exists() {
            fs::remove_dir_all(&self.folder).doing(|| format!("remove {}", self.folder.display()))?;
        }
        match self.name {
            ToolName::Relight => {
                self.folders(&["cache"])?;
                let key = KeyFile::generate(&mut SystemEntropy).doing(|| "draw a key".to_owned())?;
                let path = self.folder.join("key");
                key.create(&path).doing(|| "write the key file".to_owned())?;
                self.server.own_file(&path)?;
                Server::output(self.command().arg("init").arg(self.repository()))?;
                self.take_log()
            }
            ToolName::PgBackRest => {
                self.folders(&["repository", "lock", "spool"])?;
                self.write("pgbackrest.conf", &self.pgbackrest_conf())?;
                Server::output(self.command().args(["--no-online", "stanza-create"]))?;
                self.take_log()
            }
            ToolName::Barman | ToolName::BarmanCopy => {
                self.folders(&["home", "staging"])?;
                self.write("barman.conf", &self.barman_conf())?;
                self.folders(&["home/main", "home/main/incoming"])?;
                self.take_log()?;
                // It makes no backup before it has seen the log; a segment with nothing in it is not switched.
                self.server.sql("SELECT pg_create_restore_point('begin')")?;
                self.server.sql("SELECT pg_switch_wal()")?;
                let incoming = self.folder.join("home/main/incoming");
                for _ in 0..100 {
                    // One that is still being copied has a name with a dot before it.
                    let whole = |entry: fs::DirEntry| !entry.file_name().as_encoded_bytes().starts_with(b".");
                    if fs::read_dir(&incoming).is_ok_and(|entries| entries.flatten().any(whole)) {
                        break;
                    }
                    std::thread::sleep(std::time::Duration::from_millis(100));
                }
                Server::output(self.command().args(["archive-wal", CLUSTER])).map(|_| ())
            }
        }
    }

    fn pgbackrest_conf(&self) -> String {
        let (own, data, socket) = (
            self.folder.display(),
            self.server.data.display(),
            self.server.socket.display(),
        );
        format!(
            "[global]\nrepo1-path={own}/repository\nrepo1-cipher-type=aes-256-cbc\nrepo1-cipher-pass=benchmark\n\
             repo1-retention-full=9\nrepo1-bundle=y\ncompress-type=zst\ncompress-level=1\nprocess-max=2\n\
             lock-path={own}/lock\nspool-path={own}/spool\nlog-level-file=off\nlog-level-console=warn\nstart-fast=y\n\
             archive-async=y\n[{CLUSTER}]\npg1-path={data}\npg1-port={}\npg1-socket-path={socket}\npg1-user=postgres\n",
            self.server.port
        )
    }

    fn barman_conf(&self) -> String {
        let own = self.folder.display();
        let method = match self.name {
            ToolName::BarmanCopy => "backup_method = local-rsync\nparallel_jobs = 2\nreuse_backup = link\n",
            _ => {
                "backup_method = postgres\nbackup_compression = zstd\nbackup_compression_level = 1\n\
                 backup_compression_workers = 2\nbackup_compression_location = server\n"
            }
        };
        format!(
            "[barman]\nbarman_user = postgres\nbarman_home = {own}/home\nbarman_lock_directory = {own}/home\n\
             log_file = {own}/log\nlog_level = WARNING\ncompression = custom\ncustom_compression_filter = zstd -1 -q -c\n\
             custom_decompression_filter = zstd -d -q -c\ncustom_compression_magic = 0x28b52ffd\n\
             configuration_files_directory = {own}\n[{CLUSTER}]\ndescription = main\nconninfo = {}\n\
             streaming_conninfo = {}\n{method}archiver = on\nimmediate_checkpoint = true\n\
             recovery_staging_path = {own}/staging\n\
             path_prefix = /usr/lib/postgresql/15/bin\n",
            self.connection(),
            self.connection()
        )
    }

    /// What the server calls for each segment of its log. Each is durable when it says that it is.
    pub fn archive_command(&self) -> String {
        let own = self.folder.display();
        let program = self.program.display();
        match self.name {
            ToolName::Relight => format!(
                "{program} wal-push %p -q -w {CLUSTER} -r {own}/repository --key-file {own}/key --cache-dir {own}/cache"
            ),
            ToolName::PgBackRest => {
                format!("pgbackrest --config={own}/pgbackrest.conf --stanza={CLUSTER} archive-push %p")
            }
            ToolName::Barman | ToolName::BarmanCopy => {
                let to = format!("{own}/home/main/incoming");
                format!("cp -p %p {to}/.%f && sync {to}/.%f && mv {to}/.%f {to}/%f")
            }
        }
    }

    fn is_barman(&self) -> bool {
        matches!(self.name, ToolName::Barman | ToolName::BarmanCopy)
    }

    /// From now on the server's log goes to this tool.
    pub fn take_log(&self) -> Result<()> {
        self.server.set("archive_command", &self.archive_command())
    }

    pub fn backup(&self, first: bool) -> Command {
        let mut command = self.command();
        match self.name {
            ToolName::Relight => {
                let url = self.connection();
                command.args(["postgres", "backup", CLUSTER, "--files", "--quiet", "--url", &url])
            }
            ToolName::PgBackRest => command
                .arg(if first { "--type=full" } else { "--type=incr" })
                .arg("backup"),
            ToolName::Barman | ToolName::BarmanCopy => command.args(["-q", "backup", CLUSTER]),
        };
        command
    }

    /// Has the tool look after what arrived of the log, where that does not happen by itself.
    pub fn tidy_log(&self) -> Option<Command> {
        self.is_barman().then(|| {
            let mut command = self.command();
            command.args(["archive-wal", CLUSTER]);
            command
        })
    }

    /// Each backup of Barman is whole, and five would not fit on every disk: only the newest stays.
    pub fn keep_newest(&self) -> Result<()> {
        if self.name != ToolName::Barman {
            return Ok(());
        }
        let base = self.folder.join("home/main/base");
        let mut backups: Vec<String> = fs::read_dir(&base)
            .doing(|| format!("look into {}", base.display()))?
            .flatten()
            .filter(|entry| entry.path().is_dir())
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        backups.sort();
        backups.pop();
        for old in backups {
            Server::output(self.command().args(["-q", "delete", CLUSTER, &old]))?;
        }
        Ok(())
    }

    /// What receives the log from the server.
    pub fn receive(&self) -> Command {
        if self.name == ToolName::Relight {
            let mut command = self.command();
            let url = self.connection();
            command.args(["postgres", "receive", CLUSTER, "--quiet", "--url", &url]);
            return command;
        }
        // What Barman runs; pgBackRest has nothing of the kind.
        let mut command = self.server.own("pg_receivewal");
        command
            .args(["--slot", "barman", "--no-loop", "-d"])
            .arg(self.connection());
        command.arg("-D").arg(self.folder.join("home/main"));
        command
    }

    /// Restores the newest backup. With `restore_command`, that is how the server will fetch its log.
    pub fn restore(&self, to: &Path, goal: Goal<'_>, restore_command: Option<&str>) -> Command {
        let mut command = self.command();
        match self.name {
            ToolName::Relight => {
                command
                    .args(["postgres", "restore", CLUSTER, "--quiet", "--target"])
                    .arg(to);
                match goal {
                    Goal::Consistent => command.arg("--immediate"),
                    Goal::Time(time) => command.args(["--to-time", time]),
                };
                if let Some(fetch) = restore_command {
                    command.args(["--restore-command", fetch]);
                }
            }
            ToolName::PgBackRest => {
                command.arg(format!("--pg1-path={}", to.display()));
                match goal {
                    Goal::Consistent => command.arg("--type=immediate"),
                    Goal::Time(time) => command.args(["--type=time", &format!("--target={time}")]),
                };
                command.args(["--target-action=promote", "restore"]);
            }
            ToolName::Barman | ToolName::BarmanCopy => {
                command.args(["-q", "recover", "--jobs", "2"]);
                match goal {
                    Goal::Consistent => command.arg("--target-immediate"),
                    Goal::Time(time) => command.args(["--target-time", time]),
                };
                command
                    .args(["--target-action", "promote", CLUSTER, "latest"])
                    .arg(to);
            }
        }
        command
    }
}
