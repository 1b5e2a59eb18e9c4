//! Servers that copy from each other over TLS.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::{io, pin::Pin};

use relight_pbs::access::{Access, AuditEvent, AuthId, Credentials as Asked, Privileges, Unauthenticated};
use relight_pbs::client::{
    BoxIo, Client, ClientOptions, Connecting, Credentials, ServerAddress, TlsTransport, Transport, Trust,
};
use relight_pbs::formats::blob::Blob;
use relight_pbs::formats::crypt::Fingerprint;
use relight_pbs::formats::ids::{FileName, Namespace, SnapshotName};
use relight_pbs::formats::manifest::Manifest;
use relight_pbs::service::datastore::{Datastore, Entry, Stores};
use relight_pbs::service::http::{HttpService, Limits, Router};
use relight_pbs::service::tasks::{End, Tasks};
use relight_pbs::service::{backup, reader, rest};
use relight_pbs::sync::{Local, PullJob, PushJob, Selection, SyncError, SyncFigures, pull, push};
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::support::{Place, sha256};

/// Lets everybody in who says so, and everybody do everything but whoever is called `limited`.
pub struct Open;

impl Access for Open {
    fn authenticate(&self, asked: &Asked<'_>) -> Result<AuthId, Unauthenticated> {
        let token = asked
            .authorization
            .and_then(|value| value.strip_prefix("PBSAPIToken "));
        let name = token.and_then(|token| token.strip_suffix(":geheim"));
        let name = name.ok_or_else(|| Unauthenticated::new("wrong"))?;
        name.parse().map_err(|_| Unauthenticated::new("wrong"))
    }

    fn privileges(&self, who: &AuthId, _: &str) -> Privileges {
        match who.user().as_str() {
            "limited@pbs" => Privileges::DATASTORE_BACKUP,
            _ => Privileges::ALL,
        }
    }

    fn exists(&self, _: &AuthId) -> bool {
        true
    }

    fn has_below(&self, who: &AuthId, path: &str, some: Privileges) -> bool {
        self.privileges(who, path).intersects(some)
    }

    fn audit(&self, _: &AuditEvent<'_>) {}
}

/// A server with one datastore.
pub struct Side {
    pub place: Place,
    pub store: Arc<Datastore>,
    pub tasks: Arc<Tasks>,
    port: u16,
    fingerprint: Fingerprint,
}

pub const OWNER: &str = "sync@pbs!job";

impl Side {
    pub async fn new() -> Self {
        let place = Place::new();
        let stores = Arc::new(Stores::new());
        let store = place.datastore();
        stores.add(store.clone());
        let tasks = Tasks::open(place.folder.path().join("tasks"), "node").unwrap();
        let mut router = Router::new();
        backup::routes(&mut router, &stores, &tasks);
        reader::routes(&mut router, &stores, &tasks);
        rest::routes(&mut router, &stores, &tasks);
        let service = HttpService::new(router, Arc::new(Open), Limits::default());
        let signed = rcgen::generate_simple_self_signed(["localhost".to_string()]).unwrap();
        let certificate = signed.cert.der().clone();
        let fingerprint = Fingerprint(sha256(&certificate));
        let key = PrivateKeyDer::Pkcs8(signed.signing_key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let (acceptor, service) = (acceptor.clone(), service.clone());
                tokio::spawn(async move {
                    if let Ok(tls) = acceptor.accept(tcp).await {
                        service.serve(tls, None).await;
                    }
                });
            }
        });
        Self {
            place,
            store,
            tasks,
            port,
            fingerprint,
        }
    }

    pub fn transport(&self) -> Arc<dyn Transport> {
        let address: ServerAddress = format!("https://{OWNER}@localhost:{}/main", self.port)
            .parse()
            .unwrap();
        Arc::new(TlsTransport::new(&address, Trust::Fingerprint(self.fingerprint)).unwrap())
    }

    pub fn client(&self) -> Client {
        self.client_over(self.transport())
    }

    /// A client whose connections break after so many writes, all of them together.
    pub fn fragile(&self, writes: i64) -> Client {
        self.client_over(Arc::new(Fragile {
            inner: self.transport(),
            left: Arc::new(AtomicI64::new(writes)),
        }))
    }

    pub fn client_over(&self, transport: Arc<dyn Transport>) -> Client {
        Client::new(ClientOptions {
            transport,
            credentials: Credentials::new(OWNER.parse().unwrap(), "geheim").unwrap(),
            datastore: "main".into(),
            namespace: Namespace::ROOT,
        })
    }

    pub fn local(&self) -> Local {
        Local {
            store: self.store.clone(),
            namespace: Namespace::ROOT,
            owner: OWNER.parse().unwrap(),
            access: Arc::new(Open),
        }
    }

    /// All that can be seen: namespace and name.
    pub fn seen(&self) -> Vec<String> {
        let listing = self.store.list().unwrap();
        let groups = listing.all_groups();
        let entries = groups.flat_map(|group| group.snapshots.iter().rev());
        entries
            .map(|entry| format!("{}:{}", entry.namespace, entry.name))
            .collect()
    }

    pub fn entry(&self, namespace: &str, name: &str) -> Arc<Entry> {
        let name: SnapshotName = name.parse().unwrap();
        self.store.snapshot(&namespace.parse().unwrap(), &name).unwrap()
    }

    /// Ends a verification of everything; gives what is not good.
    pub fn verify(&self) -> Vec<String> {
        use relight_pbs::service::datastore::Selection;
        let all = Selection::Namespace(Namespace::ROOT, None);
        let stop = std::sync::atomic::AtomicBool::new(false);
        self.store
            .verify(&all, false, None, "UPID:x", &|_| {}, &stop)
            .unwrap()
    }

    /// Pulls from another one. Gives the figures, how the task ended, and its log.
    pub async fn pull_with(
        &self,
        client: Client,
        selection: Selection,
        change: impl FnOnce(&mut PullJob),
    ) -> (Result<SyncFigures, SyncError>, End, String) {
        let mut job = PullJob {
            client,
            remote_namespace: Namespace::ROOT,
            local: self.local(),
            selection,
        };
        change(&mut job);
        self.task(async move |task| pull(&job, task).await).await
    }

    pub async fn task(
        &self,
        work: impl AsyncFnOnce(&relight_pbs::service::tasks::Task) -> Result<SyncFigures, SyncError>,
    ) -> (Result<SyncFigures, SyncError>, End, String) {
        let task = self.tasks.begin("sync", None, &OWNER.parse().unwrap()).unwrap();
        let upid = task.upid().clone();
        let result = work(&task).await;
        task.end(result.as_ref().map(drop).map_err(ToString::to_string));
        let log = self.tasks.log(&upid, 0, 0).unwrap().unwrap();
        let lines: Vec<String> = log.lines.into_iter().map(|(_, line)| line).collect();
        let end = self.tasks.info(&upid).unwrap().end.unwrap().1;
        (result, end, lines.join("\n"))
    }

    /// Pushes to another one.
    pub async fn push_with(
        &self,
        client: Client,
        selection: Selection,
        change: impl FnOnce(&mut PushJob),
    ) -> (Result<SyncFigures, SyncError>, End, String) {
        let mut job = PushJob {
            client,
            remote_namespace: Namespace::ROOT,
            remote_id: OWNER.parse().unwrap(),
            remote_path: "/remote/other/main".into(),
            local: self.local(),
            selection,
        };
        change(&mut job);
        self.task(async move |task| push(&job, task).await).await
    }

    pub async fn push(&self, to: &Side, selection: Selection) -> (SyncFigures, End, String) {
        let (result, end, log) = self.push_with(to.client(), selection, |_| ()).await;
        (result.unwrap_or_else(|error| panic!("{error}\n{log}")), end, log)
    }

    pub async fn pull(&self, from: &Side, selection: Selection) -> (SyncFigures, End, String) {
        let (result, end, log) = self.pull_with(from.client(), selection, |_| ()).await;
        (result.unwrap_or_else(|error| panic!("{error}\n{log}")), end, log)
    }
}

