//! The byte stream to a server: TCP, TLS over TCP, or a Unix socket.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustls::{ClientConnection, StreamOwned};

use super::settings::{Host, Settings};
use super::tls;
use crate::error::{PostgresError, Result};

/// What asks for TLS in place of a startup message (documentation of PostgreSQL, "Message Formats", SSLRequest).
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// A byte stream to a server.
pub(crate) enum Socket {
    /// In clear over TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
    /// TLS over TCP.
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// How one attempt to connect treats encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encryption {
    /// None.
    Plain,
    /// If the server offers it.
    IfOffered,
    /// Always.
    Required,
}

impl Socket {
    /// How long a read waits before it gives [`io::ErrorKind::WouldBlock`].
    pub fn set_read_timeout(&self, timeout: Duration) -> io::Result<()> {
        let timeout = Some(timeout.max(Duration::from_millis(1)));
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(timeout),
            Self::Unix(stream) => stream.set_read_timeout(timeout),
            Self::Tls(stream) => stream.sock.set_read_timeout(timeout),
        }
    }

    /// What a log-in is bound to: none if it is not encrypted, or the server's certificate is of a kind that nothing can be
    /// bound to.
    pub fn binding(&self) -> Option<Vec<u8>> {
        let Self::Tls(stream) = self else { return None };
        super::endpoint::binding(stream.conn.peer_certificates()?.first()?)
    }

    /// Whether it is encrypted.
    pub fn is_encrypted(&self) -> bool {
        matches!(self, Self::Tls(_))
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.flush(),
            Self::Unix(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// Opens a stream to one place.
pub(crate) fn open(settings: &Settings, host: &Host, port: u16, encryption: Encryption) -> Result<Socket> {
    let server = name(host, port);
    let failed = |error: io::Error| PostgresError::Connect {
        server: server.clone(),
        why: error.to_string(),
    };
    let deadline = Instant::now() + settings.connect_timeout;
    let (name, mut stream) = match host {
        Host::Socket(directory) => {
            let path = directory.join(format!(".s.PGSQL.{port}"));
            return UnixStream::connect(path).map(Socket::Unix).map_err(failed);
        }
        Host::Tcp { name, address } => {
            let address = address.as_deref().unwrap_or(name);
            (name, connect(address, port, deadline).map_err(failed)?)
        }
    };
    stream.set_nodelay(true).map_err(failed)?;
    keep_alive(&stream).map_err(|error| failed(error.into()))?;
    if encryption == Encryption::Plain {
        return Ok(Socket::Tcp(stream));
    }
    let remaining = deadline.saturating_duration_since(Instant::now());
    stream
        .set_read_timeout(Some(remaining.max(Duration::from_millis(1))))
        .map_err(failed)?;
    let mut answer = [0];
    stream
        .write_all(&SSL_REQUEST)
        .and_then(|()| stream.read_exact(&mut answer))
        .map_err(failed)?;
    match answer {
        [b'S'] => {}
        [b'N'] if encryption == Encryption::IfOffered => return Ok(Socket::Tcp(stream)),
        [b'N'] => {
            return Err(PostgresError::Connect {
                server,
                why: "it does not offer TLS: turn `ssl` on there, or choose another sslmode".into(),
            });
        }
        // An error message of a server that is too old or too busy for the request.
        _ => {
            return Err(PostgresError::Connect {
                server,
                why: "it refused to talk about TLS: it may be starting, stopping, or no PostgreSQL server"
                    .into(),
            });
        }
    }
    let mut session = tls::session(settings, name, &server)?;
    while session.is_handshaking() {
        session
            .complete_io(&mut stream)
            .map_err(|error| PostgresError::Connect {
                server: server.clone(),
                why: format!("TLS: {error}"),
            })?;
    }
    Ok(Socket::Tls(Box::new(StreamOwned::new(session, stream))))
}

/// Has the system notice that the other side is gone, also while nothing is to be said for hours.
fn keep_alive(stream: &TcpStream) -> rustix::io::Result<()> {
    use rustix::net::sockopt;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(60))?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(10))?;
    sockopt::set_tcp_keepcnt(stream, 6)
}

/// How a place is called in messages.
pub(crate) fn name(host: &Host, port: u16) -> String {
    format!("{host}:{port}")
}

fn connect(address: &str, port: u16, deadline: Instant) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in (address, port).to_socket_addrs()? {
        let remaining = deadline.saturating_duration_since(Instant::now());
        if remaining.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match TcpStream::connect_timeout(&address, remaining) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}
