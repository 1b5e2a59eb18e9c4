//! Runs a program so that it cannot reach the network, the sockets or the files of this machine: in namespaces of its own
//! (network, mounts, processes, System V IPC, host name), made by `unshare` of util-linux.
//!
//! The program is started only after this process has seen, from outside, that it is isolated. Whatever it starts ends with
//! it, and it ends with the thread that started it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use relight_repo::RepoError;
use rustix::process::{Pid, Signal};

use crate::error::{Result, WorkloadError};

/// Names the sandbox in the environment of everything that runs in it: by this, what a killed server left is found.
pub const SANDBOX: &str = "RELIGHT_SANDBOX";

/// What runs in the namespaces first.
const GATE: &str = include_str!("gate.sh");
/// So long may it take until the namespaces are there.
const READY: Duration = Duration::from_secs(30);
/// How often it is looked whether something has happened.
const LOOK: Duration = Duration::from_millis(20);
/// So much of the end of the output is kept, in bytes.
const TAIL: usize = 16 << 10;

/// A program to be run.
#[derive(Debug, Clone)]
pub struct Isolated {
    program: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    sandbox: PathBuf,
    user: Option<(u32, u32)>,
}

impl Isolated {
    /// A program that may only write below `sandbox`, which is its working directory.
    pub fn new(program: impl AsRef<OsStr>, sandbox: &Path) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            sandbox: sandbox.to_owned(),
            user: None,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        let arguments = arguments.into_iter().map(|argument| argument.as_ref().to_owned());
        self.arguments.extend(arguments);
        self
    }

    /// Sets a variable of its environment, which is empty otherwise but for `PATH`, `HOME`, `LANG` and [`SANDBOX`]: what
    /// this process was given (keys, passwords) is not for it.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment
            .push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Runs it as this user and group, without any other group. Only root can.
    #[must_use]
    pub const fn user(mut self, user: u32, group: u32) -> Self {
        self.user = Some((user, group));
        self
    }

    /// Starts it, when it is certain that it is isolated.
    ///
    /// # Errors
    /// [`WorkloadError::NotIsolated`] with the reason; nothing of the program ran then.
    pub fn start(&self) -> Result<Running> {
        let sandbox = fs::canonicalize(&self.sandbox).map_err(|source| WorkloadError::Io {
            action: "find",
            path: self.sandbox.clone(),
            source,
        })?;
        if sandbox.starts_with("/run") {
            return Err(not(format!(
                "the sandbox {} lies below /run, which is hidden from what runs in it: choose another folder",
                sandbox.display()
            )));
        }
        let is_root = rustix::process::geteuid().is_root();
        let mut command = self.command(&sandbox, is_root);
        let child = command
            .spawn()
            .map_err(|error| not(format!("start unshare (Debian package util-linux): {error}")))?;
        let mut running = Running::new(child);
        running.wait_until_isolated(&sandbox, is_root)?;
        running.release()?;
        Ok(running)
    }

    fn command(&self, sandbox: &Path, is_root: bool) -> Command {
        // The death signal comes first: it outlives the programs that are started one by another.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "unshare"]);
        if !is_root {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["--net", "--ipc", "--uts", "--mount", "--pid", "--fork"]);
        command.args([
            "--kill-child=KILL",
            "--mount-proc",
            "--",
            "/bin/sh",
            "-c",
            GATE,
            "relight-gate",
        ]);
        command.arg(sandbox).arg(if is_root { "yes" } else { "no" });
        if let Some((user, group)) = self.user {
            command.arg("setpriv").arg(format!("--reuid={user}"));
            command.arg(format!("--regid={group}"));
            command.args(["--clear-groups", "--no-new-privs", "--"]);
        }
        command.arg(&self.program).args(&self.arguments);
        command.env_clear();
        command.env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        );
        command.env("LANG", "C.UTF-8").env("HOME", sandbox);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.env(SANDBOX, sandbox).current_dir(sandbox);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

fn not(why: impl Into<String>) -> WorkloadError {
    WorkloadError::NotIsolated(why.into())
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this status.
    Status(ExitStatus),
    /// It ran for too long, and was killed.
    TimedOut,
}

impl Ended {
    /// Whether it ended well.
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Status(status) if status.success())
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(status) => match (status.code(), status.signal()) {
                (Some(code), _) => write!(f, "it ended with exit code {code}"),
                (None, Some(signal)) => write!(f, "it was ended by signal {signal}"),
                (None, None) => f.write_str("it ended"),
            },
            Self::TimedOut => f.write_str("it ran for too long and was killed"),
        }
    }
}

/// A program that runs. Dropping it kills it, and all that it started.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// The first process in the namespaces: all others in there end with it.
    first: Option<Pid>,
    output: Arc<Mutex<Vec<u8>>>,
    readers: Vec<JoinHandle<()>>,
    ended: Option<ExitStatus>,
}

impl Running {
    fn new(mut child: Child) -> Self {
        let output = Arc::new(Mutex::new(Vec::new()));
        let mut readers = Vec::new();
        if let Some(stream) = child.stdout.take() {
            readers.push(keep_tail(stream, output.clone()));
        }
        if let Some(stream) = child.stderr.take() {
            readers.push(keep_tail(stream, output.clone()));
        }
        Self {
            child,
            first: None,
            output,
            readers,
            ended: None,
        }
    }

