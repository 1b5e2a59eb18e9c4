//! Where a block device is offered: `unix:PATH` or `tcp:127.0.0.1:PORT`.

use std::fmt;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::peer::Peer;
use crate::error::{MountError, Result};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 64;

/// Where a block device is offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A socket in the file system, which only its owner may use.
    Unix(PathBuf),
    /// A port of this host. The protocol has no log-in, so that no other host is let in: reach it through `ssh -L`.
    Tcp(SocketAddr),
}

impl FromStr for Address {
    type Err = MountError;

    fn from_str(text: &str) -> Result<Self> {
        let refuse = |why: &str| MountError::Address {
            address: text.to_string(),
            why: why.to_string(),
        };
        if let Some(path) = text.strip_prefix("unix:") {
            if path.is_empty() {
                return Err(refuse("give the path of the socket, as in unix:/run/disk.sock"));
            }
            return Ok(Self::Unix(path.into()));
        }
        let Some(address) = text.strip_prefix("tcp:") else {
            return Err(refuse("write unix:PATH or tcp:127.0.0.1:PORT"));
        };
        let address = address.replace("localhost:", "127.0.0.1:");
        let address: SocketAddr = address
            .parse()
            .map_err(|_| refuse("write an address of this host and a port, as in tcp:127.0.0.1:10809"))?;
        if !address.ip().is_loopback() {
            let why = "NBD has no log-in, so that the image would be open to the whole network: use 127.0.0.1 and \
                       reach it from elsewhere through `ssh -L`";
            return Err(refuse(why));
        }
        Ok(Self::Tcp(address))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(out, "unix:{}", path.display()),
            Self::Tcp(address) => write!(out, "tcp:{address}"),
        }
    }
}

impl Address {
    /// The address as clients write it.
    pub fn uri(&self) -> String {
        match self {
            Self::Unix(path) => format!("nbd+unix:///?socket={}", path.display()),
            Self::Tcp(address) => format!("nbd://{address}"),
        }
    }
}

/// A socket that is listened on. One in the file system is removed with this.
#[derive(Debug)]
pub enum Listener {
    /// In the file system.
    Unix(UnixListener, PathBuf),
    /// A port.
    Tcp(TcpListener),
}

impl Listener {
    /// Listens at an address.
    pub fn bind(address: &Address) -> Result<Self> {
        let failed = |source| MountError::Network {
            action: "listen on",
            address: address.to_string(),
            source,
        };
        let listener = match address {
            Address::Tcp(tcp) => Self::Tcp(TcpListener::bind(tcp).map_err(failed)?),
            Address::Unix(path) => {
                remove_dead(path, address)?;
                Self::Unix(bind_unix(path).map_err(failed)?, path.clone())
            }
        };
        match &listener {
            Self::Unix(socket, _) => socket.set_nonblocking(true),
            Self::Tcp(socket) => socket.set_nonblocking(true),
        }
        .map_err(failed)?;
        Ok(listener)
    }

    /// Where it listens, with the port that was chosen if none was given.
    pub fn address(&self) -> io::Result<Address> {
        match self {
            Self::Unix(_, path) => Ok(Address::Unix(path.clone())),
            Self::Tcp(socket) => socket.local_addr().map(Address::Tcp),
        }
    }

    /// The next connection; [`io::ErrorKind::WouldBlock`] if there is none.
    pub fn accept(&self) -> io::Result<Peer> {
        match self {
            Self::Unix(socket, _) => socket.accept().map(|(stream, _)| Peer::Unix(stream)),
            Self::Tcp(socket) => socket.accept().map(|(stream, _)| Peer::Tcp(stream)),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            let _ = fs::remove_file(path);
        }
    }
}

/// Removes a socket on which nobody listens any more; anything else in its place is left alone.
fn remove_dead(path: &Path, address: &Address) -> Result<()> {
    let refuse = |why: &str| MountError::Address {
        address: address.to_string(),
        why: why.to_string(),
    };
    match fs::symlink_metadata(path) {
        Err(_) => return Ok(()),
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(refuse("there is something else already; choose another path"));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            let _ = fs::remove_file(path);
            Ok(())
        }
        Ok(_) => Err(refuse("another program listens there; choose another path")),
        Err(error) => Err(refuse(&error.to_string())),
    }
}

/// A socket that nobody but its owner can use at any moment: it takes connections only after its mode was set.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_others_than_this_host_refused() {
        assert_eq!(
            "unix:/run/x".parse::<Address>().unwrap(),
            Address::Unix("/run/x".into())
        );
        assert_eq!(
            "tcp:127.0.0.1:10809".parse::<Address>().unwrap().to_string(),
            "tcp:127.0.0.1:10809"
        );
        assert_eq!("tcp:[::1]:0".parse::<Address>().unwrap().uri(), "nbd://[::1]:0");
        assert!("tcp:localhost:1".parse::<Address>().is_ok());
        for refused in [
            "",
            "unix:",
            "tcp:",
            "tcp:127.0.0.1",
            "tcp:0.0.0.0:1",
            "tcp:10.0.0.1:1",
            "/run/x",
        ] {
            assert!(refused.parse::<Address>().is_err(), "{refused}");
        }
    }

    #[test]
    fn a_socket_is_private_and_a_dead_one_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let address = Address::Unix(directory.path().join("s"));
        let listener = Listener::bind(&address).unwrap();
        let Address::Unix(path) = &address else { panic!() };
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(Listener::bind(&address).is_err(), "it is in use");
        // As if the program had been killed.
        std::mem::forget(UnixListener::bind(directory.path().join("dead")).map(drop));
        drop(Listener::bind(&Address::Unix(directory.path().join("dead"))).unwrap());
        drop(listener);
        assert!(!path.exists());
        fs::write(path, "x").unwrap();
        assert!(Listener::bind(&address).is_err());
        assert_eq!(fs::read(path).unwrap(), b"x");
    }
}
