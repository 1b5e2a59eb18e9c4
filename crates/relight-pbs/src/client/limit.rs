//! Connections that take and give only so many bytes a second: a bucket a direction, which several connections share.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::wire::{BoxIo, Connecting, Transport};

/// Nobody waits for fewer bytes than this: small reads would cost more than they carry.
const LEAST: u64 = 1024;
/// How long one waits for tokens at most before looking again.
const PAUSE: Duration = Duration::from_millis(200);

/// How many bytes a second may pass, and how many at once after a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Bytes a second.
    pub rate: u64,
    /// Bytes that may pass at once.
    pub burst: u64,
}

impl Rate {
    /// With a burst of one second, if none is given.
    pub fn new(rate: u64, burst: Option<u64>) -> Self {
        let rate = rate.max(LEAST);
        Self {
            rate,
            burst: burst.unwrap_or(rate).max(LEAST),
        }
    }
}

/// What may pass now.
#[derive(Debug)]
struct Bucket {
    rate: Rate,
    state: Mutex<(f64, Instant)>,
}

impl Bucket {
    fn new(rate: Rate) -> Self {
        Self {
            state: Mutex::new((rate.burst as f64, Instant::now())),
            rate,
        }
    }

    /// Takes up to `wanted` bytes; if there are none, says when there will be some.
    fn take(&self, wanted: usize) -> Result<usize, Duration> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let passed = now.duration_since(state.1).as_secs_f64();
        let there = (state.0 + passed * self.rate.rate as f64).min(self.rate.burst as f64);
        *state = (there, now);
        let least = (LEAST as f64).min(wanted as f64);
        if there < least {
            let wait = (least - there) / self.rate.rate as f64;
            return Err(Duration::from_secs_f64(wait).clamp(Duration::from_millis(1), PAUSE));
        }
        let taken = (there as usize).min(wanted);
        state.0 -= taken as f64;
        Ok(taken)
    }

    fn give_back(&self, bytes: usize) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0 += bytes as f64;
    }
}

/// Connections of another transport, with limits that all of them share.
pub struct Limited {
    inner: Arc<dyn Transport>,
    inward: Option<Arc<Bucket>>,
    outward: Option<Arc<Bucket>>,
}

impl Limited {
    /// With limits of what comes in and what goes out.
    pub fn new(inner: Arc<dyn Transport>, inward: Option<Rate>, outward: Option<Rate>) -> Self {
        let bucket = |rate| Arc::new(Bucket::new(rate));
        Self {
            inner,
            inward: inward.map(bucket),
            outward: outward.map(bucket),
        }
    }
}

impl Transport for Limited {
    fn connect(&self) -> Connecting<'_> {
        Box::pin(async {
            let io = self.inner.connect().await?;
            if self.inward.is_none() && self.outward.is_none() {
                return Ok(io);
            }
            let limited = LimitedIo {
                io,
                inward: Gauge::new(self.inward.clone()),
                outward: Gauge::new(self.outward.clone()),
            };
            Ok(Box::new(limited) as BoxIo)
        })
    }

    fn authority(&self) -> String {
        self.inner.authority()
    }
}

/// One direction of one connection.
struct Gauge {
    bucket: Option<Arc<Bucket>>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Gauge {
    fn new(bucket: Option<Arc<Bucket>>) -> Self {
        Self { bucket, sleep: None }
    }

    /// How many bytes may pass, `wanted` at most.
    fn poll(&mut self, context: &mut Context<'_>, wanted: usize) -> Poll<usize> {
        let Some(bucket) = &self.bucket else {
            return Poll::Ready(wanted);
        };
        loop {
            if let Some(sleep) = &mut self.sleep {
                ready!(sleep.as_mut().poll(context));
                self.sleep = None;
            }
            match bucket.take(wanted) {
                Ok(taken) => return Poll::Ready(taken),
                Err(wait) => self.sleep = Some(Box::pin(tokio::time::sleep(wait))),
            }
        }
    }

    fn unused(&self, bytes: usize) {
        if let Some(bucket) = &self.bucket {
            bucket.give_back(bytes);
        }
    }
}

struct LimitedIo {
    io: BoxIo,
    inward: Gauge,
    outward: Gauge,
}

impl AsyncRead for LimitedIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let most = ready!(this.inward.poll(context, buffer.remaining()));
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(most));
        let result = Pin::new(&mut this.io).poll_read(context, &mut part);
        let filled = part.filled().len();
        buffer.advance(filled);
        this.inward.unused(most - filled);
        result
    }
}

impl AsyncWrite for LimitedIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let most = ready!(this.outward.poll(context, bytes.len()));
        let result = Pin::new(&mut this.io).poll_write(context, &bytes[..most]);
        let written = match &result {
            Poll::Ready(Ok(written)) => *written,
            _ => 0,
        };
        this.outward.unused(most - written);
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    struct Pipe(Mutex<Option<BoxIo>>);

    impl Transport for Pipe {
        fn connect(&self) -> Connecting<'_> {
            let io = self.0.lock().unwrap().take().unwrap();
            Box::pin(async { Ok(io) })
        }

        fn authority(&self) -> String {
            "x:1".into()
        }
    }

    #[tokio::test]
    async fn bytes_take_the_time_that_they_may() {
        tokio::time::pause();
        for inward in [true, false] {
            let (here, there) = tokio::io::duplex(1 << 20);
            let rate = Some(Rate::new(100_000, Some(10_000)));
            let pipe = Arc::new(Pipe(Mutex::new(Some(Box::new(here) as BoxIo))));
            let limited = match inward {
                true => Limited::new(pipe, rate, None),
                false => Limited::new(pipe, None, rate),
            };
            let limited = limited.connect().await.unwrap();
            let (mut from, mut to) = match inward {
                true => (Box::new(there) as BoxIo, limited),
                false => (limited, Box::new(there) as BoxIo),
            };
            let begun = Instant::now();
            let write = async {
                from.write_all(&vec![7; 510_000]).await.unwrap();
                from.shutdown().await.unwrap();
            };
            let mut read = Vec::new();
            let (_, count) = tokio::join!(write, to.read_to_end(&mut read));
            assert_eq!((count.unwrap(), read), (510_000, vec![7; 510_000]));
            let took = begun.elapsed().as_secs_f64();
            assert!((4.9..5.5).contains(&took), "{took}");
        }
    }
}
