//! Restoring into a directory in which a cluster is already.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::layout::Places;
use crate::base::About;
use crate::base::control::{self, Control};
use crate::base::files::FileList;
use crate::error::{PostgresError, Result};

/// Refuses what is not the data directory of this cluster at rest.
pub(super) fn check(directory: &Path, about: &About) -> Result<()> {
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
        // An earlier restore broke off: it left its mark.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(PostgresError::io("read", &directory.join(control::PATH))(error)),
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
