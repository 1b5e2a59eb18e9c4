//! The local cache of the index: a folder of files that each hold the content of some segments.
//!
//! A file is only used while every segment it holds still exists in storage. A collection that replaces segments
//! thereby makes the files of the old ones void, so that an entry of a deleted pack can never come from here.
//! The folder may be deleted at any moment, and several processes may use it at once.

use std::collections::{BinaryHeap, HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use relight_keys::{KeySet, RepositoryId};
use rustix::fs::FlockOperation;

use super::entry::{Entry, PackLine};
use super::file::IndexFile;
use super::segment::{self, Segment};
use crate::error::{RepoError, Result};
use crate::id::{ChunkId, PackId, SegmentId};
use crate::storage::Storage;

/// Segments are gathered in memory up to this many entries before a file is written (48 MiB).
const GATHERED: usize = 1 << 20;
/// With more files than this, small ones are merged when the cache is opened.
const MAX_FILES: usize = 6;
/// How often the segments are listed again because one of them was replaced before it was read.
const TRIES: usize = 5;
/// Ending of the files.
const ENDING: &str = "idx";

/// Segments that cannot be opened, each with the data key that is missing.
pub type Locked = Vec<(SegmentId, String)>;

/// The folder.
#[derive(Debug)]
pub struct Cache {
    directory: PathBuf,
}

impl Cache {
    /// The cache in `directory`, which is made when it is first needed.
    pub fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_path_buf(),
        }
    }

    fn failed(&self, action: &'static str) -> impl Fn(io::Error) -> RepoError + '_ {
        move |source| RepoError::Cache {
            action,
            path: self.directory.display().to_string(),
            source,
        }
    }

    /// Makes the files hold just the segments that are in storage, and opens them. Says for each segment that could
    /// not be opened for want of its data key which that is.
    pub fn synchronise(
        &self,
        storage: &dyn Storage,
        keys: &KeySet,
        repository: RepositoryId,
    ) -> Result<(Vec<Arc<IndexFile>>, Locked)> {
        let _lock = self.lock()?;
        let mut tries = TRIES;
        loop {
            let (files, locked, whole) = self.try_synchronise(storage, keys, repository)?;
            tries -= 1;
            // What could not be read even so is stored again by writers and looked for again by readers.
            if whole || tries == 0 {
                return Ok((files, locked));
            }
        }
    }

    /// The same, and whether every segment that was listed was still there to be read. If not, a collection replaced it
    /// by one that was perhaps not listed.
    fn try_synchronise(
        &self,
        storage: &dyn Storage,
        keys: &KeySet,
        repository: RepositoryId,
    ) -> Result<(Vec<Arc<IndexFile>>, Locked, bool)> {
        let mut whole = true;
        let listed = storage.list(segment::PREFIX)?;
        let stored: HashSet<SegmentId> = listed
            .iter()
            .filter_map(|object| Segment::parse_key(&object.key))
            .collect();
        let mut files = self.open_valid(&stored)?;
        let held: HashSet<SegmentId> = files
            .iter()
            .flat_map(|file| file.segments().iter().copied())
            .collect();
        let mut missing: Vec<SegmentId> = stored.difference(&held).copied().collect();
        missing.sort_unstable();

        let (mut gathered, mut locked) = (Gathered::default(), Vec::new());
        for id in missing {
            let sealed = match storage.get(&Segment::key(id)) {
                Ok(sealed) => sealed,
                Err(error) if error.is_not_found() => {
                    whole = false;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            match Segment::open(&sealed, keys, repository, id) {
                Ok(segment) => gathered.add(id, &segment),
                Err(RepoError::KeyMissing { key, .. }) => locked.push((id, key)),
                Err(error) => return Err(error),
            }
            if gathered.entries.len() >= GATHERED {
                files.push(self.write(std::mem::take(&mut gathered))?);
            }
        }
        if !gathered.segments.is_empty() {
            files.push(self.write(gathered)?);
        }
        if files.len() > MAX_FILES {
            self.merge(&mut files)?;
        }
        Ok((files, locked, whole))
    }

    /// Adds the file of one segment.
    pub fn add(&self, id: SegmentId, segment: &Segment) -> Result<Arc<IndexFile>> {
        fs::create_dir_all(&self.directory).map_err(self.failed("make the cache in"))?;
        let mut gathered = Gathered::default();
        gathered.add(id, segment);
        self.write(gathered)
    }

    fn lock(&self) -> Result<File> {
        fs::create_dir_all(&self.directory).map_err(self.failed("make the cache in"))?;
        // Chunk identities are digests of what is protected: nobody else should read them.
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(&self.directory, private).map_err(self.failed("protect the cache in"))?;
        let lock = File::create(self.directory.join("lock")).map_err(self.failed("lock the cache in"))?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive)
            .map_err(|error| self.failed("lock the cache in")(error.into()))?;
        Ok(lock)
    }

    /// Opens every file that holds only segments in `stored`; deletes the others.
    fn open_valid(&self, stored: &HashSet<SegmentId>) -> Result<Vec<Arc<IndexFile>>> {
        let mut files: Vec<Arc<IndexFile>> = Vec::new();
        let mut held = HashSet::new();
        let entries = fs::read_dir(&self.directory).map_err(self.failed("read the cache in"))?;
        for entry in entries {
            let path = entry.map_err(self.failed("read the cache in"))?.path();
            if path.extension().is_none_or(|ending| ending != ENDING) {
                continue;
            }
            match IndexFile::open(&path) {
                Ok(file)
                    if file.segments().iter().all(|id| stored.contains(id))
                        // A merge that was interrupted leaves its sources beside its result.
                        && !file.segments().iter().any(|id| held.contains(id)) =>
                {
                    held.extend(file.segments().iter().copied());
                    files.push(Arc::new(file));
                }
                Ok(_) => drop(fs::remove_file(&path)),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => drop(fs::remove_file(&path)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(self.failed("read the cache in")(error)),
            }
        }
        Ok(files)
    }

    fn new_path(&self) -> Result<PathBuf> {
        Ok(self.directory.join(format!("{}.{ENDING}", SegmentId::random()?)))
    }

    fn write(&self, mut gathered: Gathered) -> Result<Arc<IndexFile>> {
        gathered
            .entries
            .sort_unstable_by_key(|entry| (entry.record.id, entry.pack));
        let path = self.new_path()?;
        let count = gathered.entries.len();
        let entries = gathered.entries.into_iter();
        let file = IndexFile::write(&path, &gathered.segments, &gathered.packs.lines, count, entries);
        Ok(Arc::new(file.map_err(self.failed("write the cache in"))?))
    }

    /// Merges the smaller files, so that a look-up asks few.
    pub fn merge(&self, files: &mut Vec<Arc<IndexFile>>) -> Result<()> {
        files.sort_by_key(|file| std::cmp::Reverse(file.len()));
        // A large file is left alone until what is merged comes near to it: each entry is copied few times.
        let mut kept = 0;
        while kept < MAX_FILES / 2 {
            let rest: usize = files[kept + 1..].iter().map(|file| file.len()).sum();
            if files[kept].len() < rest {
                break;
            }
            kept += 1;
        }
        let small = files.split_off(kept);
        let path = self.new_path()?;
        let mut packs = PackTable::default();
        let numbers: Vec<Vec<u32>> = small
            .iter()
            .map(|file| file.packs().iter().map(|pack| packs.number(pack)).collect())
            .collect();
        let segments: Vec<SegmentId> = small
            .iter()
            .flat_map(|file| file.segments().iter().copied())
            .collect();
        let count = small.iter().map(|file| file.len()).sum();
        let merged = Merged::new(&small, &numbers);
        let file = IndexFile::write(&path, &segments, &packs.lines, count, merged);
        files.push(Arc::new(file.map_err(self.failed("write the cache in"))?));
        for file in small {
            let _ = fs::remove_file(file.path());
        }
        Ok(())
    }
}

/// Gives each pack one number, however many segments speak of it.
#[derive(Default)]
struct PackTable {
    lines: Vec<PackLine>,
    numbers: HashMap<PackId, u32>,
}

impl PackTable {
    fn number(&mut self, pack: &PackLine) -> u32 {
        *self.numbers.entry(pack.id).or_insert_with(|| {
            self.lines.push(*pack);
            self.lines.len() as u32 - 1
        })
    }
}

/// Segments on their way into one file.
#[derive(Default)]
struct Gathered {
    segments: Vec<SegmentId>,
    packs: PackTable,
    entries: Vec<Entry>,
}

impl Gathered {
    fn add(&mut self, id: SegmentId, segment: &Segment) {
        self.segments.push(id);
        let numbers: Vec<u32> = segment.packs.iter().map(|pack| self.packs.number(pack)).collect();
        let renumbered = |entry: &Entry| Entry {
            pack: numbers[entry.pack as usize],
            record: entry.record,
        };
        self.entries.extend(segment.entries.iter().map(renumbered));
    }
}

/// The entries of several files in one order.
struct Merged<'a> {
    files: &'a [Arc<IndexFile>],
    numbers: &'a [Vec<u32>],
    /// The next entry of each file and its place there, the smallest chunk on top.
    heads: BinaryHeap<std::cmp::Reverse<Head>>,
}

/// Entries of a file that are read before the memory of those behind is given back.
const STRIDE: usize = 64 << 10;

struct Head {
    entry: Entry,
    file: usize,
    at: usize,
}

impl Head {
    fn order(&self) -> (ChunkId, usize) {
        (self.entry.record.id, self.file)
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl Eq for Head {}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}

impl<'a> Merged<'a> {
    fn new(files: &'a [Arc<IndexFile>], numbers: &'a [Vec<u32>]) -> Self {
        let head = |(file, index): (usize, &Arc<IndexFile>)| {
            index.will_be_read_through();
            index
                .entry(0)
                .map(|entry| std::cmp::Reverse(Head { entry, file, at: 0 }))
        };
        Self {
            heads: files.iter().enumerate().filter_map(head).collect(),
            files,
            numbers,
        }
    }
}

impl Iterator for Merged<'_> {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        let mut head = self.heads.peek_mut()?;
        let Head { entry, file, at } = head.0;
        match self.files[file].entry(at + 1) {
            // Changed in place: the heap is put right once, when the reference is let go of.
            Some(next) => {
                head.0 = Head {
                    entry: next,
                    file,
                    at: at + 1,
                }
            }
            None => drop(std::collections::binary_heap::PeekMut::pop(head)),
        }
        if at % STRIDE == 0 {
            self.files[file].was_read_to(at);
        }
        Some(Entry {
            pack: self.numbers[file][entry.pack as usize],
            record: entry.record,
        })
    }
}
