//! A PostgreSQL server, and the cluster that is backed up.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::load;
use crate::failure::{Doing, Failure, Result};

/// A server: its programs, its data directory, and where it is reached.
#[derive(Clone, Debug)]
pub struct Server {
    programs: PathBuf,
    pub data: PathBuf,
    pub socket: PathBuf,
    pub port: u16,
    /// User and group that it runs as: it refuses to be root.
    owner: Option<(u32, u32)>,
}

/// The cluster that is backed up.
pub struct Cluster {
    pub server: Server,
}

/// Its settings. Statistics and cleaning would change files while tools are compared; `fsync` is about crashes of the
/// machine, which this cluster need not survive.
const SETTINGS: &str = "listen_addresses = ''\nshared_buffers = 1GB\nmax_wal_size = 1GB\nwal_recycle = off\ncheckpoint_timeout = 1h\n\
                        autovacuum = off\nfsync = off\nsynchronous_commit = off\nwal_level = replica\nmax_wal_senders = 8\n\
                        max_replication_slots = 8\narchive_mode = on\narchive_command = '/bin/true'\n\
                        log_min_messages = warning\n";

impl Server {
    pub fn new(programs: &Path, data: &Path, socket: &Path, port: u16) -> Result<Self> {
        let owner = if rustix::process::geteuid().is_root() {
            Some(owner()?)
        } else {
            None
        };
        Ok(Self {
            programs: programs.to_owned(),
            data: data.to_owned(),
            socket: socket.to_owned(),
            port,
            owner,
        })
    }