/// Asserts that a snapshot is the same on both sides: every file, to the byte, and of the manifest all that is signed.
pub fn assert_same(one: (&Side, &str), other: (&Side, &str), name: &str) {
    let entries = [one, other].map(|(side, namespace)| side.entry(namespace, name));
    let files = [(one.0, &entries[0]), (other.0, &entries[1])].map(|(side, entry)| {
        let files = side.store.files(entry).unwrap();
        files
            .into_iter()
            .map(|file| (file.name, file.crypt_mode))
            .collect::<Vec<_>>()
    });
    assert_eq!(files[0], files[1], "{name}");
    for (file, _) in &files[0] {
        let bytes = [(one.0, &entries[0]), (other.0, &entries[1])]
            .map(|(side, entry)| side.store.read_file(entry, file).unwrap());
        if file.as_str() != FileName::MANIFEST {
            assert!(bytes[0] == bytes[1], "{name} {file}");
            continue;
        }
        let [a, b] = bytes.map(|bytes| {
            Blob::parse(&bytes).unwrap().check_crc().unwrap();
            Manifest::from_blob(&bytes).unwrap()
        });
        assert_eq!(a.canonical().unwrap(), b.canonical().unwrap());
        assert_eq!(a.signature, b.signature);
        for key in [Manifest::NOTES, Manifest::FINGERPRINT, Manifest::UPLOAD_STATISTIC] {
            assert_eq!(a.unprotected.get(key), b.unprotected.get(key), "{key}");
        }
        // What was found elsewhere is not taken for found here.
    }
}

struct Fragile {
    inner: Arc<dyn Transport>,
    left: Arc<AtomicI64>,
}

impl Transport for Fragile {
    fn connect(&self) -> Connecting<'_> {
        Box::pin(async {
            let io = self.inner.connect().await?;
            let io = FragileIo {
                io: Mutex::new(io),
                left: self.left.clone(),
            };
            Ok(Box::new(io) as BoxIo)
        })
    }

    fn authority(&self) -> String {
        self.inner.authority()
    }
}

struct FragileIo {
    io: Mutex<BoxIo>,
    left: Arc<AtomicI64>,
}

impl FragileIo {
    fn broken<T>(&self, cost: i64) -> Option<io::Result<T>> {
        let left = self.left.fetch_sub(cost, Ordering::Relaxed);
        (left <= 0).then(|| Err(io::ErrorKind::ConnectionReset.into()))
    }
}

impl AsyncRead for FragileIo {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(broken) = self.broken(0) {
            return Poll::Ready(broken);
        }
        Pin::new(&mut *self.get_mut().io.lock().unwrap()).poll_read(context, buffer)
    }
}

impl AsyncWrite for FragileIo {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(broken) = self.broken(1) {
            return Poll::Ready(broken);
        }
        Pin::new(&mut *self.get_mut().io.lock().unwrap()).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.get_mut().io.lock().unwrap()).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.get_mut().io.lock().unwrap()).poll_shutdown(context)
    }
}
