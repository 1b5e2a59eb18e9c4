//! The client against the service, over TLS and over streams in memory.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Method, StatusCode};
use relight_pbs::access::{Access, AuditEvent, AuthId, Credentials as Asked, Privileges, Unauthenticated};
use relight_pbs::client::{
    BackupOptions, BackupSession, BoxIo, Client, ClientError, ClientOptions, Connecting, Content,
    Credentials, ReaderArchive, ServerAddress, Transport, TreeSink, Trust,
};
use relight_pbs::formats::chunker::StreamChunker;
use relight_pbs::formats::crypt::{CryptKey, Fingerprint};
use relight_pbs::formats::ids::{Namespace, SnapshotName};
use relight_pbs::service::datastore::{Datastore, Stores};
use relight_pbs::service::http::{Answer, HttpService, Limits, NoParameters, Router};
use relight_pbs::service::tasks::Tasks;
use relight_pbs::service::{backup, reader, rest};
use relight_pxar::fs::capture::{CaptureOptions, capture};
use relight_pxar::fs::progress::Progress;
use relight_pxar::fs::sink::ArchiveSink;
use rustls::pki_types::PrivateKeyDer;
use serde_json::json;
use support::{Place, content, sha256};

const FIRST: &str = "host/fix/2023-11-14T22:13:21Z";
const SECOND: &str = "host/fix/2023-11-15T22:13:21Z";
const MIB: usize = 1 << 20;

/// Knows one token and one user.
struct Known;

impl Access for Known {
    fn authenticate(&self, asked: &Asked<'_>) -> Result<AuthId, Unauthenticated> {
        let user = "user@pbs".parse().unwrap();
        match (asked.authorization, asked.cookie, asked.csrf) {
            (Some("PBSAPIToken bkup@pbs!tok1:gehe%25im"), ..) => Ok("bkup@pbs!tok1".parse().unwrap()),
            (None, Some("PBSAuthCookie=PBS:user@pbs:65::AB+/"), Some("65:csrf")) => Ok(user),
            _ => Err(Unauthenticated::new("wrong")),
        }
    }

    fn privileges(&self, _: &AuthId, path: &str) -> Privileges {
        match path.starts_with("/datastore/main") {
            true => Privileges::DATASTORE_BACKUP | Privileges::DATASTORE_READ | Privileges::DATASTORE_AUDIT,
            false => Privileges::NONE,
        }
    }

    fn exists(&self, _: &AuthId) -> bool {
        true
    }

    fn has_below(&self, _: &AuthId, _: &str, _: Privileges) -> bool {
        true
    }

    fn audit(&self, _: &AuditEvent<'_>) {}
}

struct Server {
    place: Place,
    store: Arc<Datastore>,
    service: Arc<HttpService>,
    connections: AtomicUsize,
}

impl Server {
    fn new() -> Arc<Self> {
        let place = Place::new();
        let stores = Arc::new(Stores::new());
        let store = place.datastore();
        stores.add(store.clone());
        let tasks = Tasks::open(place.folder.path().join("tasks"), "node").unwrap();
        let mut router = Router::new();
        backup::routes(&mut router, &stores, &tasks);
        reader::routes(&mut router, &stores, &tasks);
        rest::routes(&mut router, &stores, &tasks);
        #[derive(serde::Deserialize)]
        struct LogIn {
            username: String,
            password: String,
        }
        router
            .on(Method::POST, "/access/ticket", |_, asked: LogIn| async move {
                assert_eq!(
                    (asked.username.as_str(), asked.password.as_str()),
                    ("user@pbs", "pass wort")
                );
                Answer::data(json!({"ticket": "PBS:user@pbs:65::AB+/", "CSRFPreventionToken": "65:csrf"}))
            })
            .public();
        router
            .on(Method::GET, "/ping", |_, _: NoParameters| async {
                Answer::data("pong")
            })
            .public();
        let service = HttpService::new(router, Arc::new(Known), Limits::default());
        Arc::new(Self {
            place,
            store,
            service,
            connections: AtomicUsize::new(0),
        })
    }

