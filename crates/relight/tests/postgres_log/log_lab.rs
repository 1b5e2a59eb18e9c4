//! A repository and real servers, with `relight` run as the servers' user, who has to reach all of it.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use relight_postgres::protocol::{Connection, Mode};
use relight_postgres::{Environment, Settings};
use serde_json::Value;

use crate::lab::{self, Server};

/// A folder with a repository, its key file, caches, and the program.
pub struct LogLab {
    pub folder: tempfile::TempDir,
}

impl LogLab {
    pub fn new() -> Self {
        let folder = lab::folder();
        let lab = Self { folder };
        // Where it was built may be a place that the servers' user does not see. By another process: a file that this one
        // has open for writing cannot be run while a child inherits it.
        let copy = lab.path("relight");
        lab::run(Command::new("cp").arg(env!("CARGO_BIN_EXE_relight")).arg(&copy));
        let (uid, gid) = lab::runner();
        fs::write(lab.path("password"), "a passphrase of a repository\n").unwrap();
        chown(lab.path("password"), Some(uid), Some(gid)).unwrap();
        let path = lab.path("password").display().to_string();
        lab.ok(&["init", "--password-file", &path]);
        let key = lab.path("key").display().to_string();
        lab.ok(&["key", "add", "--password-file", &path, "--new-key-file", &key]);
        lab
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.path("relight"));
        let (uid, gid) = lab::runner();
        command
            .args(arguments)
            .uid(uid)
            .gid(gid)
            .env_clear()
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .env("RELIGHT_REPOSITORY", self.path("repo"))
            .env("RELIGHT_CACHE_DIR", self.path("cache"))
            .env("TZ", "UTC");
        if !arguments.contains(&"--password-file") {
            command.env("RELIGHT_KEY_FILE", self.path("key"));
        }
        command
    }

    #[track_caller]
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "relight {}: {error}",
            arguments.join(" ")
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// What a command prints as JSON, whatever its exit code.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.command(&[arguments, &["--json"]].concat()).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            panic!(
                "relight {}: {error}: {}",
                arguments.join(" "),
                String::from_utf8_lossy(&output.stderr)
            )
        })
    }

    /// The program with what a command of a server has to say.
    pub fn shell(&self, command: &str, rest: &str) -> String {
        let path = |name: &str| self.path(name).display().to_string();
        format!(
            "{} {command} -w main -r {} --key-file {} --cache-dir {} {rest}",
            path("relight"),
            path("repo"),
            path("key"),
            path("cache")
        )
    }

    /// Starts a receiver.
    pub fn receive(&self, url: &str, more: &[&str]) -> Receiver {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path("receive.log"))
            .unwrap();
        let child = self
            .command(&[&["postgres", "receive", "main", "--url", url], more].concat())
            .stderr(log)
            .spawn()
            .unwrap();
        Receiver(Some(child))
    }

    pub fn receive_log(&self) -> String {
        fs::read_to_string(self.path("receive.log")).unwrap_or_default()
    }

    /// A base backup without any log.
    pub fn base(&self, server: &Server, name: &str) -> PathBuf {
        let target = self.path(name);
        lab::run(
            lab::command(server.version, "pg_basebackup")
                .args(["-h", &server.socket().display().to_string(), "-U", "postgres"])
                .args(["-X", "none", "-c", "fast", "--no-manifest", "-D"])
                .arg(&target),
        );
        target
    }

    /// A server that recovers from a base backup with this restore command; not started.
    pub fn restored(&self, version: u32, base: &Path, restore: &str, more: &str) -> Server {
        let folder = lab::folder();
        let data = folder.path().join("data");
        let (uid, gid) = lab::runner();
        lab::run(
            Command::new("cp")
                .arg("-a")
                .arg(base)
                .arg(&data)
                .uid(uid)
                .gid(gid),
        );
        let server = Server::of(version, folder, data);
        server.configure(&format!(
            "restore_command = '{restore}'\narchive_mode = off\nlisten_addresses = ''\n{more}"
        ));
        let signal = server.data.join("recovery.signal");
        fs::write(&signal, "").unwrap();
        chown(&signal, Some(uid), Some(gid)).unwrap();
        server
    }
}

