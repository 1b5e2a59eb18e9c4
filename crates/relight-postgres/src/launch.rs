//! Servers on this host: finding their programs, starting them on a data directory, and seeing how far they have come.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use relight_repo::RepoError;
use relight_workloads::kind::Work;

use crate::base::control::{self, Control, State};
use crate::base::label;
use crate::connect::{Environment, Settings};
use crate::error::{PostgresError, Result};

/// How often a server that starts is looked at.
const TICK: Duration = Duration::from_millis(100);
/// Lines of a server's log that are shown when it failed.
const LINES: usize = 12;

/// Programs of one version of PostgreSQL, and the user that runs them.
#[derive(Debug, Clone)]
pub struct Programs {
    directory: PathBuf,
    owner: Option<(u32, u32)>,
}

impl Programs {
    /// Those of a major version: in `given`, or where distributions put them.
    ///
    /// # Errors
    /// They are not there, are of another version, or would have to run as root.
    pub fn find(major: u32, given: Option<&Path>, owner: Option<(u32, u32)>) -> Result<Self> {
        if owner.is_none() && rustix::process::geteuid().is_root() {
            return Err(PostgresError::Refused(
                "PostgreSQL does not run as root: name the user that it shall run as with --user".into(),
            ));
        }
        let places = match given {
            Some(directory) => vec![directory.to_path_buf()],
            None => {
                let path = std::env::var_os("PATH").unwrap_or_default();
                let known = [
                    format!("/usr/lib/postgresql/{major}/bin"),
                    format!("/usr/pgsql-{major}/bin"),
                    format!("/opt/postgresql/{major}/bin"),
                ];
                known
                    .into_iter()
                    .map(PathBuf::from)
                    .chain(std::env::split_paths(&path))
                    .collect()
            }
        };
        let mut other = None;
        for directory in places {
            let programs = Self { directory, owner };
            match programs.major() {
                Some(found) if found == major => return Ok(programs),
                Some(found) => other = other.or(Some((found, programs.directory))),
                None => {}
            }
        }
        let found = other.map_or(String::new(), |(found, directory)| {
            format!(" (in {} is version {found})", directory.display())
        });
        Err(PostgresError::Refused(format!(
            "the programs of PostgreSQL {major} are not on this host{found}: install them, or name their folder with --bin"
        )))
    }

    fn major(&self) -> Option<u32> {
        let output = self.command("postgres").arg("--version").output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        let version = text.trim().strip_prefix("postgres (PostgreSQL) ")?;
        let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    }

    /// A program, to be run as the user. It gets nothing of this process' environment that could be a secret.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.directory.join(program));
        command
            .env_clear()
            .env("LC_ALL", "C.UTF-8")
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .current_dir("/")
            .stdin(Stdio::null());
        if let (Some((user, group)), true) = (self.owner, rustix::process::geteuid().is_root()) {
            command.uid(user).gid(group);
        }
        command
    }

    /// Where a program is.
    pub fn path(&self, program: &str) -> PathBuf {
        self.directory.join(program)
    }

    /// User and group.
    pub fn owner(&self) -> Option<(u32, u32)> {
        self.owner
    }
}

/// What a server has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// It works.
    InProduction,
    /// It follows its primary.
    Standby,
    /// It waits at its goal.
    Paused,
    /// It stopped at its goal.
    ShutDown,
}

/// Starts a server that goes on running, and waits until recovery has come to its goal.
///
/// # Errors
/// It stopped before, with the last words of its log.
pub fn start(programs: &Programs, directory: &Path, log: &Path, work: &Work) -> Result<Reached> {
    crate::restore::make_file(log, programs.owner())?;
    let log_out = fs::OpenOptions::new()
        .append(true)
        .open(log)
        .map_err(PostgresError::io("write", log))?;
    let log_error = log_out.try_clone().map_err(PostgresError::io("write", log))?;
    let begun = fs::metadata(log).map_or(0, |meta| meta.len());
    let mut child = programs
        .command("postgres")
        .arg("-D")
        .arg(directory)
        .stdout(log_out)
        .stderr(log_error)
        .process_group(0)
        .spawn()
        .map_err(PostgresError::io("start a server on", directory))?;
    wait(&mut child, directory, log, begun, work)
}