    fn client_of(self: &Arc<Self>, who: &str, secret: &str) -> Client {
        Client::new(ClientOptions {
            transport: Arc::new(InMemory(self.clone())),
            credentials: Credentials::new(who.parse().unwrap(), secret).unwrap(),
            datastore: "main".into(),
            namespace: Namespace::ROOT,
        })
    }

    fn client(self: &Arc<Self>) -> Client {
        self.client_of("bkup@pbs!tok1", "gehe%im")
    }

    fn snapshots(&self) -> usize {
        let listing = self.store.list().unwrap();
        listing.all_groups().map(|group| group.snapshots.len()).sum()
    }
}

struct InMemory(Arc<Server>);

impl Transport for InMemory {
    fn connect(&self) -> Connecting<'_> {
        Box::pin(async {
            let (here, there) = tokio::io::duplex(256 << 10);
            let service = self.0.service.clone();
            self.0.connections.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move { service.serve(there, None).await });
            Ok(Box::new(here) as BoxIo)
        })
    }

    fn authority(&self) -> String {
        "backup.example.org:8007".into()
    }
}

fn name(text: &str) -> SnapshotName {
    text.parse().unwrap()
}

async fn begin(client: &Client, snapshot: &str, key: Option<Arc<CryptKey>>) -> BackupSession {
    client
        .backup(name(snapshot), key, BackupOptions::default())
        .await
        .unwrap()
}

/// What a host has: a disk with holes and repetitions, a stream, and a small file.
struct Source {
    disk: Vec<u8>,
    stream: Vec<u8>,
}

impl Source {
    fn new() -> Self {
        let mut disk = content(1, 21 * MIB + 4321);
        disk[4 * MIB..12 * MIB].fill(0);
        let (first, rest) = disk.split_at_mut(4 * MIB);
        rest[8 * MIB..12 * MIB].copy_from_slice(first);
        Self {
            disk,
            stream: content(2, 9 * MIB + 17),
        }
    }

    async fn save(&self, session: BackupSession) -> relight_pbs::client::Finished {
        // Both at once, in parts that are no chunks.
        let mut image = session
            .image("disk.img", Some(self.disk.len() as u64))
            .await
            .unwrap();
        let chunker = StreamChunker::new(StreamChunker::CATALOG);
        let mut stream = session.stream("tree.mpxar", chunker).await.unwrap();
        let disk = async {
            for part in self.disk.chunks(3_000_000) {
                image.write(part).await.unwrap();
            }
            image.finish().await.unwrap()
        };
        let tree = async {
            for part in self.stream.chunks(100_000) {
                stream.write(part).await.unwrap();
            }
            stream.finish().await.unwrap()
        };
        let (image, stream) = tokio::join!(disk, tree);
        assert_eq!((image.size, image.chunks), (self.disk.len() as u64, 6));
        assert_eq!(stream.size, self.stream.len() as u64);
        assert!(stream.chunks > 5, "{stream:?}");
        session.blob("etc.conf", b"key = value").await.unwrap();
        session.finish().await.unwrap()
    }

    async fn check(&self, client: &Client, snapshot: &str, key: Option<Arc<CryptKey>>) {
        let session = client.reader(name(snapshot), key).await.unwrap();
        assert_eq!(session.manifest().files.len(), 3);
        let disk = session.archive("disk.img").await.unwrap();
        let stream = session.archive("tree.mpxar").await.unwrap();
        let (disk_read, zeros) = read(&disk).await;
        assert!(disk_read == self.disk && zeros == 8 * MIB as u64);
        assert!(read(&stream).await.0 == self.stream);
        for (offset, length) in [
            (0, 1),
            (4 * MIB - 5, 10),
            (11 * MIB, 9 * MIB),
            (21 * MIB, 10_000),
            (30 * MIB, 1),
            (5, 0),
        ] {
            let end = (offset + length).min(self.disk.len());
            let expected = self.disk.get(offset..end).unwrap_or_default();
            let found = disk.read_at(offset as u64, length).await.unwrap();
            assert!(found == expected, "{offset} {length}");
        }
        assert_eq!(session.blob("etc.conf").await.unwrap(), b"key = value");
        assert!(matches!(
            session.blob("other.conf").await,
            Err(ClientError::NoFile(file)) if file == "other.conf.blob"
        ));
        assert!(matches!(
            session.archive("other.img").await,
            Err(ClientError::NoFile(_))
        ));
    }
}

