//! Sessions for whoever copies snapshots as they are: files and chunks as bytes, not opened, whoever encrypted them.

use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use serde_json::json;

use super::backup::MAX_INDEX;
use super::connection::Client;
use super::wire::{Connected, Wire};
use super::{ClientError, Result, rest};
use crate::formats::blob::{MAX_BLOB, MAX_ENCODED};
use crate::formats::ids::{FileKind, FileName, Namespace, SnapshotName};
use crate::formats::index::Digest;
use crate::formats::manifest::MAX as MAX_MANIFEST;
use crate::service::{backup, reader};

/// A snapshot of which files and chunks are read as they are stored. What comes is not checked. Clones share it.
#[derive(Clone)]
pub struct RawReader {
    wire: Wire,
    _connected: Arc<Connected>,
}

/// A snapshot into which files and chunks are written as they are. Nothing of it counts before [`RawWriter::finish`]; if
/// it is dropped before, the server forgets what was sent. Clones share it.
#[derive(Clone)]
pub struct RawWriter {
    wire: Wire,
    _connected: Arc<Connected>,
}

impl Client {
    /// Begins to read a snapshot as it is, in any namespace of the datastore.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the server's words; otherwise what went wrong on the way.
    pub async fn read_raw(&self, namespace: &Namespace, snapshot: &SnapshotName) -> Result<RawReader> {
        let session = self.session_in(namespace, "reader", reader::PROTOCOL, snapshot, []);
        let (wire, connected) = session.await?;
        Ok(RawReader {
            wire,
            _connected: Arc::new(connected),
        })
    }

    /// Begins to write a snapshot as it is elsewhere, in any namespace of the datastore.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the server's words; otherwise what went wrong on the way.
    pub async fn write_raw(&self, namespace: &Namespace, snapshot: &SnapshotName) -> Result<RawWriter> {
        let benchmark = ("benchmark", "false".to_string());
        let session = self.session_in(namespace, "backup", backup::PROTOCOL, snapshot, [benchmark]);
        let (wire, connected) = session.await?;
        Ok(RawWriter {
            wire,
            _connected: Arc::new(connected),
        })
    }
}

impl Client {
    /// Adds the log of the client that made a snapshot, a blob, after the snapshot is there.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the server's words; otherwise what went wrong on the way.
    pub async fn upload_raw_log(
        &self,
        namespace: &Namespace,
        snapshot: &SnapshotName,
        log: Bytes,
    ) -> Result<()> {
        let SnapshotName { group, backup_time } = snapshot;
        let ns = (!namespace.is_root()).then(|| ("ns", namespace.to_string()));
        let parameters = [
            ("backup-type", group.backup_type.to_string()),
            ("backup-id", group.backup_id.to_string()),
            ("backup-time", backup_time.seconds().to_string()),
        ];
        let query = rest::query(parameters.into_iter().chain(ns));
        let path = format!("/admin/datastore/{}/upload-backup-log", self.datastore());
        let authority = self.options.transport.authority();
        let mut request = rest::upload(&authority, &format!("{path}?{query}"), log)?;
        self.shown().await?.add(&mut request);
        self.answer(request, &path).await.map(drop)
    }
}

/// How long a file may be.
fn limit(name: &FileName) -> usize {
    match name.kind() {
        FileKind::Blob if name.is_manifest() => MAX_MANIFEST,
        FileKind::Blob => MAX_BLOB,
        FileKind::FixedIndex | FileKind::DynamicIndex => MAX_INDEX,
    }
}

impl RawReader {
    /// A file. The chunks of an index may be asked for from then on.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the server's words; otherwise what went wrong on the way.
    pub async fn download(&self, name: &FileName) -> Result<Bytes> {
        let query = rest::query([("file-name", name.to_string())].into_iter());
        let target = format!("/download?{query}");
        self.wire.call(Method::GET, &target, None, limit(name)).await
    }

