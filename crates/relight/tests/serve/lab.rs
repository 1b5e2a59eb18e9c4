//! The real server on a free port of loopback, and a client that speaks to it as others do.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// A folder with a repository `repo`, its key file, and a configuration for the server.
pub struct Lab {
    pub folder: TempDir,
}

/// A server that runs.
pub struct Running {
    pub address: SocketAddr,
    pub fingerprint: String,
    pub child: Child,
}

/// An answer of HTTP/1.1.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Lab {
    pub fn new() -> Self {
        let lab = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        fs::write(lab.path("password"), "a passphrase of a repository\n").unwrap();
        fs::write(lab.path("user-password"), "Secret12345\n").unwrap();
        fs::write(
            lab.path("relight.toml"),
            "[server]\nlisten = ['127.0.0.1:0']\nstate = 'state'\ncache = 'cache'\ngrace = '1s'\nnode = 'lab'\n\
             [[repository]]\nname = 'main'\nlocation = 'repo'\npassword-file = 'password'\ncomment = 'of the test'\n",
        )
        .unwrap();
        lab.ok(&["init"]);
        lab
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_relight"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("RELIGHT_") || name == "NOTIFY_SOCKET" {
                command.env_remove(name);
            }
        }
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .env("RELIGHT_REPOSITORY", self.path("repo"))
            .env("RELIGHT_PASSWORD_FILE", self.path("password"))
            .env("RELIGHT_CACHE_DIR", self.path("cache"))
            .env("RELIGHT_CONFIG", self.path("relight.toml"))
            .env("TZ", "UTC");
        command
    }

    /// Runs a command that must be done; gives what it printed.
    #[track_caller]
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "relight {}: {error}",
            arguments.join(" ")
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// The same as JSON.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.ok(&[arguments, &["--json"]].concat())).unwrap()
    }

    /// Runs a command that must fail; gives what it said.
    #[track_caller]
    pub fn fails(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert!(!output.status.success(), "relight {}", arguments.join(" "));
        String::from_utf8(output.stderr).unwrap()
    }

    /// A user with a role at a path, and its password in `user-password`.
    pub fn user(&self, name: &str, role: &str, path: &str) {
        self.ok(&["user", "add", name, "--new-password-file", "user-password"]);
        self.ok(&["acl", "set", path, role, name]);
    }

    /// A token with a role at a path; gives the value of the header for it.
    pub fn token(&self, name: &str, role: &str, path: &str) -> String {
        let made = self.json(&["token", "add", name]);
        self.ok(&["acl", "set", path, role, name]);
        format!(
            "Authorization: PBSAPIToken {name}:{}",
            made["secret"].as_str().unwrap()
        )
    }

    /// Starts the server, and waits until it listens.
    pub fn serve(&self) -> Running {
        let log = fs::File::create(self.path("server.log")).unwrap();
        let mut child = self
            .command(&["serve", "--json"])
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut text = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        while !text.ends_with("}\n") {
            let read = out.read_line(&mut text).unwrap();
            assert!(
                read > 0,
                "the server did not start: {}",
                fs::read_to_string(self.path("server.log")).unwrap()
            );
        }
        let ready: Value = serde_json::from_str(&text).unwrap();
        Running {
            address: ready["listening"][0].as_str().unwrap().parse().unwrap(),
            fingerprint: ready["fingerprint"].as_str().unwrap().to_string(),
            child,
        }
    }
}

