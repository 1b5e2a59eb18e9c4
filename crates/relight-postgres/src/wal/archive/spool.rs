//! The spool: a folder beside the log on the database host, for what was moved ahead of the server's asking. What is in
//! it may be deleted at any moment; only time is lost.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use rustix::fs::FlockOperation;

use crate::wal::error::{Result, WalError};
use crate::wal::name::WalName;

/// Name of the folder below `pg_wal`, which base backups leave out.
const FOLDER: &str = "relight-spool";

/// A spool of one workload in one repository. After the machine was started anew it is another: what was not on disk yet
/// when a machine went down must not be taken for whole.
#[derive(Debug, Clone)]
pub struct Spool {
    folder: PathBuf,
}

impl Spool {
    /// The spool beside the log file at `path`, or in `folder` if one is given. `belongs` says to which repository and
    /// workload what is in it belongs.
    pub fn beside(path: &Path, folder: Option<&Path>, belongs: &str) -> Self {
        let folder = match (folder, path.parent()) {
            (Some(folder), _) => folder.to_path_buf(),
            (None, Some(parent)) => parent.join(FOLDER),
            (None, None) => PathBuf::from(FOLDER),
        };
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(boot.as_bytes());
        context.update(belongs.as_bytes());
        let own = hex::encode(&context.finish().as_ref()[..8]);
        Self {
            folder: folder.join(own),
        }
    }

    /// The folder, made if it is missing. Those of earlier starts of the machine are removed.
    pub fn make(&self) -> Result<&Path> {
        if !self.folder.is_dir() {
            if let Some(all) = self.folder.parent()
                && all.ends_with(FOLDER)
            {
                let _ = fs::remove_dir_all(all);
            }
            let made = fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&self.folder);
            made.map_err(WalError::io("make the folder", &self.folder))?;
        }
        Ok(&self.folder)
    }

    /// Where a file that was fetched ahead lies, once it is whole.
    pub fn fetched(&self, name: WalName) -> PathBuf {
        self.folder.join(name.to_string())
    }

    /// Where it is being written.
    pub fn fetching(&self, name: WalName) -> PathBuf {
        self.folder.join(format!("{name}.tmp"))
    }

    /// Where it is remembered that a file was pushed.
    fn pushed(&self, name: WalName) -> PathBuf {
        self.folder.join(format!("{name}.ok"))
    }

    /// Remembers that a file with this [`fingerprint`] is in the repository.
    pub fn remember(&self, name: WalName, fingerprint: &str) -> Result<()> {
        self.make()?;
        self.replace(&self.pushed(name), fingerprint.as_bytes())
    }

    /// Whether it was remembered that a file with this [`fingerprint`] is in the repository; forgets it.
    pub fn recall(&self, name: WalName, fingerprint: impl FnOnce() -> Option<String>) -> bool {
        let path = self.pushed(name);
        let Ok(known) = fs::read_to_string(&path) else {
            return false;
        };
        let _ = fs::remove_file(&path);
        fingerprint().is_some_and(|now| now == known)
    }

    /// Says which file the server asked for last.
    pub fn set_cursor(&self, name: WalName) -> Result<()> {
        self.make()?;
        self.replace(&self.folder.join("cursor"), name.to_string().as_bytes())
    }

    /// Which file the server asked for last.
    pub fn cursor(&self) -> Option<WalName> {
        fs::read_to_string(self.folder.join("cursor")).ok()?.parse().ok()
    }

    /// The right to fetch ahead, which one process has; none if another has it.
    pub fn lock(&self) -> Result<Option<File>> {
        let path = self.make()?.join("lock");
        let opened = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path);
        let file = opened.map_err(WalError::io("open", &path))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(WalError::io("lock", &path)(error.into())),
        }
    }

    /// Whether somebody fetches ahead.
    pub fn is_locked(&self) -> bool {
        matches!(self.lock(), Ok(None))
    }

    /// Removes fetched files of which `useless` says so.
    pub fn sweep(&self, useless: impl Fn(WalName) -> bool) {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name
                .to_str()
                .map(|name| name.strip_suffix(".tmp").unwrap_or(name));
            if name.and_then(|name| name.parse().ok()).is_some_and(&useless) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn replace(&self, path: &Path, content: &[u8]) -> Result<()> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(format!(".{}", std::process::id()));
        let temporary = PathBuf::from(temporary);
        let written = write_new(&temporary, content).and_then(|()| fs::rename(&temporary, path));
        written.map_err(WalError::io("write", path)).inspect_err(|_| {
            let _ = fs::remove_file(&temporary);
        })
    }
}

/// Writes a file that only its owner may read, as the files of a log are.
pub(super) fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(content)
}

/// What a file of the log is known by from the call that took it along to the call that asks for it. A server does not
/// write to a file again that is ready to be archived; and its content is not read for this, because a call that has nothing
/// else to do should take no time.
pub(super) fn fingerprint(path: &Path) -> io::Result<String> {
    let meta = fs::metadata(path)?;
    Ok(format!(
        "{}:{}:{}:{}.{:09}:{}.{:09}",
        meta.dev(),
        meta.ino(),
        meta.len(),
        meta.mtime(),
        meta.mtime_nsec(),
        meta.ctime(),
        meta.ctime_nsec()
    ))
}
