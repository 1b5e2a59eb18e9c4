//! A connection that was changed to HTTP/2: calls and their answers, many at once.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use http::header::CONTENT_TYPE;
use http::{Method, Request, Response, StatusCode};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::task::AbortOnDropHandle;

use super::rest::{JSON, OCTETS};
use super::{ClientError, Result};

/// Something to speak HTTP on.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// The same, of any kind.
pub type BoxIo = Box<dyn Io>;

/// A connection that is being opened.
pub type Connecting<'a> = Pin<Box<dyn Future<Output = Result<BoxIo>> + Send + 'a>>;

/// Opens connections to one server.
pub trait Transport: Send + Sync {
    /// Opens one.
    fn connect(&self) -> Connecting<'_>;

    /// Host and port, as the server is called in requests and messages.
    fn authority(&self) -> String;
}

/// What the server may send before it is read: as much as the original's client allows.
const WINDOW: u32 = (1 << 31) - 2;
/// The largest frame, as the original has it.
const FRAME: u32 = 4 << 20;
/// How the server is called within a session, whatever its name: the original's client does so.
const AUTHORITY: &str = "https://localhost:8007";
/// How often it is asked whether the other side is still there.
const PING: Duration = Duration::from_secs(30);
/// After this time without an answer it is not.
const SILENCE: Duration = Duration::from_secs(150);
/// How long the greeting may take.
const GREETING: Duration = Duration::from_secs(30);
/// How long a call may take while the other side still answers pings. Whoever ends a backup may have much to write.
const CALL: Duration = Duration::from_secs(2 * 60 * 60);
/// Bytes of an error that are shown.
const MAX_MESSAGE: usize = 64 << 10;
/// Bytes of a JSON answer at most.
const MAX_JSON: usize = 16 << 20;

/// Makes calls on a connection. Clones share it.
#[derive(Clone)]
pub(super) struct Wire {
    send: SendRequest<Bytes>,
}

/// The connection itself, which ends when this is dropped.
pub(super) struct Connected {
    _task: AbortOnDropHandle<()>,
}

impl Wire {
    /// Greets the server, which must have said that it will speak HTTP/2.
    pub async fn new(io: BoxIo) -> Result<(Self, Connected)> {
        let handshake = h2::client::Builder::new()
            .initial_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_frame_size(FRAME)
            .enable_push(false)
            .handshake::<_, Bytes>(io);
        let greeting = tokio::time::timeout(GREETING, handshake).await;
        let (send, connection) = greeting
            .map_err(|_| ClientError::broken("the server does not greet"))?
            .map_err(ClientError::broken)?;
        let task = AbortOnDropHandle::new(tokio::spawn(run(connection)));
        Ok((Self { send }, Connected { _task: task }))
    }

    /// Makes a call whose answer is JSON. Gives what it has in `data`.
    pub async fn json(&self, method: Method, target: &str, body: Option<Bytes>) -> Result<Value> {
        let body = self.call(method, target, body, MAX_JSON).await?;
        if body.is_empty() {
            return Ok(Value::Null);
        }
        let unread =
            || ClientError::protocol(format!("the answer to {} is not JSON with data", name(target)));
        let answer: Value = serde_json::from_slice(&body).map_err(|_| unread())?;
        match answer {
            Value::Object(mut fields) => fields.remove("data").ok_or_else(unread),
            _ => Err(unread()),
        }
    }

    /// Makes a call. Gives the body of its answer, of at most `limit` bytes.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the server's words if it answers with anything but 200.
    pub async fn call(
        &self,
        method: Method,
        target: &str,
        body: Option<Bytes>,
        limit: usize,
    ) -> Result<Bytes> {
        match tokio::time::timeout(CALL, self.exchange(method, target, body, limit)).await {
            Ok(answer) => answer,
            Err(_) => Err(ClientError::Timeout {
                what: name(target).to_string(),
                seconds: CALL.as_secs(),
            }),
        }
    }

