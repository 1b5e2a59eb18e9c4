//! Real servers for tests. `scripts/postgres-servers` fetches them.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use relight_postgres::protocol::{Connection, Mode};
use relight_postgres::{Environment, Settings};

/// The port of every server: they only listen on sockets, each in a folder of its own, unless told otherwise.
pub const PORT: u16 = 5432;

/// Folder of a version's programs.
pub fn programs(version: u32) -> PathBuf {
    let cache = match std::env::var_os("RELIGHT_TEST_CACHE") {
        Some(cache) => PathBuf::from(cache),
        None if is_root() => "/var/cache/relight-test".into(),
        None => PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache/relight-test"),
    };
    let begin = format!("postgres-{version}.");
    let found = fs::read_dir(&cache)
        .into_iter()
        .flatten()
        .flatten()
        .find(|entry| entry.file_name().to_string_lossy().starts_with(&begin));
    match found {
        Some(entry) => entry.path().join("bin"),
        None => panic!(
            "there is no PostgreSQL {version} in {}: run scripts/postgres-servers",
            cache.display()
        ),
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// User and group that servers run as.
pub fn runner() -> (u32, u32) {
    if !is_root() {
        return (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        );
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let line = users.lines().find(|line| line.starts_with("relight-postgres:"));
    let line = line.expect("there is no user relight-postgres: run scripts/postgres-servers");
    let fields: Vec<&str> = line.split(':').collect();
    (fields[2].parse().unwrap(), fields[3].parse().unwrap())
}

/// The name of that user.
pub fn runner_name() -> String {
    let uid = runner().0.to_string();
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let line = users
        .lines()
        .find(|line| line.split(':').nth(2) == Some(&uid))
        .unwrap();
    line.split(':').next().unwrap().to_string()
}

/// A folder that the servers' user owns, thrown away at the end.
pub fn folder() -> tempfile::TempDir {
    // Paths of sockets have to be short.
    let folder = tempfile::Builder::new().prefix("rpg").tempdir_in("/tmp").unwrap();
    let (uid, gid) = runner();
    chown(folder.path(), Some(uid), Some(gid)).unwrap();
    folder
}

/// A program of a version, run as the servers' user.
pub fn command(version: u32, program: &str) -> Command {
    let mut command = Command::new(programs(version).join(program));
    let (uid, gid) = runner();
    if is_root() {
        command.uid(uid).gid(gid);
    }
    command
        .env_clear()
        .env("LC_ALL", "C")
        .env("PATH", "/usr/bin:/bin")
        .current_dir("/");
    command
}

/// Runs it and fails if it does.
pub fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// An `archive_command` that copies into a folder, where a file is whole as soon as it has its name.
pub fn archive_command(folder: &Path) -> String {
    let folder = folder.display();
    format!("cp %p {folder}/%f.new && mv {folder}/%f.new {folder}/%f")
}

/// A server, stopped at the end.
pub struct Server {
    pub version: u32,
    /// Holds everything of it.
    pub folder: tempfile::TempDir,
    /// Its data directory.
    pub data: PathBuf,
}

impl Server {
    /// A new cluster, with further lines for its configuration, started.
    pub fn start(version: u32, configuration: &str) -> Self {
        Self::with(version, &["--data-checksums"], configuration)
    }

    /// The same with further options of `initdb`.
    pub fn with(version: u32, options: &[&str], configuration: &str) -> Self {
        let folder = folder();
        let data = folder.path().join("data");
        run(command(version, "initdb")
            .args([
                "--no-sync",
                "--auth=trust",
                "--username=postgres",
                "--encoding=UTF8",
                "--locale=C",
            ])
            .args(options)
            .arg("-D")
            .arg(&data));
        let server = Self {
            version,
            folder,
            data,
        };
        server.configure(
            "fsync = off\nshared_buffers = 16MB\nmax_wal_size = 128MB\nlisten_addresses = ''\nlog_checkpoints = on\n",
        );
        server.configure(configuration);
        server.up();
        server
    }

    /// One whose data directory is there already; it is not started.
    pub fn of(version: u32, folder: tempfile::TempDir, data: PathBuf) -> Self {
        Self {
            version,
            folder,
            data,
        }
    }

    /// Adds lines to its configuration.
    pub fn configure(&self, lines: &str) {
        use std::io::Write;
        let path = self.data.join("postgresql.conf");
        let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
        writeln!(file, "{lines}").unwrap();
    }

    /// The folder of its socket.
    pub fn socket(&self) -> &Path {
        self.folder.path()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn control(&self, arguments: &[&str]) -> Output {
        command(self.version, "pg_ctl")
            .arg("-D")
            .arg(&self.data)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Starts it.
    pub fn up(&self) {
        let log = self.folder.path().join("log");
        let options = format!("-k {} -p {PORT}", self.socket().display());
        let output = self.control(&[
            "start",
            "-w",
            "-t",
            "60",
            "-l",
            &log.display().to_string(),
            "-o",
            &options,
        ]);
        assert!(output.status.success(), "{}", self.log());
    }

    /// Stops it: smart, fast or immediate.
    pub fn down(&self, mode: &str) {
        self.control(&["stop", "-w", "-m", mode]);
    }

    pub fn reload(&self) {
        assert!(self.control(&["reload"]).status.success());
    }

    pub fn promote(&self) {
        assert!(
            self.control(&["promote", "-w"]).status.success(),
            "{}",
            self.log()
        );
    }

    /// How it is reached.
    pub fn url(&self) -> String {
        format!(
            "host={} port={PORT} user=postgres dbname=postgres",
            self.socket().display()
        )
    }

    pub fn settings(&self) -> Settings {
        Settings::with(&self.url(), &Environment::default()).unwrap()
    }

    pub fn connect(&self, mode: Mode) -> Connection {
        Connection::open(&self.settings(), mode).unwrap()
    }

    /// Runs queries in the database `postgres` and gives the first value of the first result set, or nothing.
    pub fn sql(&self, sql: &str) -> String {
        let mut connection = self.connect(Mode::Queries);
        let results = connection.query(sql).unwrap();
        let last = results.iter().rev().find_map(|set| set.value());
        last.unwrap_or_default().to_string()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let begin = log.lines().count().saturating_sub(30);
            for line in log.lines().skip(begin) {
                eprintln!("server: {line}");
            }
        }
        self.down("immediate");
    }
}
