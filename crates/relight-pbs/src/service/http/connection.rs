//! One connection: HTTP/1.1 until it is closed or handed over to a session.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Router;
use super::linger::Lingering;
use crate::access::Access;

/// Limits of connections and calls.
#[derive(Debug, Clone)]
pub struct Limits {
    /// How long the head of a request may take; so also how long a connection may be idle.
    pub head: Duration,
    /// How long the body of a request may take.
    pub body: Duration,
    /// Bytes of parameters in a body at most.
    pub parameters: usize,
    /// The same while nobody is known: at the log-in.
    pub parameters_of_strangers: usize,
    /// Bytes of path and query at most.
    pub target: usize,
    /// Headers of a request at most.
    pub headers: usize,
    /// How long an answer of 401 is held back, so that guessing is slow.
    pub unauthorized_delay: Duration,
    /// How long an answer of 403 is held back.
    pub forbidden_delay: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(60),
            body: Duration::from_secs(60),
            parameters: 512 * 1024,
            parameters_of_strangers: 16 * 1024,
            target: 3072,
            headers: 64,
            unauthorized_delay: Duration::from_secs(3),
            forbidden_delay: Duration::from_millis(500),
        }
    }
}

/// Bytes of the head of a request at most; beyond them 431.
const MAX_HEAD: usize = 64 * 1024;

/// What answers the calls of all connections.
pub struct HttpService {
    pub(super) router: Router,
    pub(super) access: Arc<dyn Access>,
    pub(super) limits: Limits,
    /// Sessions that have taken over a connection.
    pub(super) sessions: TaskTracker,
    stopping: CancellationToken,
    pub(super) aborted: CancellationToken,
}

impl HttpService {
    /// Of some routes.
    pub fn new(router: Router, access: Arc<dyn Access>, limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            router,
            access,
            limits,
            sessions: TaskTracker::new(),
            stopping: CancellationToken::new(),
            aborted: CancellationToken::new(),
        })
    }

    /// Serves a connection (what is inside TLS) until it ends or is handed over to a session, which goes on by itself.
    pub async fn serve<IO>(self: &Arc<Self>, io: IO, peer: Option<SocketAddr>)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let unread = Arc::new(AtomicBool::new(false));
        let service = service_fn(|request| {
            let (this, unread) = (self.clone(), unread.clone());
            async move { Ok::<_, std::convert::Infallible>(this.dispatch(request, peer, &unread).await) }
        });
        let io = Lingering::new(io, unread.clone());
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.head)
            .max_headers(self.limits.headers)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(io), service)
            .with_upgrades();
        let mut connection = std::pin::pin!(connection);
        let mut told = false;
        let result = loop {
            tokio::select! {
                result = &mut connection => break result,
                () = self.stopping.cancelled(), if !told => {
                    told = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = self.aborted.cancelled() => return,
            }
        };
        if let Err(error) = result {
            tracing::debug!(?peer, "connection: {error}");
        }
    }

    /// Begins to stop: connections end after the call they are at; sessions go on.
    pub fn stop(&self) {
        self.stopping.cancel();
        self.sessions.close();
    }

    /// Whether it was told to stop; a new session is refused then.
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// How many sessions run.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Waits until the last session has ended, after [`HttpService::stop`].
    pub async fn ended(&self) {
        self.sessions.wait().await;
    }

    /// Breaks off all connections and sessions, as if the clients had gone away.
    pub fn abort(&self) {
        self.stop();
        self.aborted.cancel();
    }
}
