//! Whether a restored tree is the same as its source: names, kinds, content, modes, modification times.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::failure::{Doing, Failure, Result};

/// Finds where under `target` a tool has put the tree that was at `source`: at the whole path, under its last
/// name, or right there. The deepest of these that exists and has something of the source's is taken.
pub fn restored_root(source: &Path, target: &Path) -> PathBuf {
    let whole = source.strip_prefix("/").map(|path| target.join(path));
    let named = source.file_name().map(|name| target.join(name));
    [whole.ok(), named]
        .into_iter()
        .flatten()
        .find(|path| path.is_dir())
        .unwrap_or_else(|| target.to_owned())
}

/// Fails unless both trees are the same; says what differs first.
pub fn check(source: &Path, restored: &Path) -> Result<()> {
    let mut directories = vec![PathBuf::new()];
    let mut buffers = (vec![0; 1 << 20], vec![0; 1 << 20]);
    while let Some(relative) = directories.pop() {
        let (left, right) = (source.join(&relative), restored.join(&relative));
        let (left_names, right_names) = (names(&left)?, names(&right)?);
        if let Some(name) = left_names.symmetric_difference(&right_names).next() {
            let side = if left_names.contains(name) {
                "missing from"
            } else {
                "too much in"
            };
            return Err(Failure::new(format!(
                "{} is {side} the restored tree",
                relative.join(name).display()
            )));
        }
        for name in left_names {
            let path = relative.join(name);
            let (left, right) = (source.join(&path), restored.join(&path));
            let (is, should) = (metadata(&right)?, metadata(&left)?);
            check_metadata(&path, &should, &is)?;
            if should.is_dir() {
                directories.push(path);
            } else if should.is_symlink() {
                let (is, should) = (link(&right)?, link(&left)?);
                if is != should {
                    return Err(Failure::new(format!(
                        "the symbolic link {} has another target",
                        path.display()
                    )));
                }
            } else if should.is_file() {
                check_content(&left, &right, &mut buffers)?;
            }
        }
    }
    Ok(())
}

/// Fails unless `restored` holds, at any depth, a file of the name of `source` with its content.
pub fn check_one(source: &Path, restored: &Path) -> Result<()> {
    let wanted = source.file_name().unwrap_or_default();
    let mut directories = vec![restored.to_owned()];
    while let Some(directory) = directories.pop() {
        for name in names(&directory)? {
            let path = directory.join(&name);
            let found = metadata(&path)?;
            if found.is_dir() {
                directories.push(path);
            } else if name == wanted {
                return check_content(source, &path, &mut (vec![0; 1 << 16], vec![0; 1 << 16]));
            }
        }
    }
    Err(Failure::new(format!(
        "{} was not restored under {}",
        source.display(),
        restored.display()
    )))
}

/// Fails unless `restored` holds, at any depth and under any name, one file, with the content of the image `source`.
/// Tools that save a disk as a disk and not as a file keep neither its name nor its times.
pub fn check_image(source: &Path, restored: &Path) -> Result<()> {
    let mut files = Vec::new();
    let mut directories = vec![restored.to_owned()];
    while let Some(directory) = directories.pop() {
        for name in names(&directory)? {
            let path = directory.join(name);
            if metadata(&path)?.is_dir() {
                directories.push(path)
            } else {
                files.push(path)
            }
        }
    }
    match files.as_slice() {
        [only] => check_content(source, only, &mut (vec![0; 1 << 20], vec![0; 1 << 20])),
        others => Err(Failure::new(format!(
            "{} files were restored instead of one image",
            others.len()
        ))),
    }
}

fn names(directory: &Path) -> Result<BTreeSet<OsString>> {
    let doing = || format!("list {}", directory.display());
    fs::read_dir(directory)
        .doing(doing)?
        .map(|entry| entry.map(|entry| entry.file_name()).doing(doing))
        .collect()
}

fn metadata(path: &Path) -> Result<Metadata> {
    fs::symlink_metadata(path).doing(|| format!("stat {}", path.display()))
}

fn link(path: &Path) -> Result<PathBuf> {
    fs::read_link(path).doing(|| format!("read the link {}", path.display()))
}