async fn read(archive: &ReaderArchive) -> (Vec<u8>, u64) {
    let (mut bytes, mut zeros) = (Vec::new(), 0);
    let mut pieces = archive.pieces();
    while let Some(piece) = pieces.next().await.unwrap() {
        assert_eq!(piece.offset, bytes.len() as u64);
        match piece.content {
            Content::Zeros(length) => {
                zeros += length;
                bytes.resize(bytes.len() + length as usize, 0);
            }
            Content::Bytes(content) => bytes.extend_from_slice(&content),
        }
    }
    assert_eq!(bytes.len() as u64, archive.size());
    (bytes, zeros)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_saved_comes_back_and_is_sent_once() {
    let server = Server::new();
    let client = server.client();
    let mut source = Source::new();
    let session = begin(&client, FIRST, None).await;
    assert!(session.previous().is_none());
    let first = source.save(session).await.figures;
    assert_eq!(first.bytes, (source.disk.len() + source.stream.len()) as u64);
    // One chunk of zeros for two, and one for two equal ones.
    assert_eq!(first.new_bytes, first.bytes - 8 * MIB as u64);
    source.check(&client, FIRST, None).await;

    let session = begin(&client, SECOND, None).await;
    assert!(session.previous().is_some());
    let second = source.save(session).await.figures;
    assert_eq!((second.sent_chunks, second.sent_bytes), (0, 0), "{second:?}");
    assert_eq!((second.chunks, second.bytes), (first.chunks, first.bytes));
    source.check(&client, SECOND, None).await;

    source.disk[20 * MIB] ^= 1;
    let third = "host/fix/2023-11-16T22:13:21Z";
    let session = begin(&client, third, None).await;
    let figures = source.save(session).await.figures;
    assert_eq!(figures.sent_chunks, 1, "{figures:?}");
    source.check(&client, third, None).await;
    let listed = client.snapshots(Some(&name(FIRST).group)).await.unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 3);
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_encrypted_comes_back_only_with_its_key() {
    let server = Server::new();
    let client = server.client();
    let source = Source::new();
    let key = Arc::new(CryptKey::new(&[7; 32]).unwrap());
    let other = Arc::new(CryptKey::new(&[8; 32]).unwrap());
    let finished = source.save(begin(&client, FIRST, Some(key.clone())).await).await;
    finished.manifest.check_signature(&key).unwrap();
    let plain = sha256(&source.disk[..4 * MIB]);
    assert_ne!(key.digest(&source.disk[..4 * MIB]), plain);
    source.check(&client, FIRST, Some(key.clone())).await;

    let wrong = client
        .reader(name(FIRST), Some(other.clone()))
        .await
        .err()
        .unwrap();
    assert!(matches!(wrong, ClientError::OtherKey { .. }), "{wrong}");
    let session = client.reader(name(FIRST), None).await.unwrap();
    let none = session.archive("disk.img").await.err().unwrap();
    assert!(
        matches!(none, ClientError::OtherKey { given: None, .. }),
        "{none}"
    );
    let none = session.blob("etc.conf").await.err().unwrap();
    assert!(matches!(none, ClientError::OtherKey { .. }), "{none}");
    drop(session);

    // The same key builds on it; another key and no key do not.
    let session = begin(&client, SECOND, Some(key.clone())).await;
    let figures = source.save(session).await.figures;
    assert_eq!(figures.sent_chunks, 0, "{figures:?}");
    source.check(&client, SECOND, Some(key.clone())).await;
    let third = "host/fix/2023-11-16T22:13:21Z";
    let session = begin(&client, third, Some(other.clone())).await;
    assert!(session.previous().is_none());
    let figures = source.save(session).await.figures;
    assert_eq!(figures.new_bytes, figures.bytes - 8 * MIB as u64);
    source.check(&client, third, Some(other)).await;
    let fourth = "host/fix/2023-11-17T22:13:21Z";
    let figures = source.save(begin(&client, fourth, None).await).await.figures;
    assert_eq!(figures.new_bytes, figures.bytes - 8 * MIB as u64);
    source.check(&client, fourth, None).await;
    // Whoever gives a key is not content with a snapshot that is not signed.
    let unsigned = client.reader(name(fourth), Some(key)).await.err().unwrap();
    assert!(matches!(unsigned, ClientError::Manifest(_)), "{unsigned}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_dropped_leaves_nothing() {
    let server = Server::new();
    let client = server.client();
    let session = begin(&client, FIRST, None).await;
    let mut image = session.image("disk.img", Some(40 << 20)).await.unwrap();
    image.write(&content(3, 20 * MIB)).await.unwrap();
    let busy = client
        .backup(name(SECOND), None, BackupOptions::default())
        .await
        .err()
        .unwrap();
    assert_eq!(busy.status(), Some(StatusCode::BAD_REQUEST), "{busy}");
    drop(session);
    let gone = async {
        let part = content(4, 4 * MIB);
        loop {
            if let Err(error) = image.write(&part).await {
                return error;
            }
        }
    };
    let error = tokio::time::timeout(std::time::Duration::from_secs(30), gone).await;
    assert!(matches!(error, Ok(ClientError::Broken(_))), "{error:?}");
    drop(image);
    for _ in 0..500 {
        if server.store.locks().active() == (0, 0) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(server.store.locks().active(), (0, 0));
    assert_eq!(server.snapshots(), 0);
    Source::new().save(begin(&client, SECOND, None).await).await;
    assert_eq!(server.snapshots(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_says_is_what_is_shown_and_no_secret() {
    let server = Server::new();
    let client = server.client();
    let Err(refused) = client.rest(Method::GET, "/nonsense", &json!({})).await else {
        panic!()
    };
    assert_eq!(refused.status(), Some(StatusCode::NOT_FOUND), "{refused}");
    let wrong = server.client_of("bkup@pbs!tok1", "geheim");
    let error = wrong.reader(name(FIRST), None).await.err().unwrap();
    assert_eq!(error.to_string(), "authentication failed");
    assert!(!format!("{error:?} {wrong:?}").contains("geheim"));
    let missing = client.reader(name(FIRST), None).await.err().unwrap();
    assert_eq!(missing.to_string(), format!("snapshot {FIRST} does not exist."));

    let session = begin(&client, FIRST, None).await;
    let unfinished = session.image("disk.img", Some(10 << 20)).await.unwrap();
    let short = unfinished.finish().await.err().unwrap();
    assert_eq!(short.status(), Some(StatusCode::BAD_REQUEST), "{short}");
    let mut image = session.image("other.img", None).await.unwrap();
    image.push(Bytes::from(vec![1; 5])).await.unwrap();
    let misuse = image.push(Bytes::from(vec![1; 5])).await.err().unwrap();
    assert!(matches!(misuse, ClientError::Misuse(_)), "{misuse}");
    let named = session.image("../other", None).await.err().unwrap();
    assert!(matches!(named, ClientError::Name(_)), "{named}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_logs_in_once_and_connections_are_used_again() {
    let server = Server::new();
    let client = server.client_of("user@pbs", "pass wort");
    for _ in 0..3 {
        let listed = client.snapshots(None).await.unwrap();
        assert_eq!(listed, json!([]));
    }
    assert_eq!(server.connections.load(Ordering::Relaxed), 1);
    let source = Source::new();
    source.save(begin(&client, FIRST, None).await).await;
    source.check(&client, FIRST, None).await;
    let listed = client.snapshots(None).await.unwrap();
    assert_eq!(listed[0]["owner"], "user@pbs");
    assert!(server.place.path().is_dir());
}

/// The streams of a tree in memory.
#[derive(Default)]
struct Streams {
    metadata: Vec<u8>,
    payload: Vec<u8>,
}

impl ArchiveSink for Streams {
    fn write_metadata(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.metadata.extend_from_slice(bytes);
        Ok(())
    }

    fn write_stat(&mut self, _: &[u8]) -> std::io::Result<()> {
        Ok(())
    }

    fn payload_position(&mut self) -> std::io::Result<u64> {
        Ok(self.payload.len() as u64)
    }

    fn write_payload(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.payload.extend_from_slice(bytes);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_is_saved_as_a_split_archive() {
    let server = Server::new();
    let client = server.client();
    let folder = tempfile::tempdir().unwrap();
    for number in 0..300 {
        let below = folder.path().join(format!("folder{}", number % 7));
        std::fs::create_dir_all(&below).unwrap();
        std::fs::write(below.join(format!("file{number}")), content(number, 40_000)).unwrap();
    }
    std::os::unix::fs::symlink("folder1/file1", folder.path().join("link")).unwrap();
    let save = |mut sink: TreeSink| {
        let path = folder.path().to_path_buf();
        tokio::task::spawn_blocking(move || {
            let (options, progress) = (CaptureOptions::default(), Progress::default());
            let report = capture(
                &path,
                &options,
                None,
                &mut sink,
                &progress,
                &AtomicBool::new(false),
            );
            assert_eq!(report.unwrap().counts.files, 300);
            sink.finish().unwrap()
        })
    };
    let session = begin(&client, FIRST, None).await;
    let archives = save(session.tree("root", None).await.unwrap()).await.unwrap();
    assert_eq!(archives[0].file.as_str(), "root.mpxar.didx");
    session.finish().await.unwrap();
    let session = begin(&client, SECOND, None).await;
    save(session.tree("root", None).await.unwrap()).await.unwrap();
    // The stat records tell when they were made.
    assert_eq!(session.finish().await.unwrap().figures.sent_chunks, 1);

    let mut expected = Streams::default();
    let (options, progress) = (CaptureOptions::default(), Progress::default());
    let stop = AtomicBool::new(false);
    capture(folder.path(), &options, None, &mut expected, &progress, &stop).unwrap();
    let session = client.reader(name(SECOND), None).await.unwrap();
    for (file, stream) in [
        ("root.mpxar", expected.metadata),
        ("root.ppxar", expected.payload),
    ] {
        let archive = session.archive(file).await.unwrap();
        assert!(read(&archive).await.0 == stream, "{file}");
    }
}

/// Serves over TLS. Gives the port and the fingerprint of the certificate.
async fn listen(server: &Arc<Server>) -> (u16, Fingerprint) {
    let signed = rcgen::generate_simple_self_signed(["localhost".to_string()]).unwrap();
    let certificate = signed.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(signed.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let service = server.service.clone();
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let (acceptor, service) = (acceptor.clone(), service.clone());
            tokio::spawn(async move {
                if let Ok(io) = acceptor.accept(tcp).await {
                    service.serve(io, None).await;
                }
            });
        }
    });
    (port, Fingerprint(sha256(&certificate)))
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_trusted_certificate_is_talked_to() {
    let server = Server::new();
    let (port, fingerprint) = listen(&server).await;
    let address: ServerAddress = format!("https://bkup@pbs!tok1@127.0.0.1:{port}/main")
        .parse()
        .unwrap();
    let client = |trust| {
        let credentials = Credentials::new(address.auth_id.clone(), "gehe%im\n").unwrap();
        Client::over_tls(&address, credentials, trust, Namespace::ROOT)
    };
    let trusted = client(Trust::Fingerprint(fingerprint)).unwrap();
    let source = Source::new();
    source.save(begin(&trusted, FIRST, None).await).await;
    source.check(&trusted, FIRST, None).await;
    assert_eq!(
        trusted.snapshots(None).await.unwrap().as_array().unwrap().len(),
        1
    );

    let mut others = vec![client(Trust::Fingerprint(Fingerprint([1; 32]))).unwrap()];
    // A host without certificate authorities says so at once.
    others.extend(client(Trust::Chain).ok());
    for other in others {
        let error = other.snapshots(None).await.err().unwrap();
        match error {
            ClientError::Untrusted {
                fingerprint: found, ..
            } => assert_eq!(found, fingerprint),
            other => panic!("{other}"),
        }
    }
    let nobody: ServerAddress = "https://bkup@pbs!tok1@127.0.0.1:1/main".parse().unwrap();
    let credentials = Credentials::new(nobody.auth_id.clone(), "x").unwrap();
    let client = Client::over_tls(
        &nobody,
        credentials,
        Trust::Fingerprint(fingerprint),
        Namespace::ROOT,
    );
    let error = client.unwrap().snapshots(None).await.err().unwrap();
    assert!(matches!(error, ClientError::Connect { .. }), "{error}");
}
