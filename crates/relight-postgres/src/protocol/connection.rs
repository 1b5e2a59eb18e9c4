//! A connection to a server.

mod opening;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use relight_repo::RepoError;

use super::inbox::{Found, Inbox};
use super::query::{Event, ResultSet, columns, row};
use super::server_message::ServerMessage;
use crate::connect::{Host, Settings, Socket};
use crate::error::{PostgresError, Result};

/// Takes the place of the version in a request to cancel.
const CANCEL_REQUEST: u32 = 80_877_102;
/// How often a wait looks whether somebody asked to stop.
const TICK: Duration = Duration::from_millis(200);

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Queries of a database.
    Queries,
    /// Physical replication: base backups and streaming of the log.
    Replication,
}

/// A connection to a server, which has accepted the log-in.
pub struct Connection {
    socket: Socket,
    inbox: Inbox,
    server: String,
    place: (Host, u16),
    parameters: BTreeMap<String, String>,
    key: Option<(u32, Vec<u8>)>,
    cancelled: Option<Arc<AtomicBool>>,
    /// A query was sent and the server has not said that it is ready for another.
    busy: bool,
    lost: bool,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// Host and port, or the socket, for messages.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Settings for further connections to the server that this one reached.
    pub fn same_server(&self, settings: &Settings) -> Settings {
        settings.at(&self.place.0, self.place.1)
    }

    /// Whether the server is on this host, as far as the address tells: a Unix socket or loopback.
    pub fn is_local(&self) -> bool {
        is_loopback(&self.place.0)
    }