fn wait(child: &mut Child, directory: &Path, log: &Path, begun: u64, work: &Work) -> Result<Reached> {
    loop {
        let ended = child
            .try_wait()
            .map_err(PostgresError::io("wait for the server on", directory))?;
        if let Some(status) = ended {
            if status.success() && state(directory) == Some(State::ShutDownInRecovery) {
                return Ok(Reached::ShutDown);
            }
            return Err(stopped(&said(log, begun)));
        }
        if let Some(reached) = look(directory, Some(child.id())) {
            return Ok(reached);
        }
        if said(log, begun).contains("pausing at the end of recovery") {
            return Ok(Reached::Paused);
        }
        if work.is_cancelled() {
            // SIGINT: a fast shutdown.
            if let Some(pid) = rustix::process::Pid::from_raw(child.id().cast_signed()) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
            }
            let _ = child.wait();
            return Err(RepoError::Cancelled.into());
        }
        std::thread::sleep(TICK);
    }
}

fn state(directory: &Path) -> Option<State> {
    let bytes = fs::read(directory.join(control::PATH)).ok()?;
    Some(Control::parse(&bytes).ok()?.state)
}

/// Whether recovery is over. At first the control file is that of the backup, which says that the original worked; then
/// the label and the signal are still there.
fn has_recovered(directory: &Path) -> bool {
    let is_there = |name: &str| directory.join(name).exists();
    !is_there(label::PATH) && !is_there("recovery.signal") && state(directory) == Some(State::InProduction)
}

/// Whether the server accepts connections (PostgreSQL source, `utils/pidfile.h`: the process in the first line, the state
/// in the eighth). It may still recover.
fn is_ready(directory: &Path, process: Option<u32>) -> bool {
    let text = fs::read_to_string(directory.join("postmaster.pid")).unwrap_or_default();
    let mut lines = text.lines().map(str::trim);
    let first = lines.next().and_then(|line| line.parse::<u32>().ok());
    first.is_some() && (process.is_none() || process == first) && lines.nth(6) == Some("ready")
}

/// Whether the server on a data directory has come to an end of its recovery and works. In namespaces of its own it knows
/// its process by another number.
pub(crate) fn look(directory: &Path, process: Option<u32>) -> Option<Reached> {
    if !is_ready(directory, process) {
        return None;
    }
    if directory.join("standby.signal").exists() {
        return Some(Reached::Standby);
    }
    has_recovered(directory).then_some(Reached::InProduction)
}

/// A server that said this and stopped.
pub(crate) fn stopped(said: &str) -> PostgresError {
    let not_reached = said.contains("recovery ended before configured recovery target was reached");
    let lines: Vec<&str> = said.lines().collect();
    let tail = lines[lines.len().saturating_sub(LINES)..].join("\n  ");
    let what = if not_reached {
        "the goal was not reached: the log ended before it. The server stopped, and did not begin to work"
    } else {
        "the server stopped before it had recovered"
    };
    PostgresError::Refused(format!("{what}. Its log says:\n  {tail}"))
}

/// What was written to a log since.
fn said(log: &Path, begun: u64) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let new = bytes.get(begun as usize..).unwrap_or_default();
    String::from_utf8_lossy(new).into_owned()
}

