//! Runs a server in this process until a signal ends it.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::config::Config;
use crate::error::{Result, ServerError};
use crate::server::Server;

/// What a server that listens says of itself.
#[derive(Debug, Clone)]
pub struct Listening {
    /// Where.
    pub addresses: Vec<SocketAddr>,
    /// SHA-256 of its certificate, for clients that cannot check it otherwise.
    pub fingerprint: String,
    /// Its datastores.
    pub datastores: Vec<String>,
}

/// Opens everything, calls `ready` when connections are taken, and serves until SIGTERM or SIGINT. SIGHUP has the certificate read
/// again.
///
/// # Errors
/// Something cannot be opened, or an address not be listened on.
pub fn serve(config: Config, ready: impl FnOnce(&Listening)) -> Result<()> {
    let system = |what: &'static str| move |error| ServerError::System(format!("{what}: {error}"));
    limit_arenas();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("relight")
        .build()
        .map_err(system("start the runtime"))?;
    let result = runtime.block_on(async {
        // Before anything that takes time: a signal while it is being started ends it, too.
        let mut terminate = signal(SignalKind::terminate()).map_err(system("listen for signals"))?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(system("listen for signals"))?;
        let mut hangup = signal(SignalKind::hangup()).map_err(system("listen for signals"))?;
        let datastores = config
            .repositories
            .iter()
            .map(|repository| repository.name.clone())
            .collect();
        let opening = tokio::task::spawn_blocking(|| Server::open(config));
        let mut server = tokio::select! {
            opened = opening => opened.map_err(|error| ServerError::System(format!("start: {error}")))??,
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        };
        let addresses = server.bind().await?;
        ready(&Listening {
            addresses,
            fingerprint: server.fingerprint(),
            datastores,
        });
        let stopper = server.stopper();
        let signals = tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => stopper.stop(),
                    _ = interrupt.recv() => stopper.stop(),
                    _ = hangup.recv() => match stopper.reload() {
                        Ok(()) => tracing::info!("the certificate was read again"),
                        Err(error) => tracing::error!("{error}; the one from before goes on being used"),
                    },
                }
            }
        });
        let result = server.run().await;
        signals.abort();
        result
    });
    // Threads that still wait for storage are not waited for.
    runtime.shutdown_timeout(Duration::from_secs(2));
    result
}

/// Keeps the process small: glibc gives up to eight heaps a processor to the threads, and each of them keeps the chunk
/// buffers that were freed in it. Requests here are few and large, so that threads hardly ever wait for each other in one of a
/// few (mallopt(3), M_ARENA_MAX). Whoever sets `MALLOC_ARENA_MAX` decides otherwise.
fn limit_arenas() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if std::env::var_os("MALLOC_ARENA_MAX").is_none() {
        // SAFETY: it takes two numbers and changes nothing but the allocator's settings.
        unsafe { libc::mallopt(libc::M_ARENA_MAX, MOST_ARENAS) };
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MOST_ARENAS: libc::c_int = 4;
