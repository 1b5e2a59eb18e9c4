//! Manifests and files of snapshots, as clients download them.

use aws_lc_rs::digest;
use relight_repo::read::PieceStream;
use relight_repo::snapshot::Archive;

use super::Datastore;
use super::entry::{Entry, File, Source};
use super::error::{Result, StoreError};
use super::index::{self, IndexFile};
use crate::formats::blob;
use crate::formats::ids::FileName;
use crate::formats::index::{Digest, DynamicIndex};
use crate::formats::manifest::{CryptMode, Manifest, ManifestFile};

impl Datastore {
    /// The manifest that a client uploaded, as it was; none if `relight backup` made the snapshot.
    pub(super) fn uploaded(&self, entry: &Entry) -> Result<Option<Manifest>> {
        if let Some(known) = entry.body.uploaded.get() {
            return Ok(known.clone());
        }
        let manifest = match (
            entry.body.attribute_manifest(),
            entry.body.find(FileName::MANIFEST),
        ) {
            (Some(manifest), _) => Some(manifest),
            (None, Some((_, archive))) => {
                let bytes = self.content(archive, blob::MAX_ENCODED as u64)?;
                let manifest = Manifest::from_blob(&bytes);
                Some(manifest.map_err(|error| damaged(entry, &error.to_string()))?)
            }
            (None, None) => None,
        };
        Ok(entry.body.uploaded.get_or_init(|| manifest).clone())
    }

    /// The manifest of a snapshot with what is known of it now: notes, verification, figures.
    pub fn manifest(&self, entry: &Entry) -> Result<Manifest> {
        let mut manifest = match self.uploaded(entry)? {
            Some(manifest) => manifest,
            None => Manifest::new(entry.name.clone(), self.made(entry)?),
        };
        entry.merge(&mut manifest);
        Ok(manifest)
    }

    /// The same as the file `index.json.blob`.
    pub fn manifest_blob(&self, entry: &Entry) -> Result<Vec<u8>> {
        if let Some(blob) = entry.served.get() {
            return Ok(blob.clone());
        }
        let blob = self.manifest(entry)?.to_blob();
        let blob = blob.map_err(|error| damaged(entry, &error.to_string()))?;
        Ok(entry.served.get_or_init(|| blob).clone())
    }

    /// What a manifest says of the files that archives of `relight backup` are shown as: their lists are read once.
    fn made(&self, entry: &Entry) -> Result<Vec<ManifestFile>> {
        if let Some(files) = entry.body.made.get() {
            return Ok(files.clone());
        }
        let mut files = Vec::new();
        for file in entry.files(None) {
            let (size, csum) = match file.source {
                Source::Index(_) => {
                    let index = self.index_of(entry, &file)?;
                    (index.size, index.csum)
                }
                Source::Content(_) => {
                    let bytes = self.bytes_of(entry, &file)?;
                    (bytes.len() as u64, sha256(&bytes))
                }
                _ => continue,
            };
            files.push(ManifestFile {
                filename: file.name,
                crypt_mode: CryptMode::None,
                size,
                csum,
                other: serde_json::Map::new(),
            });
        }
        Ok(entry.body.made.get_or_init(|| files).clone())
    }

    /// The files of a snapshot.
    pub fn files(&self, entry: &Entry) -> Result<Vec<File>> {
        let uploaded = self.uploaded(entry)?;
        if uploaded.is_some() {
            // So that the list tells its size; of others that would mean to read all chunk lists.
            self.manifest_blob(entry)?;
        }
        Ok(entry.files(uploaded.as_ref()))
    }

    /// What a list shows of a snapshot: its files, its notes, and the fingerprint of the key that its client used.
    pub fn about(&self, entry: &Entry) -> Result<(Vec<File>, String, Option<String>)> {
        let files = self.files(entry)?;
        let uploaded = self.uploaded(entry)?;
        let notes = entry.notes(uploaded.as_ref());
        let fingerprint = uploaded.and_then(|manifest| manifest.key_fingerprint());
        Ok((files, notes, fingerprint.map(|key| key.to_string())))
    }

    /// One file of a snapshot.
    pub fn file(&self, entry: &Entry, name: &FileName) -> Result<File> {
        let files = entry.files(self.uploaded(entry)?.as_ref());
        let found = files
            .into_iter()
            .find(|file| file.name == *name && file.source != Source::Nowhere);
        found.ok_or_else(|| no_file(entry, name))
    }

    /// A file of a snapshot as it is downloaded: an index, a blob, the manifest or the log.
    pub fn read_file(&self, entry: &Entry, name: &FileName) -> Result<Vec<u8>> {
        let file = self.file(entry, name)?;
        match file.source {
            Source::Index(_) | Source::KeptIndex(..) => Ok(self.index_of(entry, &file)?.bytes),
            _ => self.bytes_of(entry, &file),
        }
    }

