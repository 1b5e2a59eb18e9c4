//! A connection, of whatever kind of socket.

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// A peer that does not take what it asked for in this time is given up.
const WRITE_TIME: Duration = Duration::from_secs(60);

/// A connection.
#[derive(Debug)]
pub enum Peer {
    /// Through the file system.
    Unix(UnixStream),
    /// Through a port.
    Tcp(TcpStream),
}

impl Peer {
    /// Prepares a connection that was just accepted.
    pub fn prepare(&self) -> io::Result<()> {
        match self {
            Self::Unix(stream) => {
                stream.set_nonblocking(false)?;
                stream.set_write_timeout(Some(WRITE_TIME))
            }
            Self::Tcp(stream) => {
                stream.set_nonblocking(false)?;
                stream.set_nodelay(true)?;
                stream.set_write_timeout(Some(WRITE_TIME))
            }
        }
    }

    /// How long a read may wait; none is for ever.
    pub fn set_read_timeout(&self, time: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.set_read_timeout(time),
            Self::Tcp(stream) => stream.set_read_timeout(time),
        }
    }

    /// Ends the connection in both directions; whoever reads or writes on it is woken.
    pub fn close(&self) {
        let _ = match self {
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
        };
    }

    /// Sends all of these bytes.
    pub fn send(&self, head: &[u8], body: &[u8]) -> io::Result<()> {
        let mut slices = [IoSlice::new(head), IoSlice::new(body)];
        let mut rest = &mut slices[..];
        while rest.iter().any(|slice| !slice.is_empty()) {
            let written = match self {
                Self::Unix(stream) => (&*stream).write_vectored(rest),
                Self::Tcp(stream) => (&*stream).write_vectored(rest),
            };
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => IoSlice::advance_slices(&mut rest, count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Read for &Peer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Peer::Unix(stream) => (&*stream).read(buffer),
            Peer::Tcp(stream) => (&*stream).read(buffer),
        }
    }
}
