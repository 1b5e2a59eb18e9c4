//! Calls over HTTP/1.1.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, HOST, USER_AGENT};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio_util::task::AbortOnDropHandle;

use super::wire::{BoxIo, Transport, refused};
use super::{ClientError, Result};

/// Where all calls begin.
pub(super) const BASE: &str = "/api2/json";
/// How long a call may take.
pub(super) const CALL: Duration = Duration::from_secs(120);
/// Bytes of an answer at most.
pub(super) const MAX_ANSWER: usize = 64 << 20;
const CSRF: HeaderName = HeaderName::from_static("csrfpreventiontoken");
const AGENT: HeaderValue = HeaderValue::from_static(concat!("relight/", env!("CARGO_PKG_VERSION")));
const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");
pub(super) const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What shows who asks.
#[derive(Clone)]
pub(super) enum Shown {
    /// A token.
    Token(HeaderValue),
    /// A ticket, and what shows that no other page sent the call.
    Ticket { cookie: HeaderValue, csrf: HeaderValue },
}

impl Shown {
    pub(super) fn add(&self, request: &mut Request<Full<Bytes>>) {
        let headers = request.headers_mut();
        match self {
            Self::Token(value) => drop(headers.insert(AUTHORIZATION, value.clone())),
            Self::Ticket { cookie, csrf } => {
                headers.insert(COOKIE, cookie.clone());
                headers.insert(CSRF, csrf.clone());
            }
        }
    }
}

/// One connection that speaks HTTP/1.1.
pub(super) struct Plain {
    send: SendRequest<Full<Bytes>>,
    /// Ends with the connection, which is handed over if its protocol changes.
    task: AbortOnDropHandle<()>,
}

impl Plain {
    pub(super) async fn open(transport: &dyn Transport) -> Result<Self> {
        let io: BoxIo = transport.connect().await?;
        let (send, connection) = http1::handshake(TokioIo::new(io))
            .await
            .map_err(ClientError::broken)?;
        let task = tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!("connection to the server: {error}");
            }
        });
        Ok(Self {
            send,
            task: AbortOnDropHandle::new(task),
        })
    }

    /// Whether another call can be made on it.
    pub(super) async fn is_open(&mut self) -> bool {
        self.send.ready().await.is_ok()
    }

    /// Makes a call and waits for the head of its answer.
    pub(super) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
        what: &str,
    ) -> Result<Response<Incoming>> {
        match tokio::time::timeout(CALL, self.send.send_request(request)).await {
            Ok(answer) => answer.map_err(ClientError::broken),
            Err(_) => Err(late(what)),
        }
    }

    /// Hands the connection over, after an answer that said so.
    pub(super) async fn upgraded(self, answer: Response<Incoming>) -> Result<BoxIo> {
        let upgraded = hyper::upgrade::on(answer).await.map_err(ClientError::broken)?;
        // What drove the connection has ended, as it is no longer its own.
        drop(self.task);
        Ok(Box::new(TokioIo::new(upgraded)))
    }
}

pub(super) fn late(what: &str) -> ClientError {
    ClientError::Timeout {
        what: what.to_string(),
        seconds: CALL.as_secs(),
    }
}

/// A request of the REST interface: parameters of a POST go into its body, others into the query.
pub(super) fn request(
    authority: &str,
    method: Method,
    path: &str,
    parameters: &Value,
) -> Result<Request<Full<Bytes>>> {
    let fields = parameters.as_object();
    let mut target = format!("{BASE}{path}");
    let (content, body) = match (method == Method::POST, fields) {
        (true, Some(fields)) if !fields.is_empty() => (JSON, Bytes::from(parameters.to_string())),
        (false, Some(fields)) if !fields.is_empty() => {
            target.push('?');
            target.push_str(&query(fields.iter().map(|(name, value)| {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_string);
                (name.as_str(), text)
            })));
            (FORM, Bytes::new())
        }
        _ => (FORM, Bytes::new()),
    };
    addressed(authority, method, &target, content, body)
}

/// A request of any path of the server.
pub(super) fn addressed(
    authority: &str,
    method: Method,
    target: &str,
    content: HeaderValue,
    body: Bytes,
) -> Result<Request<Full<Bytes>>> {
    let path = target.split('?').next().unwrap_or_default();
    let refused = |_| ClientError::Misuse(format!("{path} cannot be asked for"));
    let mut request = Request::builder()
        .method(method)
        .uri(target)
        .body(Full::new(body))
        .map_err(refused)?;
    let host = HeaderValue::from_str(authority)
        .map_err(|_| ClientError::Address("the host is not a name or an address".into()))?;
    let headers = request.headers_mut();
    headers.insert(HOST, host);
    headers.insert(USER_AGENT, AGENT);
    headers.insert(CONTENT_TYPE, content);
    Ok(request)
}

/// A request of the REST interface whose body is a file.
pub(super) fn upload(authority: &str, target: &str, body: Bytes) -> Result<Request<Full<Bytes>>> {
    let mut request = request(authority, Method::POST, target, &Value::Null)?;
    *request.body_mut() = Full::new(body);
    request.headers_mut().insert(CONTENT_TYPE, OCTETS);
    Ok(request)
}

/// Parameters as they stand behind the question mark.
pub(super) fn query<'a>(parameters: impl Iterator<Item = (&'a str, String)>) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(parameters);
    query.finish()
}

/// The body of an answer, which must be JSON, or the server's words if it refuses.
pub(super) async fn read(answer: Response<Incoming>, what: &str) -> Result<Value> {
    let status = answer.status();
    let mut body = answer.into_body();
    let mut bytes = BytesMut::new();
    let all = async {
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(ClientError::broken)?;
            let Ok(part) = frame.into_data() else { continue };
            if bytes.len() + part.len() > MAX_ANSWER {
                return Err(ClientError::protocol(format!(
                    "the answer to {what} is longer than {MAX_ANSWER} bytes"
                )));
            }
            bytes.extend_from_slice(&part);
        }
        Ok(())
    };
    tokio::time::timeout(CALL, all).await.map_err(|_| late(what))??;
    if status != StatusCode::OK {
        return Err(refused(status, &bytes));
    }
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&bytes)
        .map_err(|_| ClientError::protocol(format!("the answer to {what} is not JSON")))
}