/// Waits until a server that recovers has ended its recovery.
pub fn wait_recovered(server: &Server) {
    wait("the end of the recovery", || {
        server.sql("SELECT pg_is_in_recovery()") == "f"
    });
}

#[track_caller]
pub fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(60) {
        if done() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("waited in vain for {what}");
}

impl Drop for LogLab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("receiver: {}", self.receive_log());
        }
    }
}

/// A receiver that runs; killed at the end.
pub struct Receiver(Option<Child>);

impl Receiver {
    /// Asks it to stop, and gives whether it ended well.
    pub fn stop(mut self) -> bool {
        let mut child = self.0.take().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        child.wait().unwrap().success()
    }

    /// Kills it.
    pub fn kill(&mut self) {
        let mut child = self.0.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Whether it ended by itself, and how.
    pub fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.0.as_mut()?.try_wait().unwrap()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Kills a server and all that belongs to it, as if its machine had lost power.
pub fn kill_server(server: &Server) {
    let file = server.data.join("postmaster.pid");
    let text = fs::read_to_string(&file).unwrap();
    let pid = text.lines().next().unwrap().trim().parse().unwrap();
    let group = rustix::process::Pid::from_raw(pid).unwrap();
    // pg_ctl makes the server the head of a group of its own.
    rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while is_alive(pid) {
        assert!(Instant::now() < deadline, "the server does not die");
        std::thread::sleep(Duration::from_millis(10));
    }
    // After a loss of power no process has this number. Here its remains have it for as long as nobody collects them (in
    // a container whose first process does not), and neither pg_ctl nor the server tells them from a server that works.
    fs::remove_file(&file).unwrap();
    for entry in fs::read_dir(server.socket()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|kind| kind == "lock") {
            fs::remove_file(path).unwrap();
        }
    }
}

/// Whether a process runs: one that has ended and was not collected does not.
fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit(')')
        .next()
        .and_then(|rest| rest.trim_start().chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}

/// Numbered transactions, one after the other, with the moment at which each was acknowledged.
#[derive(Default)]
pub struct Load {
    pub acknowledged: Mutex<Vec<(u64, Instant)>>,
}

impl Load {
    /// Makes the table.
    pub fn prepare(server: &Server) {
        server.sql("CREATE TABLE numbered (n bigint PRIMARY KEY, filling text)");
    }

    /// Runs transactions at the server until it is gone.
    pub fn run(&self, url: &str) {
        let settings = Settings::with(url, &Environment::default()).unwrap();
        let Ok(mut connection) = Connection::open(&settings, Mode::Queries) else {
            return;
        };
        loop {
            let number = self.last() + 1;
            let sql = format!("INSERT INTO numbered VALUES ({number}, repeat(md5('{number}'), 20))");
            if connection.query(&sql).is_err() {
                return;
            }
            self.acknowledged.lock().unwrap().push((number, Instant::now()));
        }
    }

    pub fn last(&self) -> u64 {
        self.acknowledged
            .lock()
            .unwrap()
            .last()
            .map_or(0, |(number, _)| *number)
    }

    /// The last transaction that was acknowledged before a moment.
    pub fn before(&self, moment: Instant) -> u64 {
        let all = self.acknowledged.lock().unwrap();
        all.iter()
            .rev()
            .find(|(_, when)| *when <= moment)
            .map_or(0, |(number, _)| *number)
    }
}

/// How many numbered transactions a server has; that none before the last is missing was checked.
#[track_caller]
pub fn count(server: &Server) -> u64 {
    let row = server.sql("SELECT count(*) || ' ' || coalesce(max(n), 0) FROM numbered");
    let (count, last) = row.split_once(' ').unwrap();
    assert_eq!(count, last, "transactions are missing in the middle");
    count.parse().unwrap()
}
