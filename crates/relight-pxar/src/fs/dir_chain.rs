//! A path of open directories from a root downwards, however deep, with few of them open at a time.
//!
//! Every step is by name within an open directory and follows no symbolic link, so the depth is not limited by the
//! length of paths, and nothing outside of the root is reached.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use super::stat::FileStat;

/// Directories kept open at once, besides the root.
const WINDOW: usize = 128;

/// See the module. `H` holds an open directory; it may carry more.
#[derive(Debug)]
pub struct DirChain<H = OwnedFd> {
    levels: Vec<Level<H>>,
}

#[derive(Debug)]
struct Level<H> {
    fd: Option<Arc<H>>,
    name: CString,
    identity: (u64, u64),
}

/// Opens a directory by its name in another for listing. Access times are left alone where that is permitted.
pub fn open_dir(dir: impl AsFd, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY;
    match openat(&dir, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => openat(&dir, name, flags, Mode::empty()),
        result => result,
    }
}

/// Opens the directory a walk begins in. Symbolic links in the path are followed: it was the caller's choice.
pub fn open_root(path: &Path) -> io::Result<OwnedFd> {
    let real = path.canonicalize()?;
    let name =
        CString::new(real.into_os_string().into_encoded_bytes()).map_err(|_| io::ErrorKind::InvalidInput)?;
    Ok(open_dir(CWD, &name)?)
}

impl<H: AsFd + From<OwnedFd>> DirChain<H> {
    /// A chain of nothing but its root.
    pub fn new(root: H) -> io::Result<Self> {
        let identity = FileStat::of(root.as_fd())?.identity();
        Ok(Self {
            levels: vec![Level {
                fd: Some(Arc::new(root)),
                name: CString::default(),
                identity,
            }],
        })
    }

    /// Directories of the chain, the root included.
    pub fn depth(&self) -> usize {
        self.levels.len()
    }

    /// Goes down into `fd`, which is the directory `name` of the current one.
    pub fn push(&mut self, name: &CStr, fd: H, identity: (u64, u64)) {
        self.levels.push(Level {
            fd: Some(Arc::new(fd)),
            name: name.to_owned(),
            identity,
        });
        let newest = self.levels.len() - 1;
        if newest > WINDOW
            && let Some(level) = self.levels.get_mut(newest - WINDOW)
        {
            level.fd = None;
        }
    }

    /// Goes up one directory; the root stays.
    pub fn pop(&mut self) {
        if self.levels.len() > 1 {
            self.levels.pop();
        }
    }

    /// Whether the directory the chain ends with is open, so that [`DirChain::current`] need not open it again.
    pub fn is_open(&self) -> bool {
        self.levels.last().is_some_and(|level| level.fd.is_some())
    }

    /// The directory the chain ends with.
    ///
    /// # Errors
    /// Where it had been closed to save descriptors and another directory has taken its place since.
    pub fn current(&mut self) -> io::Result<&Arc<H>> {
        let top = self.levels.len() - 1;
        if self.levels[top].fd.is_none() {
            self.reopen(top)?;
        }
        self.levels[top]
            .fd
            .as_ref()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Identity (device, inode) of the directory the chain ends with.
    pub fn identity(&self) -> (u64, u64) {
        self.levels.last().map_or((0, 0), |level| level.identity)
    }

    /// Walks down to level `top` again from the deepest one still open, and keeps the last half of a window open, so
    /// that going up on costs less than three openings a level.
    fn reopen(&mut self, top: usize) -> io::Result<()> {
        let start = (0..top)
            .rev()
            .find(|&index| self.levels[index].fd.is_some())
            .unwrap_or(0);
        let mut parent = self.levels[start].fd.clone().ok_or(io::ErrorKind::NotFound)?;
        for (index, level) in self.levels.iter_mut().enumerate().take(top + 1).skip(start + 1) {
            let fd = Arc::new(H::from(open_dir(parent.as_ref(), &level.name)?));
            if FileStat::of(fd.as_ref())?.identity() != level.identity {
                return Err(io::Error::new(
                    io::ErrorKind::NotFound,
                    "the directory was replaced by another while it was in use",
                ));
            }
            if index + WINDOW / 2 > top {
                level.fd = Some(Arc::clone(&fd));
            }
            parent = fd;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::mkdirat;

    #[test]
    fn a_chain_of_thousands_goes_down_and_up_again() {
        let scratch = tempfile::tempdir().unwrap();
        let path = CString::new(scratch.path().as_os_str().as_encoded_bytes()).unwrap();
        let mut chain: DirChain = DirChain::new(open_dir(CWD, &path).unwrap()).unwrap();
        let mut identities = vec![chain.identity()];
        for _ in 0..1500 {
            let dir = Arc::clone(chain.current().unwrap());
            mkdirat(&dir, c"a directory", Mode::RWXU).unwrap();
            let fd = open_dir(&dir, c"a directory").unwrap();
            let identity = FileStat::of(&fd).unwrap().identity();
            chain.push(c"a directory", fd, identity);
            identities.push(identity);
        }
        assert!(chain.levels.iter().filter(|level| level.fd.is_some()).count() <= WINDOW + 1);
        while chain.depth() > 1 {
            assert_eq!(
                FileStat::of(chain.current().unwrap()).unwrap().identity(),
                identities[chain.depth() - 1]
            );
            chain.pop();
            let dir = Arc::clone(chain.current().unwrap());
            rustix::fs::unlinkat(&dir, c"a directory", rustix::fs::AtFlags::REMOVEDIR).unwrap();
        }
    }
}