    async fn exchange(
        &self,
        method: Method,
        target: &str,
        body: Option<Bytes>,
        limit: usize,
    ) -> Result<Bytes> {
        // The original reads parameters from a body only if that says that it is JSON.
        let content = match (&method, &body) {
            (&Method::PUT, Some(_)) => Some(JSON),
            (_, Some(_)) => Some(OCTETS),
            (_, None) => None,
        };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{AUTHORITY}{target}"))
            .body(())
            .map_err(|_| ClientError::Misuse(format!("{} cannot be asked for", name(target))))?;
        request
            .headers_mut()
            .extend(content.map(|content| (CONTENT_TYPE, content)));
        let mut send = self.send.clone().ready().await.map_err(ClientError::broken)?;
        let (response, mut stream) = send
            .send_request(request, body.is_none())
            .map_err(ClientError::broken)?;
        if let Some(body) = body {
            // Whoever calls holds the bytes anyway, so it does not matter that they wait here.
            stream.send_data(body, true).map_err(ClientError::broken)?;
        }
        let (status, body) = answer(response, limit, target).await?;
        if status == StatusCode::OK {
            return Ok(body);
        }
        Err(refused(status, &body))
    }
}

/// Drives the connection until it ends, or nothing comes any more.
async fn run(mut connection: h2::client::Connection<BoxIo, Bytes>) {
    let mut ping_pong = connection.ping_pong();
    let mut ticks = tokio::time::interval(PING);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.reset();
    let mut heard = Instant::now();
    loop {
        let pong = async {
            match &mut ping_pong {
                Some(ping_pong) => std::future::poll_fn(|context| ping_pong.poll_pong(context)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!("the connection of the session ended: {error}");
                }
                return;
            }
            pong = pong => match pong {
                Ok(_) => heard = Instant::now(),
                Err(_) => ping_pong = None,
            },
            _ = ticks.tick() => {
                if heard.elapsed() > SILENCE {
                    tracing::debug!("the server is silent");
                    return;
                }
                if let Some(ping_pong) = &mut ping_pong {
                    // One that is still under way is as good.
                    let _ = ping_pong.send_ping(h2::Ping::opaque());
                }
            }
        }
    }
}

async fn answer(response: ResponseFuture, limit: usize, target: &str) -> Result<(StatusCode, Bytes)> {
    let response: Response<h2::RecvStream> = response.await.map_err(ClientError::broken)?;
    let status = response.status();
    let limit = if status == StatusCode::OK {
        limit
    } else {
        MAX_MESSAGE
    };
    let mut stream = response.into_body();
    let mut first = None;
    let mut body = Vec::new();
    while let Some(part) = stream.data().await {
        let part = part.map_err(ClientError::broken)?;
        stream
            .flow_control()
            .release_capacity(part.len())
            .map_err(ClientError::broken)?;
        if body.len() + first.as_ref().map_or(0, Bytes::len) + part.len() > limit {
            if status != StatusCode::OK {
                break;
            }
            let message = format!("the answer to {} is longer than {limit} bytes", name(target));
            return Err(ClientError::Protocol(message));
        }
        // Most answers come in one part.
        match (first.take(), body.is_empty()) {
            (None, true) => first = Some(part),
            (before, _) => {
                body.extend_from_slice(&before.unwrap_or_default());
                body.extend_from_slice(&part);
            }
        }
    }
    Ok((status, first.unwrap_or_else(|| body.into())))
}

/// What the server says, as it is shown: without what could confuse a terminal.
pub(super) fn refused(status: StatusCode, body: &[u8]) -> ClientError {
    let text = String::from_utf8_lossy(&body[..body.len().min(MAX_MESSAGE)]);
    let shown: String = text
        .trim()
        .chars()
        .filter(|char| !char.is_control() || *char == '\n')
        .collect();
    let message = match shown.is_empty() {
        true => format!("the server answered {status}"),
        false => shown,
    };
    ClientError::Refused { status, message }
}

/// What was called, for messages.
fn name(target: &str) -> &str {
    target
        .split_once('?')
        .map_or(target, |(path, _)| path)
        .trim_start_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bodies_say_what_they_are() {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let server = tokio::spawn(async move {
            let mut connection = h2::server::handshake(theirs).await.unwrap();
            let mut said = Vec::new();
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                said.push(request.headers().get(CONTENT_TYPE).cloned());
                respond.send_response(Response::new(()), true).unwrap();
            }
            said
        });
        let (wire, connected) = Wire::new(Box::new(ours)).await.unwrap();
        let body = || Some(Bytes::from_static(b"{}"));
        wire.json(Method::PUT, "/fixed_index", body()).await.unwrap();
        wire.json(Method::POST, "/fixed_chunk", body()).await.unwrap();
        wire.json(Method::POST, "/finish", None).await.unwrap();
        drop((wire, connected));
        assert_eq!(server.await.unwrap(), [Some(JSON), Some(OCTETS), None]);
    }
}
