//! The folder in which a drill restores: nobody else's, with room that is set aside for it, and gone afterwards.
//!
//! ```text
//! ROOT/.lock            held while sandboxes are made, measured or swept
//! ROOT/run-12/lock      held for as long as the drill lives; with the process id, for people
//! ROOT/run-12/need      bytes that are set aside for it and not written yet
//! ROOT/run-12/data/     what is restored
//! ```
//!
//! A lock goes away with its process, however that ends. What is not locked is left over, and [`sweep`] removes it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use relight_model::ByteSize;
use relight_workloads::rehearse::isolated::SANDBOX;
use rustix::fs::{FlockOperation, IFlags, flock};
use rustix::process::{Pid, Signal};

use super::code::{Code, Failed};

/// How the folders of running drills begin.
const RUN: &str = "run-";
/// How those begin that somebody wants to look at.
const KEPT: &str = "kept-";
/// Stays free on the file system, in bytes: whatever else lies on it goes on.
const SPARE: u64 = 64 << 20;
/// So long may processes take to end that were killed.
const GONE: Duration = Duration::from_secs(10);

/// A folder for one drill. Dropping it removes it.
#[derive(Debug)]
pub struct Sandbox {
    root: PathBuf,
    folder: PathBuf,
    data: PathBuf,
    /// Held until this is dropped.
    lock: Option<File>,
}

fn failed<'a>(what: &'a str, path: &'a Path) -> impl FnOnce(io::Error) -> Failed + 'a {
    move |error| Failed::new(Code::Sandbox, format!("{what} {}: {error}", path.display()))
}

fn locked(path: &Path, how: FlockOperation) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    flock(&file, how)?;
    Ok(file)
}

/// Held while sandboxes are made, measured or swept.
fn lock_root(root: &Path) -> io::Result<File> {
    DirBuilder::new().recursive(true).mode(0o700).create(root)?;
    locked(&root.join(".lock"), FlockOperation::LockExclusive)
}

impl Sandbox {
    /// Makes the folder `name` (`12`, `12-3`) below `root`.
    ///
    /// # Errors
    /// It cannot be made, or is there already.
    pub fn make(root: &Path, name: &str) -> Result<Self, Failed> {
        let _held = lock_root(root).map_err(failed("make the folder for sandboxes", root))?;
        // What is started in it sees paths without links in them.
        let root = fs::canonicalize(root).map_err(failed("find", root))?;
        let folder = root.join(format!("{RUN}{name}"));
        let mut builder = DirBuilder::new();
        builder.mode(0o700);
        builder
            .create(&folder)
            .map_err(failed("make the sandbox", &folder))?;
        let mut sandbox = Self {
            data: folder.join("data"),
            root,
            folder,
            lock: None,
        };
        let lock = sandbox.folder.join("lock");
        let mut file =
            locked(&lock, FlockOperation::NonBlockingLockExclusive).map_err(failed("lock", &lock))?;
        let _ = writeln!(file, "{}", std::process::id());
        sandbox.lock = Some(file);
        builder
            .create(&sandbox.data)
            .map_err(failed("make the sandbox", &sandbox.data))?;
        Ok(sandbox)
    }

    /// Where to restore to.
    pub fn path(&self) -> &Path {
        &self.data
    }

    /// Sets room aside: there must be as much, beside what other drills have set aside and not written yet.
    ///
    /// # Errors
    /// There is not.
    pub fn reserve(&self, need: u64) -> Result<(), Failed> {
        let root = &self.root;
        let _held = lock_root(root).map_err(failed("lock", root))?;
        let free = free(root).map_err(failed("find the free space of", root))?;
        let mut others = 0u64;
        for folder in running(root).map_err(failed("read", root))? {
            if folder != self.folder {
                others = others.saturating_add(need_of(&folder));
            }
        }
        // File systems need some for themselves, too.
        let wanted = need.saturating_add(need / 20).saturating_add(SPARE);
        if free.saturating_sub(others) < wanted {
            let aside = match others {
                0 => String::new(),
                others => format!(" of which {} are set aside for other drills", ByteSize(others)),
            };
            return Err(Failed::new(
                Code::Sandbox,
                format!(
                    "the sandbox needs {}, but {} has {} free{aside}: make room, or put the folder of the state on a larger \
                     file system",
                    ByteSize(wanted),
                    root.display(),
                    ByteSize(free)
                ),
            ));
        }
        self.set_need(wanted)
    }

    /// What was to be written is written: the free space of the file system shows it now.
    ///
    /// # Errors
    /// That cannot be noted.
    pub fn filled(&self) -> Result<(), Failed> {
        self.set_need(0)
    }

    fn set_need(&self, need: u64) -> Result<(), Failed> {
        let path = self.folder.join("need");
        fs::write(&path, need.to_string()).map_err(failed("write", &path))
    }