    /// The end of what it has written so far, to standard output and standard error.
    pub fn output(&self) -> Vec<u8> {
        let output = self.output.lock();
        output.unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// How it ended, if it did.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().map_err(|source| WorkloadError::Io {
                action: "wait for",
                path: "unshare".into(),
                source,
            })?;
        }
        Ok(self.ended)
    }

    /// Waits until it ends. After `timeout`, or when `cancelled` becomes true, it is killed.
    ///
    /// # Errors
    /// It was cancelled.
    pub fn wait(&mut self, timeout: Duration, cancelled: &AtomicBool) -> Result<Ended> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.ended()? {
                self.read_to_the_end();
                return Ok(Ended::Status(status));
            }
            if cancelled.load(Ordering::Relaxed) {
                self.kill()?;
                return Err(RepoError::Cancelled.into());
            }
            if began.elapsed() >= timeout {
                self.kill()?;
                return Ok(Ended::TimedOut);
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Kills it and all that it started, and waits until they are gone.
    ///
    /// # Errors
    /// Something is left.
    pub fn kill(&mut self) -> Result<()> {
        if self.ended()?.is_some() {
            self.read_to_the_end();
            return Ok(());
        }
        // What `unshare` says about its end is not of the program.
        let said = self.output();
        match self.first {
            // The kernel ends all processes of the namespace with its first, before that one can be waited for.
            Some(first) => {
                let _ = rustix::process::kill_process(first, Signal::KILL);
            }
            None => {
                let _ = self.child.kill();
            }
        }
        let status = self.child.wait().map_err(|source| WorkloadError::Io {
            action: "end",
            path: "unshare".into(),
            source,
        })?;
        self.ended = Some(status);
        self.read_to_the_end();
        *self
            .output
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner()) = said;
        Ok(())
    }

    fn read_to_the_end(&mut self) {
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
    }

    /// Waits for the namespaces, and looks from outside whether they are what they must be.
    fn wait_until_isolated(&mut self, sandbox: &Path, protected: bool) -> Result<()> {
        let began = Instant::now();
        loop {
            if self.ended()?.is_some() {
                self.read_to_the_end();
                let said = String::from_utf8_lossy(&self.output()).trim().to_owned();
                return Err(not(format!(
                    "namespaces cannot be made here ({said}); as an ordinary user that needs user namespaces to be allowed"
                )));
            }
            if self.first.is_none() {
                self.first = only_child(self.child.id());
            }
            if let Some(first) = self.first
                && is_ready(first)
            {
                return look(first, sandbox, protected);
            }
            if began.elapsed() >= READY {
                return Err(not("the namespaces were not there in time"));
            }
            std::thread::sleep(LOOK / 4);
        }
    }

    fn release(&mut self) -> Result<()> {
        let stdin = self.child.stdin.take();
        let told = stdin.map(|mut stdin| stdin.write_all(b"go\n"));
        match told {
            Some(Ok(())) => Ok(()),
            _ => Err(not("the first process in the namespaces went away")),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            tracing::warn!(%error, "something of a drill may still be running");
        }
    }
}

fn keep_tail(mut stream: impl Read + Send + 'static, output: Arc<Mutex<Vec<u8>>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            let mut output = output.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            output.extend_from_slice(buffer.get(..count).unwrap_or_default());
            if output.len() > 2 * TAIL {
                let surplus = output.len() - TAIL;
                output.drain(..surplus);
            }
        }
    })
}

/// The one process that `parent` started.
fn only_child(parent: u32) -> Option<Pid> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    Pid::from_raw(children.split_whitespace().next()?.parse().ok()?)
}

fn of_process(process: Pid, what: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{}/{what}", process.as_raw_nonzero()))
}

/// Whether the gate has done all it does before it waits.
fn is_ready(process: Pid) -> bool {
    let mounts = fs::read_to_string(of_process(process, "mountinfo"));
    mounts.is_ok_and(|mounts| mounts.contains(" /run/.relight-ready "))
}

/// Looks from outside whether a process is isolated from this one.
fn look(process: Pid, sandbox: &Path, protected: bool) -> Result<()> {
    let read = |what: &str| {
        fs::read_to_string(of_process(process, what))
            .map_err(|error| not(format!("read its {what}: {error}")))
    };
    for namespace in ["ns/net", "ns/mnt", "ns/pid", "ns/ipc", "ns/uts"] {
        let its = fs::read_link(of_process(process, namespace));
        let own = fs::read_link(Path::new("/proc/self").join(namespace));
        match (its, own) {
            (Ok(its), Ok(own)) if its != own => {}
            _ => return Err(not(format!("it has no {namespace} of its own"))),
        }
    }
    let interfaces = read("net/dev")?;
    let others = interfaces
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, _)| name.trim())
        // Tunnels that the kernel puts into every namespace, down and without addresses.
        .find(|name| {
            !matches!(
                *name,
                "lo" | "sit0"
                    | "ip6tnl0"
                    | "tunl0"
                    | "gre0"
                    | "gretap0"
                    | "erspan0"
                    | "ip_vti0"
                    | "ip6_vti0"
                    | "ip6gre0"
            )
        });
    if let Some(name) = others {
        return Err(not(format!("it has a network interface {name}")));
    }
    if protected {
        let mounts = read("mountinfo")?;
        if let Some(place) = mounts.lines().find_map(|line| writable(line, sandbox)) {
            return Err(not(format!("{place} could be written to")));
        }
    }
    Ok(())
}

