//! A snapshot as the protocol sees it: a name, files, a manifest.

use std::collections::{BTreeMap, HashSet};
use std::sync::OnceLock;

use relight_repo::SnapshotId;
use relight_repo::snapshot::{Archive, ArchiveKind, Marks, Snapshot};
use serde_json::{Value, json};

use super::error::{Result, StoreError};
use crate::formats::blob;
use crate::formats::ids::{FileKind, FileName, Namespace, SnapshotName};
use crate::formats::index::IndexHeader;
use crate::formats::manifest::{CryptMode, Manifest, ManifestFile, UploadStatistic};

/// Attributes of snapshots of the repository in which the service keeps what the protocol knows besides.
pub mod attribute {
    /// Who made it: `user@realm` or `user@realm!token`.
    pub const OWNER: &str = "pbs.owner";
    /// The manifest that the client uploaded, as JSON. Left out if it is very long; then only the blob has it.
    pub const MANIFEST: &str = "pbs.manifest";
    /// Figures of what the client sent, as JSON.
    pub const UPLOAD: &str = "pbs.upload";
    /// What the headers of indexes say that came from another server, as JSON: file, `uuid` in hexadecimal digits, `ctime`.
    pub const INDEXES: &str = "pbs.indexes";
}

/// A manifest that is longer is not kept as an attribute: it would slow down every listing.
const MAX_ATTRIBUTE: usize = 256 << 10;
/// Ending of the archive that tells which files changed: nothing that clients could use.
const STAT: ArchiveKind = ArchiveKind::PxarStat;

/// The attributes of a snapshot that a client uploads.
pub fn attributes(
    owner: &str,
    manifest: &Manifest,
    upload: &UploadStatistic,
) -> Result<BTreeMap<String, String>> {
    let mut attributes = copied_attributes(owner, manifest)?;
    attributes.insert(
        attribute::UPLOAD.to_string(),
        kept(serde_json::to_string(upload))?,
    );
    Ok(attributes)
}

fn kept(value: serde_json::Result<String>) -> Result<String> {
    value.map_err(|error| StoreError::refused(format!("the manifest cannot be kept: {error}")))
}

/// The attributes of a snapshot that comes from another server, whose manifest tells the figures of its upload.
pub fn copied_attributes(owner: &str, manifest: &Manifest) -> Result<BTreeMap<String, String>> {
    let mut attributes = BTreeMap::new();
    attributes.insert(attribute::OWNER.to_string(), owner.to_string());
    let text = kept(serde_json::to_string(manifest))?;
    if text.len() <= MAX_ATTRIBUTE {
        attributes.insert(attribute::MANIFEST.to_string(), text);
    }
    Ok(attributes)
}

/// Where the bytes of a file come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// An index, made from the chunk list of the archive of that number.
    Index(usize),
    /// An index that was kept (as the second archive), of the first archive.
    KeptIndex(usize, usize),
    /// The archive holds the file as it is.
    Blob(usize),
    /// The archive holds the content of the file.
    Content(usize),
    /// The manifest, with what is known of the snapshot now.
    Manifest,
    /// What was uploaded last, after the snapshot was done.
    Log,
    /// The manifest names it, but nobody uploaded it.
    Nowhere,
}

/// A file of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its name.
    pub name: FileName,
    /// Where it is.
    pub source: Source,
    /// Of an index the size of what it lists, else its own, if that is known without making it. In bytes.
    pub size: Option<u64>,
    /// How it is protected.
    pub crypt_mode: Option<CryptMode>,
}

/// What does not change about a snapshot.
pub struct Body {
    /// The snapshot in the repository.
    pub snapshot: Snapshot,
    pub(super) uploaded: OnceLock<Option<Manifest>>,
    pub(super) made: OnceLock<Vec<ManifestFile>>,
}

impl Body {
    pub(super) fn new(snapshot: Snapshot) -> Self {
        Self {
            snapshot,
            uploaded: OnceLock::new(),
            made: OnceLock::new(),
        }
    }

