//! Finds out what a capture begins with.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;

use super::CaptureError;
use crate::fs::dir_chain::open_dir;
use crate::fs::stat::FileStat;

/// The directory a capture begins in.
pub(super) struct Root {
    /// The path it was given by.
    pub path: PathBuf,
    /// The directory.
    pub dir: OwnedFd,
    /// Its attributes.
    pub stat: FileStat,
    /// The only name in it that is meant, where a single file is captured.
    pub only: Option<CString>,
}

impl Root {
    pub fn open(path: &Path) -> Result<Self, CaptureError> {
        Self::find(path).map_err(|source| CaptureError::Root {
            path: path.to_path_buf(),
            source,
        })
    }

    fn find(path: &Path) -> io::Result<Self> {
        // Links in the path itself were the caller's choice; below it none is followed.
        let real = path.canonicalize()?;
        let metadata = std::fs::symlink_metadata(&real)?;
        let (dir, only) = if metadata.is_dir() {
            (real.as_path(), None)
        } else {
            let parent = real.parent().unwrap_or(Path::new("/"));
            (parent, Some(to_c_string(real.file_name().unwrap_or_default())?))
        };
        let dir = open_dir(CWD, &to_c_string(dir.as_os_str())?)?;
        let stat = FileStat::of(&dir)?;
        Ok(Self {
            path: path.to_path_buf(),
            dir,
            stat,
            only,
        })
    }
}

fn to_c_string(path: &OsStr) -> io::Result<CString> {
    CString::new(path.as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}
