//! The rest of a connection: requests, answered by several threads in any order.

use std::io::{self, BufReader, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex};

use relight_repo::read::ArchiveReader;
use relight_repo::{ChunkId, RepoError};

use super::export::Export;
use super::negotiate::Agreed;
use super::peer::Peer;
use super::wire::{self, chunk, command, error, flag};

/// Threads that answer the requests of one connection.
const THREADS: usize = 8;
/// Requests of one connection that wait for a thread; the client waits before it can send more.
const WAITING: usize = 32;
/// Most extents in one answer.
const EXTENTS: usize = 1 << 16;
/// Buffers of all connections together for what cannot be sent piece by piece, in bytes.
const BUFFERS: u64 = 64 << 20;

/// Bytes that all connections together may hold in buffers.
pub struct Budget {
    left: Mutex<u64>,
    freed: Condvar,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            left: Mutex::new(BUFFERS),
            freed: Condvar::new(),
        }
    }
}

impl Budget {
    /// Waits until so many bytes (at most [`wire::MAX_READ`]) are free, and uses them in `work`.
    fn with<T>(&self, bytes: u64, work: impl FnOnce() -> T) -> T {
        let lock = || self.left.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut left = lock();
        while *left < bytes {
            left = self
                .freed
                .wait(left)
                .unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        *left -= bytes;
        drop(left);
        let done = work();
        *lock() += bytes;
        self.freed.notify_all();
        done
    }
}

/// One request.
#[derive(Debug, Clone, Copy)]
struct Request {
    flags: u16,
    command: u16,
    cookie: u64,
    offset: u64,
    length: u32,
}

impl Request {
    const SIZE: usize = 28;

    fn parse(bytes: &[u8; Self::SIZE]) -> Option<Self> {
        let mut fields = super::options::Fields(bytes);
        let u64 = |fields: &mut super::options::Fields<'_>| {
            Some(u64::from(fields.u32()?) << 32 | u64::from(fields.u32()?))
        };
        if fields.u32()? != wire::REQUEST {
            return None;
        }
        Some(Self {
            flags: fields.u16()?,
            command: fields.u16()?,
            cookie: u64(&mut fields)?,
            offset: u64(&mut fields)?,
            length: fields.u32()?,
        })
    }

    fn end(&self) -> Option<u64> {
        self.offset.checked_add(u64::from(self.length))
    }
}

struct Connection<'a> {
    peer: &'a Peer,
    export: &'a Export,
    agreed: Agreed,
    reader: ArchiveReader,
    budget: &'a Budget,
    /// Whole replies, or whole chunks of them, are sent one after the other.
    sending: Mutex<()>,
    broken: AtomicBool,
}

/// Answers requests until the client has had enough, or breaks the protocol.
pub fn transmit(peer: &Peer, export: &Export, agreed: Agreed, budget: &Budget) -> io::Result<()> {
    peer.set_read_timeout(None)?;
    let connection = Connection {
        peer,
        export,
        agreed,
        reader: export.reader(),
        budget,
        sending: Mutex::new(()),
        broken: AtomicBool::new(false),
    };
    std::thread::scope(|scope| {
        // In here, so that it is closed, and the threads end, when this does.
        let (sender, queue) = crossbeam_channel::bounded::<Request>(WAITING);
        for _ in 0..THREADS {
            let (queue, connection) = (queue.clone(), &connection);
            scope.spawn(move || {
                for request in queue {
                    if connection.broken.load(Ordering::Relaxed) {
                        continue;
                    }
                    if connection.answer(request).is_err() {
                        connection.broken.store(true, Ordering::Relaxed);
                        connection.peer.close();
                    }
                }
            });
        }
        drop(queue);
        let mut input = BufReader::with_capacity(16 << 10, peer);
        let mut head = [0; Request::SIZE];
        loop {
            match input.read_exact(&mut head) {
                Ok(()) => {}
                // Not polite, but usual.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error),
            }
            let Some(request) = Request::parse(&head) else {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the client sent what is no request",
                ));
            };
            match request.command {
                command::DISCONNECT => return Ok(()),
                // What is to be written follows, and is not wanted.
                command::WRITE => skip(&mut input, request.length)?,
                _ => {}
            }
            if sender.send(request).is_err() {
                return Ok(());
            }
        }
    })
}