    /// Ends what still runs in it, and removes it.
    ///
    /// # Errors
    /// What is left.
    pub fn remove(mut self) -> Result<(), Failed> {
        self.take_away()
    }

    /// Leaves what was restored there for somebody to look at, under a name that [`sweep`] passes over.
    ///
    /// # Errors
    /// It cannot be renamed.
    pub fn keep(mut self) -> Result<PathBuf, Failed> {
        end_processes(&self.data)?;
        let name = self.folder.file_name().unwrap_or_default().to_string_lossy();
        let number = name.trim_start_matches(RUN);
        let candidates = (1..1000).map(|copy| match copy {
            1 => self.root.join(format!("{KEPT}{number}")),
            copy => self.root.join(format!("{KEPT}{number}.{copy}")),
        });
        let mut kept = candidates.filter(|path| path.symlink_metadata().is_err());
        let kept = kept
            .next()
            .ok_or_else(|| Failed::new(Code::TearDown, "there are too many sandboxes that were kept"))?;
        fs::rename(&self.data, &kept).map_err(failed("rename", &self.data))?;
        self.take_away()?;
        Ok(kept)
    }

    fn take_away(&mut self) -> Result<(), Failed> {
        if self.lock.is_none() && self.folder.symlink_metadata().is_err() {
            return Ok(());
        }
        end_processes(&self.data)?;
        remove(&self.folder).map_err(|error| left(&self.folder, &error))?;
        self.lock = None;
        Ok(())
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if let Err(failed) = self.take_away() {
            tracing::warn!("{}", failed.message);
        }
    }
}

fn left(folder: &Path, error: &io::Error) -> Failed {
    let folder = folder.display();
    Failed::new(
        Code::TearDown,
        format!("{folder} cannot be removed ({error}): remove it by hand"),
    )
}

