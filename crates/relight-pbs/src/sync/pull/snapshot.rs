//! One snapshot: its files are fetched and checked against its manifest, then it appears, whole.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use relight_repo::snapshot::{Archive, Marks, SnapshotSpec};
use serde_json::json;

use super::chunks::Incoming;
use super::{Pull, Result, SyncError, blocking, stopped};
use crate::client::RawReader;
use crate::formats::blob::Blob;
use crate::formats::ids::{BackupType, FileKind, FileName, Namespace, SnapshotName};
use crate::formats::index::{Digest, DynamicIndex, FIXED_CHUNK, FixedIndex, IndexHeader};
use crate::formats::manifest::{CryptMode, Manifest, ManifestFile};
use crate::service::backup::engine::Engine;
use crate::service::datastore::{Datastore, Entry, Lock, entry};
use crate::sync::remote::RemoteSnapshot;
use crate::sync::size;

/// What is to be done about a snapshot.
pub(super) struct Wanted<'l> {
    pub listed: &'l RemoteSnapshot,
    /// What is here of it.
    pub existing: Option<Arc<Entry>>,
    /// Whether all of it is fetched though it is here.
    pub again: bool,
    /// The snapshot before it.
    pub base: Option<Arc<Entry>>,
}

/// An index that was fetched.
struct Index {
    header: IndexHeader,
    size: u64,
    csum: Digest,
    chunks: Vec<(Digest, u64)>,
}

impl Index {
    fn parse(name: &FileName, bytes: &[u8]) -> Result<Self> {
        let failed = |why: String| SyncError::Refused(format!("{name}: {why}"));
        if name.kind() == FileKind::FixedIndex {
            let index = FixedIndex::parse(bytes).map_err(|error| failed(error.to_string()))?;
            if index.chunk_size() != FIXED_CHUNK {
                return Err(failed("its chunks have not 4 MiB, as they have here".into()));
            }
            return Ok(Self {
                header: index.header,
                size: index.size(),
                csum: index.sum(),
                chunks: index.chunks().collect(),
            });
        }
        let index = DynamicIndex::parse(bytes).map_err(|error| failed(error.to_string()))?;
        Ok(Self {
            header: index.header,
            size: index.size(),
            csum: index.sum(),
            chunks: index.chunks().collect(),
        })
    }
}

/// Files that have come.
#[derive(Default)]
struct Came {
    archives: Vec<Archive>,
    /// What the headers of indexes say that are not kept themselves.
    headers: BTreeMap<String, serde_json::Value>,
}

fn differs(file: &ManifestFile, what: &'static str) -> SyncError {
    SyncError::Mismatch {
        file: file.filename.to_string(),
        what,
    }
}

