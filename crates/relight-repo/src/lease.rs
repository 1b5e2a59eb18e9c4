//! Leases: of several processes on any hosts, at most one does a thing at a time.
//!
//! A lease is a numbered object; the highest number holds it. It is renewed every minute. Whoever wants it and finds
//! that the holder has ended, is known to be dead, or was not heard of for a long time, writes the next number.
//! A holder that only slept finds the higher number when it looks, which it does before every step that matters.
//! The highest object is never deleted, so that numbers only grow.

use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use relight_keys::ObjectKind;
use serde::{Deserialize, Serialize};

use crate::error::{RepoError, Result};
use crate::id::random;
use crate::repository::Repository;
use crate::sealed::Vault;
use crate::session::announce::Announcement;
use crate::storage::{Millis, ObjectInfo, PutOptions};

/// Folder of the leases of collections.
pub(crate) const COLLECT: &str = "leases/collect/";
/// Where an object is written to learn the time of the storage.
pub(crate) const CLOCK: &str = "leases/clock/";
/// How often a lease is renewed.
const BEAT: Duration = Duration::from_secs(60);
/// A holder that was not heard of for this long has lost its lease to whoever wants it.
const STALE: Duration = Duration::from_secs(30 * 60);

/// What a lease says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Content {
    pub holder: Announcement,
    /// Whether the holder has ended its work.
    pub ended: bool,
}

/// A lease that is held. It ends when this is let go of.
pub(crate) struct Lease {
    repository: Arc<Repository>,
    prefix: &'static str,
    generation: u64,
    stop: Arc<(Mutex<bool>, Condvar)>,
    content: Content,
    heart: Option<JoinHandle<()>>,
    acquired: Millis,
}

fn key(prefix: &str, generation: u64) -> String {
    format!("{prefix}{generation:08}")
}

fn number(prefix: &str, object: &ObjectInfo) -> Option<u64> {
    object.key.strip_prefix(prefix)?.parse().ok()
}

/// What the clock of the storage says now.
pub(crate) fn storage_now(vault: Vault<'_>) -> Result<Millis> {
    let name = format!("{CLOCK}{}", hex::encode(random::<8>()?));
    vault.storage.put(&name, &[b"?"], &PutOptions::default())?;
    let now = vault.storage.head(&name)?.modified;
    vault.storage.delete(&name)?;
    Ok(now)
}

impl Lease {
    /// Takes the lease, or says who holds it.
    pub fn acquire(repository: &Arc<Repository>, prefix: &'static str) -> Result<Self> {
        let vault = repository.vault();
        repository.check_current_key()?;
        loop {
            let listed = vault.storage.list(prefix)?;
            let highest = listed
                .iter()
                .filter_map(|object| Some((number(prefix, object)?, object)))
                .max_by_key(|(generation, _)| *generation);
            if let Some((_, object)) = highest {
                Self::check_free(repository, object)?;
            }
            let generation = highest.map_or(0, |(generation, _)| generation) + 1;
            let content = Content {
                holder: Announcement::of(repository),
                ended: false,
            };
            let name = key(prefix, generation);
            match vault.put_json_new(ObjectKind::LEASE, &name, &content) {
                Err(RepoError::Storage(error)) if error.is_already_exists() => continue,
                other => other?,
            }
            if matches!(check(repository, prefix, generation), Err(RepoError::LeaseLost)) {
                // Others came and went since the numbers were listed.
                vault.storage.delete(&name)?;
                continue;
            }
            if let Err(error) = repository.check_current_key() {
                vault.storage.delete(&name)?;
                return Err(error);
            }
            let acquired = match vault.storage.head(&name) {
                Ok(object) => object.modified,
                Err(error) if error.is_not_found() => return Err(RepoError::LeaseLost),
                Err(error) => return Err(error.into()),
            };
            for object in &listed {
                vault.storage.delete(&object.key)?;
            }
            let stop = Arc::new((Mutex::new(false), Condvar::new()));
            let heart = beat(
                repository.clone(),
                prefix,
                generation,
                content.clone(),
                stop.clone(),
            );
            return Ok(Self {
                repository: repository.clone(),
                prefix,
                generation,
                stop,
                content,
                heart: Some(heart),
                acquired,
            });
        }
    }

    fn check_free(repository: &Arc<Repository>, object: &ObjectInfo) -> Result<()> {
        let vault = repository.vault();
        let content: Content = match vault.get_json(ObjectKind::LEASE, &object.key) {
            Err(RepoError::Storage(error)) if error.is_not_found() => return Ok(()),
            // Its holder used a data key that is lost: only its silence tells.
            Err(RepoError::KeyMissing { key, .. }) => Content {
                holder: Announcement {
                    host: format!("a process that uses data key {key}"),
                    ..Announcement::of(repository)
                },
                ended: false,
            },
            other => other?,
        };
        if content.ended || content.holder.is_dead(&repository.options().host) {
            return Ok(());
        }
        // One that was renewed long after now was renewed when the clock was wrong.
        let silent = storage_now(vault)?.saturating_sub(object.modified).unsigned_abs();
        if u128::from(silent) > STALE.as_millis() {
            return Ok(());
        }
        Err(RepoError::CollectionRunning {
            holder: content.holder.host,
            since: content.holder.started.to_string(),
        })
    }

    /// Its number.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// When it was acquired, by the clock of the storage.
    pub fn acquired(&self) -> Millis {
        self.acquired
    }

    /// Fails if another has taken over.
    pub fn check(&self) -> Result<()> {
        check(&self.repository, self.prefix, self.generation)
    }
}

fn check(repository: &Repository, prefix: &str, generation: u64) -> Result<()> {
    let listed = repository.storage().list(prefix)?;
    let highest = listed.iter().filter_map(|object| number(prefix, object)).max();
    // None at all means that the storage is not what it was (a disk that is not mounted).
    if highest == Some(generation) {
        Ok(())
    } else {
        Err(RepoError::LeaseLost)
    }
}

fn beat(
    repository: Arc<Repository>,
    prefix: &'static str,
    generation: u64,
    mut content: Content,
    stop: Arc<(Mutex<bool>, Condvar)>,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        while !ended(&stop) {
            match check(&repository, prefix, generation) {
                Ok(()) => {}
                Err(RepoError::LeaseLost) => return,
                Err(_) => continue,
            }
            content.holder.beat += 1;
            let name = key(prefix, generation);
            if let Err(error) = repository.vault().put_json(ObjectKind::LEASE, &name, &content) {
                tracing::warn!(lease = name, %error, "could not renew the lease");
            }
        }
    })
}

/// Waits for the next beat; true if the lease ends.
fn ended(stop: &(Mutex<bool>, Condvar)) -> bool {
    let (ended, changed) = stop;
    let ended = ended.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let waited = changed.wait_timeout_while(ended, BEAT, |ended| !*ended);
    *waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0
}

impl Drop for Lease {
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
        if self.check().is_ok() {
            self.content.ended = true;
            let name = key(self.prefix, self.generation);
            // If it cannot be said, the next one finds out by the process or by the silence.
            let _ = self
                .repository
                .vault()
                .put_json(ObjectKind::LEASE, &name, &self.content);
        }
    }
}
