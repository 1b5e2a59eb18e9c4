//! `put_new` for storages that ignore conditions: deciding between writers with nothing but reads, writes, lists and
//! deletes that are strongly consistent.
//!
//! # The protocol
//!
//! A writer that wants to create `KEY` and finds it missing
//!
//! 1. writes a claim, an empty object `claims/<hash of KEY>-<random>`;
//! 2. lists `claims/<hash of KEY>-`. If it sees another claim it does not go on: the writer with the smallest name waits and
//!    lists again, all others withdraw (delete their claim) and start over after a random time. So one of them
//!    always gets ahead;
//! 3. seeing its own claim alone, looks whether `KEY` exists. If so it withdraws: [`StorageError::AlreadyExists`];
//! 4. writes `KEY`, checks that its claim still stands, and deletes the claim.
//!
//! # Why two can never both win
//!
//! Suppose that A and B both reach step 4. Each listed its own claim alone in step 2. Say that B's list was the
//! later one. A's claim was written before A's list, so before B's; as B did not see it, A had deleted it by then.
//! A winner deletes its claim only after `KEY` is written, so B's step 3, which comes after B's list, finds `KEY`
//! and B does not write. It matters that the look at `KEY` comes *after* the list and is a call of its own: one list
//! that covers the object and the claims together is no snapshot, and could see the object missing "before" and
//! the claim missing "after" A's whole step 4.
//!
//! # Writers that die or stall
//!
//! A claim left behind would block its key for ever, so a claim that is more than [`Timing::stale_after`] older than
//! one's own (by the clock of the storage, as listed; no host's clock is asked) is removed. That is the only
//! place where time matters: a writer that stalls between its list and its write could wake after its claim was
//! removed. It therefore goes on to write only within [`Timing::act_within`] of having claimed, and looks after
//! the write whether its claim still stands. What remains is a single write call that takes effect more than
//! `stale_after - act_within` after it began; storages must bound their retries by less than that.
//!
//! A write of `KEY` whose outcome is unknown may still take effect later. Its claim is left to become stale rather
//! than withdrawn, so that nobody else wins in the meantime.
//!
//! # Servers that keep objects as files
//!
//! `rclone serve s3` removes a folder with its last file and may lose sight of one that is written just then: the claim
//! is not listed, or is listed for ever and cannot be deleted though the server says that it was. All claims therefore
//! lie in one folder, and [`settle_in`] leaves an object there so that it never becomes empty.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use rustix::time::{ClockId, clock_gettime};

use super::{Capabilities, Millis, ObjectInfo, PutOptions, Result, Storage, StorageError, Thaw};

/// Where claims lie. Storages that use them leave this prefix out of their lists.
pub const PREFIX: &str = "claims/";
/// Stays among the claims and keeps their folder.
const KEEPER: &str = "claims/keeper";
/// So many bytes of a key's SHA-256 name its claims. Two keys that share them would only wait for each other.
const HASH: usize = 16;

/// The times that the protocol works with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// A claim that is this much older than one's own is of a dead writer.
    pub stale_after: Duration,
    /// A writer does not go on to write when more than this has passed since it claimed.
    pub act_within: Duration,
    /// After this time among other claims, a writer reports [`StorageError::Unavailable`].
    pub give_up_after: Duration,
    /// The first wait; it doubles from attempt to attempt up to 64 times this, and half of it is left to chance.
    pub first_wait: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            stale_after: Duration::from_secs(10 * 60),
            act_within: Duration::from_secs(2 * 60),
            give_up_after: Duration::from_secs(60),
            first_wait: Duration::from_millis(20),
        }
    }
}

/// So often a claim may be missing from the list before the storage is given up.
const UNLISTED: u32 = 5;
/// So often a claim is deleted before it is left to become stale.
const WITHDRAWALS: u32 = 5;

/// Whether a key is that of a claim.
pub fn is_claim(key: &str) -> bool {
    key.starts_with(PREFIX)
}

