//! A folder that things are restored into, held open: what others do to its path meanwhile leads nowhere else.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use relight_pxar::FileTime;
use relight_pxar::fs::dir_chain::{open_dir, open_root};
use relight_pxar::fs::stat::FileStat;
use relight_repo::RepoError;
use rustix::fs::{Mode, mkdirat};
use rustix::io::Errno;

use crate::error::{Result, WorkloadError};

/// A folder, held open.
#[derive(Debug)]
pub struct Folder {
    fd: OwnedFd,
    shown: PathBuf,
}

impl Folder {
    /// The folder at a path that the caller answers for: symbolic links are followed. It is made if it is not there.
    ///
    /// # Errors
    /// It cannot be made or opened.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = failed("open the folder", path);
        std::fs::create_dir_all(path).map_err(&failed)?;
        Ok(Self {
            fd: open_root(path).map_err(&failed)?,
            shown: path.to_path_buf(),
        })
    }

    /// The folder `below` a root that is there. Parts of `below` that are not there are made. It never leads out of the root:
    /// neither by `..` nor by a symbolic link, whoever made it and when.
    ///
    /// # Errors
    /// [`WorkloadError::Refused`] for a path that is not plain; a part is a link or no folder, or cannot be made.
    pub fn below(root: &Path, below: &Path) -> Result<Self> {
        let mut folder = Self::root(root)?;
        for name in plain(below)? {
            folder = folder.child(&name)?;
        }
        Ok(folder)
    }

    /// As [`Folder::below`], but nothing is made: none if it is not there yet.
    ///
    /// # Errors
    /// As [`Folder::below`].
    pub fn below_if_there(root: &Path, below: &Path) -> Result<Option<Self>> {
        let mut folder = Self::root(root)?;
        for name in plain(below)? {
            match folder.child_if_there(name.as_bytes())? {
                Some(child) => folder = child,
                None => return Ok(None),
            }
        }
        Ok(Some(folder))
    }

    fn root(root: &Path) -> Result<Self> {
        Ok(Self {
            fd: open_root(root).map_err(failed("open the folder", root))?,
            shown: root.to_path_buf(),
        })
    }

    /// A folder in it by its name, made if it is not there.
    ///
    /// # Errors
    /// It is a link or no folder, or cannot be made.
    pub fn child(&self, name: &str) -> Result<Self> {
        let shown = self.shown.join(name);
        let found = c_name(name.as_bytes()).and_then(|c_name| {
            match mkdirat(&self.fd, c_name.as_c_str(), Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST) => open_dir(&self.fd, &c_name).map_err(io::Error::from),
                Err(error) => Err(error.into()),
            }
        });
        let fd = found.map_err(failed("open or make the folder", &shown))?;
        Ok(Self { fd, shown })
    }

    /// The same if it is there.
    ///
    /// # Errors
    /// It is a link or no folder.
    pub fn child_if_there(&self, name: &[u8]) -> Result<Option<Self>> {
        let shown = self.shown.join(OsStr::from_bytes(name));
        let found = c_name(name).and_then(|name| match open_dir(&self.fd, &name) {
            Err(Errno::NOENT) => Ok(None),
            other => other.map(Some).map_err(io::Error::from),
        });
        let fd = found.map_err(failed("open the folder", &shown))?;
        Ok(fd.map(|fd| Self { fd, shown }))
    }

    /// What is in it under a name: whether it is a folder, and when it was modified.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub(super) fn entry(&self, name: &[u8]) -> Result<Option<(bool, FileTime)>> {
        let found = c_name(name).and_then(|name| match FileStat::at(self.fd.as_fd(), &name) {
            Ok(stat) => Ok(Some((stat.is_dir(), stat.mtime))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        });
        found.map_err(failed("look at", &self.shown.join(OsStr::from_bytes(name))))
    }

    /// The open folder, once more.
    ///
    /// # Errors
    /// No more files can be open.
    pub fn handle(&self) -> Result<OwnedFd> {
        self.fd
            .try_clone()
            .map_err(failed("open the folder", &self.shown))
    }

    /// A path by which this process reaches the open folder, and nothing else.
    pub fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.fd.as_raw_fd()).into()
    }

    /// Where it was when it was opened, for people.
    pub fn shown(&self) -> &Path {
        &self.shown
    }

    /// Bytes that may still be written there, by whoever this process is.
    ///
    /// # Errors
    /// The file system does not tell.
    pub fn free(&self) -> Result<u64> {
        let stat = rustix::fs::fstatvfs(self.fd.as_fd())
            .map_err(|error| failed("look at", &self.shown)(error.into()))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// An error about something in it with the path that people know.
    pub(super) fn known(&self, error: WorkloadError) -> WorkloadError {
        let inner = self.path();
        let text = |text: String| {
            let known = format!("{}/", self.shown.display());
            text.replace(&format!("{}/", inner.display()), &known)
        };
        match error {
            WorkloadError::Io { action, path, source } => WorkloadError::Io {
                action,
                path: path
                    .strip_prefix(&inner)
                    .map_or(path.clone(), |rest| self.shown.join(rest)),
                source,
            },
            WorkloadError::Refused(why) => WorkloadError::Refused(text(why)),
            WorkloadError::Repo(RepoError::Source(source)) => {
                let source = io::Error::new(source.kind(), text(source.to_string()));
                WorkloadError::Repo(RepoError::Source(source))
            }
            other => other,
        }
    }
}

