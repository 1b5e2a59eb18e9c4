//! Folders of file archives: what is in them, and single files and folders of them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use http::Method;
use relight_pxar::EntryKind;
use relight_workloads::WorkloadError;
use relight_workloads::files::browse::{Kind, Place, TreeView, View};
use relight_workloads::files::export::{self, Format};
use relight_workloads::files::trees;
use serde_json::{Value, json};

use super::download::{named, permit, written};
use super::{Service, allowed_in, parameters};
use crate::access::Privileges;
use crate::formats::ids::{FileKind, FileName};
use crate::formats::manifest::CryptMode;
use crate::service::datastore::{Datastore, Entry, Lock, StoreError};
use crate::service::http::{Answer, ApiError, ApiResult, Call, Router, blocking};

/// Most entries of a folder that are listed.
const MAX_ENTRIES: usize = 200_000;

parameters! {
    struct OfFolder of snapshot {
        filepath: String,
        archive_name: Option<FileName>,
    }
}

parameters! {
    struct OfFile of snapshot {
        filepath: String,
        archive_name: Option<FileName>,
        #[serde(default)]
        tar: bool,
    }
}

pub(super) fn routes(router: &mut Router, service: &Service) {
    let of = service.clone();
    router.on(
        Method::GET,
        "/admin/datastore/{store}/catalog",
        move |call, given: OfFolder| {
            let service = of.clone();
            async move {
                let permit = permit(&service).await?;
                blocking(move || {
                    let answer = list(&service, &call, &given);
                    drop(permit);
                    answer
                })
                .await
            }
        },
    );
    let of = service.clone();
    router.on(
        Method::GET,
        "/admin/datastore/{store}/pxar-file-download",
        move |call, given: OfFile| download(of.clone(), call, given),
    );
}

macro_rules! opened {
    ($($name:ident)*) => {$(
        impl $name {
            /// The snapshot for somebody who may read it.
            fn open(&self, service: &Service, call: &Call) -> ApiResult<Opened> {
                let own = Privileges::DATASTORE_BACKUP;
                let may = allowed_in(call, (&self.store, &self.ns, &self.group()), Privileges::DATASTORE_READ, own)?;
                let (store, name) = (service.stores.get(&self.store)?, self.snapshot());
                let entry = store.snapshot(&self.ns, &name)?;
                may.require(call, &store, &self.ns, &name.group)?;
                let lock = store.locks().snapshot(&self.ns, &name, false)?;
                Opened::new(&store, &entry, lock)
            }

            /// The path that is asked for: name of the archive, then the path in it.
            fn path(&self) -> ApiResult<Vec<u8>> {
                decode(&self.filepath, self.archive_name.as_ref())
            }
        }
    )*};
}
opened!(OfFolder OfFile);

fn decode(filepath: &str, archive: Option<&FileName>) -> ApiResult<Vec<u8>> {
    let mut path = match filepath {
        "root" | "/" => Vec::new(),
        text => STANDARD
            .decode(text)
            .or_else(|_| STANDARD_NO_PAD.decode(text))
            .map_err(|_| ApiError::bad_request("the path is not base64"))?,
    };
    if let Some(archive) = archive {
        let mut whole = archive.as_str().as_bytes().to_vec();
        whole.push(b'/');
        whole.append(&mut path);
        path = whole;
    }
    Ok(path)
}

/// A snapshot whose file archives are open.
struct Opened {
    view: View,
    /// The files under which clients know the trees, each with the name of its tree.
    archives: Vec<(FileName, String)>,
    _lock: Lock,
}

impl Opened {
    fn new(store: &Arc<Datastore>, entry: &Entry, lock: Lock) -> ApiResult<Self> {
        let snapshot = entry.body.snapshot.clone();
        let trees = trees(&snapshot);
        let mut archives = Vec::new();
        for file in store.files(entry)? {
            if file.name.kind() != FileKind::DynamicIndex || file.crypt_mode == Some(CryptMode::Encrypt) {
                continue;
            }
            let archive = store.archive(entry, &file.name)?;
            if let Some(tree) = trees.iter().find(|tree| tree.metadata.name == archive.name) {
                archives.push((file.name, tree.name.to_string()));
            }
        }
        Ok(Self {
            view: View::new(store.reader(), snapshot),
            archives,
            _lock: lock,
        })
    }

    /// What is at a path, of which the first part names an archive as clients do.
    fn find(&self, path: &[u8]) -> ApiResult<Place<'_>> {
        let missing = || ApiError::not_found("no such file or directory");
        let mut parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty());
        let Some(first) = parts.next() else {
            return Ok(Place::Root);
        };
        let known = self
            .archives
            .iter()
            .find(|(file, _)| file.as_str().as_bytes() == first);
        let (_, tree) = known.ok_or_else(missing)?;
        let mut inside = tree.clone().into_bytes();
        for part in parts {
            inside.push(b'/');
            inside.extend_from_slice(part);
        }
        self.view.find(&inside).map_err(failed)?.ok_or_else(missing)
    }
}