    /// Whether it is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.socket.is_encrypted()
    }

    /// A parameter that the server reported, such as `server_version` or `in_hot_standby`.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    /// The major version: 17 of `17.11`.
    pub fn major_version(&self) -> Result<u32> {
        let version = self.parameter("server_version").unwrap_or_default();
        let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
        digits
            .parse()
            .map_err(|_| self.protocol(format!("it says that its version is {version:?}")))
    }

    /// Every wait ends soon after this becomes true.
    pub fn set_cancelled(&mut self, cancelled: Arc<AtomicBool>) {
        self.cancelled = Some(cancelled);
    }

    /// Runs queries and gathers their results.
    ///
    /// # Errors
    /// [`PostgresError::Server`], after which the connection can be used again unless the server ended it.
    pub fn query(&mut self, sql: &str) -> Result<Vec<ResultSet>> {
        self.send_query(sql)?;
        let mut results = Vec::new();
        self.gather(&mut results)?;
        Ok(results)
    }

    /// Gathers results until the server is ready for the next query.
    pub fn gather(&mut self, results: &mut Vec<ResultSet>) -> Result<()> {
        let mut failure = None;
        loop {
            match self.event()? {
                Event::Columns(columns) => results.push(ResultSet {
                    columns,
                    rows: Vec::new(),
                }),
                Event::Row(values) => match results.last_mut() {
                    Some(set) => set.rows.push(values),
                    None => return Err(self.protocol("a row came before its columns".into())),
                },
                Event::Error(message) => {
                    failure.get_or_insert(message);
                }
                Event::Ready => {
                    return match failure {
                        Some(message) => Err(self.refused(message)),
                        None => Ok(()),
                    };
                }
                Event::CopyIn => {
                    // Nobody asked for it here.
                    self.send(b'f', b"no data\0")?;
                }
                Event::CopyOut | Event::CopyBoth | Event::Data(_) | Event::CopyDone | Event::Complete(_) => {}
            }
        }
    }

    /// Runs queries and gives the first result set, which is empty if there is none.
    pub fn rows(&mut self, sql: &str) -> Result<ResultSet> {
        Ok(self.query(sql)?.into_iter().next().unwrap_or_default())
    }

    /// Runs a query that gives one value.
    pub fn value(&mut self, sql: &str) -> Result<String> {
        let set = self.rows(sql)?;
        match set.value() {
            Some(value) => Ok(value.to_string()),
            None => Err(self.protocol(format!("it gave no value for {sql}"))),
        }
    }

    /// Sends a query; what comes back is told by [`Self::event`].
    pub fn send_query(&mut self, sql: &str) -> Result<()> {
        if sql.contains('\0') {
            return Err(PostgresError::Refused("a query has a zero byte".into()));
        }
        self.busy = true;
        let mut body = sql.as_bytes().to_vec();
        body.push(0);
        self.send(b'Q', &body)
    }

    /// Sends data that the server waits for.
    pub fn put_copy_data(&mut self, data: &[u8]) -> Result<()> {
        self.send(b'd', data)
    }

    /// Says that there will be no more data.
    pub fn put_copy_done(&mut self) -> Result<()> {
        self.send(b'c', &[])
    }

    /// Waits for the next thing that the server says.
    pub fn event(&mut self) -> Result<Event<'_>> {
        match self.find_event(None)? {
            Some(found) => self.decode(&found),
            None => Err(self.broken(io::ErrorKind::TimedOut.into())),
        }
    }

    /// Waits at most until `deadline`; none if nothing came by then. What has arrived already is given even after it.
    pub fn event_until(&mut self, deadline: Instant) -> Result<Option<Event<'_>>> {
        match self.find_event(Some(deadline))? {
            Some(found) => self.decode(&found).map(Some),
            None => Ok(None),
        }
    }

    fn find_event(&mut self, deadline: Option<Instant>) -> Result<Option<Found>> {
        loop {
            let Some(found) = self.receive(deadline)? else {
                return Ok(None);
            };
            // Answers of the extended protocol, which is not used, and an empty query.
            if !matches!(found.kind, b'I' | b'K' | b'1' | b'2' | b'n') {
                return Ok(Some(found));
            }
        }
    }

    fn decode(&mut self, found: &Found) -> Result<Event<'_>> {
        match found.kind {
            b'Z' => self.busy = false,
            b'E' => {
                let message = ServerMessage::parse(self.inbox.body(found));
                if matches!(message.severity.as_str(), "FATAL" | "PANIC") {
                    self.lost = true;
                    return Err(self.refused(Box::new(message)));
                }
            }
            _ => {}
        }
        let body = self.inbox.body(found);
        let cut_off = || PostgresError::Protocol {
            server: self.server.clone(),
            why: "a message is cut off".into(),
        };
        Ok(match found.kind {
            b'd' => Event::Data(body),
            b'T' => Event::Columns(columns(body).ok_or_else(cut_off)?),
            b'D' => Event::Row(row(body).ok_or_else(cut_off)?),
            b'G' => Event::CopyIn,
            b'H' => Event::CopyOut,
            b'W' => Event::CopyBoth,
            b'c' => Event::CopyDone,
            b'C' => {
                let tag = body.split(|&byte| byte == 0).next().unwrap_or_default();
                Event::Complete(String::from_utf8_lossy(tag).into_owned())
            }
            b'E' => Event::Error(Box::new(ServerMessage::parse(body))),
            b'Z' => Event::Ready,
            kind => return Err(self.unexpected(kind)),
        })
    }

    /// The next message that is not just for information; none if none came before the deadline.
    fn receive(&mut self, deadline: Option<Instant>) -> Result<Option<Found>> {
        loop {
            match self.inbox.take() {
                Ok(Some(found)) => match found.kind {
                    b'S' => self.take_parameter(&found),
                    b'N' => {
                        let notice = ServerMessage::parse(self.inbox.body(&found));
                        tracing::debug!("{}: {notice}", self.server);
                    }
                    b'A' => {}
                    _ => return Ok(Some(found)),
                },
                Ok(None) => {
                    if !self.receive_more(deadline)? {
                        return Ok(None);
                    }
                }
                Err(why) => return Err(self.protocol(why)),
            }
        }
    }

    /// False if nothing came before the deadline.
    fn receive_more(&mut self, deadline: Option<Instant>) -> Result<bool> {
        loop {
            if self.is_cancelled() {
                return Err(RepoError::Cancelled.into());
            }
            let remaining = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if remaining.is_some_and(|remaining| remaining < TICK) {
                let short = remaining.unwrap_or_default();
                self.set_timeout(short)?;
            }
            let received = self.inbox.receive(&mut self.socket);
            if remaining.is_some_and(|remaining| remaining < TICK) {
                self.set_timeout(TICK)?;
            }
            match received {
                Ok(0) => return Err(self.broken(io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => return Ok(true),
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                            return Ok(false);
                        }
                    }
                    _ => return Err(self.broken(error)),
                },
            }
        }
    }

    fn set_timeout(&mut self, timeout: Duration) -> Result<()> {
        self.socket
            .set_read_timeout(timeout)
            .map_err(|source| self.broken(source))
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled
            .as_ref()
            .is_some_and(|cancelled| cancelled.load(Ordering::Relaxed))
    }

    fn take_parameter(&mut self, found: &Found) {
        let mut parts = self.inbox.body(found).split(|&byte| byte == 0);
        if let (Some(name), Some(value)) = (parts.next(), parts.next()) {
            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
            self.parameters.insert(text(name), text(value));
        }
    }

    fn send(&mut self, kind: u8, body: &[u8]) -> Result<()> {
        let Some(length) = u32::try_from(body.len() + 4)
            .ok()
            .filter(|&length| length < 1 << 30)
        else {
            return Err(PostgresError::Refused("a message is too long to be sent".into()));
        };
        let mut message = Vec::with_capacity(body.len() + 5);
        message.push(kind);
        message.extend(length.to_be_bytes());
        message.extend(body);
        self.write(&message)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.socket.write_all(bytes).and_then(|()| self.socket.flush());
        match written {
            Ok(()) => Ok(()),
            Err(source) => {
                // Servers say why before they hang up.
                if let Ok(Some(found)) = self.receive(Some(Instant::now() + TICK))
                    && found.kind == b'E'
                {
                    let message = ServerMessage::parse(self.inbox.body(&found));
                    self.lost = true;
                    return Err(self.refused(Box::new(message)));
                }
                Err(self.broken(source))
            }
        }
    }

    /// An error that the server told.
    pub(crate) fn refused(&self, message: Box<ServerMessage>) -> PostgresError {
        PostgresError::Server {
            server: self.server.clone(),
            message,
        }
    }

    /// Something that the server should not have done.
    pub(crate) fn protocol(&self, why: String) -> PostgresError {
        PostgresError::Protocol {
            server: self.server.clone(),
            why,
        }
    }

    fn unexpected(&self, kind: u8) -> PostgresError {
        self.protocol(format!(
            "a message of kind {:?} came when none was expected",
            char::from(kind)
        ))
    }

    fn broken(&mut self, source: io::Error) -> PostgresError {
        self.lost = true;
        PostgresError::Lost {
            server: self.server.clone(),
            source,
        }
    }

    /// Asks the server to break off what this connection has it do. Over a connection of its own; that it came through is
    /// not told.
    fn break_off(&self) {
        let Some((pid, key)) = &self.key else { return };
        let mut message = (12 + key.len() as u32).to_be_bytes().to_vec();
        message.extend(CANCEL_REQUEST.to_be_bytes());
        message.extend(pid.to_be_bytes());
        message.extend(key);
        let (host, port) = &self.place;
        match host {
            Host::Socket(directory) => {
                if let Ok(mut stream) = UnixStream::connect(directory.join(format!(".s.PGSQL.{port}"))) {
                    let _ = stream.write_all(&message);
                }
            }
            Host::Tcp { .. } => {
                let peer = match &self.socket {
                    Socket::Tcp(stream) => stream.peer_addr(),
                    Socket::Tls(stream) => stream.sock.peer_addr(),
                    Socket::Unix(_) => return,
                };
                let Ok(peer) = peer else { return };
                if let Ok(mut stream) = TcpStream::connect_timeout(&peer, Duration::from_secs(2)) {
                    let _ = stream.write_all(&message);
                }
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.lost {
            return;
        }
        if self.busy {
            self.break_off();
        }
        // Terminate.
        let _ = self.socket.write_all(&[b'X', 0, 0, 0, 4]);
        let _ = self.socket.flush();
    }
}

fn is_loopback(host: &Host) -> bool {
    match host {
        Host::Socket(_) => true,
        Host::Tcp { name, address } => {
            let place = address.as_deref().unwrap_or(name);
            place == "localhost"
                || place
                    .parse::<std::net::IpAddr>()
                    .is_ok_and(|address| address.is_loopback())
        }
    }
}
