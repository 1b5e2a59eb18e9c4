//! A server and who asks: calls, and the beginning of sessions.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::credentials::{cookie, secret_header};
use super::rest::{self, Plain, Shown};
use super::wire::{Connected, Transport, Wire};
use super::{
    BackupOptions, BackupSession, ClientError, Credentials, ReaderSession, Result, ServerAddress,
    TlsTransport, Trust,
};
use crate::formats::blob;
use crate::formats::crypt::CryptKey;
use crate::formats::ids::{FileName, Namespace, SnapshotName};
use crate::service::{backup, reader};

/// After this time a ticket is renewed; it is good for two hours.
const RENEW: Duration = Duration::from_secs(15 * 60);

/// Where and who, for a [`Client`].
pub struct ClientOptions {
    /// Opens connections.
    pub transport: Arc<dyn Transport>,
    /// Who asks.
    pub credentials: Credentials,
    /// The datastore that is meant; empty where only the API of the server is.
    pub datastore: String,
    /// The namespace that is meant.
    pub namespace: Namespace,
}

/// A server, who asks, and which datastore and namespace are meant.
pub struct Client {
    pub(super) options: ClientOptions,
    ticket: Mutex<Option<Ticket>>,
    idle: Mutex<Option<Plain>>,
}

struct Ticket {
    ticket: Zeroizing<String>,
    shown: Shown,
    since: Instant,
}

impl Client {
    /// Nothing is sent yet.
    pub fn new(options: ClientOptions) -> Self {
        Self {
            options,
            ticket: Mutex::default(),
            idle: Mutex::default(),
        }
    }

    /// The same over TCP and TLS.
    ///
    /// # Errors
    /// [`ClientError::Tls`] if TLS cannot be set up.
    pub fn over_tls(
        address: &ServerAddress,
        credentials: Credentials,
        trust: Trust,
        namespace: Namespace,
    ) -> Result<Self> {
        Ok(Self::new(ClientOptions {
            transport: Arc::new(TlsTransport::new(address, trust)?),
            credentials,
            datastore: address.datastore.clone(),
            namespace,
        }))
    }

    /// Who asks.
    pub fn auth_id(&self) -> &crate::access::AuthId {
        self.options.credentials.auth_id()
    }

    /// The datastore that is meant.
    pub fn datastore(&self) -> &str {
        &self.options.datastore
    }

    /// Makes a call of the REST interface, `/admin/datastore`. `parameters` is a JSON object. Gives what the answer has in
    /// `data`.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the server's words; otherwise what went wrong on the way.
    pub async fn rest(&self, method: Method, path: &str, parameters: &Value) -> Result<Value> {
        let shown = self.shown().await?;
        self.call(method, path, parameters, Some(&shown)).await
    }

    /// The snapshots of the datastore and namespace, of one group if that is given, as the server lists them.
    ///
    /// # Errors
    /// Those of [`Client::rest`].
    pub async fn snapshots(&self, group: Option<&crate::formats::ids::Group>) -> Result<Value> {
        let mut parameters = serde_json::Map::new();
        if !self.options.namespace.is_root() {
            parameters.insert("ns".into(), self.options.namespace.as_str().into());
        }
        if let Some(group) = group {
            parameters.insert("backup-type".into(), group.backup_type.as_str().into());
            parameters.insert("backup-id".into(), group.backup_id.as_str().into());
        }
        let path = format!("/admin/datastore/{}/snapshots", self.options.datastore);
        self.rest(Method::GET, &path, &Value::Object(parameters)).await
    }

    /// Leaves a log with a snapshot, once. With a key it is encrypted.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the server's words, also if there is a log already; otherwise what went wrong on the
    /// way.
    pub async fn upload_log(
        &self,
        snapshot: &SnapshotName,
        text: &[u8],
        key: Option<&CryptKey>,
    ) -> Result<()> {
        let encoded = match key {
            Some(key) => blob::encrypt(text, key, true),
            None => blob::encode(text, true),
        };
        let encoded = encoded.map_err(|source| ClientError::Blob {
            file: FileName::CLIENT_LOG.to_string(),
            source,
        })?;
        self.upload_raw_log(&self.options.namespace, snapshot, encoded.into())
            .await
    }

    /// Begins to write a snapshot. With a key everything is encrypted.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the server's words; otherwise what went wrong on the way.
    pub async fn backup(
        &self,
        snapshot: SnapshotName,
        key: Option<Arc<CryptKey>>,
        options: BackupOptions,
    ) -> Result<BackupSession> {
        let benchmark = ("benchmark", "false".to_string());
        let session = self
            .session("backup", backup::PROTOCOL, &snapshot, [benchmark])
            .await?;
        BackupSession::begin(session, snapshot, key, options).await
    }

    /// Begins to read a snapshot. A key is needed if its manifest is signed or files are encrypted.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the server's words; [`ClientError::OtherKey`] or an error of the manifest if the key is
    /// not that of the snapshot, or the manifest was changed; otherwise what went wrong on the way.
    pub async fn reader(&self, snapshot: SnapshotName, key: Option<Arc<CryptKey>>) -> Result<ReaderSession> {
        let session = self.session("reader", reader::PROTOCOL, &snapshot, []).await?;
        ReaderSession::begin(session, snapshot, key).await
    }