    /// A program, to be run as the server's user.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        if let Some((user, group)) = self.owner {
            command.uid(user).gid(group);
        }
        command
            .current_dir("/")
            .env("HOME", self.data.parent().unwrap_or(&self.data));
        command
    }

    /// One of its own programs.
    pub fn own(&self, program: &str) -> Command {
        self.command(self.programs.join(program))
    }

    /// Makes a folder that belongs to the server's user, or gives it to it.
    pub fn give(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).doing(|| format!("create {}", folder.display()))?;
        self.own_file(folder)
    }

    /// Gives a file to the server's user.
    pub fn own_file(&self, file: &Path) -> Result<()> {
        match self.owner {
            Some((user, group)) => std::os::unix::fs::chown(file, Some(user), Some(group))
                .doing(|| format!("give {} to the server's user", file.display())),
            None => Ok(()),
        }
    }

    /// Runs a command to its end and gives what it printed.
    pub fn output(command: &mut Command) -> Result<String> {
        let name = command.get_program().to_string_lossy().into_owned();
        let output = command
            .stdin(Stdio::null())
            .output()
            .doing(|| format!("start {name}"))?;
        if !output.status.success() {
            let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
            return Err(Failure::new(format!(
                "{name} {} failed: {}{}",
                words.join(" "),
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            )));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    pub fn version(&self) -> Result<String> {
        Self::output(self.own("postgres").arg("--version"))
    }

    fn psql(&self) -> Command {
        let mut command = self.own("psql");
        command.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", "postgres", "-h"]);
        command.arg(&self.socket).args(["-p", &self.port.to_string()]);
        command
    }

    pub fn sql(&self, sql: &str) -> Result<String> {
        Self::output(self.psql().args(["-c", sql]))
    }

    /// Runs `COPY … FROM STDIN` with what `write` writes.
    pub fn copy(
        &self,
        sql: &str,
        write: impl FnOnce(&mut dyn std::io::Write) -> std::io::Result<()>,
    ) -> Result<()> {
        let mut child = self
            .psql()
            .args(["-c", sql])
            .stdin(Stdio::piped())
            .spawn()
            .doing(|| "start psql".to_owned())?;
        if let Some(input) = child.stdin.take() {
            let mut input = std::io::BufWriter::with_capacity(1 << 20, input);
            write(&mut input).doing(|| format!("send rows to {sql}"))?;
            std::io::Write::flush(&mut input).doing(|| format!("send rows to {sql}"))?;
        }
        let status = child.wait().doing(|| "wait for psql".to_owned())?;
        if status.success() {
            Ok(())
        } else {
            Err(Failure::new(format!("{sql}: {status}")))
        }
    }

    pub fn pgbench(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.own("pgbench");
        command.arg("-h").arg(&self.socket);
        command.args(["-p", &self.port.to_string()]).args(arguments);
        Self::output(command.arg("postgres"))
    }

    pub fn is_running(&self) -> bool {
        let mut command = self.own("pg_ctl");
        command.arg("-D").arg(&self.data).arg("status");
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }

    /// Starts it with these settings beside its own, and waits until it takes connections.
    pub fn start(&self, settings: &[&str]) -> Result<()> {
        self.give(&self.socket)?;
        let mut words = format!("-k {} -p {}", self.socket.display(), self.port);
        for setting in settings {
            words.push_str(&format!(" -c {setting}"));
        }
        let log = self.socket.join("log");
        let _ = fs::remove_file(&log);
        let mut command = self.own("pg_ctl");
        command.arg("-D").arg(&self.data);
        command.args(["-s", "-w", "-t", "600", "-o", &words, "-l"]);
        command.arg(&log).arg("start");
        Self::output(&mut command).map(|_| ()).map_err(|failure| {
            Failure::new(format!(
                "{failure}\n{}",
                fs::read_to_string(&log).unwrap_or_default()
            ))
        })
    }

    pub fn stop(&self) -> Result<()> {
        let mut command = self.own("pg_ctl");
        command.arg("-D").arg(&self.data);
        Self::output(command.args(["-s", "-w", "-t", "600", "-m", "fast", "stop"])).map(|_| ())
    }

    pub fn stop_if_running(&self) -> Result<()> {
        if self.is_running() { self.stop() } else { Ok(()) }
    }

    /// Waits until its recovery has ended.
    pub fn wait_recovered(&self) -> Result<()> {
        let began = Instant::now();
        let log = || fs::read_to_string(self.socket.join("log")).unwrap_or_default();
        let ended = |failure| Failure::new(format!("{failure}\n{}", log()));
        while self.sql("SELECT pg_is_in_recovery()").map_err(ended)? == "t" {
            if began.elapsed() > Duration::from_secs(1800) {
                return Err(Failure::new("the recovery does not end"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Sets something for good.
    pub fn set(&self, name: &str, value: &str) -> Result<()> {
        self.sql(&format!(
            "ALTER SYSTEM SET {name} = '{}'",
            value.replace('\'', "''")
        ))?;
        self.sql("SELECT pg_reload_conf()")?;
        Ok(())
    }

    /// Counts and sums over all rows: another state of the tables has others.
    pub fn fingerprint(&self) -> Result<String> {
        self.sql(
            "SELECT count(*), sum(abalance), sum(hashtextextended(filler, 0)) FROM pgbench_accounts UNION ALL \
             SELECT count(*), sum(kind), sum(hashtextextended(body, length(payload))) FROM wide UNION ALL \
             SELECT count(*), sum(delta), 0 FROM pgbench_history",
        )
    }
}

impl Cluster {
    /// Makes it: half of it is pgbench's tables, half a table of wide rows.
    pub fn make(&self, mib: u64) -> Result<()> {
        let server = &self.server;
        let mut command = server.own("initdb");
        command.args([
            "-k",
            "-A",
            "trust",
            "-U",
            "postgres",
            "-E",
            "UTF8",
            "--locale=C",
            "-D",
        ]);
        Server::output(command.arg(&server.data))?;
        let path = server.data.join("postgresql.conf");
        let conf = fs::read_to_string(&path).doing(|| format!("read {}", path.display()))?;
        fs::write(&path, conf + SETTINGS).doing(|| format!("write {}", path.display()))?;
        server.start(&[])?;
        load::fill(server, mib << 20)?;
        server.sql("VACUUM (FREEZE, ANALYZE)")?;
        server.sql("CHECKPOINT")?;
        Ok(())
    }
}

/// User and group of PostgreSQL's own user.
fn owner() -> Result<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd").doing(|| "read /etc/passwd".to_owned())?;
    let found = users.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        (fields.first() == Some(&"postgres"))
            .then(|| Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?)))
            .flatten()
    });
    found.ok_or_else(|| Failure::new("there is no user postgres: install postgresql-15"))
}