    /// An index of a snapshot, with the chunks that it lists.
    pub fn read_index(&self, entry: &Entry, name: &FileName) -> Result<IndexFile> {
        let file = self.file(entry, name)?;
        self.index_of(entry, &file)
    }

    /// The archive that an index lists.
    pub fn archive<'e>(&self, entry: &'e Entry, name: &FileName) -> Result<&'e Archive> {
        let archives = &entry.body.snapshot.archives;
        match self.file(entry, name)?.source {
            Source::Index(number) | Source::KeptIndex(number, _) => {
                archives.get(number).ok_or_else(|| no_file(entry, name))
            }
            _ => Err(no_file(entry, name)),
        }
    }

    fn index_of(&self, entry: &Entry, file: &File) -> Result<IndexFile> {
        let archives = &entry.body.snapshot.archives;
        match file.source {
            Source::Index(number) => {
                let kept = entry.body.index_header(&file.name);
                let header =
                    kept.unwrap_or_else(|| index::header(entry.id(), &file.name, entry.name.backup_time));
                index::make(&self.reader(), &archives[number], &file.name, header)
            }
            Source::KeptIndex(number, kept) => {
                let most = DynamicIndex::file_size(super::pieces::MOST as u64);
                let bytes = self.content(&archives[kept], most)?;
                index::kept(&self.reader(), &archives[number], &file.name, bytes)
            }
            _ => Err(no_file(entry, &file.name)),
        }
    }

    fn bytes_of(&self, entry: &Entry, file: &File) -> Result<Vec<u8>> {
        let archives = &entry.body.snapshot.archives;
        let most = blob::MAX_BLOB as u64 + blob::ENCRYPTED_HEADER as u64;
        match file.source {
            Source::Blob(number) => self.content(&archives[number], most),
            Source::Content(number) => {
                let content = self.content(&archives[number], most)?;
                blob::encode(&content, false).map_err(|error| damaged(entry, &error.to_string()))
            }
            Source::Manifest => self.manifest_blob(entry),
            Source::Log => {
                let log = self.repository().log(entry.id())?;
                log.ok_or_else(|| no_file(entry, &file.name))
            }
            Source::Index(_) | Source::KeptIndex(..) | Source::Nowhere => Err(no_file(entry, &file.name)),
        }
    }

    /// All of a small archive.
    fn content(&self, archive: &Archive, most: u64) -> Result<Vec<u8>> {
        if archive.root.size > most {
            return Err(StoreError::refused(format!(
                "{} has {} bytes, more than the {most} that are read at once",
                archive.name, archive.root.size
            )));
        }
        let mut bytes = Vec::with_capacity(archive.root.size as usize);
        if archive.root.levels == 0 {
            let piece = PieceStream::single(&self.reader(), archive.root, 0)?;
            match piece {
                Some((_, Some(content))) => bytes.extend_from_slice(&content),
                Some((piece, None)) => bytes.resize(piece.length as usize, 0),
                None => {}
            }
            return Ok(bytes);
        }
        for item in PieceStream::new(&self.reader(), archive.root, 0)? {
            match item? {
                (_, Some(content)) => bytes.extend_from_slice(&content),
                (piece, None) => bytes.resize(bytes.len() + piece.length as usize, 0),
            }
        }
        Ok(bytes)
    }

    /// Compares what the manifest says of each file with what is there, as far as that is in chunk lists and blobs.
    pub(super) fn check_manifest(&self, entry: &Entry) -> Result<()> {
        let Some(manifest) = self.uploaded(entry)? else {
            return Ok(());
        };
        for listed in &manifest.files {
            let file = self.file(entry, &listed.filename)?;
            let (size, csum) = match file.source {
                Source::Index(_) | Source::KeptIndex(..) => {
                    let index = self.index_of(entry, &file)?;
                    (index.size, index.csum)
                }
                _ => {
                    let bytes = self.bytes_of(entry, &file)?;
                    (bytes.len() as u64, sha256(&bytes))
                }
            };
            if size != listed.size {
                let why = format!(
                    "{} has {size} bytes, the manifest says {}",
                    file.name, listed.size
                );
                return Err(damaged(entry, &why));
            }
            if csum != listed.csum {
                let why = format!("{} is not what the manifest says", file.name);
                return Err(damaged(entry, &why));
            }
        }
        Ok(())
    }
}

fn no_file(entry: &Entry, name: &FileName) -> StoreError {
    StoreError::NoFile {
        snapshot: entry.name.clone(),
        file: name.clone(),
    }
}

fn damaged(entry: &Entry, why: &str) -> StoreError {
    StoreError::Damaged {
        snapshot: entry.id(),
        why: why.to_string(),
    }
}

fn sha256(bytes: &[u8]) -> Digest {
    let mut sum = [0; 32];
    sum.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    sum
}
