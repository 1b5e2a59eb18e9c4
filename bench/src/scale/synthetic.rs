//! Makes repositories that are large in chunks but not in bytes: their index is real, their data packs are holes.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use relight_keys::{KeyFile, SystemEntropy};
use relight_repo::index::{PackLine, Segment};
use relight_repo::pack::{Codec, PackKind, Record, format};
use relight_repo::settings::Settings;
use relight_repo::storage::local::LocalStorage;
use relight_repo::storage::{PutOptions, Storage};
use relight_repo::{ChunkId, OpenOptions, PackId, Repository, SegmentId, keyring};

use crate::data::Random;
use crate::failure::{Doing, Result};

/// Chunks in a data pack: 24 MiB of chunks of 1.5 MiB, between those of images and those of files.
pub const CHUNKS_A_PACK: u64 = 16;
/// Length of each chunk as stored, and before.
const STORED: u32 = 3 << 19;
const RAW: u32 = 4 << 20;
/// Entries in an index segment: half of the most, as collections leave them.
const SEGMENT_ENTRIES: usize = 128 * 1024;

/// Where a synthetic repository and what belongs to it lie.
pub struct Place {
    /// The storage.
    pub repository: PathBuf,
    /// Its local cache.
    pub cache: PathBuf,
    key_file: PathBuf,
}

impl Place {
    /// The parts under `root`.
    pub fn under(root: &Path) -> Self {
        Self {
            repository: root.join("repository"),
            cache: root.join("cache"),
            key_file: root.join("key"),
        }
    }

    /// Makes an empty repository. A key file opens it: deriving a key from a passphrase takes its third of a second
    /// whatever the repository holds.
    pub fn initialise(&self) -> Result<()> {
        let storage = LocalStorage::create(&self.repository).doing(|| "create the storage".to_owned())?;
        let key = KeyFile::generate(&mut SystemEntropy).doing(|| "draw a key".to_owned())?;
        key.create(&self.key_file)
            .doing(|| "write the key file".to_owned())?;
        let now = jiff::Timestamp::now();
        keyring::initialise(&storage, &key, "benchmark", now, Settings::default())
            .doing(|| "make the repository".to_owned())?;
        Ok(())
    }

    /// Opens the repository as the command line does.
    pub fn open(&self) -> Result<Repository> {
        let storage: Arc<dyn Storage> =
            Arc::new(LocalStorage::open(&self.repository).doing(|| "open the storage".to_owned())?);
        let key = KeyFile::read(&self.key_file).doing(|| "read the key file".to_owned())?;
        let opened = keyring::unlock(&*storage, &key).doing(|| "unlock the repository".to_owned())?;
        Repository::open(storage, opened.into_keys(), OpenOptions::new(&self.cache))
            .doing(|| "open the repository".to_owned())
    }

    /// Makes the kernel forget what it holds of the local cache and of the index in storage.
    pub fn drop_from_page_cache(&self) -> Result<()> {
        rustix::fs::sync();
        for root in [&self.cache, &self.repository.join("index")] {
            let mut directories = vec![root.clone()];
            while let Some(directory) = directories.pop() {
                let Ok(entries) = fs::read_dir(&directory) else {
                    continue;
                };
                for path in entries.flatten().map(|entry| entry.path()) {
                    if path.is_dir() {
                        directories.push(path);
                    } else if let Ok(file) = File::open(&path) {
                        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)
                            .doing(|| format!("drop {} from the page cache", path.display()))?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// The identities of the chunks of the data pack `number`.
pub fn chunks_of_pack(seed: u64, number: u64) -> impl Iterator<Item = ChunkId> {
    let mut random = Random::part(seed, number);
    (0..CHUNKS_A_PACK).map(move |_| {
        let mut id = ChunkId::default();
        random.fill(&mut id.0);
        id
    })
}

/// Adds an index over `packs` data packs to the repository. With `with_files`, the packs lie in storage as files
/// of holes, of the length the index says.
pub fn add_data_packs(place: &Place, seed: u64, packs: u64, with_files: bool) -> Result<()> {
    let repository = place.open()?;
    let key = repository.keys().current();
    let mut segment = Segment::default();
    for number in 0..packs {
        let id = PackId::random().doing(|| "name a pack".to_owned())?;
        let mut offset = format::HEADER as u32;
        let mut records = Vec::with_capacity(CHUNKS_A_PACK as usize);
        for id in chunks_of_pack(seed, number) {
            records.push(Record {
                id,
                offset,
                stored: STORED,
                raw: RAW,
                codec: Codec::Zstd,
            });
            offset += STORED;
        }
        // Exactly as long as a pack of these records: table of contents, its tag, trailer.
        let size =
            u64::from(offset) + CHUNKS_A_PACK * format::ENTRY as u64 + (format::TAG + format::TRAILER) as u64;
        segment.add_pack(
            PackLine {
                id,
                kind: PackKind::Data,
                key: key.id(),
                size,
            },
            &records,
        );
        if with_files {
            hole(&place.repository.join(PackKind::Data.key(id)), size)?;
        }
        if segment.entries.len() >= SEGMENT_ENTRIES || number + 1 == packs {
            let mut full = std::mem::take(&mut segment);
            full.sort();
            let id = SegmentId::random().doing(|| "name a segment".to_owned())?;
            let sealed = full
                .seal(key, repository.id(), id)
                .doing(|| "seal a segment".to_owned())?;
            repository
                .storage()
                .put(&Segment::key(id), &[&sealed], &PutOptions::default())
                .doing(|| "store a segment".to_owned())?;
        }
    }
    Ok(())
}

fn hole(path: &Path, size: u64) -> Result<()> {
    let doing = || format!("create {}", path.display());
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).doing(doing)?;
    }
    File::create(path)
        .and_then(|file| file.set_len(size))
        .doing(doing)
}
