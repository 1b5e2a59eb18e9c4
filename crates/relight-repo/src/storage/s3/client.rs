//! One signed HTTP request at a time: connections, retries, deadlines.

use std::io::{self, BufReader, Read};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use md5::{Digest, Md5};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use ureq::http::{HeaderMap, Request as HttpRequest};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, SendBody};

use super::answer::{Failed, Reason, Refusal};
use super::config::{ConfigError, Endpoint, Retries, S3Config};
use super::credentials::{Credentials, Environment, Source};
use super::sign;
use super::xml::Element;

/// The longest document (a list, an error) that is read, in bytes.
const DOCUMENT_LIMIT: u64 = 32 << 20;

/// The longest error that is read, in bytes.
const ERROR_LIMIT: u64 = 64 << 10;

/// What is asked of the server.
#[derive(Default)]
pub(super) struct Request<'a> {
    pub method: &'static str,
    /// The full key in the bucket; empty for the bucket itself.
    pub key: &'a str,
    pub query: &'a [(&'a str, &'a str)],
    /// Lower-case names.
    pub headers: &'a [(&'a str, &'a str)],
    pub body: &'a [&'a [u8]],
    /// Whether to send `Content-MD5`, which some requests need.
    pub md5: bool,
}

/// An answer with status 2xx whose body is still to be read.
pub(super) struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    body: ureq::Body,
}

/// Why an answer could not be used.
pub(super) enum Unread {
    /// It broke off or makes no sense: ask again.
    Broken(String),
    /// It holds an error after all.
    Refused(Refusal),
    /// It is whole, but not what S3 answers: asking again is pointless.
    Alien(String),
}

impl Answer {
    /// The answer itself, where only its headers matter; what is left behind has nothing.
    pub fn take(&mut self) -> Self {
        let body = std::mem::replace(&mut self.body, ureq::Body::builder().data(Vec::new()));
        Self {
            status: self.status,
            headers: std::mem::take(&mut self.headers),
            body,
        }
    }

    /// A header's value, if it is there and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The length that the server announced.
    pub fn length(&self) -> Option<u64> {
        self.header("content-length")?.parse().ok()
    }

    /// The body as it comes. Reading fails where it ends before the announced length.
    pub fn reader(&mut self) -> impl Read {
        self.body.with_config().limit(u64::MAX).reader()
    }

    /// The body as XML with the given root. An `<Error>` in its place counts as refused, whatever the status.
    pub fn document(&mut self, root: &str) -> Result<Element, Unread> {
        let element = self.any_document()?;
        if element.name == root {
            return Ok(element);
        }
        let name = element.name;
        Err(Unread::Alien(format!(
            "expected <{root}>, got <{name}>: is this an S3 server?"
        )))
    }

    /// As [`Self::document`], where servers differ in the root and nothing is lost if it is something else.
    pub fn any_document(&mut self) -> Result<Element, Unread> {
        let body = BufReader::new(self.body.with_config().limit(DOCUMENT_LIMIT).reader());
        let element = Element::parse(body).map_err(Unread::Broken)?;
        if element.name == "Error" {
            Err(Unread::Refused(Refusal::from_xml(&element)))
        } else {
            Ok(element)
        }
    }

    /// Reads and forgets the body, so that the connection can be used again.
    pub fn drain(&mut self) -> Result<(), Unread> {
        let mut body = self.body.with_config().limit(ERROR_LIMIT).reader();
        io::copy(&mut body, &mut io::sink())
            .map(drop)
            .map_err(Unread::from)
    }
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Self {
        Self::Broken(format!("the answer broke off: {error}"))
    }
}

/// Speaks with one bucket.
pub(super) struct Client {
    agent: Agent,
    endpoint: Endpoint,
    retries: Retries,
    source: Option<Source>,
    credentials: RwLock<Arc<Credentials>>,
    /// How far the server's clock is ahead of ours, in seconds, once it complained.
    clock_ahead: AtomicI64,
    /// Whether the server ever answered: if not, the endpoint is probably wrong, and trying for long is pointless.
    heard: AtomicBool,
}

impl Client {
    /// A client with credentials from where the configuration says. Nothing is sent yet.
    pub fn new(config: &S3Config, environment: Environment<'_>) -> Result<Self, ConfigError> {
        let file = config.credentials_file.as_deref();
        let source = Source::find(file, config.profile.as_deref(), environment)?;
        let credentials = source.read(environment)?;
        Ok(Self {
            source: Some(source),
            ..Self::with_credentials(config, credentials)?
        })
    }

