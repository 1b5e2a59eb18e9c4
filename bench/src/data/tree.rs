//! A tree of many small files, as a home directory or a source server has them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::Prepared;
use super::content::{Kind, fill};
use super::random::Random;
use crate::failure::{Doing, Result};

/// The middle of the file sizes of the log-normal distribution. With [`SIGMA`] the mean is 10.7 kB, which makes
/// 200,000 files 2 GiB.
const MEDIAN: f64 = 4613.0;
/// The spread: most files lie between 1 and 20 kB, one in a thousand is larger than 250 kB.
const SIGMA: f64 = 1.3;
const LARGEST: f64 = (4 << 20) as f64;
/// Files in a directory, on average.
const FILES_A_DIRECTORY: u64 = 20;

/// A file that is there in every state of the tree, for the restore of one file.
pub const STEADY: &str = "projects/steady/README.md";

/// Extension, content and share of all files.
const TYPES: [(&str, Kind, f64); 8] = [
    ("rs", Kind::Prose, 0.22),
    ("md", Kind::Prose, 0.10),
    ("py", Kind::Prose, 0.12),
    ("json", Kind::Log, 0.12),
    ("log", Kind::Log, 0.09),
    ("db", Kind::Records, 0.10),
    ("png", Kind::Noise, 0.15),
    ("gz", Kind::Noise, 0.10),
];

/// What a file of the tree is, computed from its number alone.
struct FileSpec {
    path: PathBuf,
    size: usize,
    kind: Kind,
    executable: bool,
    modified: SystemTime,
    /// The generator of its content.
    content: Random,
}

impl FileSpec {
    fn new(root: &Path, seed: u64, index: u64) -> Self {
        let mut own = Random::part(seed, index);
        let path = root
            .join(directory(seed, index / FILES_A_DIRECTORY))
            .join(name(&mut own, index));
        // One in fifty is a copy of an earlier file under another name.
        let original = if index > 100 && own.below(50) == 0 {
            own.below(index)
        } else {
            index
        };
        let mut content = Random::part(seed ^ 0x636f_6e74, original);
        let size = (MEDIAN * (SIGMA * content.normal()).exp()).min(LARGEST) as usize;
        let kind = kind_of(Path::new(&name(&mut Random::part(seed, original), original)));
        let age =
            Duration::from_secs(own.below(3 * 365 * 86_400)) + Duration::from_nanos(own.below(1_000_000_000));
        // From September 2023 back; fixed, so that data does not depend on the day of the run.
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(1_695_000_000) - age;
        Self {
            path,
            size,
            kind,
            executable: own.below(20) == 0,
            modified,
            content,
        }
    }

    fn write(&mut self, buffer: &mut Vec<u8>) -> Result<u64> {
        let doing = || format!("write {}", self.path.display());
        buffer.resize(self.size, 0);
        fill(self.kind, &mut self.content, buffer);
        fs::write(&self.path, &*buffer).doing(doing)?;
        let mode = if self.executable { 0o755 } else { 0o644 };
        fs::set_permissions(&self.path, fs::Permissions::from_mode(mode)).doing(doing)?;
        let file = fs::File::options().write(true).open(&self.path).doing(doing)?;
        file.set_modified(self.modified).doing(doing)?;
        Ok(buffer.len() as u64)
    }
}

/// Directories form a tree of which each node has a few children, two to six levels deep.
fn directory(seed: u64, index: u64) -> PathBuf {
    let mut names = Vec::new();
    let mut node = index;
    loop {
        let mut random = Random::part(seed ^ 0x6469_7273, node);
        names.push(format!(
            "{}{node}",
            ["src", "docs", "tests", "assets", "lib", "data"][random.below(6) as usize]
        ));
        if node == 0 {
            break;
        }
        node /= 7;
    }
    names.push("projects".to_owned());
    names.iter().rev().collect()
}

fn name(random: &mut Random, index: u64) -> String {
    let mut share = random.unit();
    let mut extension = TYPES[0].0;
    for (candidate, _, weight) in TYPES {
        extension = candidate;
        if share < weight {
            break;
        }
        share -= weight;
    }
    let stem = [
        "index", "module", "handler", "report", "image", "part", "notes", "config",
    ][random.below(8) as usize];
    format!("{stem}_{index}.{extension}")
}

fn kind_of(path: &Path) -> Kind {
    let extension = path.extension().unwrap_or_default();
    TYPES
        .iter()
        .find(|(candidate, ..)| *candidate == extension)
        .map_or(Kind::Prose, |&(_, kind, _)| kind)
}

