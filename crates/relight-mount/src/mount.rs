//! Mounts: all snapshots of a repository, or one image as a file.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use fuser::{BackgroundSession, Config, MountOption, Session, SessionACL};
use relight_repo::Repository;
use relight_repo::read::{ChunkReader, Unseal};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use crate::content::{Image, Readers};
use crate::error::{MountError, Result};
use crate::filesystem::Snapshots;
use crate::names::Names;
use crate::refresh::Catalog;
use crate::source::{WholeSource, file_name};

/// Threads that answer the kernel. More than there are processors, because they wait for storage.
const THREADS: usize = 8;
/// How often it is looked whether to stop.
const POLL: Duration = Duration::from_millis(50);

/// How something is mounted.
#[derive(Debug, Clone, Default)]
pub struct MountOptions {
    /// Other users may see it, each as far as owner, mode and ACL of a file allow. Else only who mounts it, all of it.
    pub allow_other: bool,
    /// Opens what a client encrypted with its key. What was encrypted with others cannot be read.
    pub client_key: Option<Arc<dyn Unseal>>,
}

/// Something that is mounted, until this is dropped.
#[derive(Debug)]
pub struct Mounted {
    path: PathBuf,
    session: Option<BackgroundSession>,
}

/// How a mount ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Somebody unmounted it.
    Unmounted,
    /// It was asked to stop, and unmounted itself.
    Stopped,
}

/// Mounts all snapshots of a repository on an empty directory. New ones appear and forgotten ones vanish by themselves.
pub fn snapshots(repository: Arc<Repository>, directory: &Path, options: &MountOptions) -> Result<Mounted> {
    let path = check(directory)?;
    let mut reader = ChunkReader::new(repository.clone())?;
    if let Some(key) = &options.client_key {
        reader = reader.with_client_key(key.clone());
    }
    let readers = Readers::new(Arc::new(reader));
    let source = repository.storage().location();
    let catalog = Catalog::of_repository(repository)?;
    mount(
        Snapshots::new(catalog, readers, options.allow_other),
        path,
        &source,
        options,
    )
}

/// Mounts a directory that has one file: an image.
pub fn image(image: &Image, directory: &Path, options: &MountOptions) -> Result<Mounted> {
    let path = check(directory)?;
    let snapshot = image.snapshot();
    let whole = WholeSource {
        name: file_name(image.name()),
        of: format!("snapshot {} of {}", snapshot.id.short(), snapshot.workload),
        root: image.root(),
        time: snapshot.time,
        allocated: OnceLock::new(),
    };
    let source = format!("{}:{}", snapshot.id.short(), image.name());
    let catalog = Catalog::fixed(Names::of_file(Arc::new(whole), snapshot.time));
    mount(
        Snapshots::new(catalog, image.readers().clone(), options.allow_other),
        path,
        &source,
        options,
    )
}

impl Mounted {
    /// Where.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until somebody unmounts it, or `stop` becomes true; then it is unmounted here. Whoever still has a file of
    /// it open can go on reading until they close it; this waits for them.
    pub fn wait(mut self, stop: &AtomicBool) -> Result<End> {
        while !self.is_over() {
            if stop.load(Ordering::Relaxed) {
                self.unmount()?;
                return Ok(End::Stopped);
            }
            std::thread::sleep(POLL);
        }
        self.join()?;
        Ok(End::Unmounted)
    }

    /// Unmounts it, and waits for whoever still has a file of it open.
    pub fn unmount(&mut self) -> Result<()> {
        if self.session.is_none() {
            return Ok(());
        }
        if !self.is_over() {
            self.detach()?;
        }
        self.join()
    }

    fn is_over(&self) -> bool {
        self.session
            .as_ref()
            .is_none_or(|session| session.guard.is_finished())
    }

    fn join(&mut self) -> Result<()> {
        let Some(session) = self.session.take() else {
            return Ok(());
        };
        session.join().map_err(|source| self.failed("unmount", source))
    }