    /// A client with the given credentials.
    pub fn with_credentials(config: &S3Config, credentials: Credentials) -> Result<Self, ConfigError> {
        let endpoint = Endpoint::of(config)?;
        let timeout = Some(config.retries.timeout);
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .https_only(endpoint.tls)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .no_delay(true)
            .user_agent(concat!("relight/", env!("CARGO_PKG_VERSION")))
            .max_idle_connections(64)
            .max_idle_connections_per_host(64)
            // Servers close connections that were idle for long; one that is found closed costs a retry.
            .max_idle_age(Duration::from_secs(10))
            .output_buffer_size(256 << 10)
            .input_buffer_size(256 << 10)
            .timeout_resolve(timeout)
            .timeout_connect(timeout)
            .timeout_per_read(timeout)
            .timeout_per_write(timeout)
            // Completing a large upload can take the server minutes.
            .timeout_recv_response(timeout.map(|timeout| timeout * 3))
            .tls_config(tls(config, &endpoint)?)
            .build()
            .new_agent();
        Ok(Self {
            agent,
            endpoint,
            retries: config.retries,
            source: None,
            credentials: RwLock::new(Arc::new(credentials)),
            clock_ahead: AtomicI64::new(0),
            heard: AtomicBool::new(false),
        })
    }

    /// `http://host` of where requests go, for messages.
    pub fn endpoint(&self) -> String {
        format!("{}://{}", self.endpoint.scheme(), self.endpoint.host)
    }

    /// Sends a request until it is answered for good, and hands an answer with status 2xx to `read`. All requests
    /// are repeated when their outcome is not known; [`Failed::uncertain`] and `tried` tell who cannot live with that.
    pub fn run<T>(
        &self,
        request: &Request<'_>,
        mut read: impl FnMut(&mut Answer) -> Result<T, Unread>,
    ) -> Result<T, Failed> {
        let body_sha256 = sign::sha256(request.body);
        let body_md5 = request.md5.then(|| {
            let mut hash = Md5::new();
            request.body.iter().for_each(|part| hash.update(part));
            BASE64_STANDARD.encode(hash.finalize())
        });
        let begun = Instant::now();
        let mut uncertain = false;
        let mut corrected = false;
        let mut attempt = 1;
        loop {
            let (reason, may_pass, after) = match self.once(request, &body_sha256, body_md5.as_deref()) {
                Ok(mut answer) => match read(&mut answer) {
                    Ok(result) => return Ok(result),
                    Err(Unread::Broken(reason)) => {
                        uncertain = true;
                        (Reason::Unreachable(reason), true, None)
                    }
                    Err(Unread::Alien(reason)) => (Reason::Unreachable(reason), false, None),
                    Err(Unread::Refused(refusal)) => {
                        uncertain |= refusal.is_uncertain();
                        let may_pass = refusal.is_transient();
                        (Reason::Refused(refusal), may_pass, None)
                    }
                },
                Err(Unanswered::Refused {
                    refusal,
                    date,
                    retry_after,
                }) => {
                    uncertain |= refusal.is_uncertain();
                    let mut may_pass = refusal.is_transient();
                    if !corrected && self.correct(&refusal, date) {
                        (corrected, may_pass) = (true, true);
                    }
                    (Reason::Refused(refusal), may_pass, retry_after)
                }
                Err(Unanswered::Lost { reason, may_pass }) => {
                    uncertain = true;
                    (Reason::Unreachable(reason), may_pass, None)
                }
            };
            let attempts = if self.heard.load(Ordering::Relaxed) {
                self.retries.attempts
            } else {
                self.retries.attempts.min(4)
            };
            let wait = self.wait(attempt, after);
            if !may_pass || attempt >= attempts || begun.elapsed() + wait > self.retries.budget {
                return Err(Failed {
                    reason: reason.after(attempt),
                    uncertain,
                });
            }
            tracing::debug!(
                method = request.method,
                key = request.key,
                attempt,
                ?reason,
                "S3 request is repeated"
            );
            std::thread::sleep(wait);
            attempt += 1;
        }
    }

    /// Doubling waits, half of each left to chance so that many clients do not come back at once; at least as long
    /// as the server asked for.
    fn wait(&self, attempt: u32, asked: Option<Duration>) -> Duration {
        let doubled = self.retries.first_wait.saturating_mul(1 << (attempt - 1).min(20));
        let wait = doubled.min(self.retries.longest_wait);
        let mut chance = [0];
        // Without random numbers all wait the full time.
        let chance = aws_lc_rs::rand::fill(&mut chance).map_or(1.0, |()| f64::from(chance[0]) / 255.0);
        wait.mul_f64(0.5 + chance / 2.0).max(asked.unwrap_or_default())
    }

