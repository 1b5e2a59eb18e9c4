//! Saves the server's state again and again, soon after it has changed.

use std::collections::HashMap;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use relight_pbs::service::datastore::Datastore;
use relight_repo::Repository;

use super::save::Own;
use crate::config::Config;
use crate::error::{Result, ServerError};
use crate::evidence::Head;
use crate::state::State;

/// How often it is looked whether something has changed.
const LOOK: Duration = Duration::from_secs(60);
/// A backup is made this long after the one before at the earliest.
const APART: Duration = Duration::from_secs(15 * 60);
/// How often old ones are forgotten: for that all manifests of the repository are read.
const THIN_OUT: Duration = Duration::from_secs(24 * 60 * 60);

/// Keeps backups of the server's state up to date.
pub(crate) struct Keeper {
    thread: Mutex<Option<(Sender<()>, JoinHandle<()>)>>,
}

/// What is known of the backups in a repository.
struct Saved {
    /// What the newest one notes.
    head: Option<Head>,
    thinned_out: Option<Instant>,
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
            let mut saved = HashMap::new();
            loop {
                let ended = match stopped.recv_timeout(LOOK) {
                    Err(RecvTimeoutError::Timeout) => false,
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => true,
                };
                if ended || last.is_none_or(|last| last.elapsed() >= APART) {
                    work.save_where_changed(&mut saved);
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
    fn save_where_changed(&self, saved: &mut HashMap<String, Saved>) {
        let own = Own {
            config: &self.config,
            state: &self.state,
            node: &self.node,
        };
        for datastore in &self.datastores {
            // A list notices that the keyring has changed: from then on everything is sealed under the new key.
            let result = datastore
                .list()
                .map_err(|error| ServerError::System(error.to_string()));
            let result =
                result.and_then(|_| self.save(&own, &datastore.repository(), datastore.name(), saved));
            if let Err(error) = result {
                tracing::error!("{error}; into the repository {}", datastore.name());
            }
        }
    }

    fn save(
        &self,
        own: &Own<'_>,
        repository: &Arc<Repository>,
        name: &str,
        saved: &mut HashMap<String, Saved>,
    ) -> Result<()> {
        if !saved.contains_key(name) {
            let known = Saved {
                head: own.last(repository)?,
                thinned_out: None,
            };
            saved.insert(name.to_string(), known);
        }
        let Some(known) = saved.get_mut(name) else {
            return Ok(());
        };
        // Everything that changes the state leaves evidence.
        if known.head.as_ref() == Some(&self.state.evidence_head()?) {
            return Ok(());
        }
        known.head = Some(own.save(repository)?);
        if known.thinned_out.is_none_or(|since| since.elapsed() >= THIN_OUT) {
            own.thin_out(repository)?;
            known.thinned_out = Some(Instant::now());
        }
        Ok(())
    }
}
