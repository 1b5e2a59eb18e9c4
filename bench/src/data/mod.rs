//! The data that is backed up: generated, the same on every machine for the same scale.

mod content;
mod extents;
mod random;

mod tree;

use std::fs;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use self::content::Kind;
use self::extents::{DISK, Mix};
pub use self::random::Random;
use crate::failure::{Doing, Result};

/// One of the sets of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DataSet {
    /// A disk image of 4 GiB, half of it incompressible.
    Image,
    /// 200,000 small files of 2 GiB.
    Tree,
    /// Four files of 512 MiB.
    Large,
}

/// What a generator has made.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Prepared {
    /// Bytes in regular files.
    pub bytes: u64,
    /// Regular files.
    pub files: u64,
    /// Bytes in what was changed, for a change.
    pub changed: u64,
}

/// The share that is changed before the third backup.
const CHANGED_SHARE: f64 = 0.01;
const SEED: u64 = 0x7265_6c69_6768_7421;

const DUMP: Mix = &[(Kind::Log, 0.6), (Kind::Prose, 0.4)];
const MEDIA: Mix = &[(Kind::Noise, 1.0)];
const MEMORY: Mix = &[(Kind::Records, 0.45), (Kind::Noise, 0.25), (Kind::Zero, 0.30)];

/// The large files and what is in them.
const LARGE_FILES: [(&str, Mix); 4] = [
    ("database.sql", DUMP),
    ("recording.mp4", MEDIA),
    ("archive.tar", DISK),
    ("memory.vmem", MEMORY),
];
const NOTES: &str = "notes.txt";

/// Fills `out` with prose: words and a few marks between them.
pub fn prose(random: &mut Random, out: &mut [u8]) {
    content::fill(Kind::Prose, random, out);
}

/// Writes a disk image of `length` bytes to a new file; others for other seeds.
pub fn write_disk(path: &Path, length: u64, seed: u64) -> Result<()> {
    extents::write_file(path, length, DISK, SEED ^ seed)
}

impl DataSet {
    /// All of them, in the order in which they are measured.
    pub const ALL: [Self; 3] = [Self::Image, Self::Tree, Self::Large];

    /// The name in tables and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Tree => "tree",
            Self::Large => "large",
        }
    }

    /// The disk image under `root`, for the set that is one.
    pub fn image(self, root: &Path) -> Option<PathBuf> {
        (self == Self::Image).then(|| root.join("disk.raw"))
    }

    /// The small file under the root that is restored alone, for the sets that have one.
    pub const fn small_file(self) -> Option<&'static str> {
        match self {
            Self::Image => None,
            Self::Tree => Some(tree::STEADY),
            Self::Large => Some(NOTES),
        }
    }

    /// Generates the set under the new directory `root`, `scale` times its full size.
    pub fn generate(self, root: &Path, scale: f64) -> Result<Prepared> {
        fs::create_dir_all(root).doing(|| format!("create {}", root.display()))?;
        match self {
            Self::Image => {
                extents::write_file(&root.join("disk.raw"), scaled(4 << 30, scale), DISK, SEED)?;
                count(root)
            }
            Self::Tree => tree::generate(root, scaled(200_000, scale), SEED),
            Self::Large => {
                for ((name, mix), seed) in LARGE_FILES.into_iter().zip(SEED..) {
                    extents::write_file(&root.join(name), scaled(512 << 20, scale), mix, seed)?;
                }
                let notes = "What the four large files are for.\n".repeat(100);
                fs::write(root.join(NOTES), notes).doing(|| format!("write {NOTES}"))?;
                count(root)
            }
        }
    }

    /// Changes about one percent of what [`generate`](Self::generate) made.
    pub fn change(self, root: &Path, scale: f64) -> Result<Prepared> {
        match self {
            Self::Image => {
                let path = root.join("disk.raw");
                let changed = extents::overwrite_bursts(&path, CHANGED_SHARE, 4 << 20, DISK, SEED + 1)?;
                Ok(Prepared {
                    changed,
                    ..count(root)?
                })
            }
            Self::Tree => tree::change(root, scaled(200_000, scale), SEED),
            Self::Large => {
                let share = (scaled(512 << 20, scale) as f64 * CHANGED_SHARE) as u64;
                let path = |index: usize| root.join(LARGE_FILES[index].0);
                // A dump that has grown in the middle, a recording that was cut anew, an archive that was added to, and
                // a memory image that was saved again.
                let changed = extents::insert(&path(0), 4, share / 4, DUMP, SEED + 10)?
                    + extents::overwrite_bursts(&path(1), CHANGED_SHARE, 1 << 20, MEDIA, SEED + 11)?
                    + extents::append(&path(2), share, DISK, SEED + 12)?
                    + extents::overwrite_bursts(&path(3), CHANGED_SHARE, 64 << 10, MEMORY, SEED + 13)?;
                Ok(Prepared {
                    changed,
                    ..count(root)?
                })
            }
        }
    }
}

/// `full` times `scale`, at least 1.
fn scaled(full: u64, scale: f64) -> u64 {
    ((full as f64 * scale) as u64).max(1)
}

/// Regular files under `root` and their bytes.
pub fn count(root: &Path) -> Result<Prepared> {
    let mut found = Prepared::default();
    each_file(root, |path| {
        let metadata = fs::symlink_metadata(path).doing(|| format!("look at {}", path.display()))?;
        found.files += 1;
        found.bytes += metadata.len();
        Ok(())
    })?;
    Ok(found)
}

/// Reads everything under `root` once, so that all tools find it in the page cache.
pub fn read_all(root: &Path) -> Result<()> {
    let mut buffer = vec![0; 1 << 20];
    each_file(root, |path| {
        let doing = || format!("read {}", path.display());
        let mut file = fs::File::open(path).doing(doing)?;
        while std::io::Read::read(&mut file, &mut buffer).doing(doing)? > 0 {}
        Ok(())
    })
}

/// Puts everything under `root` out of the page cache, so that all tools read it from disk.
pub fn put_out_of_cache(root: &Path) -> Result<()> {
    each_file(root, |path| {
        let doing = || format!("put {} out of the page cache", path.display());
        let file = fs::File::open(path).doing(doing)?;
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)
            .map_err(std::io::Error::from)
            .doing(doing)
    })
}

/// Calls `visit` for each regular file under `root`.
fn each_file(root: &Path, mut visit: impl FnMut(&Path) -> Result<()>) -> Result<()> {
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        let doing = || format!("list {}", directory.display());
        for entry in fs::read_dir(&directory).doing(doing)? {
            let entry = entry.doing(doing)?;
            let kind = entry.file_type().doing(doing)?;
            if kind.is_dir() {
                directories.push(entry.path());
            } else if kind.is_file() {
                visit(&entry.path())?;
            }
        }
    }
    Ok(())
}