fn failed(error: WorkloadError) -> ApiError {
    match error {
        WorkloadError::Repo(error) => StoreError::from(error).into(),
        other => ApiError::bad_request(other.to_string()),
    }
}

fn list(service: &Service, call: &Call, given: &OfFolder) -> ApiResult<Answer> {
    let opened = given.open(service, call)?;
    let path = given.path()?;
    match opened.find(&path)? {
        Place::Root => {
            let entry = |(file, _): &(FileName, String)| {
                json!({
                    "filepath": STANDARD.encode(format!("/{file}")),
                    "text": file,
                    "type": "d",
                    "leaf": false,
                })
            };
            Answer::data(opened.archives.iter().map(entry).collect::<Vec<_>>())
        }
        Place::Entry { tree, node, .. } => {
            if !matches!(node.kind(), EntryKind::Directory) {
                return Err(ApiError::bad_request("not a directory"));
            }
            let mut list = Vec::new();
            for child in tree.children(&node).map_err(failed)? {
                if list.len() >= MAX_ENTRIES {
                    let message = format!("the folder has more than {MAX_ENTRIES} entries");
                    return Err(ApiError::bad_request(message));
                }
                list.push(shown(tree, &path, &child.map_err(failed)?)?);
            }
            Answer::data(list)
        }
        Place::Archive(_) => Err(ApiError::bad_request("not a directory")),
    }
}

/// An entry of a folder, as the original lists those of its catalog.
fn shown(tree: &TreeView, folder: &[u8], node: &relight_pxar::Node) -> ApiResult<Value> {
    let mut path = vec![b'/'];
    for part in folder.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
        path.extend_from_slice(part);
        path.push(b'/');
    }
    path.extend_from_slice(node.name());
    let damaged = |error: relight_pxar::DecodeError| failed(error.into());
    let metadata = tree.resolved(node).map_err(failed)?.metadata().map_err(damaged)?;
    let (letter, size) = match node.kind() {
        EntryKind::Hardlink { .. } => ('h', None),
        EntryKind::File { size, .. } => ('f', Some(size)),
        kind => (Kind::of(&kind, metadata.mode).letter(), None),
    };
    let mut entry = json!({
        "filepath": STANDARD.encode(&path),
        "text": String::from_utf8_lossy(node.name()),
        "type": letter.to_string(),
        "leaf": letter != 'd',
    });
    if let Some(size) = size {
        entry["size"] = size.into();
        entry["mtime"] = metadata.mtime.secs.into();
    }
    Ok(entry)
}

async fn download(service: Service, call: Call, given: OfFile) -> ApiResult<Answer> {
    let permit = permit(&service).await?;
    blocking(move || {
        let opened = given.open(&service, &call)?;
        let path = given.path()?;
        let last = path.split(|byte| *byte == b'/').rfind(|part| !part.is_empty());
        let name = String::from_utf8_lossy(last.unwrap_or(b"snapshot")).into_owned();
        // Whether it is there, and what it is, is told before the answer begins.
        let kind = match opened.find(&path)? {
            Place::Entry { tree, node, .. } => {
                let node = tree.resolved(&node).map_err(failed)?;
                Kind::of(&node.kind(), 0)
            }
            Place::Root | Place::Archive(_) => Kind::Directory,
        };
        let (name, content_type) = match (kind, given.tar) {
            (Kind::File, _) => (name, "application/octet-stream"),
            (Kind::Directory, true) => (format!("{name}.tar.zst"), "application/zstd"),
            (Kind::Directory, false) => (format!("{name}.zip"), "application/zip"),
            (other, _) => {
                let message = format!("{name} is a {other} and has no content of its own");
                return Err(ApiError::bad_request(message));
            }
        };
        let tar = given.tar;
        let answer = written(content_type, move |out| {
            let _held = permit;
            let (done, cancelled) = (AtomicU64::new(0), AtomicBool::new(false));
            let place = opened
                .find(&path)
                .map_err(|error| io::Error::other(error.message))?;
            let view = &opened.view;
            let result = if kind == Kind::File {
                export::content(view, &place, out, &done, &cancelled)
            } else if tar {
                let mut frame = zstd::stream::write::Encoder::new(out, 1)?;
                let report = export::export(view, &place, Format::Tar, &mut frame, &done, &cancelled);
                report.and_then(|_| match frame.finish() {
                    Ok(_) => Ok(()),
                    Err(source) => Err(WorkloadError::Io {
                        action: "write",
                        path: "the archive".into(),
                        source,
                    }),
                })
            } else {
                let report = export::export(view, &place, Format::Zip, out, &done, &cancelled);
                report.map(drop)
            };
            result.map_err(io::Error::other)
        });
        Ok(named(answer, &name))
    })
    .await
}