/// Writes `files` files under `root`.
pub fn generate(root: &Path, files: u64, seed: u64) -> Result<Prepared> {
    let mut buffer = Vec::new();
    let mut bytes = 0;
    for index in 0..files {
        let mut spec = FileSpec::new(root, seed, index);
        if index % FILES_A_DIRECTORY == 0
            && let Some(parent) = spec.path.parent()
        {
            fs::create_dir_all(parent).doing(|| format!("create {}", parent.display()))?;
        }
        bytes += spec.write(&mut buffer)?;
        if index % 500 == 250 {
            let link = spec.path.with_extension("link");
            let target = spec.path.file_name().unwrap_or_default();
            symlink(target, &link).doing(|| format!("link {}", link.display()))?;
        }
    }
    let steady = root.join(STEADY);
    if let Some(parent) = steady.parent() {
        fs::create_dir_all(parent).doing(|| format!("create {}", parent.display()))?;
    }
    buffer.resize(6000, 0);
    fill(Kind::Prose, &mut Random::new(seed ^ 0x7374_6561), &mut buffer);
    fs::write(&steady, &buffer).doing(|| format!("write {}", steady.display()))?;
    Ok(Prepared {
        bytes: bytes + buffer.len() as u64,
        files: files + 1,
        changed: 0,
    })
}

/// Changes one file in a hundred (half of them rewritten, half added to), removes, adds and renames one in a
/// thousand each.
pub fn change(root: &Path, files: u64, seed: u64) -> Result<Prepared> {
    let mut random = Random::new(seed ^ 0x6368_616e);
    let mut buffer = Vec::new();
    let mut changed = 0;
    let mut next_file = files;
    // Every tenth group of a hundred is also the thousandth that loses, gains and renames a file. The places in a
    // group are apart, so that no file meets two fates.
    for (group, start) in (0..files).step_by(100).enumerate() {
        let member = |random: &mut Random, from: u64| (start + from + random.below(25)).min(files - 1);
        let mut modified = FileSpec::new(root, seed, member(&mut random, 0));
        let doing = || format!("change {}", modified.path.display());
        let size = modified.size;
        if random.below(2) == 0 {
            buffer.resize(size, 0);
            fill(modified.kind, &mut random, &mut buffer);
        } else {
            buffer = fs::read(&modified.path).doing(doing)?;
            let old = buffer.len();
            buffer.resize(old + 200 + random.below(1000) as usize, 0);
            fill(modified.kind, &mut random, &mut buffer[old..]);
        }
        fs::write(&modified.path, &buffer).doing(doing)?;
        changed += buffer.len() as u64;
        modified.size = buffer.len();
        if group % 10 != 0 || start + 100 > files {
            continue;
        }
        let removed = FileSpec::new(root, seed, member(&mut random, 25)).path;
        fs::remove_file(&removed).doing(|| format!("remove {}", removed.display()))?;
        let renamed = FileSpec::new(root, seed, member(&mut random, 50)).path;
        let stem = renamed
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let mut new_name = renamed.with_file_name(format!("{stem}_renamed"));
        if let Some(extension) = renamed.extension() {
            new_name.set_extension(extension);
        }
        fs::rename(&renamed, &new_name).doing(|| format!("rename {}", renamed.display()))?;
        let mut added = FileSpec::new(root, seed, next_file);
        next_file += 1;
        let Some(parent) = renamed.parent() else { continue };
        added.path = parent.join(added.path.file_name().unwrap_or_default());
        changed += added.write(&mut buffer)?;
    }
    let count = super::count(root)?;
    Ok(Prepared { changed, ..count })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_has_the_size_it_should_and_a_change_touches_one_percent() {
        let dir = tempfile::tempdir().unwrap();
        let made = generate(dir.path(), 4000, 1).unwrap();
        let mean = made.bytes as f64 / made.files as f64;
        assert!((8_000.0..14_000.0).contains(&mean), "{mean}");
        let counted = super::super::count(dir.path()).unwrap();
        assert_eq!((counted.bytes, counted.files), (made.bytes, made.files));
        let changed = change(dir.path(), 4000, 1).unwrap();
        // Four removed, four added, forty changed.
        assert_eq!(changed.files, made.files);
        assert!(changed.changed > 0 && changed.changed < made.bytes / 20);
        assert!(dir.path().join(STEADY).is_file());
    }
}
