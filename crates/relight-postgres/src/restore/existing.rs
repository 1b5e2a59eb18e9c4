//! Restoring into a directory in which a cluster is already, or the beginning of one.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::layout::Places;
use super::unfinished::{MARK, Unfinished};
use crate::base::About;
use crate::base::control::{self, Control};
use crate::base::files::FileList;
use crate::error::{PostgresError, Result};

/// Refuses what is not the data directory of this cluster at rest, or what a restore of it left that did not come to its
/// end.
pub(super) fn check(places: &Places, about: &About, unfinished: Option<&Unfinished>) -> Result<()> {
    let directory = places.directory();
    let refused =
        |why: String| PostgresError::Refused(format!("{} is left as it is: {why}", directory.display()));
    check_tablespaces(places, unfinished)?;
    match unfinished {
        // Nothing else in it has to make sense yet.
        Some(unfinished) if unfinished.system == about.system => {}
        Some(unfinished) => {
            return Err(refused(format!(
                "it holds an unfinished restore of cluster {}, and the backup is one of cluster {}",
                unfinished.system, about.system
            )));
        }
        None => check_version(directory, about)?,
    }
    if directory.join("postmaster.pid").exists() {
        return Err(refused(
            "a server runs in it, or ended without tidying up (it has a postmaster.pid): stop the server first".into(),
        ));
    }
    match fs::read(directory.join(control::PATH)) {
        Ok(bytes) => {
            let there = Control::parse(&bytes).map_err(|error| refused(error.to_string()))?;
            if there.system != about.system {
                return Err(refused(format!(
                    "it holds cluster {}, and the backup is one of cluster {}",
                    there.system, about.system
                )));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(PostgresError::io("read", &directory.join(control::PATH))(error)),
    }
    Ok(())
}

/// Refuses a directory in which something is and that is no tablespace of the cluster that is there: all that the backup does
/// not have is removed from it.
fn check_tablespaces(places: &Places, unfinished: Option<&Unfinished>) -> Result<()> {
    for (link, place) in places.links() {
        let is_known =
            unfinished.is_some_and(|unfinished| unfinished.places.iter().any(|known| known == place));
        let is_linked = || {
            let to = fs::canonicalize(&link);
            to.is_ok_and(|to| fs::canonicalize(place).is_ok_and(|place| to == place))
        };
        let is_empty = || match fs::read_dir(place) {
            Ok(mut entries) => Ok(entries.next().is_none()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(PostgresError::io("look into", place)(error)),
        };
        if !is_known && !is_linked() && !is_empty()? {
            return Err(PostgresError::Refused(format!(
                "{} is left as it is: it is not empty, and {} does not lead to it, so that it is no tablespace of the \
                 cluster that is there; choose another place with --tablespace",
                place.display(),
                link.display()
            )));
        }
    }
    Ok(())
}

fn check_version(directory: &Path, about: &About) -> Result<()> {
    let refused =
        |why: String| PostgresError::Refused(format!("{} is left as it is: {why}", directory.display()));
    match fs::read_to_string(directory.join("PG_VERSION")) {
        Ok(version) if version.trim() == about.major().to_string() => {}
        Ok(version) => {
            return Err(refused(format!(
                "it holds a cluster of PostgreSQL {}, and the backup is one of {}",
                version.trim(),
                about.major()
            )));
        }
        Err(_) => {
            return Err(refused(
                "it is no data directory (it has no PG_VERSION); to restore into a new directory, leave out --delta".into(),
            ));
        }
    }
    Ok(())
}

/// Removes what the backup does not have. Gives how much that was.
pub(super) fn clear(places: &Places, list: &FileList) -> Result<u64> {
    let mut wanted: HashSet<PathBuf> = list
        .entries
        .iter()
        .map(|entry| places.path(&entry.path))
        .collect();
    wanted.extend(places.links().map(|(link, _)| link));
    wanted.insert(places.directory().join(MARK));
    let mut removed = 0;
    for root in places.roots() {
        if root.exists() {
            clear_directory(&root, places, &wanted, &mut removed)?;
        }
    }
    Ok(removed)
}

fn clear_directory(
    directory: &Path,
    places: &Places,
    wanted: &HashSet<PathBuf>,
    removed: &mut u64,
) -> Result<()> {
    let entries = fs::read_dir(directory).map_err(PostgresError::io("look into", directory))?;
    for entry in entries {
        let entry = entry.map_err(PostgresError::io("look into", directory))?;
        let path = entry.path();
        let kind = entry.file_type().map_err(PostgresError::io("look at", &path))?;
        let failed = PostgresError::io("remove", &path);
        if kind.is_dir() {
            clear_directory(&path, places, wanted, removed)?;
            if !wanted.contains(&path) {
                fs::remove_dir(&path).map_err(failed)?;
                *removed += 1;
            }
        } else if !wanted.contains(&path) {
            fs::remove_file(&path).map_err(failed)?;
            *removed += 1;
        } else if kind.is_symlink() && !places.is_link(&path) {
            // Made again; what it points to is not followed.
            fs::remove_file(&path).map_err(failed)?;
        }
    }
    Ok(())
}

/// Empties directories that were empty before, and gives back the room that was taken there.
pub(super) fn give_back(places: &Places) -> Result<()> {
    let nothing = HashSet::new();
    for root in places.roots() {
        if root.exists() {
            clear_directory(&root, places, &nothing, &mut 0)?;
        }
    }
    Ok(())
}
