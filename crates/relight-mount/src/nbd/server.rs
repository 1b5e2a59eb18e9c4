//! Takes connections.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::address::{Address, Listener};
use super::export::Export;
use super::negotiate::negotiate;
use super::peer::Peer;
use super::transmit::{Budget, transmit};
use crate::content::Image;
use crate::error::{MountError, Result};

/// Connections at the same time.
const CONNECTIONS: usize = 64;
/// How often it is looked whether to stop.
const POLL: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// Offers an image as a block device.
pub struct Server {
    listener: Listener,
    address: Address,
    export: Export,
    budget: Budget,
    connections: Mutex<HashMap<u64, Arc<Peer>>>,
}

impl Server {
    /// Begins to listen; clients are served by [`Server::run`].
    pub fn bind(image: Image, address: &Address) -> Result<Self> {
        let listener = Listener::bind(address)?;
        let failed = |source| MountError::Network {
            action: "listen on",
            address: address.to_string(),
            source,
        };
        let address = listener.address().map_err(failed)?;
        Ok(Self {
            listener,
            address,
            export: Export::new(image),
            budget: Budget::default(),
            connections: Mutex::default(),
        })
    }

    /// Where it listens, with the port that was chosen if 0 was given.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Serves clients until `stop` becomes true; then all are cut off.
    pub fn run(&self, stop: &AtomicBool) -> Result<()> {
        std::thread::scope(|scope| {
            let mut number = 0;
            let mut full = false;
            let ended = loop {
                if stop.load(Ordering::Relaxed) {
                    break Ok(());
                }
                if let Err(source) = self.wait() {
                    break Err(source);
                }
                let peer = match self.listener.accept() {
                    Ok(peer) => Arc::new(peer),
                    // Nobody there, or gone already.
                    Err(error) if is_passing(&error) => continue,
                    Err(error) => {
                        // Out of descriptors, say: it gets better when somebody leaves.
                        tracing::warn!("cannot take a connection on {}: {error}", self.address);
                        std::thread::sleep(std::time::Duration::from_millis(200));
                        continue;
                    }
                };
                if self.lock().len() >= CONNECTIONS {
                    if !std::mem::replace(&mut full, true) {
                        tracing::warn!(
                            "{CONNECTIONS} clients are connected to {}; more are turned away",
                            self.address
                        );
                    }
                    continue;
                }
                full = false;
                number += 1;
                self.lock().insert(number, peer.clone());
                let serve = move || {
                    if let Err(error) = self.serve(&peer) {
                        tracing::debug!("a client of {} was cut off: {error}", self.address);
                    }
                    peer.close();
                    self.lock().remove(&number);
                };
                if std::thread::Builder::new().spawn_scoped(scope, serve).is_err() {
                    self.lock().remove(&number);
                }
            };
            self.lock().values().for_each(|peer| peer.close());
            ended.map_err(|source| MountError::Network {
                action: "listen on",
                address: self.address.to_string(),
                source,
            })
        })
    }

    fn serve(&self, peer: &Peer) -> io::Result<()> {
        peer.prepare()?;
        match negotiate(peer, &self.export)? {
            Some(agreed) => transmit(peer, &self.export, agreed, &self.budget),
            None => Ok(()),
        }
    }

    /// Waits a moment for a connection.
    fn wait(&self) -> io::Result<()> {
        let fd = match &self.listener {
            Listener::Unix(socket, _) => socket.as_fd(),
            Listener::Tcp(socket) => socket.as_fd(),
        };
        match rustix::event::poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], Some(&POLL)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Peer>>> {
        self.connections
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, WouldBlock};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionReset | Interrupted | WouldBlock
    )
}
