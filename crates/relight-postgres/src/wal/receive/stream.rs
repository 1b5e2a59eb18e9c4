//! One connection's worth of receiving.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::message::{Message, Progress, status};
use super::shared::Shared;
use super::spool::Writer;
use crate::error::PostgresError;
use crate::lsn::Lsn;
use crate::protocol::{Connection, Event};
use crate::wal::error::{Result, WalError};
use crate::wal::name::Timeline;

/// How often the disk is made sure of, and the other thread's progress looked at.
const TICK: Duration = Duration::from_millis(50);
const SYNC_EVERY: Duration = Duration::from_millis(200);
/// How often the server is told how far this is, if nothing changed.
const STATUS_EVERY: Duration = Duration::from_secs(5);
/// A server that says nothing for so long is asked whether it lives, and given up after as long again.
const SILENCE: Duration = Duration::from_secs(30);
/// How long a full disk is waited for between attempts.
const DISK_WAIT: Duration = Duration::from_secs(1);

/// Why receiving ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Somebody asked to stop.
    Stopped,
    /// The server is on another timeline from there on.
    Switched(Timeline, Lsn),
    /// The server ended it: it shuts down.
    Closed,
}

/// What is received by one connection.
pub struct Stream<'a> {
    /// The connection.
    pub connection: &'a mut Connection,
    /// What is told the other thread.
    pub shared: &'a Shared,
    /// Where it is written.
    pub writer: Writer<'a>,
    /// Bytes that may wait for the repository.
    pub limit: u64,
    /// Ends it.
    pub cancelled: &'a AtomicBool,
}

/// What is going on.
struct Course {
    timeline: Timeline,
    received: Lsn,
    synced: Lsn,
    last_sync: Instant,
    last_status: Instant,
    heard: Instant,
    asked: bool,
    told: Progress,
    /// What could not be written yet.
    pending: Option<(Lsn, Vec<u8>)>,
    retry: Instant,
}

