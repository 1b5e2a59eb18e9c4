//! Directories, links and empty files of a cluster, and where its tablespaces go.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::Options;
use super::unfinished::MARK;
use crate::base::files::{Entry, EntryKind, FileList, Tablespace};
use crate::base::{control, label};
use crate::error::{PostgresError, Result};

/// Where tablespaces go: their old places and the new ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TablespaceMap {
    /// Single ones, by number or old place.
    pub single: BTreeMap<String, PathBuf>,
    /// A folder for all others, each under its number; none: where they were.
    pub others: Option<PathBuf>,
}

/// Where everything goes.
pub(super) struct Places {
    directory: PathBuf,
    /// Prefix in the list of files, and where it goes.
    tablespaces: Vec<(String, PathBuf)>,
}

impl Places {
    /// Finds them out.
    pub fn new(directory: &Path, tablespaces: &[Tablespace], map: &TablespaceMap) -> Result<Self> {
        if !directory.is_absolute() {
            return Err(PostgresError::Refused(format!(
                "{}: give the data directory as a path that begins with /",
                directory.display()
            )));
        }
        let known = |name: &String| {
            tablespaces
                .iter()
                .any(|space| space.oid.to_string() == *name || space.location == *name)
        };
        if let Some(unknown) = map.single.keys().find(|name| !known(name)) {
            let there: Vec<String> = tablespaces
                .iter()
                .map(|space| format!("{} at {}", space.oid, space.location))
                .collect();
            let there = if there.is_empty() {
                "none".to_string()
            } else {
                there.join(", ")
            };
            return Err(PostgresError::Refused(format!(
                "the backup has no tablespace {unknown}; it has {there}"
            )));
        }
        let mut found: Vec<(String, PathBuf)> = Vec::new();
        for space in tablespaces {
            let oid = space.oid.to_string();
            let chosen = map
                .single
                .get(&oid)
                .or_else(|| map.single.get(&space.location))
                .cloned()
                .or_else(|| Some(map.others.as_ref()?.join(&oid)));
            let place = match chosen {
                Some(place) => place,
                // Inside the data directory: for developers of PostgreSQL only.
                None if !space.location.starts_with('/') => continue,
                None => PathBuf::from(&space.location),
            };
            let refused = |why: &str| {
                PostgresError::Refused(format!(
                    "tablespace {oid} cannot go to {}: {why}; map it with --tablespace {oid}=DIRECTORY",
                    place.display()
                ))
            };
            if !place.is_absolute() {
                return Err(refused("its path does not begin with /"));
            }
            if place.starts_with(directory) || directory.starts_with(&place) {
                return Err(refused("it and the data directory lie in each other"));
            }
            if found
                .iter()
                .any(|(_, other)| place.starts_with(other) || other.starts_with(&place))
            {
                return Err(refused("it and another tablespace lie in each other"));
            }
            found.push((format!("pg_tblspc/{oid}"), place));
        }
        Ok(Self {
            directory: directory.to_path_buf(),
            tablespaces: found,
        })
    }