    /// Takes it out of the file system; if it is in use, the rest follows when it is not any more.
    fn detach(&self) -> Result<()> {
        match rustix::mount::unmount(&self.path, UnmountFlags::NOFOLLOW) {
            Ok(()) => return Ok(()),
            Err(Errno::BUSY) => {
                tracing::warn!(
                    "{} is in use: it is detached now, and this program ends when the last user is done",
                    self.path.display()
                );
                let lazily = UnmountFlags::NOFOLLOW | UnmountFlags::DETACH;
                if rustix::mount::unmount(&self.path, lazily).is_ok() {
                    return Ok(());
                }
            }
            // Not mounted any more.
            Err(Errno::INVAL) => return Ok(()),
            Err(_) => {}
        }
        // Who may not unmount asks the helper that may.
        let mut last = io::Error::other("neither fusermount3 nor fusermount could be run");
        for helper in ["fusermount3", "fusermount"] {
            match Command::new(helper)
                .args(["-u", "-z", "-q", "--"])
                .arg(&self.path)
                .output()
            {
                Ok(output) if output.status.success() => return Ok(()),
                Ok(output) => {
                    last = io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_string())
                }
                Err(_) => {}
            }
        }
        Err(self.failed("unmount", last))
    }

    fn failed(&self, action: &'static str, source: io::Error) -> MountError {
        MountError::Mount {
            action,
            path: self.path.clone(),
            source,
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = self.unmount() {
            tracing::warn!("{error}");
        }
    }
}

/// Whether something can be mounted there.
fn check(directory: &Path) -> Result<PathBuf> {
    let refuse = |why: String| MountError::Place {
        path: directory.to_path_buf(),
        why,
    };
    let path = match std::fs::canonicalize(directory) {
        Ok(path) => path,
        Err(error) if error.raw_os_error() == Some(Errno::NOTCONN.raw_os_error()) => {
            let why = format!(
                "a mount that has lost its program is there; take it away with `umount {}`",
                directory.display()
            );
            return Err(refuse(why));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(refuse("it does not exist; make the directory first".into()));
        }
        Err(error) => return Err(refuse(error.to_string())),
    };
    match std::fs::read_dir(&path).map(|mut entries| entries.next().is_none()) {
        Ok(true) => {}
        Ok(false) => return Err(refuse("it is not empty; choose an empty directory".into())),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Err(refuse("it is not a directory".into()));
        }
        Err(error) => return Err(refuse(error.to_string())),
    }
    if !Path::new("/dev/fuse").exists() {
        let why = "this machine has no /dev/fuse: load the kernel module (`modprobe fuse`), or give the container \
                   the device";
        return Err(refuse(why.into()));
    }
    Ok(path)
}

fn mount(files: Snapshots, path: PathBuf, source: &str, options: &MountOptions) -> Result<Mounted> {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::RO,
        MountOption::NoAtime,
        // What lies in a backup gives nobody more rights than they have.
        MountOption::NoSuid,
        MountOption::NoDev,
        MountOption::FSName(option_value(source)),
        MountOption::Subtype("relight".into()),
    ];
    if options.allow_other {
        config.acl = SessionACL::All;
        config.mount_options.push(MountOption::DefaultPermissions);
    }
    config.n_threads = Some(THREADS);
    config.clone_fd = true;
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => MountError::Place {
            path: path.clone(),
            why: "only root can mount without the program fusermount3: install it (Debian: fuse3)".into(),
        },
        io::ErrorKind::PermissionDenied if options.allow_other => MountError::Place {
            path: path.clone(),
            why: format!(
                "{}; others than root may use --allow-other only if /etc/fuse.conf says user_allow_other",
                source.to_string().trim()
            ),
        },
        _ => MountError::Mount {
            action: "mount on",
            path: path.clone(),
            source,
        },
    };
    let session = Session::new(files, &path, &config)
        .and_then(Session::spawn)
        .map_err(failed)?;
    Ok(Mounted {
        path,
        session: Some(session),
    })
}

/// A text as the value of a mount option, in which a comma would begin the next.
fn option_value(text: &str) -> String {
    let plain = |char: char| char.is_ascii_alphanumeric() || "/:._-@+~ ".contains(char);
    text.chars()
        .map(|char| if plain(char) { char } else { '_' })
        .collect()
}