/// The mount point of a line of `/proc/PID/mountinfo` (see proc(5)), if what is mounted there can be written to and is none of
/// what must be.
fn writable(line: &str, sandbox: &Path) -> Option<String> {
    let mut words = line.split(' ').skip(4);
    let (place, options) = (unescaped(words.next()?), words.next()?);
    let below = |base: &str| Path::new(&place).starts_with(base);
    let allowed = Path::new(&place) == sandbox || ["/run", "/proc", "/dev", "/sys"].into_iter().any(below);
    let is_read_only = options.split(',').any(|option| option == "ro");
    (!allowed && !is_read_only).then_some(place)
}

/// Spaces and the like are written as a backslash and three octal digits.
fn unescaped(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut out: Vec<u8> = parts.next().unwrap_or_default().into();
    for part in parts {
        match part
            .get(..3)
            .and_then(|digits| u8::from_str_radix(digits, 8).ok())
        {
            Some(byte) => {
                out.push(byte);
                out.extend(part.bytes().skip(3));
            }
            None => {
                out.push(b'\\');
                out.extend(part.bytes());
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, sandbox: &Path) -> (Ended, String) {
        let never = AtomicBool::new(false);
        let mut running = Isolated::new("/bin/sh", sandbox)
            .args(["-c", script])
            .start()
            .unwrap();
        let ended = running.wait(Duration::from_secs(20), &never).unwrap();
        (ended, String::from_utf8_lossy(&running.output()).into_owned())
    }

    #[test]
    fn a_program_sees_no_network_no_sockets_and_none_of_our_environment() {
        let folder = tempfile::tempdir().unwrap();
        let (ended, said) = sh("grep -c : /proc/net/dev; ls -A /run; echo $$; env", folder.path());
        assert!(ended.is_success(), "{said}");
        let lines: Vec<&str> = said.lines().take_while(|line| !line.contains('=')).collect();
        let sockets = lines[1..].iter().filter(|line| !line.contains("mount"));
        assert_eq!(sockets.collect::<Vec<_>>(), [&".relight-ready", &"1"], "{said}");
        assert!(said.contains("RELIGHT_SANDBOX=/"), "{said}");
        assert!(!said.contains("CARGO"), "{said}");
    }

    #[test]
    fn only_the_sandbox_can_be_written_to() {
        if !rustix::process::geteuid().is_root() {
            // An ordinary user is kept out by the owners of the files.
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let (sandbox, outside) = (folder.path().join("a b"), folder.path().join("outside"));
        fs::create_dir(&sandbox).unwrap();
        let script = format!(
            "touch inside; touch {}; touch /etc/relight-was-here",
            outside.display()
        );
        let (_, said) = sh(&script, &sandbox);
        assert!(sandbox.join("inside").exists(), "{said}");
        assert!(!outside.exists() && !Path::new("/etc/relight-was-here").exists());
    }

    #[test]
    fn what_it_starts_ends_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let never = AtomicBool::new(false);
        let script = "setsid sh -c 'while :; do date +%N > alive; sleep 0.05; done' & sleep 60";
        let mut running = Isolated::new("/bin/sh", folder.path())
            .args(["-c", script])
            .start()
            .unwrap();
        assert_eq!(
            running.wait(Duration::from_secs(1), &never).unwrap(),
            Ended::TimedOut
        );
        let seen = fs::read(folder.path().join("alive")).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(fs::read(folder.path().join("alive")).unwrap(), seen);
        // Cancelled from elsewhere, it ends as well.
        let mut running = Isolated::new("/bin/sleep", folder.path())
            .arg("60")
            .start()
            .unwrap();
        let stop = AtomicBool::new(true);
        assert!(
            running
                .wait(Duration::from_secs(60), &stop)
                .unwrap_err()
                .is_cancelled()
        );
    }

    #[test]
    fn mounts_that_can_be_written_to_are_found() {
        let sandbox = Path::new("/state/a b");
        let line =
            |place: &str, options: &str| format!("36 35 98:0 / {place} {options} shared:1 - ext4 /dev/x rw");
        assert_eq!(writable(&line("/", "rw,noatime"), sandbox).as_deref(), Some("/"));
        assert_eq!(writable(&line("/", "ro,noatime"), sandbox), None);
        assert_eq!(writable(&line("/state/a\\040b", "rw"), sandbox), None);
        assert_eq!(
            writable(&line("/development", "rw"), sandbox).as_deref(),
            Some("/development")
        );
        assert_eq!(writable(&line("/dev/shm", "rw"), sandbox), None);
    }
}