    /// Refuses directories in which something is, but for the mark of a restore that had not begun yet.
    pub fn check_empty(&self) -> Result<()> {
        for root in self.roots() {
            match fs::read_dir(&root) {
                Ok(mut entries) => {
                    let is_mark = |entry: &io::Result<fs::DirEntry>| {
                        entry.as_ref().is_ok_and(|entry| entry.file_name() == MARK)
                    };
                    if entries.any(|entry| !is_mark(&entry)) {
                        return Err(PostgresError::Refused(format!(
                            "{} is not empty: nothing was changed; choose another place, or --delta to bring back into \
                             what is there",
                            root.display()
                        )));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(PostgresError::io("look into", &root)(error)),
            }
        }
        Ok(())
    }

    /// The data directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The data directory and those of the tablespaces.
    pub fn roots(&self) -> Vec<PathBuf> {
        let spaces = self.tablespaces.iter().map(|(_, place)| place.clone());
        std::iter::once(self.directory.clone()).chain(spaces).collect()
    }

    /// Where something goes. What is in tablespaces is not looked for through links.
    pub fn path(&self, path: &str) -> PathBuf {
        match self.tablespace_of(path) {
            Some((_, place, "")) => place.to_path_buf(),
            Some((_, place, rest)) => place.join(rest),
            None => self.directory.join(path),
        }
    }

    /// In which of the [roots](Self::roots) something goes.
    pub fn root_of(&self, path: &str) -> usize {
        self.tablespace_of(path).map_or(0, |(number, _, _)| number + 1)
    }

    /// The tablespace that a path leads into, its place, and the path from there.
    fn tablespace_of<'p>(&self, path: &'p str) -> Option<(usize, &Path, &'p str)> {
        let spaces = self.tablespaces.iter().enumerate();
        spaces.into_iter().find_map(|(number, (prefix, place))| {
            let rest = path.strip_prefix(prefix.as_str())?;
            let below = rest.strip_prefix('/');
            below
                .or_else(|| rest.is_empty().then_some(rest))
                .map(|rest| (number, place.as_path(), rest))
        })
    }

    /// The links of the tablespaces.
    pub fn links(&self) -> impl Iterator<Item = (PathBuf, &Path)> {
        self.tablespaces
            .iter()
            .map(|(link, place)| (self.directory.join(link), place.as_path()))
    }

    /// Where tablespaces are linked to.
    pub fn is_link(&self, path: &Path) -> bool {
        self.links().any(|(link, _)| link == path)
    }
}

/// Makes all directories, links and files; the files have their lengths and no content yet.
pub(super) fn make(places: &Places, list: &FileList, options: &Options) -> Result<()> {
    let owner = options.owner;
    for root in places.roots() {
        directory(&root, owner).map_err(PostgresError::io("make", &root))?;
    }
    for entry in &list.entries {
        let path = places.path(&entry.path);
        let made = match &entry.kind {
            EntryKind::Directory => directory(&path, owner),
            EntryKind::Link { to } => link(&path, Path::new(to), owner),
            // Comes last.
            EntryKind::File { .. } if entry.path == control::PATH => Ok(()),
            EntryKind::File { size, .. } => file(&path, *size, owner),
        };
        made.map_err(PostgresError::io("make", &path))?;
    }
    for (path, to) in places.links() {
        link(&path, to, owner).map_err(PostgresError::io("make", &path))?;
    }
    Ok(())
}

/// Gives files and directories the permissions that they had.
pub(super) fn finish(places: &Places, list: &FileList) -> Result<()> {
    for entry in &list.entries {
        if matches!(entry.kind, EntryKind::Link { .. }) || is_made_anew(entry) {
            continue;
        }
        let path = places.path(&entry.path);
        let set = fs::set_permissions(&path, fs::Permissions::from_mode(entry.mode & 0o777));
        set.map_err(PostgresError::io("set permissions of", &path))?;
    }
    Ok(())
}

/// What this program writes itself.
fn is_made_anew(entry: &Entry) -> bool {
    entry.path == control::PATH || OWN.contains(&entry.path.as_str())
}

/// Makes a directory, for the server's user only, or takes the one that is there.
pub(super) fn directory(path: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Above the roots only.
            fs::create_dir_all(path)?;
        }
        other => other?,
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    give(path, owner)
}

fn link(path: &Path, to: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
    match fs::read_link(path) {
        Ok(there) if there == to => return Ok(()),
        Ok(_) => fs::remove_file(path)?,
        Err(_) if path.is_dir() => fs::remove_dir(path)?,
        Err(_) => {}
    }
    symlink(to, path)?;
    match owner {
        Some((user, group)) => std::os::unix::fs::lchown(path, Some(user), Some(group)),
        None => Ok(()),
    }
}

/// Files of this size are given their space before they are written to: what does not fit is known at once, and into
/// space that is there several threads write at the same time, while of holes each is filled after the other.
const PREPARED: u64 = 1 << 20;

fn file(path: &Path, size: u64, owner: Option<(u32, u32)>) -> io::Result<()> {
    match path.symlink_metadata() {
        Ok(meta) if !meta.is_file() => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "something else is there",
            ));
        }
        Ok(_) => {}
        Err(_) => new_file(path, 0o600, owner)?,
    }
    let file = fs::OpenOptions::new().write(true).open(path)?;
    file.set_len(size)?;
    if size >= PREPARED {
        // Where the file system cannot, it is as good as holes.
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, size) {
            Err(error) if error == Errno::NOSPC => return Err(error.into()),
            _ => {}
        }
    }
    give(path, owner)
}

/// Makes a file, or empties the one that is there.
pub(super) fn new_file(path: &Path, mode: u32, owner: Option<(u32, u32)>) -> io::Result<()> {
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)?;
    give(path, owner)
}

fn give(path: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
    match owner {
        Some((user, group)) => chown(path, Some(user), Some(group)),
        None => Ok(()),
    }
}

/// Files that a restore writes by itself and that no backup may decide about.
pub(super) const OWN: [&str; 4] = [label::MAP, "recovery.signal", "standby.signal", "postmaster.pid"];