/// Writes an object only if there is none of that key, by the protocol above. Uses `put`, `head`, `list` and `delete`
/// of `storage`, never its `put_new`.
///
/// # Errors
///
/// [`StorageError::AlreadyExists`] where another was there or won; [`StorageError::Unavailable`] where another
/// writer's claim stays in the way, or where lists are not consistent; and those of the storage.
pub fn put_new(
    storage: &dyn Storage,
    key: &str,
    parts: &[&[u8]],
    options: &PutOptions,
    timing: &Timing,
) -> Result<()> {
    let begun = now();
    let mut wait = timing.first_wait;
    let mut unlisted = 0;
    loop {
        // Also spares the claim where the answer is plain.
        if exists(storage, key)? {
            return Err(StorageError::AlreadyExists {
                key: key.to_string(),
                location: storage.location(),
            });
        }
        let claim = Claim::make(storage, key)?;
        match claim.settle(timing)? {
            Outcome::Alone if claim.age() <= timing.act_within => {
                // The look that decides: after the list.
                if claim.or_withdraw(exists(storage, key))? {
                    claim.withdraw();
                    continue;
                }
                return claim.write(parts, options, timing);
            }
            Outcome::Alone | Outcome::Crowded => claim.withdraw(),
            Outcome::Unlisted => {
                claim.withdraw();
                unlisted += 1;
                if unlisted >= UNLISTED {
                    return Err(unavailable(
                        storage,
                        key,
                        "what was just written is missing from its list; it cannot tell writers apart",
                    ));
                }
            }
        }
        if now().saturating_sub(begun) > timing.give_up_after {
            return Err(unavailable(
                storage,
                key,
                "other writers claim it too and do not get done",
            ));
        }
        std::thread::sleep(jittered(wait)?);
        wait = (wait * 2).min(timing.first_wait * 64);
    }
}

/// Leaves an object among the claims that keeps their folder where folders are removed with their last object.
///
/// # Errors
///
/// Those of the storage.
pub fn settle_in(storage: &dyn Storage) -> Result<()> {
    if exists(storage, KEEPER)? {
        return Ok(());
    }
    storage.put(KEEPER, &[b"keeps the folder of claims"], &PutOptions::default())
}

/// Removes claims that dead writers left behind for keys that nobody asks for again: those more than a day older
/// than the youngest. Returns how many.
///
/// # Errors
///
/// Those of the storage.
pub fn sweep(storage: &dyn Storage) -> Result<usize> {
    const DAY: Millis = 24 * 3600 * 1000;
    let mut claims = storage.list(PREFIX)?;
    claims.retain(|claim| claim.key != KEEPER);
    let Some(youngest) = claims.iter().map(|claim| claim.modified).max() else {
        return Ok(0);
    };
    let mut removed = 0;
    for claim in claims
        .iter()
        .filter(|claim| youngest.saturating_sub(claim.modified) > DAY)
    {
        storage.delete(&claim.key)?;
        removed += 1;
    }
    Ok(removed)
}

enum Outcome {
    Alone,
    Crowded,
    /// The claim that was just written is missing from the list.
    Unlisted,
}

struct Claim<'a> {
    storage: &'a dyn Storage,
    target: &'a str,
    prefix: String,
    key: String,
    made: Duration,
}

impl<'a> Claim<'a> {
    fn make(storage: &'a dyn Storage, target: &'a str) -> Result<Self> {
        let hash = digest::digest(&digest::SHA256, target.as_bytes());
        let prefix = format!("{PREFIX}{}-", hex::encode(&hash.as_ref()[..HASH]));
        let key = format!("{prefix}{}", hex::encode(random::<16>()?));
        let claim = Self {
            storage,
            target,
            prefix,
            key,
            made: now(),
        };
        // An error may mean that it was written all the same.
        claim.or_withdraw(storage.put(&claim.key, &[], &PutOptions::default()))?;
        Ok(claim)
    }

    fn age(&self) -> Duration {
        now().saturating_sub(self.made)
    }

    /// Lists the claims until this one is alone or has to make way for another.
    fn settle(&self, timing: &Timing) -> Result<Outcome> {
        let mut wait = timing.first_wait;
        loop {
            let claims = self.or_withdraw(self.storage.list(&self.prefix))?;
            let Some(own) = claims.iter().find(|claim| claim.key == self.key) else {
                return Ok(Outcome::Unlisted);
            };
            let mut alone = true;
            for other in claims.iter().filter(|claim| claim.key != self.key) {
                if older_by(other, own) > timing.stale_after {
                    self.or_withdraw(self.storage.delete(&other.key))?;
                    continue;
                }
                if other.key < self.key {
                    return Ok(Outcome::Crowded);
                }
                alone = false;
            }
            if alone {
                return Ok(Outcome::Alone);
            }
            if self.age() > timing.give_up_after {
                return Ok(Outcome::Crowded);
            }
            std::thread::sleep(self.or_withdraw(jittered(wait))?);
            wait = (wait * 2).min(timing.first_wait * 64);
        }
    }

