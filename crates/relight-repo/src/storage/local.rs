//! A directory on a local (or network) file system as storage.
//!
//! Crash discipline: content goes to a file under `tmp/`, is synced, renamed to its place, and the directory is
//! synced; directories are synced into their parents when made. A file that is half written is therefore only
//! ever found under `tmp/`, which is never listed and is swept of what is older than a day.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::direct::DirectFile;

use super::{Capabilities, Millis, ObjectInfo, PutOptions, Result, Storage, StorageError, Thaw};

/// Reads and writes from this length on go past the page cache where that pays.
const DIRECT: usize = 1 << 20;
/// Where files are written before they are renamed to their place.
const TMP: &str = "tmp";

/// A leftover of a writer that died is removed after this time.
const TMP_KEPT: Duration = Duration::from_secs(24 * 3600);

/// A storage in a directory.
#[derive(Debug)]
pub struct LocalStorage {
    root: PathBuf,
    serial: AtomicU64,
}

impl LocalStorage {
    /// The storage in the directory `root`, which must exist: a missing directory is more likely a disk that is
    /// not mounted than an empty repository.
    pub fn open(root: &Path) -> Result<Self> {
        let storage = Self {
            root: root.to_path_buf(),
            serial: AtomicU64::new(0),
        };
        match fs::metadata(root) {
            Ok(meta) if meta.is_dir() => Ok(storage),
            Ok(_) => Err(storage.unavailable("open", "", "it is not a directory".into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(storage.unavailable(
                "open",
                "",
                "the directory does not exist (is the disk mounted?)".into(),
            )),
            Err(error) => Err(storage.failed("open", "", error)),
        }
    }

    /// Makes the directory (and its parents) where it does not exist, then opens it.
    pub fn create(root: &Path) -> Result<Self> {
        let storage = Self {
            root: root.to_path_buf(),
            serial: AtomicU64::new(0),
        };
        storage
            .make_directory(root)
            .map_err(|error| storage.failed("create", "", error))?;
        Ok(storage)
    }

    /// Removes what interrupted writers left under `tmp/` more than a day ago. Returns how many files.
    pub fn sweep_leftovers(&self) -> Result<usize> {
        let tmp = self.root.join(TMP);
        let entries = match fs::read_dir(&tmp) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(self.failed("list", TMP, error)),
        };
        let mut removed = 0;
        for entry in entries {
            let entry = entry.map_err(|error| self.failed("list", TMP, error))?;
            // A clock that went backwards makes the age unknown: keep the file.
            let age = entry
                .metadata()
                .ok()
                .and_then(|meta| meta.modified().ok()?.elapsed().ok());
            if age.is_some_and(|age| age > TMP_KEPT) && fs::remove_file(entry.path()).is_ok() {
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn path(&self, key: &str) -> PathBuf {
        debug_assert!(
            !key.is_empty() && key.split('/').all(|part| !matches!(part, "" | "." | "..")),
            "{key}"
        );
        self.root.join(key)
    }

    fn failed(&self, action: &'static str, key: &str, source: io::Error) -> StorageError {
        let (key, location) = (key.to_string(), self.location());
        match source.kind() {
            io::ErrorKind::NotFound => StorageError::NotFound { key, location },
            io::ErrorKind::AlreadyExists => StorageError::AlreadyExists { key, location },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StorageError::Full {
                action,
                key,
                location,
            },
            io::ErrorKind::PermissionDenied => StorageError::Denied {
                action,
                key,
                location,
                reason: source.to_string(),
            },
            _ => StorageError::Io {
                action,
                key,
                location,
                source,
            },
        }
    }

    fn unavailable(&self, action: &'static str, key: &str, reason: String) -> StorageError {
        StorageError::Unavailable {
            action,
            key: key.to_string(),
            location: self.location(),
            reason,
        }
    }

    /// Makes a directory and those above it, each synced into its parent.
    fn make_directory(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        if let Some(parent) = parent {
            self.make_directory(parent)?;
        }
        match fs::DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => {}
            // Another writer was quicker.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
            Err(error) => return Err(error),
        }
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
    }

    /// Opens a fresh file under `tmp/`. The repository's own directory is never made here: if it vanished, a disk
    /// was unmounted, and writing to the mount point would hide that.
    fn temporary(&self) -> io::Result<(PathBuf, File)> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        loop {
            let serial = self.serial.fetch_add(1, Ordering::Relaxed);
            let mut salt = [0u8; 6];
            rustix::rand::getrandom(&mut salt, rustix::rand::GetRandomFlags::empty())?;
            let path =
                self.root
                    .join(TMP)
                    .join(format!("{}-{serial}-{}", std::process::id(), hex::encode(salt)));
            match options.open(&path) {
                Ok(file) => return Ok((path, file)),
                Err(error) if error.kind() == io::ErrorKind::NotFound && self.root.is_dir() => {
                    self.make_directory(&self.root.join(TMP))?;
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn write(&self, key: &str, parts: &[&[u8]], options: &PutOptions, replace: bool) -> Result<()> {
        if options.retain_until.is_some() {
            return Err(StorageError::Unsupported {
                location: self.location(),
                what: "lock objects against deletion; use object storage with object lock for that",
            });
        }
        // A path that is not found while writing means that the directory itself has gone.
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => self.unavailable(
                "write",
                key,
                "the directory is gone (is the disk mounted?)".into(),
            ),
            _ => self.failed("write", key, error),
        };
        let target = self.path(key);
        let (tmp, file) = self.temporary().map_err(failed)?;
        let written = write_all(file, parts)
            // A failed sync means that pages may be gone: the file is thrown away, never synced again.
            .and_then(|file| file.sync_all())
            .and_then(|()| self.settle(&tmp, &target, replace));
        if let Err(error) = written {
            let _ = fs::remove_file(&tmp);
            return Err(failed(error));
        }
        Ok(())
    }

    /// Moves a synced file to its place and syncs the directory.
    fn settle(&self, tmp: &Path, target: &Path, replace: bool) -> io::Result<()> {
        let directory = target.parent().unwrap_or(&self.root);
        let rename = || {
            if replace {
                fs::rename(tmp, target)
            } else {
                rename_new(tmp, target)
            }
        };
        match rename() {
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.root.is_dir() => {
                self.make_directory(directory)?;
                rename()?;
            }
            other => other?,
        }
        File::open(directory)?.sync_all()
    }

    fn walk(&self, directory: &Path, key: &str, found: &mut Vec<ObjectInfo>) -> io::Result<()> {
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if key.is_empty() && name == TMP {
                continue;
            }
            let meta = match entry.metadata() {
                Ok(meta) => meta,
                // Deleted since the directory was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let key = if key.is_empty() {
                name.to_string()
            } else {
                format!("{key}/{name}")
            };
            if meta.is_dir() {
                self.walk(&entry.path(), &key, found)?;
            } else if meta.is_file() {
                found.push(ObjectInfo {
                    key,
                    size: meta.len(),
                    modified: modified(&meta),
                });
            }
        }
        Ok(())
    }
}

impl Storage for LocalStorage {
    fn location(&self) -> String {
        self.root.display().to_string()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            conditional_put: true,
            retention: false,
        }
    }

    fn put(&self, key: &str, parts: &[&[u8]], options: &PutOptions) -> Result<()> {
        self.write(key, parts, options, true)
    }

    fn put_new(&self, key: &str, parts: &[&[u8]], options: &PutOptions) -> Result<()> {
        self.write(key, parts, options, false)
    }

    fn get(&self, key: &str) -> Result<Vec<u8>> {
        fs::read(self.path(key)).map_err(|error| self.failed("read", key, error))
    }

    fn get_range(&self, key: &str, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let read = File::open(self.path(key)).and_then(|file| {
            if buffer.len() < DIRECT {
                file.read_exact_at(buffer, offset)
            } else {
                DirectFile::new(file).read_exact_at(buffer, offset)
            }
        });
        read.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => StorageError::Short {
                key: key.to_string(),
                location: self.location(),
                wanted_end: offset.saturating_add(buffer.len() as u64),
            },
            _ => self.failed("read", key, error),
        })
    }

    fn head(&self, key: &str) -> Result<ObjectInfo> {
        let meta = fs::metadata(self.path(key)).map_err(|error| self.failed("look up", key, error))?;
        Ok(ObjectInfo {
            key: key.to_string(),
            size: meta.len(),
            modified: modified(&meta),
        })
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>> {
        let key = prefix.trim_end_matches('/');
        let directory = if key.is_empty() {
            self.root.clone()
        } else {
            self.path(key)
        };
        let mut found = Vec::new();
        self.walk(&directory, key, &mut found)
            .map_err(|error| self.failed("list", prefix, error))?;
        // An empty list because the disk went away would look like "everything was deleted".
        if found.is_empty() && !self.root.is_dir() {
            return Err(self.unavailable(
                "list",
                prefix,
                "the directory is gone (is the disk mounted?)".into(),
            ));
        }
        Ok(found)
    }

    fn delete(&self, key: &str) -> Result<()> {
        let path = self.path(key);
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(self.failed("delete", key, error)),
        }
        // What was deleted must not come back after a power cut: other objects may be gone because it was.
        File::open(path.parent().unwrap_or(&self.root))
            .and_then(|directory| directory.sync_all())
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => self.unavailable(
                    "delete",
                    key,
                    "the directory is gone (is the disk mounted?)".into(),
                ),
                _ => self.failed("delete", key, error),
            })
    }

    fn retain(&self, _key: &str, _until: Millis) -> Result<()> {
        Err(StorageError::Unsupported {
            location: self.location(),
            what: "lock objects against deletion; use object storage with object lock for that",
        })
    }

    fn sweep(&self) -> Result<usize> {
        self.sweep_leftovers()
    }

    fn thaw(&self, key: &str, _keep: Duration) -> Result<Thaw> {
        self.head(key).map(|_| Thaw::Ready)
    }
}