    /// Number and archive of that name.
    pub(super) fn find(&self, name: &str) -> Option<(usize, &Archive)> {
        let archives = self.snapshot.archives.iter().enumerate();
        archives.into_iter().find(|(_, archive)| archive.name == name)
    }

    /// The manifest that a client uploaded, if it is kept as an attribute.
    pub(super) fn attribute_manifest(&self) -> Option<Manifest> {
        let text = self.snapshot.attributes.get(attribute::MANIFEST)?;
        Manifest::parse(text.as_bytes()).ok()
    }

    fn upload_statistic(&self) -> Option<Value> {
        serde_json::from_str(self.snapshot.attributes.get(attribute::UPLOAD)?).ok()
    }

    /// What the header of an index says, if that was kept.
    pub(super) fn index_header(&self, name: &FileName) -> Option<IndexHeader> {
        let headers: Value = serde_json::from_str(self.snapshot.attributes.get(attribute::INDEXES)?).ok()?;
        let header = headers.get(name.as_str())?;
        let mut uuid = [0; 16];
        hex::decode_to_slice(header["uuid"].as_str()?, &mut uuid).ok()?;
        Some(IndexHeader {
            uuid,
            ctime: header["ctime"].as_i64()?,
        })
    }

    /// Who made it.
    pub fn owner(&self) -> Option<&str> {
        self.snapshot.attributes.get(attribute::OWNER).map(String::as_str)
    }
}

/// A snapshot as it is now.
pub struct Entry {
    /// Where it is.
    pub namespace: Namespace,
    /// What it is called.
    pub name: SnapshotName,
    /// What does not change about it.
    pub body: std::sync::Arc<Body>,
    /// What may change about it; none if nobody has noted anything.
    pub marks: Option<Marks>,
    /// Whether a log came after it.
    pub has_log: bool,
    /// Other snapshots of the same second, which have no name of their own.
    pub hidden: Vec<SnapshotId>,
    /// The served manifest.
    pub(super) served: OnceLock<Vec<u8>>,
}

impl Entry {
    /// Its identity in the repository.
    pub fn id(&self) -> SnapshotId {
        self.body.snapshot.id
    }

    /// Whether it must not be removed.
    pub fn is_protected(&self) -> bool {
        self.marks.as_ref().is_some_and(|marks| marks.protected)
    }

    /// Whether a client uploaded it, rather than `relight backup` having made it.
    pub fn is_uploaded(&self) -> bool {
        self.body.find(FileName::MANIFEST).is_some()
    }

    /// The notes: what was said last, or what came with the manifest.
    pub fn notes(&self, manifest: Option<&Manifest>) -> String {
        match (&self.marks, manifest) {
            (Some(marks), _) => marks.notes.clone(),
            (None, Some(manifest)) => {
                let notes = manifest.unprotected.get(Manifest::NOTES);
                notes.and_then(Value::as_str).unwrap_or_default().to_string()
            }
            (None, None) => String::new(),
        }
    }

    /// What the last verification found, as the protocol has it.
    pub fn verification(&self) -> Option<Value> {
        let found = self.marks.as_ref()?.verification.as_ref()?;
        let state = if found.good { "ok" } else { "failed" };
        Some(json!({"upid": found.task, "state": state}))
    }

    /// Writes into the part of a manifest that is not signed what is known now.
    pub(super) fn merge(&self, manifest: &mut Manifest) {
        let notes = self.notes(Some(manifest));
        let fields = &mut manifest.unprotected;
        if notes.is_empty() {
            fields.remove(Manifest::NOTES);
        } else {
            fields.insert(Manifest::NOTES.into(), notes.into());
        }
        match self.verification() {
            Some(found) => drop(fields.insert(Manifest::VERIFY_STATE.into(), found)),
            None => drop(fields.remove(Manifest::VERIFY_STATE)),
        }
        if let Some(upload) = self.body.upload_statistic() {
            fields.insert(Manifest::UPLOAD_STATISTIC.into(), upload);
        }
    }