fn skip(input: &mut impl Read, length: u32) -> io::Result<()> {
    let skipped = io::copy(&mut input.take(u64::from(length)), &mut io::sink())?;
    if skipped < u64::from(length) {
        Err(io::ErrorKind::UnexpectedEof.into())
    } else {
        Ok(())
    }
}

impl Connection<'_> {
    fn answer(&self, request: Request) -> io::Result<()> {
        let size = self.export.size();
        let inside = request.length > 0 && request.end().is_some_and(|end| end <= size);
        let allowed = match request.command {
            command::READ if self.agreed.structured => flag::DONT_FRAGMENT,
            command::BLOCK_STATUS => flag::ONE_EXTENT,
            _ => 0,
        };
        match request.command {
            command::WRITE | command::TRIM | command::WRITE_ZEROES => {
                self.fail(request, error::EPERM, "a snapshot cannot be changed")
            }
            _ if request.flags & !allowed != 0 => {
                self.fail(request, error::EINVAL, "a flag that does not fit")
            }
            command::FLUSH => self.done(request),
            command::READ if !inside => {
                self.fail(request, error::EINVAL, "the range is not within the image")
            }
            command::READ if request.length > wire::MAX_READ => {
                self.fail(request, error::EINVAL, "at most 32 MiB can be read at once")
            }
            command::READ if !self.agreed.structured => self.read_simple(request),
            command::READ if request.flags & flag::DONT_FRAGMENT != 0 => self.read_whole(request),
            command::READ => self.read_pieces(request),
            command::BLOCK_STATUS if !self.agreed.allocation => {
                self.fail(request, error::EINVAL, "no metadata context was negotiated")
            }
            command::BLOCK_STATUS if !inside => {
                self.fail(request, error::EINVAL, "the range is not within the image")
            }
            command::BLOCK_STATUS => self.block_status(request),
            _ => self.fail(request, error::EINVAL, "this server does not know the request"),
        }
    }

    fn read_simple(&self, request: Request) -> io::Result<()> {
        self.with_bytes(request, |bytes| self.send(&simple(request.cookie, 0), bytes))
    }

    fn read_whole(&self, request: Request) -> io::Result<()> {
        self.with_bytes(request, |bytes| {
            let head = structured(
                chunk::DONE,
                chunk::OFFSET_DATA,
                request.cookie,
                8 + request.length,
            );
            self.send(&[&head[..], &request.offset.to_be_bytes()].concat(), bytes)
        })
    }

    /// Hands over what a request asks for in one piece.
    fn with_bytes(&self, request: Request, send: impl FnOnce(&[u8]) -> io::Result<()>) -> io::Result<()> {
        // Most requests lie within one piece, which need not be copied.
        match self.reader.piece(request.offset) {
            Ok((piece, Some(content)))
                if request
                    .end()
                    .is_some_and(|end| end <= piece.offset + piece.length) =>
            {
                let within = (request.offset - piece.offset) as usize;
                return match content.get(within..within + request.length as usize) {
                    Some(bytes) => send(bytes),
                    None => self.fail(request, error::EIO, "the image cannot be read"),
                };
            }
            Ok(_) => {}
            Err(error) => return self.unreadable(request, request.offset, &error),
        }
        self.budget.with(u64::from(request.length), || {
            let mut buffer = vec![0; request.length as usize];
            match self.reader.read_exact_at(&mut buffer, request.offset) {
                Ok(()) => send(&buffer),
                Err(error) => self.unreadable(request, request.offset, &error),
            }
        })
    }

    /// Answers piece by piece, each as it is: data, or a hole.
    fn read_pieces(&self, request: Request) -> io::Result<()> {
        let end = request.offset + u64::from(request.length);
        let mut at = request.offset;
        while at < end {
            let (piece, content) = match self.reader.piece(at) {
                Ok(found) => found,
                Err(error) => return self.unreadable(request, at, &error),
            };
            let until = end.min(piece.offset + piece.length);
            let length = (until - at) as u32;
            let last = if until == end { chunk::DONE } else { 0 };
            match content {
                Some(content) => {
                    let within = (at - piece.offset) as usize;
                    let Some(bytes) = content.get(within..within + length as usize) else {
                        return self.fail(request, error::EIO, "the image cannot be read");
                    };
                    let head = structured(last, chunk::OFFSET_DATA, request.cookie, 8 + length);
                    self.send(&[&head[..], &at.to_be_bytes()].concat(), bytes)?;
                }
                None => {
                    let head = structured(last, chunk::OFFSET_HOLE, request.cookie, 12);
                    let hole = [&at.to_be_bytes()[..], &length.to_be_bytes()].concat();
                    self.send(&head, &hole)?;
                }
            }
            at = until;
        }
        Ok(())
    }

    fn block_status(&self, request: Request) -> io::Result<()> {
        let most = if request.flags & flag::ONE_EXTENT != 0 {
            1
        } else {
            EXTENTS
        };
        let extents = match self.extents(request, most) {
            Ok(extents) => extents,
            Err(error) => return self.unreadable(request, request.offset, &error),
        };
        let mut body = wire::ALLOCATION_ID.to_be_bytes().to_vec();
        for (length, state) in extents {
            body.extend_from_slice(&length.to_be_bytes());
            body.extend_from_slice(&state.to_be_bytes());
        }
        let head = structured(
            chunk::DONE,
            chunk::BLOCK_STATUS,
            request.cookie,
            body.len() as u32,
        );
        self.send(&head, &body)
    }

    /// Lengths and states of the stretches of a range, neighbours of the same state as one; the first `most` of them.
    fn extents(&self, request: Request, most: usize) -> Result<Vec<(u32, u32)>, RepoError> {
        let end = request.offset + u64::from(request.length);
        let mut extents: Vec<(u32, u32)> = Vec::new();
        for piece in self.reader.pieces(request.offset)? {
            let piece = piece?;
            if piece.offset >= end {
                break;
            }
            let from = piece.offset.max(request.offset);
            let length = (end.min(piece.offset + piece.length) - from) as u32;
            let state = if piece.id == ChunkId::ZEROS {
                wire::HOLE_AND_ZERO
            } else {
                0
            };
            let full = extents.len() == most;
            match extents.last_mut() {
                Some((before, same)) if *same == state => *before += length,
                _ if full => break,
                _ => extents.push((length, state)),
            }
        }
        Ok(extents)
    }

    fn unreadable(&self, request: Request, at: u64, error: &RepoError) -> io::Result<()> {
        self.export.unreadable(at, error);
        if !self.agreed.structured {
            return self.fail(request, error::EIO, "");
        }
        let why = b"the image cannot be read here; the server's log says why";
        let mut body = error::EIO.to_be_bytes().to_vec();
        body.extend_from_slice(&(why.len() as u16).to_be_bytes());
        body.extend_from_slice(why);
        body.extend_from_slice(&at.to_be_bytes());
        let head = structured(
            chunk::DONE,
            chunk::ERROR_OFFSET,
            request.cookie,
            body.len() as u32,
        );
        self.send(&head, &body)
    }

    fn fail(&self, request: Request, code: u32, why: &str) -> io::Result<()> {
        if !self.agreed.structured {
            return self.send(&simple(request.cookie, code), &[]);
        }
        let mut body = code.to_be_bytes().to_vec();
        body.extend_from_slice(&(why.len() as u16).to_be_bytes());
        body.extend_from_slice(why.as_bytes());
        let head = structured(chunk::DONE, chunk::ERROR, request.cookie, body.len() as u32);
        self.send(&head, &body)
    }

    fn done(&self, request: Request) -> io::Result<()> {
        if self.agreed.structured {
            self.send(&structured(chunk::DONE, chunk::NONE, request.cookie, 0), &[])
        } else {
            self.send(&simple(request.cookie, 0), &[])
        }
    }

    fn send(&self, head: &[u8], body: &[u8]) -> io::Result<()> {
        let _turn = self
            .sending
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        self.peer.send(head, body)
    }
}

/// The header of a simple reply.
fn simple(cookie: u64, error: u32) -> [u8; 16] {
    let mut head = [0; 16];
    head[..4].copy_from_slice(&wire::SIMPLE_REPLY.to_be_bytes());
    head[4..8].copy_from_slice(&error.to_be_bytes());
    head[8..].copy_from_slice(&cookie.to_be_bytes());
    head
}

/// The header of a chunk of a structured reply.
fn structured(flags: u16, kind: u16, cookie: u64, length: u32) -> [u8; 20] {
    let mut head = [0; 20];
    head[..4].copy_from_slice(&wire::STRUCTURED_REPLY.to_be_bytes());
    head[4..6].copy_from_slice(&flags.to_be_bytes());
    head[6..8].copy_from_slice(&kind.to_be_bytes());
    head[8..16].copy_from_slice(&cookie.to_be_bytes());
    head[16..].copy_from_slice(&length.to_be_bytes());
    head
}
