//! Saves the server's state again and again, soon after it has changed.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use relight_pbs::service::datastore::Datastore;

use super::save::Own;
use crate::config::Config;
use crate::error::{Result, ServerError};
use crate::state::State;

/// How often it is looked whether something has changed.
const LOOK: Duration = Duration::from_secs(60);
/// A backup is made this long after the one before at the earliest.
const APART: Duration = Duration::from_secs(15 * 60);

/// Keeps backups of the server's state up to date.
pub(crate) struct Keeper {
    thread: Mutex<Option<(Sender<()>, JoinHandle<()>)>>,
}

struct Work {
    config: Config,
    state: Arc<State>,
    node: String,
    datastores: Vec<Arc<Datastore>>,
}

impl Keeper {
    /// Starts to.
    pub fn start(
        config: &Config,
        state: &Arc<State>,
        node: &str,
        datastores: Vec<Arc<Datastore>>,
    ) -> Result<Self> {
        let work = Work {
            config: config.clone(),
            state: state.clone(),
            node: node.to_string(),
            datastores,
        };
        let (stop, stopped) = channel();
        let run = move || {
            let mut last: Option<Instant> = None;
            loop {
                let ended = match stopped.recv_timeout(LOOK) {
                    Err(RecvTimeoutError::Timeout) => false,
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => true,
                };
                if ended || last.is_none_or(|last| last.elapsed() >= APART) {
                    work.save_where_changed();
                    last = Some(Instant::now());
                }
                if ended {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("own-backup".into()).spawn(run);
        let thread = thread.map_err(|error| ServerError::System(format!("start a thread: {error}")))?;
        Ok(Self {
            thread: Mutex::new(Some((stop, thread))),
        })
    }

    /// Saves once more if something has changed, and ends.
    pub fn close(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((stop, thread)) = thread {
            drop(stop);
            let _ = thread.join();
        }
    }
}

impl Work {
    fn save_where_changed(&self) {
        let own = Own {
            config: &self.config,
            state: &self.state,
            node: &self.node,
        };
        for datastore in &self.datastores {
            let repository = datastore.repository();
            // Everything that changes the state leaves evidence.
            let changed = || Ok(own.last(&repository)? != Some(self.state.evidence_head()?));
            let saved: Result<()> = changed().and_then(|changed| match changed {
                true => own.save(&repository).map(drop),
                false => Ok(()),
            });
            if let Err(error) = saved {
                tracing::error!("{error}; into the repository {}", datastore.name());
            }
        }
    }
}
