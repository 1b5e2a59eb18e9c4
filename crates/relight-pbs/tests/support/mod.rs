//! A datastore on a repository on disk, and what clients and `relight backup` put into it.
#![allow(dead_code)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use aws_lc_rs::digest;
use jiff::tz::TimeZone;
use relight_keys::{KeyFile, SystemEntropy};
use relight_pbs::formats::blob;
use relight_pbs::formats::ids::{FileName, Group, Namespace, SnapshotName};
use relight_pbs::formats::index::{DynamicSum, FIXED_CHUNK, FixedSum};
use relight_pbs::formats::manifest::{CryptMode, Manifest, ManifestFile, UploadStatistic};
use relight_pbs::service::datastore::{Datastore, DatastoreOptions, entry, zero_digest};
use relight_repo::pack::PackKind;
use relight_repo::session::{Encoded, Session, is_zero};
use relight_repo::settings::Settings;
use relight_repo::snapshot::{Archive, ArchiveKind, Snapshot, SnapshotSpec};
use relight_repo::storage::local::LocalStorage;
use relight_repo::{ChunkId, OpenOptions, Repository, keyring};

/// A repository in a folder that goes away with it.
pub struct Place {
    pub folder: tempfile::TempDir,
    key: KeyFile,
}

impl Place {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyFile::generate(&mut SystemEntropy).unwrap();
        let storage = LocalStorage::create(&folder.path().join("repository")).unwrap();
        let now = jiff::Timestamp::now();
        keyring::initialise(&storage, &key, "test", now, Settings::default()).unwrap();
        Self { folder, key }
    }

    pub fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("repository")
    }

    /// Opens it as another process would.
    pub fn open(&self) -> Arc<Repository> {
        let storage = LocalStorage::open(&self.path()).unwrap();
        let keys = keyring::unlock(&storage, &self.key).unwrap().into_keys();
        let mut options = OpenOptions::new(&self.folder.path().join("cache"));
        options.threads = 2;
        Arc::new(Repository::open(Arc::new(storage), keys, options).unwrap())
    }

    pub fn datastore(&self) -> Arc<Datastore> {
        let mut options = DatastoreOptions::new("root@pam".parse().unwrap());
        options.zone = TimeZone::UTC;
        options.path = Some(self.path());
        options.state = Some(self.folder.path().join("state"));
        Datastore::new("main", self.open(), options).unwrap()
    }
}

pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest::digest(&digest::SHA256, bytes)
        .as_ref()
        .try_into()
        .unwrap()
}

