//! Running writers announce themselves in storage, so that a collection knows whom to wait for.
//!
//! An announcement is renewed every minute. A collection gives a writer up when its announcement was not renewed
//! for hours (or its process is known to be dead) by leaving a mark beside it; the writer finds the mark when it
//! publishes, and does not publish. What is about to be published is written down first (the intent), and
//! collections treat it as published: so there is no moment at which a writer passed its check and a collection
//! knows nothing of its snapshot. Why that is enough is told in [`crate::collect`].

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
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
use crate::storage::{Millis, PutOptions, Storage};
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
/// Marks of given-up sessions and intents without a session are kept by collections for this long.
pub(crate) const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// A session that notices that it could not renew its announcement for this long (its machine slept, say) gives
/// itself up: by then the mark that a collection may have left for it is about to go. Less than [`KEPT`].
const SILENCE: Duration = Duration::from_secs(6 * 24 * 3600);

/// What a writer says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Announcement {
    /// Where it runs.
    pub host: String,
    /// Since when that host runs: a process of an earlier boot is dead.
    pub boot: String,
    /// Its process there.
    pub pid: u32,
    /// In which namespace that number counts (containers of one host have their own).
    #[serde(default)]
    pub namespace: String,
    /// When it began.
    pub started: Timestamp,
    /// How often it was renewed.
    pub beat: u64,
    /// When it was first written, by the clock of the storage; learned before the first renewal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Millis>,
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

impl Found {
    /// When it was announced, by the clock of the storage; the beginning of time if that is not known.
    pub fn since(&self) -> Millis {
        match (self.announcement.beat, self.announcement.since) {
            (0, _) => self.renewed,
            (_, Some(since)) => since,
            (_, None) => Millis::MIN,
        }
    }
}

/// An intent as a collection finds it.
#[derive(Debug, Clone)]
pub(crate) struct FoundIntent {
    pub key: String,
    /// Key of the announcement of its session.
    pub session: String,
    /// When it was written, by the clock of the storage.
    pub written: Millis,
    pub intent: Intent,
}

/// All that sessions have left in storage.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sessions {
    /// Those that are announced and not given up.
    pub live: Vec<Found>,
    /// Keys of the announcements of those that were given up (the announcements themselves are gone), and when.
    pub given_up: Vec<(String, Millis)>,
    /// What is about to be published, whoever intends it.
    pub intents: Vec<FoundIntent>,
}

