//! One connection: takes calls until the other side goes away.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use h2::server;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use super::Call;

/// Most calls at once, as the original allows.
const STREAMS: u32 = 200;
/// What a client may send of one call before it is read. Small, so that the calls that wait for their turn hold little
/// memory; a call that is read gets the next bytes as fast as they are taken.
const WINDOW: u32 = 256 << 10;
/// What a client may send in all: more than all calls together, so that those that wait never hold up the one that is
/// read.
const CONNECTION_WINDOW: u32 = STREAMS * WINDOW + (16 << 20);
/// The largest frame, as the original has it.
const FRAME: u32 = 4 << 20;
/// Most bytes of the headers of a call, as the original has it.
const HEADERS: u32 = 16 << 10;
/// Bytes of an answer that wait to be sent.
const SEND_BUFFER: usize = 1 << 20;
/// How often it is asked whether the other side is still there.
const PING: Duration = Duration::from_secs(30);
/// After this time without an answer it is not.
const SILENCE: Duration = Duration::from_secs(150);
/// How long the greeting may take.
const GREETING: Duration = Duration::from_secs(30);

/// How a connection ended.
#[derive(Debug)]
pub(crate) enum Closed {
    /// The other side closed it.
    Ended,
    /// It broke off, or did not keep to the rules of HTTP/2.
    Broken(h2::Error),
    /// Nothing came any more, not even answers to pings.
    Silent,
}

/// Takes the calls of a connection until it ends. `take` is called for each in the order in which they were made; what it
/// gives is run beside the others. When this returns, none of them runs any more; what they have handed to threads may.
pub(crate) async fn run<IO, T, F>(io: IO, mut take: T) -> Closed
where
    IO: AsyncRead + AsyncWrite + Unpin,
    T: FnMut(Call) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let mut calls = JoinSet::new();
    let closed = serve(io, &mut take, &mut calls).await;
    calls.shutdown().await;
    closed
}

async fn serve<IO, T, F>(io: IO, take: &mut T, calls: &mut JoinSet<()>) -> Closed
where
    IO: AsyncRead + AsyncWrite + Unpin,
    T: FnMut(Call) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let handshake = server::Builder::new()
        .max_concurrent_streams(STREAMS)
        .initial_window_size(WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .max_header_list_size(HEADERS)
        .max_send_buffer_size(SEND_BUFFER)
        .handshake::<IO, Bytes>(io);
    let mut connection = match tokio::time::timeout(GREETING, handshake).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return Closed::Broken(error),
        Err(_) => return Closed::Silent,
    };
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
            accepted = connection.accept() => match accepted {
                None => return Closed::Ended,
                Some(Err(error)) => return Closed::Broken(error),
                Some(Ok((request, respond))) => {
                    heard = Instant::now();
                    calls.spawn(take(Call::new(request, respond)));
                }
            },
            pong = pong => {
                if pong.is_ok() {
                    heard = Instant::now();
                } else {
                    ping_pong = None;
                }
            }
            _ = ticks.tick() => {
                if heard.elapsed() > SILENCE {
                    return Closed::Silent;
                }
                if let Some(ping_pong) = &mut ping_pong {
                    // One that is still under way is as good.
                    let _ = ping_pong.send_ping(h2::Ping::opaque());
                }
            }
            Some(_) = calls.join_next(), if !calls.is_empty() => {}
        }
    }
}
