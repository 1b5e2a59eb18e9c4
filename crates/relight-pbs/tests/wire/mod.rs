//! A client of both protocols that does what it is told, over a stream in memory.
#![allow(dead_code)]

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use relight_pbs::formats::blob;
use relight_pbs::formats::ids::SnapshotName;
use relight_pbs::formats::index::{Digest, DynamicSum, FIXED_CHUNK, FixedSum};
use relight_pbs::formats::manifest::{CryptMode, Manifest, ManifestFile};
use relight_pbs::service::backup::{self, BackupRequest};
use relight_pbs::service::datastore::Datastore;
use relight_pbs::service::http::ApiError;
use relight_pbs::service::reader::{self, ReaderRequest};
use serde_json::{Value, json};
use tokio::io::DuplexStream;
use tokio::task::JoinHandle;

#[allow(unused_imports, reason = "not every test needs all")]
pub use super::support::{Place, content, sha256};

pub const FULL: usize = FIXED_CHUNK as usize;

/// What a call was answered with.
#[derive(Debug)]
pub struct Answered {
    pub status: StatusCode,
    pub body: Bytes,
}

impl Answered {
    /// The data, of a call that must have gone well.
    #[track_caller]
    pub fn data(&self) -> Value {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        serde_json::from_slice::<Value>(&self.body).unwrap()["data"].clone()
    }

    /// The bytes, of a call that must have gone well.
    #[track_caller]
    pub fn bytes(&self) -> Bytes {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        self.body.clone()
    }

    /// The message, of a call that must have failed like this.
    #[track_caller]
    pub fn refused(&self, status: u16) -> String {
        let message = String::from_utf8_lossy(&self.body).into_owned();
        assert_eq!(self.status, status, "{message}");
        message
    }
}

impl Answered {
    /// The message, of a call that must have been refused because of its size.
    #[track_caller]
    pub fn refused_or_too_large(&self) {
        let message = String::from_utf8_lossy(&self.body);
        assert!(
            self.status == 400 || self.status == 413,
            "{} {message}",
            self.status
        );
    }
}

/// The checksum of an image's index.
pub fn fixed_sum(digests: &[Digest]) -> Digest {
    let mut sum = FixedSum::default();
    digests.iter().for_each(|digest| sum.add(digest));
    sum.finish()
}

/// A connection from the client's side.
#[derive(Clone)]
pub struct Wire {
    send: h2::client::SendRequest<Bytes>,
    connection: Arc<JoinHandle<()>>,
}

impl Wire {
    /// Greets the server as clients do.
    pub async fn new(io: DuplexStream) -> Self {
        let (send, connection) = h2::client::Builder::new()
            .initial_window_size((1 << 31) - 2)
            .initial_connection_window_size((1 << 31) - 2)
            .max_frame_size(4 << 20)
            .handshake(io)
            .await
            .unwrap();
        let connection = tokio::spawn(async move { drop(connection.await) });
        Self {
            send,
            connection: Arc::new(connection),
        }
    }

    /// Sends the head and body of a call, without waiting for the answer.
    pub async fn send(
        &self,
        method: Method,
        target: &str,
        body: Option<Bytes>,
    ) -> Result<h2::client::ResponseFuture, h2::Error> {
        let request = Request::builder()
            .method(method)
            .uri(format!("https://localhost:8007{target}"))
            .body(())
            .unwrap();
        let mut send = self.send.clone().ready().await?;
        let (response, mut stream) = send.send_request(request, body.is_none())?;
        if let Some(body) = body {
            stream.send_data(body, true)?;
        }
        Ok(response)
    }

    /// Sends the head of a call; the body follows.
    pub async fn open(&self, request: Request<()>) -> (h2::client::ResponseFuture, h2::SendStream<Bytes>) {
        let mut send = self.send.clone().ready().await.unwrap();
        send.send_request(request, false).unwrap()
    }

    pub async fn try_call(
        &self,
        method: Method,
        target: &str,
        body: Option<Bytes>,
    ) -> Result<Answered, h2::Error> {
        let response = self.send(method, target, body).await?;
        answered(response).await
    }

    pub async fn get(&self, target: &str) -> Answered {
        self.try_call(Method::GET, target, None).await.unwrap()
    }

