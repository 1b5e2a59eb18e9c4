//! Bodies of answers: whole, or written piece by piece by a thread while the client reads.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body_util::Full;
use hyper::body::{Frame, SizeHint};
use tokio::sync::mpsc;

/// Bytes gathered before they are handed on.
const PIECE: usize = 128 * 1024;
/// Pieces on the way at most: with [`PIECE`], what a slow client holds in memory.
const PIECES: usize = 4;

/// Body of an answer.
pub struct Body(Kind);

enum Kind {
    Whole(Full<Bytes>),
    Stream {
        pieces: mpsc::Receiver<Piece>,
        ended: bool,
    },
}

enum Piece {
    Bytes(Bytes),
    End,
    Failed(io::Error),
}

impl Body {
    /// All of it.
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        Self(Kind::Whole(Full::new(bytes.into())))
    }

    /// None.
    pub fn empty() -> Self {
        Self::whole(Bytes::new())
    }

    /// One that a thread writes, for example in [`tokio::task::spawn_blocking`]. Writing waits while the client is slow, and
    /// fails when it went away. If the writer is dropped before [`BodyWriter::finish`], the client sees the connection
    /// break rather than an end.
    pub fn written() -> (BodyWriter, Self) {
        let (send, pieces) = mpsc::channel(PIECES);
        let writer = BodyWriter {
            send,
            gathered: BytesMut::new(),
        };
        (writer, Self(Kind::Stream { pieces, ended: false }))
    }
}

/// Writes a body from a thread (never from asynchronous code: it blocks).
pub struct BodyWriter {
    send: mpsc::Sender<Piece>,
    gathered: BytesMut,
}

impl BodyWriter {
    fn hand_on(&mut self, piece: Piece) -> io::Result<()> {
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the client went away");
        self.send.blocking_send(piece).map_err(gone)
    }

    /// Ends the body.
    ///
    /// # Errors
    /// The client went away.
    pub fn finish(mut self) -> io::Result<()> {
        io::Write::flush(&mut self)?;
        self.hand_on(Piece::End)
    }

    /// Breaks it off: the client sees that it is not whole.
    pub fn fail(mut self, error: io::Error) {
        let _ = self.hand_on(Piece::Failed(error));
    }
}

impl io::Write for BodyWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let part = &bytes[..bytes.len().min(PIECE)];
        self.gathered.extend_from_slice(part);
        if self.gathered.len() >= PIECE {
            io::Write::flush(self)?;
        }
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let piece = self.gathered.split().freeze();
        self.hand_on(Piece::Bytes(piece))
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match &mut self.0 {
            Kind::Whole(full) => Pin::new(full).poll_frame(context).map_err(|never| match never {}),
            Kind::Stream { ended: true, .. } => Poll::Ready(None),
            Kind::Stream { pieces, ended } => pieces.poll_recv(context).map(|piece| {
                *ended = !matches!(piece, Some(Piece::Bytes(_)));
                match piece {
                    Some(Piece::Bytes(bytes)) => Some(Ok(Frame::data(bytes))),
                    Some(Piece::End) => None,
                    Some(Piece::Failed(error)) => Some(Err(error)),
                    None => Some(Err(io::Error::other("the answer was broken off"))),
                }
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Whole(full) => full.is_end_stream(),
            Kind::Stream { ended, .. } => *ended,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole(full) => full.size_hint(),
            Kind::Stream { .. } => SizeHint::default(),
        }
    }
}
