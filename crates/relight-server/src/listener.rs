//! Takes connections: limits, TLS, and plain HTTP that is sent to https.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use relight_pbs::service::http::{HttpService, is_tls, redirect};
use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::error::{Result, ServerError};

/// How long a client may take for its first byte and for the handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long what was sent may go unacknowledged before the connection counts as dead.
const UNACKNOWLEDGED: u32 = 120_000;

/// Listens at an address.
pub(crate) async fn bind(address: &str) -> Result<Vec<TcpListener>> {
    let failed = |source| ServerError::Listen {
        address: address.to_string(),
        source,
    };
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host(address).await.map_err(failed)?.collect();
    let mut listeners = Vec::new();
    for one in addresses {
        let listener = match TcpListener::bind(one).await {
            // A host without IPv6.
            Err(error) if is_no_ipv6(&error) && one.ip() == IpAddr::from([0u16; 8]) => {
                TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], one.port()))).await
            }
            other => other,
        };
        listeners.push(listener.map_err(failed)?);
    }
    Ok(listeners)
}

fn is_no_ipv6(error: &std::io::Error) -> bool {
    [rustix::io::Errno::AFNOSUPPORT, rustix::io::Errno::ADDRNOTAVAIL]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// What all listeners share.
pub(crate) struct Gatehouse {
    pub(crate) service: Arc<HttpService>,
    pub(crate) tls: TlsAcceptor,
    slots: Arc<Semaphore>,
    per_address: usize,
    addresses: Mutex<HashMap<IpAddr, usize>>,
}

/// A place among the connections; given back when it is dropped.
struct Slot {
    house: Arc<Gatehouse>,
    ip: IpAddr,
    _slot: OwnedSemaphorePermit,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut addresses = self
            .house
            .addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = addresses.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                addresses.remove(&self.ip);
            }
        }
    }
}

impl Gatehouse {
    pub(crate) fn new(
        service: Arc<HttpService>,
        tls: TlsAcceptor,
        all: usize,
        per_address: usize,
    ) -> Arc<Self> {
        Arc::new(Self {
            service,
            tls,
            slots: Arc::new(Semaphore::new(all.min(Semaphore::MAX_PERMITS))),
            per_address,
            addresses: Mutex::default(),
        })
    }

    fn slot(self: &Arc<Self>, ip: IpAddr) -> Option<Slot> {
        let slot = self.slots.clone().try_acquire_owned().ok()?;
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let count = addresses.entry(ip).or_insert(0);
        if *count >= self.per_address {
            return None;
        }
        *count += 1;
        Some(Slot {
            house: self.clone(),
            ip,
            _slot: slot,
        })
    }

    /// Takes connections until told to stop.
    pub(crate) async fn listen(self: Arc<Self>, listener: TcpListener, mut stop: watch::Receiver<bool>) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let Some(slot) = self.slot(peer.ip().to_canonical()) else {
                        // Closed without a word: a word would cost a handshake.
                        tracing::warn!(%peer, "too many connections; this one is not taken");
                        continue;
                    };
                    let house = self.clone();
                    tokio::spawn(async move {
                        house.connection(stream, peer).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    // Mostly: no file descriptors are left. Some will be.
                    tracing::warn!("accept a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn connection(&self, stream: TcpStream, peer: SocketAddr) {
        let _ = stream.set_nodelay(true);
        let _ = sockopt::set_socket_keepalive(&stream, true);
        let _ = sockopt::set_tcp_keepidle(&stream, Duration::from_secs(60));
        let _ = sockopt::set_tcp_keepintvl(&stream, Duration::from_secs(20));
        let _ = sockopt::set_tcp_keepcnt(&stream, 4);
        let _ = sockopt::set_tcp_user_timeout(&stream, UNACKNOWLEDGED);
        let mut first = [0];
        match timeout(HANDSHAKE, stream.peek(&mut first)).await {
            Ok(Ok(1)) => {}
            _ => return,
        }
        if !is_tls(first[0]) {
            return redirect(stream, HANDSHAKE).await;
        }
        match timeout(HANDSHAKE, self.tls.accept(stream)).await {
            Ok(Ok(stream)) => self.service.serve(stream, Some(peer)).await,
            Ok(Err(error)) => tracing::debug!(%peer, "TLS: {error}"),
            Err(_) => tracing::debug!(%peer, "TLS: the handshake takes too long"),
        }
    }
}