    /// Whether a refusal was due to something that is different now: our clock, or credentials that were renewed.
    fn correct(&self, refusal: &Refusal, date: Option<Timestamp>) -> bool {
        match refusal.code.as_str() {
            "RequestTimeTooSkewed" => {
                let Some(date) = date else { return false };
                let ahead = date.as_second() - Timestamp::now().as_second();
                tracing::warn!(
                    seconds = ahead,
                    "the clocks of this host and of the S3 server differ"
                );
                self.clock_ahead.store(ahead, Ordering::Relaxed);
                true
            }
            "ExpiredToken"
            | "InvalidAccessKeyId"
            | "SignatureDoesNotMatch"
            | "InvalidToken"
            | "TokenRefreshRequired" => {
                let environment = |name: &str| std::env::var(name).ok();
                let Some(Ok(new)) = self.source.as_ref().map(|source| source.read(&environment)) else {
                    return false;
                };
                let mut current = self.credentials.write().unwrap_or_else(PoisonError::into_inner);
                let changed = **current != new;
                *current = Arc::new(new);
                changed
            }
            _ => false,
        }
    }

    fn once(
        &self,
        request: &Request<'_>,
        body_sha256: &str,
        md5: Option<&str>,
    ) -> Result<Answer, Unanswered> {
        let path = format!("{}{}", self.endpoint.base, sign::encode(request.key, true));
        // Nothing after the bucket: `/bucket`, as the servers sign it themselves.
        let path = if request.key.is_empty() && path.len() > 1 {
            path.trim_end_matches('/')
        } else {
            &path
        };
        let query = sign::encode_query(request.query);
        let length: usize = request.body.iter().map(|part| part.len()).sum();
        let has_body = !request.body.is_empty() || matches!(request.method, "PUT" | "POST");

        let mut headers = vec![("host".to_string(), self.endpoint.host.clone())];
        headers.extend(
            request
                .headers
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_string())),
        );
        if let Some(md5) = md5 {
            headers.push(("content-md5".into(), md5.into()));
        }
        if has_body {
            headers.push(("content-type".into(), "application/octet-stream".into()));
        }
        let credentials = Arc::clone(&self.credentials.read().unwrap_or_else(PoisonError::into_inner));
        let parts = sign::Parts {
            method: request.method,
            path,
            query: &query,
            headers: &mut headers,
            body_sha256,
        };
        sign::sign(parts, &credentials, &self.endpoint.region, &self.time());

        let mark = if query.is_empty() { "" } else { "?" };
        let url = format!("{}{path}{mark}{query}", self.endpoint());
        let mut builder = HttpRequest::builder().method(request.method).uri(url);
        for (name, value) in &headers {
            builder = builder.header(name, value);
        }
        let mut content = Parts {
            parts: request.body,
            offset: 0,
        };
        let sent = if has_body {
            builder
                .header("content-length", length)
                .body(SendBody::from_reader(&mut content))
                .map_err(ureq::Error::from)
                .and_then(|request| self.agent.run(request))
        } else {
            builder
                .body(())
                .map_err(ureq::Error::from)
                .and_then(|request| self.agent.run(request))
        };
        let response = sent.map_err(|error| Unanswered::from_transport(&error, &self.endpoint))?;
        self.heard.store(true, Ordering::Relaxed);
        let (head, body) = response.into_parts();
        let mut answer = Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body,
        };
        if head.status.is_success() {
            return Ok(answer);
        }
        let mut text = Vec::new();
        // An error whose text cannot be read is still an error.
        let _ = answer
            .body
            .with_config()
            .limit(ERROR_LIMIT)
            .reader()
            .read_to_end(&mut text);
        let mut refusal = Refusal::of(answer.status, &text);
        if refusal.region.is_none() {
            refusal.region = answer.header("x-amz-bucket-region").map(String::from);
        }
        let date = answer.header("date").and_then(parse_http_date);
        let retry_after = answer
            .header("retry-after")
            .and_then(|value| retry_after(value, date));
        Err(Unanswered::Refused {
            refusal,
            date,
            retry_after,
        })
    }

    /// The time to sign with.
    fn time(&self) -> String {
        let ahead = self.clock_ahead.load(Ordering::Relaxed);
        let now = Timestamp::from_second(Timestamp::now().as_second().saturating_add(ahead))
            .unwrap_or_else(|_| Timestamp::now());
        now.strftime("%Y%m%dT%H%M%SZ").to_string()
    }
}

enum Unanswered {
    Refused {
        refusal: Refusal,
        date: Option<Timestamp>,
        retry_after: Option<Duration>,
    },
    Lost {
        reason: String,
        may_pass: bool,
    },
}