fn c_name(name: &[u8]) -> io::Result<CString> {
    CString::new(name).map_err(|_| io::ErrorKind::InvalidInput.into())
}

fn failed<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> WorkloadError + 'a {
    move |source| match Errno::from_io_error(&source) {
        Some(Errno::LOOP | Errno::NOTDIR) => WorkloadError::Refused(format!(
            "{} is a symbolic link or no folder, and restores do not go through such: remove it, or name another place",
            path.display()
        )),
        _ => WorkloadError::Io {
            action,
            path: path.to_path_buf(),
            source,
        },
    }
}

/// The names of a path of nothing but names.
fn plain(path: &Path) -> Result<Vec<String>> {
    let refused = || {
        WorkloadError::Refused(format!(
            "{:?} is no place to restore to: name a folder below the root, without .. and without a slash in front",
            path.display().to_string()
        ))
    };
    let names = path.components().map(|part| match part {
        Component::Normal(name) => name
            .to_str()
            .filter(|name| !name.chars().any(char::is_control) && name.len() <= 255)
            .map(str::to_owned)
            .ok_or_else(refused),
        _ => Err(refused()),
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leads_out_of_the_root() {
        let folder = tempfile::tempdir().unwrap();
        let (root, outside) = (folder.path().join("root"), folder.path().join("outside"));
        std::fs::create_dir_all(root.join("inner")).unwrap();
        std::fs::create_dir(&outside).unwrap();
        std::os::unix::fs::symlink(&outside, root.join("link")).unwrap();
        std::os::unix::fs::symlink(&outside, root.join("inner/deep")).unwrap();
        std::fs::write(root.join("file"), "x").unwrap();
        for path in [
            "..",
            "inner/../..",
            "/etc",
            "link",
            "link/new",
            "inner/deep/x",
            "file",
            "file/x",
            "a\nb",
            "inner/./../../x",
        ] {
            assert!(Folder::below(&root, Path::new(path)).is_err(), "{path}");
            assert!(
                !matches!(Folder::below_if_there(&root, Path::new(path)), Ok(Some(_))),
                "{path}"
            );
        }
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
        assert!(
            Folder::below_if_there(&root, Path::new("new/a"))
                .unwrap()
                .is_none()
        );
        let made = Folder::below(&root, Path::new("new/a")).unwrap();
        assert!(root.join("new/a").is_dir());
        assert!(made.free().unwrap() > 0);
        assert!(Folder::below(&root, Path::new("")).is_ok());

        // Whoever moves it away and puts a link there moves what is restored along.
        std::fs::rename(root.join("new/a"), root.join("moved")).unwrap();
        std::os::unix::fs::symlink(&outside, root.join("new/a")).unwrap();
        std::fs::write(made.path().join("content"), "x").unwrap();
        assert!(root.join("moved/content").exists());
    }
}