/// Content that is the same for the same seed.
pub fn content(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

pub fn begin(repository: &Arc<Repository>) -> Session {
    Session::begin(repository.clone(), Arc::new(AtomicBool::new(false))).unwrap()
}

/// What `relight backup` does with a folder and an image.
pub fn relight_backup(
    repository: &Arc<Repository>,
    workload: &str,
    tree: Option<&Path>,
    image: Option<&Path>,
) -> Snapshot {
    let session = begin(repository);
    let cancelled = AtomicBool::new(false);
    let mut archives = Vec::new();
    let mut attributes = std::collections::BTreeMap::new();
    if let Some(tree) = tree {
        use relight_workloads::files;
        let source = files::TreeSource {
            name: "tree".into(),
            path: tree.to_path_buf(),
        };
        let options = relight_pxar::fs::capture::CaptureOptions::default();
        let progress = relight_pxar::fs::progress::Progress::default();
        let (saved, about, _) =
            files::back_up(&session, &[source], &options, None, &progress, &cancelled).unwrap();
        archives.extend(saved);
        attributes.extend(about);
    }
    if let Some(image) = image {
        let done = AtomicU64::new(0);
        let saved = relight_workloads::image::back_up(&session, "disk", image, None, &done, &cancelled);
        archives.push(saved.unwrap().archive);
    }
    let spec = SnapshotSpec {
        workload: workload.into(),
        attributes,
        ..SnapshotSpec::default()
    };
    session.publish(spec, archives).unwrap()
}

/// A snapshot that is being uploaded as the service does it.
pub struct Upload {
    session: Session,
    name: SnapshotName,
    namespace: Namespace,
    archives: Vec<Archive>,
    files: Vec<ManifestFile>,
}

impl Upload {
    pub fn new(repository: &Arc<Repository>, namespace: &str, name: &str) -> Self {
        Self {
            session: begin(repository),
            name: name.parse().unwrap(),
            namespace: namespace.parse().unwrap(),
            archives: Vec::new(),
            files: Vec::new(),
        }
    }

    fn add_file(&mut self, name: &str, size: u64, csum: [u8; 32], crypt_mode: CryptMode) {
        self.files.push(ManifestFile {
            filename: name.parse().unwrap(),
            crypt_mode,
            size,
            csum,
            other: serde_json::Map::new(),
        });
    }

    /// An image, as a fixed index.
    pub fn image(mut self, name: &str, bytes: &[u8]) -> Self {
        let archive = name.strip_suffix(".fidx").unwrap();
        let mut writer = self.session.archive(archive, ArchiveKind::Image).unwrap();
        let mut sum = FixedSum::default();
        for chunk in bytes.chunks(FIXED_CHUNK as usize) {
            let digest = sha256(chunk);
            sum.add(&digest);
            let id = if is_zero(chunk) {
                assert_eq!(zero_digest(chunk.len() as u64), digest);
                ChunkId::ZEROS
            } else {
                let frame = zstd::bulk::compress(chunk, 1).unwrap();
                let raw = chunk.len() as u32;
                let encoded = Encoded::Zstd { frame: &frame, raw };
                self.session
                    .put_chunk(PackKind::Data, ChunkId(digest), encoded)
                    .unwrap();
                ChunkId(digest)
            };
            assert!(writer.push_known(id, chunk.len() as u64).unwrap());
        }
        self.archives.push(writer.finish().unwrap());
        self.add_file(name, bytes.len() as u64, sum.finish(), CryptMode::None);
        self
    }

    /// A stream that the client cut into these chunks, as a dynamic index.
    pub fn stream<'a>(mut self, name: &str, chunks: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let archive = name.strip_suffix(".didx").unwrap();
        let mut writer = self.session.archive(archive, ArchiveKind::Stream).unwrap();
        let (mut sum, mut end) = (DynamicSum::default(), 0);
        for chunk in chunks {
            let id = ChunkId::of(chunk);
            self.session
                .put_chunk(PackKind::Data, id, Encoded::Plain(chunk))
                .unwrap();
            assert!(writer.push_known(id, chunk.len() as u64).unwrap());
            end += chunk.len() as u64;
            sum.add(end, &id.0);
        }
        self.archives.push(writer.finish().unwrap());
        self.add_file(name, end, sum.finish(), CryptMode::None);
        self
    }

    /// An image that the client encrypted, with its index file.
    pub fn sealed_image(mut self, name: &str, chunks: &[([u8; 32], Vec<u8>)], size: u64) -> Self {
        use relight_pbs::formats::index::{FixedIndex, IndexHeader};
        let archive = name.strip_suffix(".fidx").unwrap();
        let mut writer = self.session.archive(archive, ArchiveKind::Image).unwrap();
        let mut rest = size;
        for (digest, blob) in chunks {
            let raw = rest.min(FIXED_CHUNK);
            rest -= raw;
            let id = ChunkId::of_client_sealed(digest);
            let encoded = Encoded::ClientSealed {
                digest: *digest,
                blob,
                raw: raw as u32,
            };
            self.session.put_chunk(PackKind::Data, id, encoded).unwrap();
            assert!(writer.push_known(id, raw).unwrap());
        }
        self.archives.push(writer.finish().unwrap());
        let header = IndexHeader {
            uuid: [7; 16],
            ctime: 5,
        };
        let digests = chunks.iter().map(|(digest, _)| *digest).collect();
        let index = FixedIndex::new(header, size, digests).unwrap();
        self.add_blob_archive(name, &index.encode());
        self.add_file(name, size, index.sum(), CryptMode::Encrypt);
        self
    }

    fn add_blob_archive(&mut self, name: &str, bytes: &[u8]) {
        let mut writer = self.session.archive(name, ArchiveKind::Blob).unwrap();
        writer.write(bytes).unwrap();
        self.archives.push(writer.finish().unwrap());
    }

    pub fn blob(mut self, name: &str, content: &[u8]) -> Self {
        let bytes = blob::encode(content, true).unwrap();
        self.add_blob_archive(name, &bytes);
        self.add_file(name, bytes.len() as u64, sha256(&bytes), CryptMode::None);
        self
    }

    /// Uploads the manifest and publishes.
    pub fn finish(mut self, owner: &str) -> (Snapshot, Manifest) {
        let manifest = Manifest::new(self.name.clone(), std::mem::take(&mut self.files));
        self.add_blob_archive(FileName::MANIFEST, &manifest.to_blob().unwrap());
        let group: &Group = &self.name.group;
        let spec = SnapshotSpec {
            workload: group.workload(&self.namespace).unwrap().to_string(),
            time: Some(self.name.backup_time.timestamp()),
            attributes: entry::attributes(owner, &manifest, &UploadStatistic::default()).unwrap(),
            ..SnapshotSpec::default()
        };
        let archives = std::mem::take(&mut self.archives);
        (self.session.publish(spec, archives).unwrap(), manifest)
    }
}