    /// A chunk as the blob that it is stored as.
    ///
    /// # Errors
    /// As [`RawReader::download`].
    pub async fn chunk(&self, digest: &Digest) -> Result<Bytes> {
        let target = format!("/chunk?digest={}", hex::encode(digest));
        self.wire.call(Method::GET, &target, None, MAX_ENCODED).await
    }
}

impl RawWriter {
    /// A file of the previous snapshot of the group; of an index the chunks may be named from then on. None if the server
    /// gives none.
    ///
    /// # Errors
    /// What went wrong on the way.
    pub async fn previous(&self, name: &FileName) -> Result<Option<Bytes>> {
        let query = rest::query([("archive-name", name.to_string())].into_iter());
        let target = format!("/previous?{query}");
        match self.wire.call(Method::GET, &target, None, limit(name)).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(ClientError::Refused { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens an index; gives its number. `size` is that of an image in bytes, and of images alone.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the server's words; otherwise what went wrong on the way.
    pub async fn open(&self, name: &FileName, size: Option<u64>) -> Result<u64> {
        let target = match size {
            Some(size) => format!("/fixed_index?archive-name={name}&size={size}"),
            None => format!("/dynamic_index?archive-name={name}"),
        };
        let wid = self.wire.json(Method::POST, &target, None).await?;
        wid.as_u64()
            .ok_or_else(|| ClientError::protocol("the server gave no number for the index"))
    }

    /// Sends a chunk of `size` bytes of content, as a blob.
    ///
    /// # Errors
    /// As [`RawWriter::open`].
    pub async fn chunk(&self, fixed: bool, wid: u64, digest: &Digest, size: u64, blob: Bytes) -> Result<()> {
        let call = if fixed { "fixed_chunk" } else { "dynamic_chunk" };
        let (digest, encoded) = (hex::encode(digest), blob.len());
        let target = format!("/{call}?wid={wid}&digest={digest}&size={size}&encoded-size={encoded}");
        self.wire.json(Method::POST, &target, Some(blob)).await.map(drop)
    }

    /// Names chunks in order, with where each begins.
    ///
    /// # Errors
    /// As [`RawWriter::open`].
    pub async fn append(&self, fixed: bool, wid: u64, chunks: &[(u64, Digest)]) -> Result<()> {
        let call = if fixed { "/fixed_index" } else { "/dynamic_index" };
        let digests: Vec<String> = chunks.iter().map(|(_, digest)| hex::encode(digest)).collect();
        let offsets: Vec<u64> = chunks.iter().map(|(offset, _)| *offset).collect();
        let body = json!({"wid": wid, "digest-list": digests, "offset-list": offsets}).to_string();
        let body = Some(Bytes::from(body));
        self.wire.json(Method::PUT, call, body).await.map(drop)
    }

    /// Closes an index, which the server checks.
    ///
    /// # Errors
    /// As [`RawWriter::open`].
    pub async fn close(&self, fixed: bool, wid: u64, count: u64, size: u64, csum: &Digest) -> Result<()> {
        let call = if fixed { "fixed_close" } else { "dynamic_close" };
        let csum = hex::encode(csum);
        let target = format!("/{call}?wid={wid}&chunk-count={count}&size={size}&csum={csum}");
        self.wire.json(Method::POST, &target, None).await.map(drop)
    }

    /// Sends a small file.
    ///
    /// # Errors
    /// As [`RawWriter::open`].
    pub async fn blob(&self, name: &FileName, bytes: Bytes) -> Result<()> {
        let target = format!("/blob?file-name={name}&encoded-size={}", bytes.len());
        self.wire.json(Method::POST, &target, Some(bytes)).await.map(drop)
    }

    /// Makes the snapshot, once its manifest was sent.
    ///
    /// # Errors
    /// As [`RawWriter::open`].
    pub async fn finish(self) -> Result<()> {
        self.wire.json(Method::POST, "/finish", None).await.map(drop)
    }
}