    /// The files, in the order of the manifest, then the manifest and the log. `uploaded` is the client's manifest, if
    /// there is one.
    pub(super) fn files(&self, uploaded: Option<&Manifest>) -> Vec<File> {
        let mut files = match uploaded {
            Some(manifest) => manifest.files.iter().map(|file| self.uploaded(file)).collect(),
            None => self.made(),
        };
        let signed = uploaded.is_some_and(|manifest| manifest.signature.is_some());
        let extra = |name: &str, source, size, crypt_mode| {
            let name = name.parse().ok()?;
            Some(File {
                name,
                source,
                size,
                crypt_mode,
            })
        };
        let mode = if signed {
            CryptMode::SignOnly
        } else {
            CryptMode::None
        };
        let size = self.served.get().map(|blob| blob.len() as u64);
        files.extend(extra(FileName::MANIFEST, Source::Manifest, size, Some(mode)));
        if self.has_log {
            files.extend(extra(FileName::CLIENT_LOG, Source::Log, None, None));
        }
        files
    }

    fn uploaded(&self, file: &ManifestFile) -> File {
        let name = &file.filename;
        let whole = self.body.find(name.as_str());
        let source = match (name.kind(), whole) {
            (FileKind::Blob, Some((number, _))) => Source::Blob(number),
            (FileKind::Blob, None) => Source::Nowhere,
            (_, kept) => match (self.body.find(name.stem()), kept) {
                (Some((archive, _)), Some((kept, _))) => Source::KeptIndex(archive, kept),
                (Some((archive, _)), None) => Source::Index(archive),
                (None, _) => Source::Nowhere,
            },
        };
        File {
            name: name.clone(),
            source,
            size: Some(file.size),
            crypt_mode: Some(file.crypt_mode),
        }
    }

    /// The files that archives of `relight backup` are shown as.
    fn made(&self) -> Vec<File> {
        let reserved = [FileName::MANIFEST, FileName::CLIENT_LOG];
        let mut taken: HashSet<FileName> = reserved.iter().filter_map(|name| name.parse().ok()).collect();
        let mut files = Vec::new();
        for (number, archive) in self.body.snapshot.archives.iter().enumerate() {
            let (ending, source, size) = match archive.kind {
                STAT => continue,
                // There is no index of nothing.
                ArchiveKind::Image if archive.root.size == 0 => continue,
                ArchiveKind::Image => (".fidx", Source::Index(number), archive.root.size),
                ArchiveKind::Blob if archive.root.size > blob::MAX_BLOB as u64 => continue,
                ArchiveKind::Blob => {
                    let size = archive.root.size + blob::HEADER as u64;
                    (".blob", Source::Content(number), size)
                }
                _ => (".didx", Source::Index(number), archive.root.size),
            };
            let Some(name) = file_name(&archive.name, ending, &taken) else {
                continue;
            };
            taken.insert(name.clone());
            files.push(File {
                name,
                source,
                size: Some(size),
                crypt_mode: Some(CryptMode::None),
            });
        }
        files
    }
}

/// A name of a file that is not taken: that of the archive, as far as it can be one.
fn file_name(archive: &str, ending: &str, taken: &HashSet<FileName>) -> Option<FileName> {
    let is_free = |name: &FileName| !taken.contains(name);
    if let Some(name) = format!("{archive}{ending}").parse().ok().filter(is_free) {
        return Some(name);
    }
    let safe = |(at, c): (usize, char)| match c {
        '.' | '-' if at > 0 => c,
        _ if c.is_ascii_alphanumeric() => c,
        _ => '_',
    };
    let plain: String = archive.chars().enumerate().map(safe).take(100).collect();
    let numbered = (2..1000).map(|number| format!("{plain}-{number}{ending}"));
    std::iter::once(format!("{plain}{ending}"))
        .chain(numbered)
        .filter_map(|name| name.parse().ok())
        .find(is_free)
}