    async fn session<const N: usize>(
        &self,
        call: &str,
        protocol: &'static str,
        snapshot: &SnapshotName,
        more: [(&'static str, String); N],
    ) -> Result<(Wire, Connected)> {
        self.session_in(&self.options.namespace, call, protocol, snapshot, more)
            .await
    }

    /// Begins a session in any namespace of the datastore.
    pub(super) async fn session_in<const N: usize>(
        &self,
        namespace: &Namespace,
        call: &str,
        protocol: &'static str,
        snapshot: &SnapshotName,
        more: [(&'static str, String); N],
    ) -> Result<(Wire, Connected)> {
        let SnapshotName { group, backup_time } = snapshot;
        let ns = (!namespace.is_root()).then(|| ("ns", namespace.as_str().to_string()));
        let parameters = [
            ("backup-id", group.backup_id.to_string()),
            ("backup-time", backup_time.seconds().to_string()),
            ("backup-type", group.backup_type.to_string()),
            ("debug", "false".to_string()),
            ("store", self.options.datastore.clone()),
        ];
        let parameters = parameters.into_iter().chain(more).chain(ns);
        let path = format!("/{call}?{}", rest::query(parameters));
        let shown = self.shown().await?;
        let authority = self.options.transport.authority();
        let mut request = rest::request(&authority, Method::GET, &path, &Value::Null)?;
        shown.add(&mut request);
        let headers = request.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static(protocol));
        // A connection of its own: it does not come back.
        let mut plain = Plain::open(&*self.options.transport).await?;
        let answer = plain.send(request, call).await?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            rest::read(answer, call).await?;
            return Err(ClientError::protocol(
                "the server did not change to the protocol of the session",
            ));
        }
        let same = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(protocol.as_bytes());
        if !answer.headers().get(UPGRADE).is_some_and(same) {
            return Err(ClientError::protocol("the server changed to another protocol"));
        }
        Wire::new(plain.upgraded(answer).await?).await
    }

    /// What shows who asks; a new ticket if there is none or it is old.
    pub(super) async fn shown(&self) -> Result<Shown> {
        let credentials = &self.options.credentials;
        if credentials.auth_id().token().is_some() {
            return Ok(Shown::Token(credentials.authorization()?));
        }
        let mut kept = self.ticket.lock().await;
        if let Some(ticket) = &*kept
            && ticket.since.elapsed() < RENEW
        {
            return Ok(ticket.shown.clone());
        }
        let new = match kept.take() {
            // A ticket that is still good serves as password.
            Some(old) => match self.log_in(&old.ticket).await {
                Err(ClientError::Refused { .. }) => self.log_in(&credentials.secret).await?,
                other => other?,
            },
            None => self.log_in(&credentials.secret).await?,
        };
        let shown = new.shown.clone();
        *kept = Some(new);
        Ok(shown)
    }

    async fn log_in(&self, password: &str) -> Result<Ticket> {
        let user = self.options.credentials.auth_id().user().as_str();
        let parameters = json!({"username": user, "password": password});
        let mut answer = self
            .call(Method::POST, "/access/ticket", &parameters, None)
            .await?;
        let mut field = |name: &str| match answer[name].take() {
            Value::String(text) => Ok(Zeroizing::new(text)),
            _ => Err(ClientError::protocol("the server gave no ticket")),
        };
        let (ticket, csrf) = (field("ticket")?, field("CSRFPreventionToken")?);
        if ticket.starts_with("PBS:!tfa!") {
            return Err(ClientError::Secret(format!(
                "{user} must log in with a second factor, which programs cannot; use an API token"
            )));
        }
        Ok(Ticket {
            shown: Shown::Ticket {
                cookie: cookie(&ticket)?,
                csrf: secret_header(&csrf)?,
            },
            ticket,
            since: Instant::now(),
        })
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        parameters: &Value,
        shown: Option<&Shown>,
    ) -> Result<Value> {
        let authority = self.options.transport.authority();
        let mut request = rest::request(&authority, method, path, parameters)?;
        if let Some(shown) = shown {
            shown.add(&mut request);
        }
        self.answer(request, path).await
    }

    /// A connection that calls can be made on: the one that is idle, or a new one.
    pub(super) async fn connected(&self) -> Result<Plain> {
        let mut kept = self.idle.lock().await.take();
        if let Some(plain) = &mut kept
            && !plain.is_open().await
        {
            kept = None;
        }
        match kept {
            Some(kept) => Ok(kept),
            None => Plain::open(&*self.options.transport).await,
        }
    }

    /// Keeps a connection, whose answer was read to its end, for the next call.
    pub(super) async fn keep(&self, plain: Plain) {
        *self.idle.lock().await = Some(plain);
    }

    pub(super) async fn answer(&self, request: Request<Full<Bytes>>, path: &str) -> Result<Value> {
        let mut plain = self.connected().await?;
        let answer = plain.send(request, path).await?;
        let read = rest::read(answer, path).await;
        if matches!(read, Ok(_) | Err(ClientError::Refused { .. })) {
            self.keep(plain).await;
        }
        match read? {
            Value::Object(mut fields) => Ok(fields.remove("data").unwrap_or(Value::Null)),
            Value::Null => Ok(Value::Null),
            _ => Err(ClientError::protocol(format!(
                "the answer to {path} is not an object"
            ))),
        }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let options = &self.options;
        write!(
            f,
            "Client({:?} at {}, {})",
            options.credentials,
            options.transport.authority(),
            options.datastore
        )
    }
}