impl Unanswered {
    fn from_transport(error: &ureq::Error, endpoint: &Endpoint) -> Self {
        let is_tls = match error {
            ureq::Error::Tls(_) | ureq::Error::Rustls(_) | ureq::Error::Pem(_) => true,
            ureq::Error::Io(error) => error
                .get_ref()
                .is_some_and(|inner| inner.downcast_ref::<rustls::Error>().is_some()),
            _ => false,
        };
        if is_tls {
            let hint = "if its certificate is of an own authority, name that with ca=FILE or AWS_CA_BUNDLE";
            return Self::Lost {
                reason: format!("no TLS with {}: {error}; {hint}", endpoint.host),
                may_pass: false,
            };
        }
        let may_pass = !matches!(error, ureq::Error::Http(_) | ureq::Error::BadUri(_));
        Self::Lost {
            reason: error.to_string(),
            may_pass,
        }
    }
}

impl Reason {
    /// Says how often it was tried.
    fn after(self, attempts: u32) -> Self {
        match self {
            Self::Unreachable(reason) if attempts > 1 => {
                Self::Unreachable(format!("{reason} ({attempts} tries)"))
            }
            other => other,
        }
    }
}

/// A body in pieces, as a reader.
struct Parts<'a> {
    parts: &'a [&'a [u8]],
    offset: usize,
}

impl Read for Parts<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut written = 0;
        while let ([first, rest @ ..], true) = (self.parts, written < buffer.len()) {
            let left = first.get(self.offset..).unwrap_or_default();
            let length = left.len().min(buffer.len() - written);
            buffer[written..written + length].copy_from_slice(&left[..length]);
            written += length;
            self.offset += length;
            if self.offset == first.len() {
                (self.parts, self.offset) = (rest, 0);
            }
        }
        Ok(written)
    }
}

/// A date in a header (RFC 9110, 5.6.7).
pub(super) fn parse_http_date(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::parse(text).ok().map(|time| time.timestamp())
}

/// `Retry-After` in seconds or as a date; no more than a minute is heeded.
fn retry_after(value: &str, date: Option<Timestamp>) -> Option<Duration> {
    let seconds = match value.trim().parse::<u64>() {
        Ok(seconds) => seconds,
        Err(_) => {
            let until = parse_http_date(value)?.as_second();
            u64::try_from(until.saturating_sub(date.unwrap_or_else(Timestamp::now).as_second())).ok()?
        }
    };
    Some(Duration::from_secs(seconds.min(60)))
}

/// The authorities of the system and those of the configured file.
fn tls(config: &S3Config, endpoint: &Endpoint) -> Result<TlsConfig, ConfigError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = TlsConfig::builder().unversioned_rustls_crypto_provider(provider);
    if !endpoint.tls {
        return Ok(builder.build());
    }
    // An authority of the system that cannot be read is no reason not to start; without any, no connection succeeds.
    let system = rustls_native_certs::load_native_certs();
    let mut roots: Vec<Certificate<'static>> = system
        .certs
        .iter()
        .map(|der| Certificate::from_der(der).to_owned())
        .collect();
    if let Some(path) = &config.ca_file {
        let failed = |reason: String| ConfigError::Authorities {
            path: path.clone(),
            reason,
        };
        let own = CertificateDer::pem_file_iter(path).map_err(|error| failed(error.to_string()))?;
        let own = own
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| failed(error.to_string()))?;
        if own.is_empty() {
            return Err(failed("no certificate in it".into()));
        }
        roots.extend(own.iter().map(|der| Certificate::from_der(der).to_owned()));
    }
    Ok(builder.root_certs(RootCerts::Specific(Arc::new(roots))).build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_in_pieces_are_read_in_order() {
        let parts: [&[u8]; 5] = [b"", b"abc", b"", b"d", b"efgh"];
        for size in [1, 2, 3, 7, 100] {
            let mut reader = Parts {
                parts: &parts,
                offset: 0,
            };
            let mut all = Vec::new();
            let mut buffer = vec![0; size];
            loop {
                match reader.read(&mut buffer).unwrap() {
                    0 => break,
                    length => all.extend_from_slice(&buffer[..length]),
                }
            }
            assert_eq!(all, b"abcdefgh");
        }
    }

    #[test]
    fn servers_may_ask_to_wait() {
        let date = parse_http_date("Sun, 22 Nov 2026 22:19:31 GMT");
        assert_eq!(date.unwrap().as_second(), 1_795_385_971);
        assert_eq!(retry_after("7", date), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("86400", date), Some(Duration::from_secs(60)));
        assert_eq!(
            retry_after("Sun, 22 Nov 2026 22:19:41 GMT", date),
            Some(Duration::from_secs(10))
        );
        assert_eq!(retry_after("Sun, 22 Nov 2026 22:19:00 GMT", date), None);
        assert_eq!(retry_after("soon", date), None);
    }
}