impl Pull<'_> {
    pub(super) async fn snapshot(
        &mut self,
        theirs: &Namespace,
        ours: &Namespace,
        wanted: &Wanted<'_>,
    ) -> Result<()> {
        let name = wanted.listed.name();
        let reader = self.job.client.read_raw(theirs, &name).await?;
        if let Some(existing) = wanted.existing.as_ref().filter(|_| !wanted.again) {
            return self.late_log(&reader, existing).await;
        }
        self.task.log(format!("sync snapshot {name}"));
        let blob = reader.download(&manifest_name()?).await?;
        let manifest = Manifest::from_blob(&blob)?;
        manifest.check_snapshot(&name)?;
        check_names(&manifest)?;
        if let Some(existing) = &wanted.existing {
            self.same_protection(existing, &manifest).await?;
        }
        let store = self.job.local.store.clone();
        // Taken before anything is stored: others see that it is being made.
        let lock = store.locks().snapshot(ours, &name, true)?;
        let engine = blocking(move || Engine::begin(&store)).await?;
        let engine = Arc::new(engine);
        let mut came = Came::default();
        for file in &manifest.files {
            stopped(self.task)?;
            self.task.log(format!("sync archive {}", file.filename));
            match file.filename.kind() {
                FileKind::Blob => self.blob(&reader, &engine, file, &mut came).await?,
                _ => self.index(&reader, &engine, file, &mut came).await?,
            }
        }
        let log = match wanted.listed.has_log() {
            true => self.log(&reader).await?,
            false => None,
        };
        stopped(self.task)?;
        let kept = engine.clone();
        let blob = blob.to_vec();
        came.archives
            .push(blocking(move || kept.blob(FileName::MANIFEST, blob)).await?);
        let protected = wanted.listed.protected;
        let publish = Publish {
            store: self.job.local.store.clone(),
            namespace: ours.clone(),
            name: name.clone(),
            owner: self.job.local.owner.to_string(),
            manifest,
            came,
            log,
            protected,
            existing: wanted.existing.clone(),
            base: wanted.base.clone(),
            _lock: lock,
        };
        blocking(move || publish.run(&engine)).await?;
        self.figures.snapshots += 1;
        self.task.log(format!("sync snapshot {name} done"));
        Ok(())
    }

    /// A snapshot that was encrypted is never replaced by one that is not, or with another key.
    async fn same_protection(&self, existing: &Arc<Entry>, new: &Manifest) -> Result<()> {
        let (store, entry) = (self.job.local.store.clone(), existing.clone());
        let old = blocking(move || store.manifest(&entry)).await?;
        let modes = |manifest: &Manifest| -> HashSet<(String, CryptMode)> {
            let mode = |file: &ManifestFile| (file.filename.to_string(), file.crypt_mode);
            manifest.files.iter().map(mode).collect()
        };
        let same_key = old.key_fingerprint() == new.key_fingerprint();
        if same_key && modes(&old) == modes(new) && old.signature == new.signature {
            return Ok(());
        }
        Err(SyncError::Refused(
            "the other server's snapshot is encrypted or signed in another way than the one here, which stays as it is".into(),
        ))
    }

    async fn blob(
        &mut self,
        reader: &RawReader,
        engine: &Arc<Engine>,
        file: &ManifestFile,
        came: &mut Came,
    ) -> Result<()> {
        let bytes = reader.download(&file.filename).await?;
        if bytes.len() as u64 != file.size {
            return Err(differs(file, "its size"));
        }
        self.figures.bytes += bytes.len() as u64;
        let (engine, file) = (engine.clone(), file.clone());
        let archive = blocking(move || -> Result<Archive> {
            if sha256(&bytes) != file.csum {
                return Err(differs(&file, "its checksum"));
            }
            let checked = Blob::parse(&bytes).and_then(|blob| blob.check_crc());
            checked.map_err(|error| SyncError::Refused(format!("{}: {error}", file.filename)))?;
            Ok(engine.blob(file.filename.as_str(), bytes.to_vec())?)
        });
        came.archives.push(archive.await?);
        Ok(())
    }

    async fn index(
        &mut self,
        reader: &RawReader,
        engine: &Arc<Engine>,
        file: &ManifestFile,
        came: &mut Came,
    ) -> Result<()> {
        let bytes = reader.download(&file.filename).await?;
        self.figures.bytes += bytes.len() as u64;
        let index = Index::parse(&file.filename, &bytes)?;
        if index.size != file.size {
            return Err(differs(file, "its size"));
        }
        if index.csum != file.csum {
            return Err(differs(file, "its checksum"));
        }
        let mut incoming = Incoming::new(engine.clone(), file);
        incoming.fetch(reader, &index.chunks, self.task).await?;
        let (chunks, sent) = incoming.figures();
        self.figures.chunks += chunks;
        self.figures.bytes += sent;
        if chunks > 0 {
            self.task
                .log(format!("downloaded {} in {chunks} chunks", size(sent)));
        }
        let header = json!({"uuid": hex::encode(index.header.uuid), "ctime": index.header.ctime});
        let (engine, name) = (engine.clone(), file.filename.clone());
        let known = incoming.into_known();
        let (archive, kept) = blocking(move || -> Result<(Archive, Option<Archive>)> {
            let digests = index.chunks.iter().map(|(digest, _)| digest);
            let (archive, sealed) = engine.archive(&name, digests, &known)?;
            // Of what a client encrypted the list does not tell the digests.
            let kept = match sealed {
                true => Some(engine.blob(name.as_str(), bytes.to_vec())?),
                false => None,
            };
            Ok((archive, kept))
        })
        .await?;
        if kept.is_none() {
            came.headers.insert(file.filename.to_string(), header);
        }
        came.archives.push(archive);
        came.archives.extend(kept);
        Ok(())
    }

    /// What the client said about its backup, if that is in good order.
    async fn log(&mut self, reader: &RawReader) -> Result<Option<Vec<u8>>> {
        let name: FileName = FileName::CLIENT_LOG.parse()?;
        let bytes = match reader.download(&name).await {
            Ok(bytes) => bytes,
            Err(error @ crate::client::ClientError::Refused { .. }) => {
                self.task.log(format!("{name} cannot be fetched: {error}"));
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let checked = Blob::parse(&bytes).and_then(|blob| blob.check_crc());
        if let Err(error) = checked {
            self.task.log(format!("{name} is damaged and left out: {error}"));
            return Ok(None);
        }
        self.figures.bytes += bytes.len() as u64;
        self.task
            .log(format!("got backup log file {name:?}", name = name.as_str()));
        Ok(Some(bytes.to_vec()))
    }

    /// Fetches the log of a snapshot that is here.
    async fn late_log(&mut self, reader: &RawReader, existing: &Arc<Entry>) -> Result<()> {
        let Some(log) = self.log(reader).await? else {
            return Ok(());
        };
        let (store, entry) = (self.job.local.store.clone(), existing.clone());
        blocking(move || add_log(&store, entry.id(), &log)).await
    }
}

fn manifest_name() -> Result<FileName> {
    Ok(FileName::MANIFEST.parse()?)
}

/// Fails if two files would be one archive here, or one has a name that is not for it.
fn check_names(manifest: &Manifest) -> Result<()> {
    let mut taken = HashSet::new();
    for file in &manifest.files {
        let name = &file.filename;
        let archive = match name.kind() {
            FileKind::Blob => name.as_str(),
            _ => name.stem(),
        };
        let reserved = name.is_manifest() || name.as_str() == FileName::CLIENT_LOG;
        if reserved || !taken.insert(archive) {
            return Err(SyncError::Refused(format!(
                "its manifest names {name}, for which there is no place"
            )));
        }
    }
    match manifest.files.is_empty() {
        true => Err(SyncError::Refused("its manifest names no files".into())),
        false => Ok(()),
    }
}

fn add_log(store: &Datastore, id: relight_repo::SnapshotId, log: &[u8]) -> Result<()> {
    let stored = store.repository().add_log(id, log);
    stored.map(drop).map_err(|error| SyncError::Store(error.into()))
}

/// All that a snapshot needs to appear.
struct Publish {
    store: Arc<Datastore>,
    namespace: Namespace,
    name: SnapshotName,
    owner: String,
    manifest: Manifest,
    came: Came,
    log: Option<Vec<u8>>,
    protected: bool,
    existing: Option<Arc<Entry>>,
    base: Option<Arc<Entry>>,
    /// Held to the end, even if nobody waits for that any more.
    _lock: Lock,
}

impl Publish {
    fn run(self, engine: &Engine) -> Result<()> {
        let failed = |error: relight_repo::RepoError| SyncError::Store(error.into());
        let host = match self.name.group.backup_type {
            BackupType::Host => self.name.group.backup_id.to_string(),
            BackupType::Vm | BackupType::Ct => String::new(),
        };
        let time = match &self.existing {
            // Of one second only the newest is shown.
            Some(existing) => existing.body.snapshot.time,
            None => self.name.backup_time.timestamp(),
        };
        let mut attributes = entry::copied_attributes(&self.owner, &self.manifest)?;
        if !self.came.headers.is_empty() {
            let headers = json!(self.came.headers).to_string();
            attributes.insert(entry::attribute::INDEXES.into(), headers);
        }
        let spec = SnapshotSpec {
            workload: self.name.group.workload(&self.namespace)?.into(),
            time: Some(time),
            host,
            parent: self.base.as_ref().map(|base| base.id()),
            attributes,
            ..SnapshotSpec::default()
        };
        let snapshot = engine.publish(spec, self.came.archives)?;
        let repository = self.store.repository();
        if let Some(log) = &self.log {
            add_log(&self.store, snapshot.id, log)?;
        }
        let before = self.existing.as_ref().and_then(|existing| existing.marks.clone());
        if self.protected || before.is_some() {
            let notes = self.manifest.unprotected.get(Manifest::NOTES);
            let notes = notes.and_then(serde_json::Value::as_str).unwrap_or_default();
            let marks = match &before {
                // What was said of it here goes on to hold; what was found of it does not.
                Some(before) => Marks {
                    verification: None,
                    protected: before.protected || self.protected,
                    ..before.clone()
                },
                None => Marks {
                    notes: notes.to_string(),
                    protected: self.protected,
                    ..Marks::default()
                },
            };
            repository.set_marks(snapshot.id, &marks).map_err(failed)?;
        }
        if let Some(existing) = &self.existing {
            for id in existing.hidden.iter().chain([&existing.id()]) {
                if before.as_ref().is_some_and(|before| before.protected) {
                    // The new one has the protection.
                    let marks = repository.marks(*id).map_err(failed)?;
                    let marks = Marks {
                        protected: false,
                        ..marks
                    };
                    repository.set_marks(*id, &marks).map_err(failed)?;
                }
                repository.forget(*id).map_err(failed)?;
            }
        }
        Ok(())
    }
}

fn sha256(bytes: &[u8]) -> Digest {
    let mut sum = [0; 32];
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    sum.copy_from_slice(digest.as_ref());
    sum
}