impl Stream<'_> {
    /// Receives from `from` on, after the server has agreed to send.
    pub fn run(&mut self, timeline: Timeline, from: Lsn) -> Result<End> {
        let now = Instant::now();
        let mut course = Course {
            timeline,
            received: from,
            synced: from,
            last_sync: now,
            last_status: now - STATUS_EVERY,
            heard: now,
            asked: false,
            told: Progress::default(),
            pending: None,
            retry: now,
        };
        loop {
            if self.cancelled.load(Ordering::Relaxed) {
                self.leave(&mut course)?;
                return Ok(End::Stopped);
            }
            if let Some(error) = self.shared.change(|state| state.failure.take()) {
                return Err(error);
            }
            self.catch_up(&mut course)?;
            self.tell(&mut course)?;
            let waiting = self.shared.lock().durable;
            if course.pending.is_some() || course.received.since(waiting) > self.limit {
                // Not a word from the socket until there is room again; the server waits as well.
                self.shared.wait(TICK);
                course.heard = Instant::now();
                continue;
            }
            let event = match self.connection.event_until(Instant::now() + TICK) {
                // Told at the head of the loop, where what was received is stored first.
                Err(_) if self.cancelled.load(Ordering::Relaxed) => continue,
                other => other?,
            };
            match event {
                None => {
                    if course.heard.elapsed() > SILENCE * 2 {
                        let server = self.connection.server().to_string();
                        return Err(PostgresError::Lost {
                            server,
                            source: std::io::ErrorKind::TimedOut.into(),
                        }
                        .into());
                    }
                }
                Some(Event::Data(data)) => {
                    course.heard = Instant::now();
                    course.asked = false;
                    let Some(message) = Message::parse(data) else {
                        return Err(self.protocol("an unknown message in a stream of the log"));
                    };
                    match message {
                        Message::Log {
                            start,
                            server_end,
                            time,
                            bytes,
                        } => {
                            if start != course.received {
                                let why =
                                    format!("it sent the log from {start} on instead of {}", course.received);
                                return Err(self.protocol(&why));
                            }
                            let bytes = bytes.to_vec();
                            note(self.shared, server_end, time);
                            self.write(&mut course, start, bytes);
                        }
                        Message::Keepalive {
                            server_end,
                            time,
                            reply,
                        } => {
                            note(self.shared, server_end, time);
                            if reply {
                                course.last_status = Instant::now() - STATUS_EVERY;
                            }
                        }
                    }
                }
                Some(Event::CopyDone) => return self.switch(&mut course),
                Some(Event::Error(message)) => {
                    let server = self.connection.server().to_string();
                    return Err(PostgresError::Server { server, message }.into());
                }
                Some(Event::Complete(_) | Event::Ready) => {
                    self.finish(&mut course)?;
                    return Ok(End::Closed);
                }
                Some(_) => return Err(self.protocol("something else than a stream of the log")),
            }
        }
    }

    fn protocol(&self, why: &str) -> WalError {
        PostgresError::Protocol {
            server: self.connection.server().to_string(),
            why: why.to_string(),
        }
        .into()
    }

    /// Writes what came, or keeps it until there is room.
    fn write(&mut self, course: &mut Course, start: Lsn, bytes: Vec<u8>) {
        match self.writer.write(course.timeline, start, &bytes) {
            Ok(()) => {
                course.received = start.plus(bytes.len() as u64);
                let received = course.received;
                self.shared.change(|state| {
                    if let Some(stretch) = state.stretches.back_mut() {
                        stretch.received = received;
                    }
                });
            }
            Err(error) => {
                tracing::warn!("{error}. Nothing is lost: the server keeps the log; trying again");
                course.pending = Some((start, bytes));
                course.retry = Instant::now() + DISK_WAIT;
            }
        }
    }

    /// What is due besides receiving: writing again, making sure of the disk.
    fn catch_up(&mut self, course: &mut Course) -> Result<()> {
        if course.retry <= Instant::now()
            && let Some((start, bytes)) = course.pending.take()
        {
            self.write(course, start, bytes);
        }
        if course.synced < course.received && course.last_sync.elapsed() >= SYNC_EVERY {
            match self.writer.sync() {
                Ok(()) => {
                    course.synced = course.received;
                    self.shared.change(|state| state.written = course.received);
                }
                Err(error) => tracing::warn!("{error}; it is not told the server as written"),
            }
            course.last_sync = Instant::now();
        }
        Ok(())
    }

    /// Tells the server how far this is, if that changed or it is time.
    fn tell(&mut self, course: &mut Course) -> Result<()> {
        let progress = {
            let state = self.shared.lock();
            Progress {
                written: course.synced,
                durable: state.durable.min(course.received),
            }
        };
        let silent = course.heard.elapsed() > SILENCE && !course.asked;
        if progress != course.told || silent || course.last_status.elapsed() >= STATUS_EVERY {
            let message = status(progress, Timestamp::now(), silent);
            self.connection.put_copy_data(&message)?;
            course.told = progress;
            course.asked |= silent;
            course.last_status = Instant::now();
        }
        Ok(())
    }

    /// Nothing more will come: all of it must be on this machine's disk.
    fn finish(&mut self, course: &mut Course) -> Result<()> {
        if let Some((start, bytes)) = course.pending.take() {
            self.writer.write(course.timeline, start, &bytes)?;
        }
        self.writer.sync()
    }

    /// Ends it from this side, after the other thread has stored what there is.
    fn leave(&mut self, course: &mut Course) -> Result<()> {
        self.finish(course)?;
        self.shared.change(|state| state.ending = true);
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline && self.shared.lock().durable < course.received {
            if self.shared.lock().failure.is_some() {
                break;
            }
            self.shared.wait(TICK);
        }
        course.synced = course.received;
        self.tell(course)?;
        Ok(self.connection.put_copy_done()?)
    }

    /// The server has sent all of a timeline.
    fn switch(&mut self, course: &mut Course) -> Result<End> {
        self.finish(course)?;
        self.connection.put_copy_done()?;
        let mut results = Vec::new();
        self.connection.gather(&mut results)?;
        let next = results.iter().find_map(|set| {
            let row = set.first()?;
            let timeline = row.parse("next_tli")?;
            Some(End::Switched(Timeline(timeline), row.parse("next_tli_startpos")?))
        });
        Ok(next.unwrap_or(End::Closed))
    }
}

fn note(shared: &Shared, end: Lsn, time: Option<Timestamp>) {
    if let Some(time) = time {
        shared.change(|state| state.server = Some((end, time)));
    }
}