fn check_metadata(path: &Path, should: &Metadata, is: &Metadata) -> Result<()> {
    let differs = |what: &str| {
        Err(Failure::new(format!(
            "{}: another {what} than the source",
            path.display()
        )))
    };
    if should.file_type() != is.file_type() {
        return differs("kind of file");
    }
    if should.is_symlink() {
        return Ok(());
    }
    if should.mode() != is.mode() {
        return differs("mode");
    }
    if should.is_file() && should.len() != is.len() {
        return differs("size");
    }
    // To the microsecond: that is as far as every tool here goes.
    let micros = |m: &Metadata| (m.mtime(), m.mtime_nsec() / 1000);
    if should.is_file() && micros(should) != micros(is) {
        return differs("modification time");
    }
    Ok(())
}

fn check_content(left: &Path, right: &Path, buffers: &mut (Vec<u8>, Vec<u8>)) -> Result<()> {
    let open = |path: &Path| File::open(path).doing(|| format!("open {}", path.display()));
    let (mut left_file, mut right_file) = (open(left)?, open(right)?);
    let mut position = 0_u64;
    loop {
        let left_read = fill(&mut left_file, &mut buffers.0).doing(|| format!("read {}", left.display()))?;
        let right_read =
            fill(&mut right_file, &mut buffers.1).doing(|| format!("read {}", right.display()))?;
        if buffers.0[..left_read] != buffers.1[..right_read] {
            return Err(Failure::new(format!(
                "{} differs from its source after byte {position}",
                right.display()
            )));
        }
        if left_read == 0 {
            return Ok(());
        }
        position += left_read as u64;
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::time::{Duration, SystemTime};

    type Change = fn(&Path);

    fn tree(root: &Path) {
        fs::create_dir_all(root.join("a/b")).unwrap();
        for (name, content) in [("a/one", "1"), ("a/b/two", "22")] {
            fs::write(root.join(name), content).unwrap();
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
            File::options()
                .write(true)
                .open(root.join(name))
                .unwrap()
                .set_modified(time)
                .unwrap();
        }
        symlink("one", root.join("a/link")).unwrap();
    }

    #[test]
    fn an_image_may_have_another_name_but_no_other_content() {
        let dir = tempfile::tempdir().unwrap();
        let (image, restored) = (dir.path().join("disk.raw"), dir.path().join("restored"));
        fs::create_dir_all(restored.join("deep")).unwrap();
        fs::write(&image, "content").unwrap();
        fs::write(restored.join("deep/disk.img"), "content").unwrap();
        check_image(&image, &restored).unwrap();
        fs::write(restored.join("deep/disk.img"), "Content").unwrap();
        assert!(check_image(&image, &restored).is_err());
    }

    #[test]
    fn every_difference_is_found() {
        let changes: [(&str, Change); 6] = [
            ("differs from its source", |root| {
                let file = File::options().write(true).open(root.join("a/b/two")).unwrap();
                std::os::unix::fs::FileExt::write_all_at(&file, b"2X", 0).unwrap();
                file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000))
                    .unwrap();
            }),
            ("missing", |root| fs::remove_file(root.join("a/one")).unwrap()),
            ("too much", |root| fs::write(root.join("a/more"), "").unwrap()),
            ("size", |root| fs::write(root.join("a/one"), "12").unwrap()),
            ("modification time", |root| {
                fs::write(root.join("a/one"), "1").unwrap()
            }),
            ("another target", |root| {
                fs::remove_file(root.join("a/link")).unwrap();
                symlink("b", root.join("a/link")).unwrap();
            }),
        ];
        for (expected, change) in changes {
            let dir = tempfile::tempdir().unwrap();
            let (left, right) = (dir.path().join("left"), dir.path().join("right"));
            tree(&left);
            tree(&right);
            check(&left, &right).unwrap();
            check_one(&left.join("a/b/two"), &right).unwrap();
            change(&right);
            assert!(check_image(&left.join("a/one"), &right).is_err());
            let failure = check(&left, &right).unwrap_err().to_string();
            assert!(failure.contains(expected), "{expected}: {failure}");
        }
    }
}