    fn write(&self, parts: &[&[u8]], options: &PutOptions, timing: &Timing) -> Result<()> {
        match self.storage.put(self.target, parts, options) {
            Ok(()) => {}
            Err(error) => {
                // Refused for sure, so nothing can take effect later.
                if matches!(
                    error,
                    StorageError::Denied { .. }
                        | StorageError::Full { .. }
                        | StorageError::Locked { .. }
                        | StorageError::Unsupported { .. }
                ) {
                    self.withdraw();
                }
                return Err(error);
            }
        }
        let stands = match self.storage.head(&self.key) {
            Ok(_) => true,
            Err(error) if error.is_not_found() => false,
            // It cannot have become stale meanwhile unless much time has passed.
            Err(_) => self.age() < timing.stale_after / 2,
        };
        self.withdraw();
        if stands {
            return Ok(());
        }
        Err(unavailable(
            self.storage,
            self.target,
            "the write took so long that others may have written it too",
        ))
    }

    /// Deletes the claim, and looks whether it is gone: one that stays is in everybody's way until it
    /// is stale.
    fn withdraw(&self) {
        let mut wait = Duration::from_millis(10);
        for _ in 0..WITHDRAWALS {
            let deleted = self.storage.delete(&self.key);
            if deleted.is_ok() && matches!(exists(self.storage, &self.key), Ok(false)) {
                return;
            }
            std::thread::sleep(wait);
            wait *= 2;
        }
        tracing::warn!(
            claim = self.key,
            "it cannot be deleted and keeps other writers of that key waiting until it is stale"
        );
    }

    fn or_withdraw<T>(&self, result: Result<T>) -> Result<T> {
        if result.is_err() {
            self.withdraw();
        }
        result
    }
}

fn older_by(other: &ObjectInfo, own: &ObjectInfo) -> Duration {
    Duration::from_millis(u64::try_from(own.modified.saturating_sub(other.modified)).unwrap_or(0))
}

fn exists(storage: &dyn Storage, key: &str) -> Result<bool> {
    match storage.head(key) {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

fn unavailable(storage: &dyn Storage, key: &str, reason: &str) -> StorageError {
    StorageError::Unavailable {
        action: "create",
        key: key.to_string(),
        location: storage.location(),
        reason: reason.to_string(),
    }
}

/// Time since the machine started, sleep included: a laptop that was suspended must not think that no time passed.
fn now() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default()
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| StorageError::Unsupported {
        location: "this host".into(),
        what: "give random numbers",
    })?;
    Ok(bytes)
}

fn jittered(wait: Duration) -> Result<Duration> {
    let chance = f64::from(u32::from_le_bytes(random()?)) / f64::from(u32::MAX);
    Ok(wait.mul_f64(0.5 + chance / 2.0))
}

/// A storage whose `put_new` goes by claims, whatever the one inside does with conditions.
#[derive(Debug, Clone)]
pub struct ClaimStorage {
    inner: Arc<dyn Storage>,
    timing: Timing,
}

impl ClaimStorage {
    /// Puts the protocol over `inner`.
    pub fn new(inner: Arc<dyn Storage>, timing: Timing) -> Self {
        Self { inner, timing }
    }
}

impl Storage for ClaimStorage {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            conditional_put: false,
            ..self.inner.capabilities()
        }
    }

    fn put(&self, key: &str, parts: &[&[u8]], options: &PutOptions) -> Result<()> {
        self.inner.put(key, parts, options)
    }

    fn put_new(&self, key: &str, parts: &[&[u8]], options: &PutOptions) -> Result<()> {
        put_new(self.inner.as_ref(), key, parts, options, &self.timing)
    }

    fn get(&self, key: &str) -> Result<Vec<u8>> {
        self.inner.get(key)
    }

    fn get_range(&self, key: &str, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.inner.get_range(key, offset, buffer)
    }

    fn head(&self, key: &str) -> Result<ObjectInfo> {
        self.inner.head(key)
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>> {
        let mut found = self.inner.list(prefix)?;
        found.retain(|object| !is_claim(&object.key));
        Ok(found)
    }

    fn delete(&self, key: &str) -> Result<()> {
        self.inner.delete(key)
    }

    fn retain(&self, key: &str, until: Millis) -> Result<()> {
        self.inner.retain(key, until)
    }

    fn thaw(&self, key: &str, keep: Duration) -> Result<Thaw> {
        self.inner.thaw(key, keep)
    }
}

#[cfg(test)]
mod tests;