    pub async fn post(&self, target: &str) -> Answered {
        self.try_call(Method::POST, target, None).await.unwrap()
    }

    pub async fn post_bytes(&self, target: &str, body: impl Into<Bytes>) -> Answered {
        self.try_call(Method::POST, target, Some(body.into()))
            .await
            .unwrap()
    }

    pub async fn put(&self, target: &str, body: &Value) -> Answered {
        let body = Bytes::from(serde_json::to_vec(body).unwrap());
        self.try_call(Method::PUT, target, Some(body)).await.unwrap()
    }

    /// Breaks the connection off, as a client does that is killed.
    pub fn cut(&self) {
        self.connection.abort();
    }
}

pub async fn answered(response: h2::client::ResponseFuture) -> Result<Answered, h2::Error> {
    let response = response.await?;
    let status = response.status();
    let mut stream = response.into_body();
    let mut body = Vec::new();
    while let Some(part) = stream.data().await {
        let part = part?;
        stream.flow_control().release_capacity(part.len())?;
        body.extend_from_slice(&part);
    }
    Ok(Answered {
        status,
        body: body.into(),
    })
}

/// A backup session from both sides.
pub struct BackupSession {
    pub wire: Wire,
    pub server: JoinHandle<backup::Ended>,
    pub name: SnapshotName,
    pub files: Vec<ManifestFile>,
}

pub fn request(store: &Arc<Datastore>, namespace: &str, name: &str, who: &str) -> BackupRequest {
    BackupRequest {
        datastore: store.clone(),
        namespace: namespace.parse().unwrap(),
        snapshot: name.parse().unwrap(),
        auth_id: who.parse().unwrap(),
        benchmark: false,
    }
}

impl BackupSession {
    pub async fn begin(store: &Arc<Datastore>, name: &str) -> Result<Self, ApiError> {
        Self::of(request(store, "", name, "bkup@pbs!tok1")).await
    }

    pub async fn of(request: BackupRequest) -> Result<Self, ApiError> {
        let name = request.snapshot.clone();
        let backup = backup::begin(request).await?;
        let (here, there) = tokio::io::duplex(256 << 10);
        let server = tokio::spawn(backup.serve(there));
        Ok(Self {
            wire: Wire::new(here).await,
            server,
            name,
            files: Vec::new(),
        })
    }

    /// Uploads a chunk with the digest of its content.
    pub async fn chunk(&self, kind: &str, wid: u64, content: &[u8], compress: bool) -> Digest {
        let digest = sha256(content);
        let blob = blob::encode(content, compress).unwrap();
        let target = chunk_target(kind, wid, &digest, content.len(), blob.len());
        let answer = self.wire.post_bytes(&target, blob).await;
        assert_eq!(answer.data(), hex::encode(digest));
        digest
    }

    /// Names chunks for an index.
    pub async fn append(&self, kind: &str, wid: u64, chunks: &[(u64, Digest)]) -> Answered {
        let digests: Vec<String> = chunks.iter().map(|(_, digest)| hex::encode(digest)).collect();
        let offsets: Vec<u64> = chunks.iter().map(|(offset, _)| *offset).collect();
        let body = json!({"wid": wid, "digest-list": digests, "offset-list": offsets});
        self.wire.put(&format!("/{kind}_index"), &body).await
    }

    /// Saves an image as the command line client does.
    pub async fn image(&mut self, name: &str, image: &[u8]) {
        let target = format!("/fixed_index?archive-name={name}&size={}", image.len());
        let wid = self.wire.post(&target).await.data().as_u64().unwrap();
        let mut chunks = Vec::new();
        let mut sum = FixedSum::default();
        for (number, chunk) in image.chunks(FULL).enumerate() {
            let digest = self.chunk("fixed", wid, chunk, true).await;
            sum.add(&digest);
            chunks.push(((number * FULL) as u64, digest));
        }
        let csum = sum.finish();
        assert_eq!(self.append("fixed", wid, &chunks).await.data(), Value::Null);
        let close = close_target("fixed", wid, chunks.len(), image.len(), &csum);
        assert_eq!(self.wire.post(&close).await.data(), Value::Null);
        self.file(name, image.len() as u64, csum, CryptMode::None);
    }

