//! Running writers announce themselves in storage, so that a collection knows whom to wait for.
//!
//! An announcement is renewed every minute. A collection gives a writer up when its announcement was not renewed
//! for hours (or its process is known to be dead) by leaving a mark beside it; the writer finds the mark when it
//! publishes, and does not publish. What is about to be published is written down first (the intent), and
//! collections treat it as published: so there is no moment at which a writer passed its check and a collection
//! knows nothing of its snapshot.

use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::Timestamp;
use relight_keys::ObjectKind;
use serde::{Deserialize, Serialize};

use crate::error::{RepoError, Result};
use crate::id::{SessionId, SnapshotId};
use crate::repository::Repository;
use crate::sealed::Vault;
use crate::storage::{Millis, PutOptions};
use crate::tree::Root;

/// Folder of announcements and intents.
pub(crate) const PREFIX: &str = "sessions/";
/// Ending of an intent's key.
const INTENT: &str = ".intent";
/// Ending of the mark of a session that was given up. The announcement alone would not do: a heart beat that was
/// under way could bring it back.
const EVICTED: &str = ".evicted";
/// How often an announcement is renewed.
const BEAT: Duration = Duration::from_secs(60);

/// What a writer says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Announcement {
    /// Where it runs.
    pub host: String,
    /// Since when that host runs: a process of an earlier boot is dead.
    pub boot: String,
    /// Its process there.
    pub pid: u32,
    /// When it began.
    pub started: Timestamp,
    /// How often it was renewed.
    pub beat: u64,
}

/// What a writer is about to publish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Intent {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The chunk lists of its archives.
    pub roots: Vec<Root>,
}

/// An announcement as a collection finds it.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub key: String,
    /// When it was last renewed, by the clock of the storage.
    pub renewed: Millis,
    pub announcement: Announcement,
}

fn key(id: SessionId) -> String {
    format!("{PREFIX}{id}")
}

fn intent_key(id: SessionId) -> String {
    format!("{PREFIX}{id}{INTENT}")
}

/// Gives a session up. It will not publish, whatever it does from now on.
pub(crate) fn evict(vault: Vault<'_>, session: &Found) -> Result<()> {
    vault.storage.put(
        &format!("{}{EVICTED}", session.key),
        &[b"given up"],
        &PutOptions::default(),
    )?;
    Ok(vault.storage.delete(&session.key)?)
}

/// The identity that this host has since it was started.
pub(crate) fn boot_id() -> String {
    let read = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    read.map(|id| id.trim().to_string()).unwrap_or_default()
}

/// All announcements and intents.
pub(crate) fn load(vault: Vault<'_>) -> Result<(Vec<Found>, Vec<(String, Intent)>)> {
    let (mut sessions, mut intents) = (Vec::new(), Vec::new());
    for object in vault.storage.list(PREFIX)? {
        if object.key.ends_with(EVICTED) {
            continue;
        }
        let read = if object.key.ends_with(INTENT) {
            vault
                .get_json(ObjectKind::SESSION, &object.key)
                .map(|intent| intents.push((object.key, intent)))
        } else {
            vault
                .get_json(ObjectKind::SESSION, &object.key)
                .map(|announcement| {
                    sessions.push(Found {
                        key: object.key,
                        renewed: object.modified,
                        announcement,
                    });
                })
        };
        match read {
            // It ended since it was listed.
            Err(RepoError::Storage(error)) if error.is_not_found() => {}
            other => other?,
        }
    }
    Ok((sessions, intents))
}

impl Announcement {
    /// Whether the process that announced itself is known to be dead: it ran on this host, and does not now.
    pub fn is_dead(&self, host: &str) -> bool {
        if self.host != host {
            return false;
        }
        let boot = boot_id();
        let process = rustix::process::Pid::from_raw(self.pid.cast_signed());
        let gone = || {
            process.is_some_and(|pid| rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH))
        };
        !boot.is_empty() && (self.boot != boot || gone())
    }
}

/// A writer's presence in storage: announced while it lives.
pub(crate) struct Presence {
    repository: Arc<Repository>,
    id: SessionId,
    stop: Arc<(Mutex<bool>, Condvar)>,
    heart: Option<JoinHandle<()>>,
}

impl Presence {
    /// Announces a new session.
    pub fn announce(repository: Arc<Repository>) -> Result<Self> {
        let id = SessionId::random()?;
        let mut announcement = Announcement {
            host: repository.options().host.clone(),
            boot: boot_id(),
            pid: std::process::id(),
            started: repository.now(),
            beat: 0,
        };
        repository
            .vault()
            .put_json(ObjectKind::SESSION, &key(id), &announcement)?;
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let heart = {
            let (repository, stop) = (repository.clone(), stop.clone());
            std::thread::spawn(move || {
                while !wait(&stop) {
                    // One that was given up stays so: renewing it would hide that from the check at publication.
                    match repository.storage().head(&key(id)) {
                        Ok(_) => {}
                        Err(error) if error.is_not_found() => return,
                        Err(_) => continue,
                    }
                    announcement.beat += 1;
                    if let Err(error) =
                        repository
                            .vault()
                            .put_json(ObjectKind::SESSION, &key(id), &announcement)
                    {
                        tracing::warn!(session = %id, %error, "could not renew the announcement");
                    }
                }
            })
        };
        Ok(Self {
            repository,
            id,
            stop,
            heart: Some(heart),
        })
    }

    /// Writes down what is about to be published, then checks that no collection has given this session up.
    pub fn intend(&self, intent: &Intent) -> Result<()> {
        self.repository
            .vault()
            .put_json(ObjectKind::SESSION, &intent_key(self.id), intent)?;
        self.check()
    }

    /// Checks that no collection has given this session up.
    pub fn check(&self) -> Result<()> {
        match self
            .repository
            .storage()
            .head(&format!("{}{EVICTED}", key(self.id)))
        {
            Ok(_) => return Err(RepoError::SessionEvicted),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
        match self.repository.storage().head(&key(self.id)) {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => Err(RepoError::SessionEvicted),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the intent is still there.
    pub fn is_intent_kept(&self) -> Result<bool> {
        match self.repository.storage().head(&intent_key(self.id)) {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the intent back, after publication or instead of it.
    pub fn fulfil(&self) -> Result<()> {
        Ok(self.repository.storage().delete(&intent_key(self.id))?)
    }
}

/// Waits for the next beat; true if the session ends.
fn wait(stop: &(Mutex<bool>, Condvar)) -> bool {
    let (ended, changed) = stop;
    let ended = ended.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let waited = changed.wait_timeout_while(ended, BEAT, |ended| !*ended);
    *waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0
}

impl Drop for Presence {
    fn drop(&mut self) {
        *self
            .stop
            .0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner()) = true;
        self.stop.1.notify_all();
        if let Some(heart) = self.heart.take() {
            let _ = heart.join();
        }
        // The intent first: an intent without an announcement looks like that of a writer that was given up.
        let _ = self.fulfil();
        let _ = self.repository.storage().delete(&key(self.id));
    }
}