fn modified(meta: &fs::Metadata) -> Millis {
    meta.mtime()
        .saturating_mul(1000)
        .saturating_add(meta.mtime_nsec() / 1_000_000)
}

fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        // Some network file systems know no such rename; a hard link has the same effect.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::OPNOTSUPP) => {
            fs::hard_link(from, to)?;
            fs::remove_file(from)
        }
        Err(error) => Err(error.into()),
    }
}

/// Writes the parts one after the other; a long first one (a pack) past the page cache.
fn write_all(mut file: File, parts: &[&[u8]]) -> io::Result<File> {
    if let Some((pack, rest)) = parts.split_first()
        && pack.len() >= DIRECT
    {
        let file = DirectFile::new(file);
        file.write_all_at(pack, 0)?;
        let mut at = pack.len() as u64;
        for part in rest {
            file.file().write_all_at(part, at)?;
            at += part.len() as u64;
        }
        return Ok(file.into_file());
    }
    let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
    let mut rest = slices.as_mut_slice();
    // Empty parts at the front would make a write of nothing look like a full disk.
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        match file.write_vectored(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut rest, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_directory_is_not_an_empty_storage() {
        let tmp = tempfile::tempdir().unwrap();
        let root = tmp.path().join("disk");
        assert!(matches!(
            LocalStorage::open(&root),
            Err(StorageError::Unavailable { .. })
        ));
        let storage = LocalStorage::create(&root).unwrap();
        storage.put("a/b", &[b"x"], &PutOptions::default()).unwrap();
        fs::rename(&root, tmp.path().join("gone")).unwrap();
        assert!(matches!(
            storage.list("a/"),
            Err(StorageError::Unavailable { .. })
        ));
        assert!(storage.put("a/c", &[b"x"], &PutOptions::default()).is_err());
        assert!(
            !root.exists(),
            "an unmounted disk's mount point must not be filled"
        );
    }

    #[test]
    fn leftovers_are_never_listed() {
        let tmp = tempfile::tempdir().unwrap();
        let storage = LocalStorage::create(tmp.path()).unwrap();
        storage
            .put("x", &[b"", b"1", b"", b"2"], &PutOptions::default())
            .unwrap();
        fs::write(tmp.path().join("tmp/123-0-abc"), b"half").unwrap();
        let keys: Vec<_> = storage
            .list("")
            .unwrap()
            .into_iter()
            .map(|object| object.key)
            .collect();
        assert_eq!(keys, ["x"]);
        assert_eq!(storage.get("x").unwrap(), b"12");
        assert_eq!(
            storage.sweep_leftovers().unwrap(),
            0,
            "what is young may still be written"
        );
    }
}