    /// Saves a stream in pieces of these lengths.
    pub async fn stream(&mut self, name: &str, stream: &[u8], lengths: &[usize]) {
        let target = format!("/dynamic_index?archive-name={name}");
        let wid = self.wire.post(&target).await.data().as_u64().unwrap();
        let (mut at, mut chunks, mut sum) = (0, Vec::new(), DynamicSum::default());
        for length in lengths {
            let digest = self.chunk("dynamic", wid, &stream[at..at + length], true).await;
            chunks.push((at as u64, digest));
            at += length;
            sum.add(at as u64, &digest);
        }
        assert_eq!(at, stream.len());
        let csum = sum.finish();
        assert_eq!(self.append("dynamic", wid, &chunks).await.data(), Value::Null);
        let close = close_target("dynamic", wid, chunks.len(), stream.len(), &csum);
        assert_eq!(self.wire.post(&close).await.data(), Value::Null);
        self.file(name, stream.len() as u64, csum, CryptMode::None);
    }

    /// Uploads a small file.
    pub async fn blob(&mut self, name: &str, content: &[u8]) {
        let blob = blob::encode(content, true).unwrap();
        let target = format!("/blob?file-name={name}&encoded-size={}", blob.len());
        let (size, csum) = (blob.len() as u64, sha256(&blob));
        assert_eq!(self.wire.post_bytes(&target, blob).await.data(), Value::Null);
        if name != "index.json.blob" {
            self.file(name, size, csum, CryptMode::None);
        }
    }

    pub fn file(&mut self, name: &str, size: u64, csum: Digest, crypt_mode: CryptMode) {
        self.files.push(ManifestFile {
            filename: name.parse().unwrap(),
            crypt_mode,
            size,
            csum,
            other: serde_json::Map::new(),
        });
    }

    /// Uploads the manifest of what was saved so far.
    pub async fn manifest(&mut self) {
        let manifest = Manifest::new(self.name.clone(), self.files.clone());
        self.blob("index.json.blob", manifest.to_text().as_bytes()).await;
    }

    /// Uploads the manifest, finishes, and goes away.
    pub async fn finish(mut self) -> backup::Ended {
        self.manifest().await;
        assert_eq!(self.wire.post("/finish").await.data(), Value::Null);
        self.wire.cut();
        self.server.await.unwrap()
    }

    /// Goes away without a word.
    pub async fn cut(self) -> backup::Ended {
        self.wire.cut();
        self.server.await.unwrap()
    }
}

pub fn chunk_target(kind: &str, wid: u64, digest: &Digest, size: usize, encoded: usize) -> String {
    let digest = hex::encode(digest);
    format!("/{kind}_chunk?digest={digest}&encoded-size={encoded}&size={size}&wid={wid}")
}

pub fn close_target(kind: &str, wid: u64, count: usize, size: usize, csum: &Digest) -> String {
    let csum = hex::encode(csum);
    format!("/{kind}_close?chunk-count={count}&csum={csum}&size={size}&wid={wid}")
}

/// A reader session from both sides.
pub struct ReaderSession {
    pub wire: Wire,
    pub server: JoinHandle<reader::Ended>,
}

impl ReaderSession {
    pub async fn begin(store: &Arc<Datastore>, name: &str) -> Result<Self, ApiError> {
        Self::of(ReaderRequest {
            datastore: store.clone(),
            namespace: "".parse().unwrap(),
            snapshot: name.parse().unwrap(),
            auth_id: "bkup@pbs!tok1".parse().unwrap(),
            must_own: true,
        })
        .await
    }

    pub async fn of(request: ReaderRequest) -> Result<Self, ApiError> {
        let reader = reader::begin(request).await?;
        let (here, there) = tokio::io::duplex(256 << 10);
        let server = tokio::spawn(reader.serve(there));
        Ok(Self {
            wire: Wire::new(here).await,
            server,
        })
    }

    pub async fn download(&self, name: &str) -> Bytes {
        self.wire
            .get(&format!("/download?file-name={name}"))
            .await
            .bytes()
    }

    /// The blob of a chunk.
    pub async fn chunk(&self, digest: &Digest) -> Bytes {
        let target = format!("/chunk?digest={}", hex::encode(digest));
        self.wire.get(&target).await.bytes()
    }

    pub async fn end(self) -> reader::Ended {
        self.wire.cut();
        self.server.await.unwrap()
    }
}