fn key(id: SessionId) -> String {
    format!("{PREFIX}{id}")
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

/// Removes the mark of a session that was given up long ago, and its announcement, should a belated renewal have
/// brought it back.
pub(crate) fn forget_given_up(vault: Vault<'_>, session: &str) -> Result<()> {
    vault.storage.delete(session)?;
    Ok(vault.storage.delete(&format!("{session}{EVICTED}"))?)
}

/// The identity that this host has since it was started.
fn boot_id() -> String {
    let read = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    read.map(|id| id.trim().to_string()).unwrap_or_default()
}

/// In which namespace the process numbers of this process count.
fn pid_namespace() -> String {
    let read = std::fs::read_link("/proc/self/ns/pid");
    read.map(|link| link.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// Which key of an announcement a listed key belongs to, if it is a mark or an intent.
fn session_of(key: &str) -> Option<&str> {
    let name = key.strip_prefix(PREFIX)?.split('.').next()?;
    key.get(..PREFIX.len() + name.len())
}

/// Keys of the announcements of every session that may still be at work, those that were given up but whose mark
/// stands included: one list, nothing read.
pub(crate) fn list(vault: Vault<'_>) -> Result<HashSet<String>> {
    let listed = vault.storage.list(PREFIX)?;
    let names = listed
        .iter()
        .filter(|object| !object.key.ends_with(INTENT))
        .filter_map(|object| session_of(&object.key));
    Ok(names.map(str::to_string).collect())
}

/// All announcements, marks and intents.
pub(crate) fn load(vault: Vault<'_>) -> Result<Sessions> {
    let listed = vault.storage.list(PREFIX)?;
    let mut sessions = Sessions::default();
    for object in &listed {
        if let Some(session) = object.key.strip_suffix(EVICTED) {
            sessions.given_up.push((session.to_string(), object.modified));
        }
    }
    let given_up: HashSet<&str> = sessions.given_up.iter().map(|(key, _)| key.as_str()).collect();
    for object in &listed {
        if object.key.ends_with(EVICTED) || given_up.contains(object.key.as_str()) {
            continue;
        }
        let read = if object.key.ends_with(INTENT) {
            vault.get_json(ObjectKind::SESSION, &object.key).map(|intent| {
                sessions.intents.push(FoundIntent {
                    session: session_of(&object.key).unwrap_or_default().to_string(),
                    key: object.key.clone(),
                    written: object.modified,
                    intent,
                });
            })
        } else {
            vault
                .get_json(ObjectKind::SESSION, &object.key)
                .map(|announcement| {
                    sessions.live.push(Found {
                        key: object.key.clone(),
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
    Ok(sessions)
}

impl Announcement {
    /// That of this process, which begins something now.
    pub fn of(repository: &Repository) -> Self {
        Self {
            host: repository.options().host.clone(),
            boot: boot_id(),
            pid: std::process::id(),
            namespace: pid_namespace(),
            started: repository.now(),
            beat: 0,
            since: None,
        }
    }

    /// Whether the process that announced itself is known to be dead: it ran on this host, and does not now.
    pub fn is_dead(&self, host: &str) -> bool {
        if self.host != host {
            return false;
        }
        let (boot, namespace) = (boot_id(), pid_namespace());
        let process = rustix::process::Pid::from_raw(self.pid.cast_signed());
        let gone = || {
            process.is_some_and(|pid| rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH))
        };
        !boot.is_empty() && (self.boot != boot || (self.namespace == namespace && gone()))
    }
}

/// When an announcement was last renewed, by a clock that goes on while the machine sleeps.
#[derive(Debug)]
pub(crate) struct Pulse {
    renewed: Mutex<Duration>,
    over: AtomicBool,
}

fn awake_or_not() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

impl Pulse {
    fn new() -> Self {
        Self {
            renewed: Mutex::new(awake_or_not()),
            over: AtomicBool::new(false),
        }
    }

    /// Takes note of a renewal that was begun at `begun`.
    fn renew(&self, begun: Duration) {
        if !self.is_over() {
            *self
                .renewed
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner()) = begun;
        }
    }

    /// Whether it was silent for so long that nobody waits for it any more.
    pub fn is_over(&self) -> bool {
        let renewed = *self
            .renewed
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if awake_or_not().saturating_sub(renewed) > SILENCE {
            self.over.store(true, Ordering::Release);
        }
        self.over.load(Ordering::Acquire)
    }

    /// Fails if it was silent for too long.
    pub fn check(&self) -> Result<()> {
        if self.is_over() {
            Err(RepoError::SessionEvicted)
        } else {
            Ok(())
        }
    }
}

/// A writer's presence in storage: announced while it lives.
pub(crate) struct Presence {
    repository: Arc<Repository>,
    id: SessionId,
    pulse: Arc<Pulse>,
    stop: Arc<(Mutex<bool>, Condvar)>,
    heart: Option<JoinHandle<()>>,
}

impl Presence {
    /// Announces a new session.
    pub fn announce(repository: Arc<Repository>) -> Result<Self> {
        let id = SessionId::random()?;
        let mut announcement = Announcement::of(&repository);
        let pulse = Arc::new(Pulse::new());
        repository
            .vault()
            .put_json(ObjectKind::SESSION, &key(id), &announcement)?;
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let heart = {
            let (repository, stop, pulse) = (repository.clone(), stop.clone(), pulse.clone());
            std::thread::spawn(move || {
                while !wait(&stop) && !pulse.is_over() {
                    let begun = awake_or_not();
                    // One that was given up stays so: renewing it would hide that from the check at publication.
                    match repository.storage().head(&key(id)) {
                        Ok(object) if announcement.beat == 0 => announcement.since = Some(object.modified),
                        Ok(_) => {}
                        Err(error) if error.is_not_found() => return,
                        Err(_) => continue,
                    }
                    announcement.beat += 1;
                    match repository
                        .vault()
                        .put_json(ObjectKind::SESSION, &key(id), &announcement)
                    {
                        Ok(()) => pulse.renew(begun),
                        Err(error) => {
                            tracing::warn!(session = %id, %error, "could not renew the announcement");
                        }
                    }
                }
            })
        };
        let presence = Self {
            repository,
            id,
            pulse,
            stop,
            heart: Some(heart),
        };
        // Now that everybody can see which data key it uses: see `crate::retire`.
        presence.repository.check_current_key()?;
        Ok(presence)
    }

    /// Key of its announcement.
    pub fn key(&self) -> String {
        key(self.id)
    }

    /// How it knows that it was silent too long.
    pub fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }

    /// Writes down what is about to be published, then checks that no collection has given this session up.
    pub fn intend(&self, intent: &Intent) -> Result<Intended<'_>> {
        let intended = Intended {
            storage: self.repository.storage(),
            key: format!("{}.{}{INTENT}", key(self.id), intent.snapshot),
            kept: false,
        };
        self.repository
            .vault()
            .put_json(ObjectKind::SESSION, &intended.key, intent)?;
        self.check()?;
        Ok(intended)
    }

    /// Checks that no collection has given this session up.
    pub fn check(&self) -> Result<()> {
        self.pulse.check()?;
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
}

/// An intent that stands in storage. It is taken back when this is let go of, after publication or instead of it.
pub(crate) struct Intended<'a> {
    storage: &'a dyn Storage,
    key: String,
    kept: bool,
}

impl Intended<'_> {
    /// Leaves the intent for collections to find: whether the snapshot was written is not known.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Intended<'_> {
    fn drop(&mut self) {
        if !self.kept {
            let _ = self.storage.delete(&self.key);
        }
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
        let _ = self.repository.storage().delete(&key(self.id));
    }
}