/// Bytes that are free for this process.
fn free(root: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(root)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Folders of drills, of those that are left over too.
fn running(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        if entry.file_name().as_bytes().starts_with(RUN.as_bytes()) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn need_of(folder: &Path) -> u64 {
    let text = fs::read_to_string(folder.join("need"));
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// Removes what drills left whose process was killed, and ends what they had started. Gives what was removed. To be called when a
/// server starts; drills of other processes that still run are left alone.
///
/// # Errors
/// What cannot be removed. The rest was.
pub fn sweep(root: &Path) -> Result<Vec<PathBuf>, Failed> {
    if root.symlink_metadata().is_err() {
        return Ok(Vec::new());
    }
    let _held = lock_root(root).map_err(failed("lock", root))?;
    let root = fs::canonicalize(root).map_err(failed("find", root))?;
    let (mut removed, mut problem) = (Vec::new(), None);
    for folder in running(&root).map_err(failed("read", &root))? {
        let lock = folder.join("lock");
        // Without a lock its process was killed before it had one.
        let _held = match locked(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(_) => None,
        };
        let gone = end_processes(&folder.join("data"))
            .and_then(|()| remove(&folder).map_err(|error| left(&folder, &error)));
        match gone {
            Ok(()) => removed.push(folder),
            Err(failed) => problem = problem.or(Some(failed)),
        }
    }
    problem.map_or(Ok(removed), Err)
}

/// Processes that were started in a sandbox: their environment names it. And whether any process is just being started, so that
/// it cannot be told yet whose it is.
fn processes(data: &Path) -> (Vec<Pid>, bool) {
    let mut marker = format!("{SANDBOX}=").into_bytes();
    marker.extend_from_slice(data.as_os_str().as_bytes());
    let (mut found, mut unsure) = (Vec::new(), false);
    let entries = fs::read_dir("/proc").into_iter().flatten();
    for number in entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok()) {
        // One that may not be looked at is nothing that was started here.
        let read = || fs::read(format!("/proc/{number}/environ")).unwrap_or_default();
        let mut environment = read();
        if environment.is_empty() {
            unsure |= is_being_started(number);
            // It may have got one between the two looks.
            environment = read();
        }
        let names_it = environment
            .split(|&byte| byte == 0)
            .any(|variable| variable == marker);
        if names_it {
            found.extend(Pid::from_raw(number));
        }
    }
    (found, unsure)
}

/// Whether a process is in the middle of `execve`: it has its new memory, and has let go of the files that close (the sandbox's
/// lock is one of them; until then it is held), but its environment is not there yet. proc(5), `/proc/pid/stat`: vsize (23) is
/// nought for zombies and threads of the kernel; startcode (26) is what Linux notes after the environment, and 1 where this may not
/// be looked at.
fn is_being_started(number: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
    // What comes before, in brackets, is the second: the program's name, with whatever it has in it.
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    let field = |number: usize| after.split_ascii_whitespace().nth(number - 3);
    field(23).is_some_and(|size| size != "0") && field(26) == Some("0")
}

/// Ends them, and waits until they are gone.
fn end_processes(data: &Path) -> Result<(), Failed> {
    let began = Instant::now();
    loop {
        let (found, unsure) = processes(data);
        let waited = began.elapsed() >= GONE;
        if found.is_empty() && (!unsure || waited) {
            return Ok(());
        }
        if waited {
            let numbers: Vec<String> = found.iter().map(|pid| pid.as_raw_nonzero().to_string()).collect();
            let message = format!("processes {} do not end: end them by hand", numbers.join(", "));
            return Err(Failed::new(Code::TearDown, message));
        }
        for process in found {
            let _ = rustix::process::kill_process(process, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Removes a folder and all in it, whatever attributes were restored.
fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(_) => {
            unseal(folder);
            fs::remove_dir_all(folder)
        }
        Ok(()) => Ok(()),
    }
}

/// Takes away what keeps folders and files from being removed: modes, and the flags for immutable and append-only.
fn unseal(path: &Path) {
    let Ok(meta) = path.symlink_metadata() else {
        return;
    };
    if !meta.is_dir() && !meta.is_file() {
        return;
    }
    if let Ok(file) = File::open(path)
        && let Ok(flags) = rustix::fs::ioctl_getflags(&file)
        && flags.intersects(IFlags::IMMUTABLE | IFlags::APPEND)
    {
        let _ = rustix::fs::ioctl_setflags(&file, flags.difference(IFlags::IMMUTABLE | IFlags::APPEND));
    }
    if meta.is_dir() {
        let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o700));
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            unseal(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandbox_is_gone_after_use_whatever_is_in_it() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().join("sandbox");
        let sandbox = Sandbox::make(&root, "1").unwrap();
        let closed = sandbox.path().join("closed");
        fs::create_dir(&closed).unwrap();
        fs::write(closed.join("file"), "x").unwrap();
        if let Ok(file) = File::open(closed.join("file")) {
            // Where the file system knows it and this process may.
            let _ = rustix::fs::ioctl_setflags(&file, IFlags::IMMUTABLE);
        }
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
        assert!(Sandbox::make(&root, "1").is_err());
        sandbox.remove().unwrap();
        assert!(running(&root).unwrap().is_empty());
        let sandbox = Sandbox::make(&root, "1").unwrap();
        fs::write(sandbox.path().join("file"), "x").unwrap();
        let kept = sandbox.keep().unwrap();
        assert!(kept.join("file").exists() && running(&root).unwrap().is_empty());
        assert_eq!(sweep(&root).unwrap(), Vec::<PathBuf>::new());
        assert!(kept.exists());
    }

    #[test]
    fn room_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let one = Sandbox::make(root, "1").unwrap();
        let all = free(root).unwrap();
        let refused = one.reserve(all).unwrap_err();
        assert_eq!(refused.code, Code::Sandbox);
        assert!(refused.message.contains("free"), "{}", refused.message);
        one.reserve(all / 2).unwrap();
        let two = Sandbox::make(root, "2").unwrap();
        let refused = two.reserve(all / 2).unwrap_err();
        assert!(refused.message.contains("other drills"), "{}", refused.message);
        one.filled().unwrap();
        two.reserve(all / 2).unwrap();
    }

    #[test]
    fn only_what_nobody_holds_is_swept_with_what_runs_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        let alive = Sandbox::make(&root, "1").unwrap();
        let dead = root.join("run-2");
        fs::create_dir_all(dead.join("data")).unwrap();
        // It is there as soon as it is a program of its own. Until then it would hold the lock, if there were one.
        let own = fs::read_link("/proc/self/exe").unwrap();
        let sleep = || {
            let mut command = std::process::Command::new("sleep");
            let child = command.arg("60").env(SANDBOX, dead.join("data")).spawn().unwrap();
            while fs::read_link(format!("/proc/{}/exe", child.id())).unwrap() == own {}
            child
        };
        let mut left = sleep();
        let killed = std::thread::spawn(move || left.wait().unwrap());
        assert_eq!(sweep(&root).unwrap(), std::slice::from_ref(&dead));
        assert!(!killed.join().unwrap().success());
        // However lately they were started: a process that is being started shows no environment for a moment.
        for _ in 0..200 {
            let mut left = sleep();
            end_processes(&dead.join("data")).unwrap();
            let since = Instant::now();
            while left.try_wait().unwrap().is_none() {
                if since.elapsed() > GONE {
                    left.kill().unwrap();
                    panic!("it still runs");
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        assert!(alive.path().exists());
        assert_eq!(sweep(&root.join("absent")).unwrap(), Vec::<PathBuf>::new());
    }
}