/// Settings of a server that only its own socket leads to and that reaches nothing that the original works with.
pub(crate) fn sandbox_settings(folder: &Path, rules: &Path) -> Vec<(&'static str, String)> {
    let fixed = [
        ("listen_addresses", ""),
        ("external_pid_file", ""),
        ("ssl", "off"),
        ("logging_collector", "off"),
        ("log_destination", "stderr"),
        ("log_min_messages", "warning"),
        ("cluster_name", "relight sandbox"),
        ("archive_mode", "off"),
        ("primary_conninfo", ""),
        ("max_logical_replication_workers", "0"),
        ("synchronous_standby_names", ""),
        ("autovacuum", "off"),
        ("huge_pages", "off"),
        ("shared_buffers", "128MB"),
        // It is thrown away.
        ("fsync", "off"),
        ("full_page_writes", "off"),
    ];
    let mut settings: Vec<(&str, String)> = fixed
        .into_iter()
        .map(|(key, value)| (key, value.to_string()))
        .collect();
    settings.push(("unix_socket_directories", folder.display().to_string()));
    settings.push(("hba_file", rules.display().to_string()));
    settings.push(("port", SANDBOX_PORT.to_string()));
    settings
}

/// Settings of a connection by such a socket. Nothing of this process' environment gets into it.
pub(crate) fn socket_settings(folder: &Path, user: &str, database: &str) -> Result<Settings> {
    let quoted = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
    let text = format!(
        "host={} port={SANDBOX_PORT} user={} dbname={}",
        quoted(&folder.display().to_string()),
        quoted(user),
        quoted(database)
    );
    Settings::with(&text, &Environment::default())
}

/// A server for a short time, isolated: nobody but who may enter its folder can reach it. Stopped when it is dropped.
pub struct Sandbox {
    child: Child,
    /// The folder of its socket.
    pub socket: PathBuf,
    /// Its log.
    pub log: PathBuf,
}

/// The port in the name of a sandbox's socket.
pub const SANDBOX_PORT: u16 = 5432;

impl Sandbox {
    /// Starts a server on `directory`. Its socket, rules and log lie in `folder`, which has to be writable for its user
    /// and should be closed to others.
    pub fn start(programs: &Programs, directory: &Path, folder: &Path) -> Result<Self> {
        let (log, rules) = (folder.join("server.log"), folder.join("rules.conf"));
        for path in [&log, &rules] {
            crate::restore::make_file(path, programs.owner())?;
        }
        fs::write(&rules, "local all all trust\n").map_err(PostgresError::io("write", &rules))?;
        let out = fs::OpenOptions::new()
            .append(true)
            .open(&log)
            .map_err(PostgresError::io("write", &log))?;
        let error = out.try_clone().map_err(PostgresError::io("write", &log))?;
        let mut command = programs.command("postgres");
        command.arg("-D").arg(directory);
        for (key, value) in sandbox_settings(folder, &rules) {
            command.arg("-c").arg(format!("{key}={value}"));
        }
        let child = command
            .stdout(out)
            .stderr(error)
            .process_group(0)
            .spawn()
            .map_err(PostgresError::io("start a server on", directory))?;
        Ok(Self {
            child,
            socket: folder.to_path_buf(),
            log,
        })
    }

    /// Waits until recovery has come to its goal.
    pub fn wait(&mut self, directory: &Path, work: &Work) -> Result<Reached> {
        wait(&mut self.child, directory, &self.log, 0, work)
    }

    /// Settings of a connection to it.
    ///
    /// # Errors
    /// The path of its socket is too long.
    pub fn settings(&self, user: &str, database: &str) -> Result<Settings> {
        socket_settings(&self.socket, user, database)
    }

    /// Stops it in good order, so that its data directory can be looked at.
    pub fn stop(&mut self) -> Result<()> {
        self.end(rustix::process::Signal::INT, Duration::from_secs(120))
    }

    fn end(&mut self, signal: rustix::process::Signal, patience: Duration) -> Result<()> {
        let began = Instant::now();
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id().cast_signed())
            && matches!(self.child.try_wait(), Ok(None))
        {
            let _ = rustix::process::kill_process(pid, signal);
        }
        while matches!(self.child.try_wait(), Ok(None)) {
            if began.elapsed() > patience {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return Err(PostgresError::Refused(
                    "the server of the sandbox did not stop in time and was killed".into(),
                ));
            }
            std::thread::sleep(TICK);
        }
        Ok(())
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // SIGQUIT: an immediate shutdown of all its processes.
        let _ = self.end(rustix::process::Signal::QUIT, Duration::from_secs(20));
    }
}
