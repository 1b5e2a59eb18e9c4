//! An end of a connection that the client hears of.
//!
//! A request that is refused before its body was read leaves bytes behind that nobody reads. If the connection is closed over them, the
//! kernel answers the rest with a reset, and a client that is still sending may never see the answer. So after such a request the end
//! is told first (the writing side is closed), and what still comes is read and thrown away for a short time: RFC 9112, section 9.6.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::HeaderMap;
use http::header::EXPECT;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How long a client may go on sending after the end.
const TIME: Duration = Duration::from_secs(2);
/// How many bytes it may send then.
const BYTES: usize = 4 << 20;
/// So much of a body that nobody wants is read to keep the connection.
const DRAINED: usize = 64 * 1024;
/// In this time.
const DRAINING: Duration = Duration::from_secs(1);

/// Reads the rest of a body that nobody wants, if it is short. Whether it was, so that the connection can be used again.
pub(super) async fn drained(body: Incoming, headers: &HeaderMap) -> bool {
    if hyper::body::Body::is_end_stream(&body) {
        return true;
    }
    // Whoever asks first whether to send it is not told to by this.
    if headers.contains_key(EXPECT) || hyper::body::Body::size_hint(&body).lower() > DRAINED as u64 {
        return false;
    }
    let rest = Limited::new(body, DRAINED).collect();
    matches!(tokio::time::timeout(DRAINING, rest).await, Ok(Ok(_)))
}

/// A connection that lingers at its end if it was told to.
pub(super) struct Lingering<IO> {
    io: IO,
    wanted: Arc<AtomicBool>,
    left: usize,
    end: Option<Pin<Box<Sleep>>>,
}

impl<IO> Lingering<IO> {
    /// Lingers if `wanted` is true at the end.
    pub fn new(io: IO, wanted: Arc<AtomicBool>) -> Self {
        Self {
            io,
            wanted,
            left: BYTES,
            end: None,
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Lingering<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, parts)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.end.is_none() {
            ready!(Pin::new(&mut this.io).poll_shutdown(context))?;
            if !this.wanted.load(Ordering::Acquire) {
                return Poll::Ready(Ok(()));
            }
        }
        let end = this.end.get_or_insert_with(|| Box::pin(sleep(TIME)));
        let mut thrown_away = [0; 8192];
        loop {
            if end.as_mut().poll(context).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut buffer = ReadBuf::new(&mut thrown_away);
            let read = ready!(Pin::new(&mut this.io).poll_read(context, &mut buffer));
            this.left = this.left.saturating_sub(buffer.filled().len());
            // What breaks off now has ended, too.
            if read.is_err() || buffer.filled().is_empty() || this.left == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}