impl Running {
    pub fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &id])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Tells it to stop; gives its exit code and how long it took.
    pub fn stop(mut self) -> (i32, Duration) {
        let begin = Instant::now();
        self.signal("-TERM");
        while begin.elapsed() < Duration::from_secs(30) {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status.code().unwrap_or(-1), begin.elapsed());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the server does not stop");
    }

    /// A connection that trusts no authority but the fingerprint, as clients do.
    pub async fn connect(&self) -> TlsStream<TcpStream> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Fingerprint(self.fingerprint.clone(), provider)))
            .with_no_client_auth();
        let stream = TcpStream::connect(self.address).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        connector
            .connect(ServerName::IpAddress(self.address.ip().into()), stream)
            .await
            .unwrap()
    }

    /// A request of the protocol and its answer.
    pub async fn ask(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Answer {
        self.ask_at(method, &format!("//api2/json/{path}"), headers, body)
            .await
    }

    /// A request and its answer.
    pub async fn ask_at(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Answer {
        let mut stream = self.connect().await;
        let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        let length = if body.is_empty() {
            String::new()
        } else {
            format!("Content-Length: {}\r\n", body.len())
        };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n\
             {headers}{length}\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes).await;
        let at = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(bytes[..at].to_vec()).unwrap();
        Answer {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            body: bytes[at + 4..].to_vec(),
        }
    }

    pub async fn get(&self, path: &str, headers: &[&str]) -> Answer {
        self.ask("GET", path, headers, "").await
    }

    /// A session of one of the two protocols, or the answer that refused it.
    pub async fn upgrade(&self, kind: &str, query: &str, header: &str) -> Result<Session, (u16, String)> {
        let mut stream = self.connect().await;
        let request = format!(
            "GET //api2/json/{kind}?{query} HTTP/1.1\r\nHost: x\r\n{header}\r\nConnection: upgrade\r\nUpgrade: \
             proxmox-backup{}-protocol-v1\r\n\r\n",
            if kind == "reader" { "-reader" } else { "" }
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
        if status != 101 {
            let length = head.to_lowercase();
            let length = length
                .split("content-length: ")
                .nth(1)
                .unwrap()
                .split('\r')
                .next()
                .unwrap()
                .parse()
                .unwrap();
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await.unwrap();
            return Err((status, String::from_utf8(body).unwrap()));
        }
        let (send, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(async move { drop(connection.await) });
        Ok(Session { send, connection })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Answer {
    #[track_caller]
    pub fn data(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        serde_json::from_slice::<Value>(&self.body).unwrap()["data"].clone()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// HTTP/2 after the upgrade.
pub struct Session {
    send: h2::client::SendRequest<Bytes>,
    connection: tokio::task::JoinHandle<()>,
}

impl Session {
    pub async fn call(&mut self, method: &str, target: &str, body: Bytes) -> Result<(u16, Bytes), h2::Error> {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("https://localhost:8007/{target}"))
            .body(())
            .unwrap();
        let mut send = self.send.clone().ready().await?;
        let (response, mut stream) = send.send_request(request, body.is_empty())?;
        if !body.is_empty() {
            stream.send_data(body, true)?;
        }
        let (head, mut body) = response.await?.into_parts();
        let mut bytes = Vec::new();
        while let Some(piece) = body.data().await {
            let piece = piece?;
            body.flow_control().release_capacity(piece.len())?;
            bytes.extend_from_slice(&piece);
        }
        Ok((head.status.as_u16(), bytes.into()))
    }

    #[track_caller]
    pub fn good(answered: Result<(u16, Bytes), h2::Error>) -> Bytes {
        let (status, body) = answered.unwrap();
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        body
    }

    pub async fn data(&mut self, method: &str, target: &str, body: impl Into<Bytes>) -> Value {
        let body = Self::good(self.call(method, target, body.into()).await);
        serde_json::from_slice::<Value>(&body).unwrap()["data"].clone()
    }

    /// Drops the connection without a word. It is gone when this has ended: a runtime of one thread would else keep it for as long
    /// as the test does something else.
    pub async fn vanish(self) {
        self.connection.abort();
        let _ = self.connection.await;
    }
}

/// Accepts the one certificate with a fingerprint.
#[derive(Debug)]
struct Fingerprint(String, Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for Fingerprint {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        let digest = relight_repo::id::ChunkId::of(leaf).to_string();
        if digest == self.0.replace(':', "") {
            return Ok(rustls::client::danger::ServerCertVerified::assertion());
        }
        Err(rustls::Error::General(format!("another certificate: {digest}")))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let all = &self.1.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, all)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let all = &self.1.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, all)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.1.signature_verification_algorithms.supported_schemes()
    }
}

/// What is left of a stream after a plain request.
pub fn plain(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    std::io::Write::write_all(&mut stream, request).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}
