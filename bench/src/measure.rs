//! Runs a command and takes what the kernel charged it with.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::mem::MaybeUninit;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::failure::{Doing, Failure, Result};

/// What one or several commands cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// From start to end.
    pub wall: Duration,
    /// Processor time in user mode, of the command and all its waited-for children.
    pub user: Duration,
    /// Processor time in the kernel, likewise.
    pub system: Duration,
    /// The largest resident set of any of the processes, in bytes.
    pub peak_rss: u64,
}

impl Cost {
    /// The cost of one command after the other.
    pub fn then(self, next: Self) -> Self {
        Self {
            wall: self.wall + next.wall,
            user: self.user + next.user,
            system: self.system + next.system,
            peak_rss: self.peak_rss.max(next.peak_rss),
        }
    }
}

/// Runs `command` to its end with its output in the file `log`, and says what it cost.
///
/// # Errors
///
/// When it cannot be started, or ends with anything but success; the end of its output is in the error.
pub fn run(command: &mut Command, log: &Path) -> Result<Cost> {
    let output = File::options()
        .create(true)
        .append(true)
        .read(true)
        .open(log)
        .doing(|| format!("open the log {}", log.display()))?;
    let for_errors = output
        .try_clone()
        .doing(|| "duplicate the log's descriptor".to_owned())?;
    let shown_command = command_line(command);
    command.stdin(Stdio::null()).stdout(output).stderr(for_errors);
    let started = Instant::now();
    let child = command.spawn().doing(|| format!("start {shown_command}"))?;
    let (status, usage) = wait4(child.id()).doing(|| format!("wait for {shown_command}"))?;
    let wall = started.elapsed();
    if !(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0) {
        let how = match libc::WIFEXITED(status) {
            true => format!("exit status {}", libc::WEXITSTATUS(status)),
            false => format!("signal {}", libc::WTERMSIG(status)),
        };
        return Err(Failure::new(format!(
            "{shown_command} failed with {how}:\n{}",
            tail(log)
        )));
    }
    Ok(Cost {
        wall,
        user: duration(usage.ru_utime),
        system: duration(usage.ru_stime),
        // Linux counts in KiB, see getrusage(2).
        peak_rss: u64::try_from(usage.ru_maxrss).unwrap_or(0).saturating_mul(1024),
    })
}

fn command_line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Waits for the child `pid` and takes its status and resource usage in one step, which the standard library
/// cannot do. The child must not be waited for by anyone else.
#[allow(unsafe_code, reason = "wait4 has no safe wrapper among the dependencies")]
fn wait4(pid: u32) -> std::io::Result<(libc::c_int, libc::rusage)> {
    let pid = libc::pid_t::try_from(pid).map_err(std::io::Error::other)?;
    loop {
        let mut status = 0;
        let mut usage = MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: both pointers are valid for writes for the whole call, and `rusage` is plain integers, for which
        // all zeroes is a value, so that it is initialised whatever the call does.
        let (waited, usage) = unsafe {
            let waited = libc::wait4(pid, &raw mut status, 0, usage.as_mut_ptr());
            (waited, usage.assume_init())
        };
        if waited == pid {
            return Ok((status, usage));
        }
        let error = std::io::Error::last_os_error();
        if error.kind() != std::io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

fn duration(time: libc::timeval) -> Duration {
    let micros = u64::try_from(time.tv_usec).unwrap_or(0);
    Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0)) + Duration::from_micros(micros)
}

/// The last lines of a log.
fn tail(log: &Path) -> String {
    const SHOWN: u64 = 2000;
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(SHOWN)))?;
        let mut text = Vec::new();
        file.take(SHOWN).read_to_end(&mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    };
    read().unwrap_or_else(|error| format!("(log unreadable: {error})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_charged_with_its_own_time_and_memory() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let script = "x=$(head -c 30000000 /dev/zero | tr '\\0' a); sleep 0.2; echo ${#x}";
        let cost = run(Command::new("bash").args(["-c", script]), &log).unwrap();
        assert!(cost.wall >= Duration::from_millis(200));
        assert!(cost.user + cost.system > Duration::ZERO);
        assert!(cost.peak_rss > 30_000_000, "{cost:?}");
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "30000000\n");
    }

    #[test]
    fn a_failed_command_tells_the_end_of_its_output() {
        let dir = tempfile::tempdir().unwrap();
        let script = "echo no such repository >&2; exit 3";
        let failure = run(Command::new("sh").args(["-c", script]), &dir.path().join("log"))
            .unwrap_err()
            .to_string();
        assert!(
            failure.contains("exit status 3") && failure.contains("no such repository"),
            "{failure}"
        );
    }
}
