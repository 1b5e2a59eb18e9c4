//! A storage in memory, for tests: the whole contract, retention and cold classes included, on a clock that only
//! moves when it is told to.
//!
//! All clones are handles of the same objects, as two processes are of the same bucket.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Capabilities, Millis, ObjectInfo, PutOptions, Result, Storage, StorageError, Thaw};

/// Where the clock of a new storage stands: a round number of milliseconds in November 2023.
pub const START: Millis = 1_700_000_000_000;

/// Which traits of a real storage the memory takes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryOptions {
    /// Whether `put_new` heeds its condition. Some object stores ignore it and overwrite; with `false`, so does this
    /// one (the fall-back in [`super::claim`] then has to do it).
    pub conditional_put: bool,
    /// Whether objects can be locked.
    pub retention: bool,
    /// Classes whose objects must be thawed before they can be read.
    pub cold_classes: Vec<String>,
    /// How long a thaw takes by the clock of the storage.
    pub thaw_takes: Duration,
    /// Bytes that fit in; more gives [`StorageError::Full`].
    pub capacity: u64,
}

impl Default for MemoryOptions {
    fn default() -> Self {
        Self {
            conditional_put: true,
            retention: true,
            cold_classes: vec!["GLACIER".into(), "DEEP_ARCHIVE".into()],
            thaw_takes: Duration::from_secs(5 * 3600),
            capacity: u64::MAX,
        }
    }
}

/// A storage in memory. Clones share the objects and the clock.
#[derive(Clone)]
pub struct MemoryStorage {
    shared: Arc<Shared>,
}

struct Shared {
    options: MemoryOptions,
    state: Mutex<State>,
}

struct State {
    objects: BTreeMap<String, Object>,
    now: Millis,
    used: u64,
}

#[derive(Clone)]
struct Object {
    content: Arc<Vec<u8>>,
    modified: Millis,
    class: Option<String>,
    retain_until: Millis,
    thawed: Option<Thawed>,
}

#[derive(Clone, Copy)]
struct Thawed {
    ready_at: Millis,
    until: Millis,
}

impl Default for MemoryStorage {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStorage")
            .field("objects", &self.lock().objects.len())
            .finish_non_exhaustive()
    }
}

impl MemoryStorage {
    /// An empty storage that can do everything.
    pub fn new() -> Self {
        Self::with_options(MemoryOptions::default())
    }

    /// An empty storage with the given traits.
    pub fn with_options(options: MemoryOptions) -> Self {
        let state = State {
            objects: BTreeMap::new(),
            now: START,
            used: 0,
        };
        Self {
            shared: Arc::new(Shared {
                options,
                state: Mutex::new(state),
            }),
        }
    }

    /// What the clock of the storage says.
    pub fn now(&self) -> Millis {
        self.lock().now
    }

    /// Sets the clock, also backwards.
    pub fn set_time(&self, now: Millis) {
        self.lock().now = now;
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        let mut state = self.lock();
        state.now = state.now.saturating_add(millis(by));
    }

    /// Until when an object is locked; `None` if it is not there or was never locked.
    pub fn retained_until(&self, key: &str) -> Option<Millis> {
        self.lock()
            .objects
            .get(key)
            .map(|object| object.retain_until)
            .filter(|&until| until > 0)
    }

    /// The class an object was put in; `None` if it is not there or lies in the default class.
    pub fn class_of(&self, key: &str) -> Option<String> {
        self.lock().objects.get(key)?.class.clone()
    }

    /// The sum of the lengths of all objects.
    pub fn used(&self) -> u64 {
        self.lock().used
    }

    /// Replaces the content of an object behind the storage's back, as bit rot or an enemy with access to the disks
    /// would: neither its time nor a lock matters. Returns whether there was such an object.
    pub fn tamper(&self, key: &str, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut guard = self.lock();
        let state = &mut *guard;
        let Some(object) = state.objects.get_mut(key) else {
            return false;
        };
        let content = Arc::make_mut(&mut object.content);
        let before = content.len() as u64;
        change(content);
        state.used = state.used - before + content.len() as u64;
        true
    }

    /// A copy of everything as it is now: an own storage that shares nothing with this one.
    pub fn fork(&self) -> Self {
        let state = self.lock();
        let copy = State {
            objects: state.objects.clone(),
            now: state.now,
            used: state.used,
        };
        Self {
            shared: Arc::new(Shared {
                options: self.shared.options.clone(),
                state: Mutex::new(copy),
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A test that panicked while it held the lock left whole objects behind all the same.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn not_found(&self, key: &str) -> StorageError {
        StorageError::NotFound {
            key: key.to_string(),
            location: self.location(),
        }
    }

    fn locked(&self, key: &str) -> StorageError {
        StorageError::Locked {
            key: key.to_string(),
            location: self.location(),
        }
    }

    fn no_retention(&self) -> StorageError {
        StorageError::Unsupported {
            location: self.location(),
            what: "lock objects against deletion",
        }
    }

    fn is_cold(&self, object: &Object) -> bool {
        object
            .class
            .as_ref()
            .is_some_and(|class| self.shared.options.cold_classes.contains(class))
    }

    fn write(&self, key: &str, parts: &[&[u8]], options: &PutOptions, replace: bool) -> Result<()> {
        if options.retain_until.is_some() && !self.shared.options.retention {
            return Err(self.no_retention());
        }
        let content = parts.concat();
        let mut guard = self.lock();
        let state = &mut *guard;
        let mut replaced = 0;
        if let Some(old) = state.objects.get(key) {
            if !replace {
                return Err(StorageError::AlreadyExists {
                    key: key.to_string(),
                    location: self.location(),
                });
            }
            // Object storage would keep the locked version under a new one; here there is one version only.
            if old.retain_until > state.now {
                return Err(self.locked(key));
            }
            replaced = old.content.len() as u64;
        }
        let used = state.used - replaced + content.len() as u64;
        if used > self.shared.options.capacity {
            return Err(StorageError::Full {
                action: "write",
                key: key.to_string(),
                location: self.location(),
            });
        }
        state.used = used;
        let object = Object {
            content: Arc::new(content),
            modified: state.now,
            class: options.class.clone(),
            retain_until: options.retain_until.unwrap_or(0),
            thawed: None,
        };
        state.objects.insert(key.to_string(), object);
        Ok(())
    }

    fn read(&self, key: &str) -> Result<Arc<Vec<u8>>> {
        let state = self.lock();
        let object = state.objects.get(key).ok_or_else(|| self.not_found(key))?;
        if self.is_cold(object) && !object.is_thawed(state.now) {
            return Err(StorageError::Cold {
                key: key.to_string(),
                location: self.location(),
            });
        }
        Ok(Arc::clone(&object.content))
    }
}

impl Object {
    fn is_thawed(&self, now: Millis) -> bool {
        self.thawed
            .is_some_and(|thawed| thawed.ready_at <= now && now < thawed.until)
    }

    fn info(&self, key: &str) -> ObjectInfo {
        ObjectInfo {
            key: key.to_string(),
            size: self.content.len() as u64,
            modified: self.modified,
        }
    }
}

impl Storage for MemoryStorage {
    fn location(&self) -> String {
        "memory".into()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            conditional_put: self.shared.options.conditional_put,
            retention: self.shared.options.retention,
        }
    }

    fn put(&self, key: &str, parts: &[&[u8]], options: &PutOptions) -> Result<()> {
        self.write(key, parts, options, true)
    }

    fn put_new(&self, key: &str, parts: &[&[u8]], options: &PutOptions) -> Result<()> {
        self.write(key, parts, options, !self.shared.options.conditional_put)
    }

    fn get(&self, key: &str) -> Result<Vec<u8>> {
        self.read(key).map(|content| content.as_ref().clone())
    }

    fn get_range(&self, key: &str, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let content = self.read(key)?;
        let range = usize::try_from(offset)
            .ok()
            .and_then(|start| content.get(start..start.checked_add(buffer.len())?));
        match range {
            Some(bytes) => buffer.copy_from_slice(bytes),
            None => {
                return Err(StorageError::Short {
                    key: key.to_string(),
                    location: self.location(),
                    wanted_end: offset.saturating_add(buffer.len() as u64),
                });
            }
        }
        Ok(())
    }

    fn head(&self, key: &str) -> Result<ObjectInfo> {
        self.lock()
            .objects
            .get(key)
            .map(|object| object.info(key))
            .ok_or_else(|| self.not_found(key))
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>> {
        let state = self.lock();
        let under = state
            .objects
            .range(prefix.to_string()..)
            .take_while(|(key, _)| key.starts_with(prefix));
        Ok(under.map(|(key, object)| object.info(key)).collect())
    }

    fn delete(&self, key: &str) -> Result<()> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let Some(object) = state.objects.get(key) else {
            return Ok(());
        };
        if object.retain_until > state.now {
            return Err(self.locked(key));
        }
        state.used -= object.content.len() as u64;
        state.objects.remove(key);
        Ok(())
    }

    fn retain(&self, key: &str, until: Millis) -> Result<()> {
        if !self.shared.options.retention {
            return Err(self.no_retention());
        }
        let mut state = self.lock();
        let object = state.objects.get_mut(key).ok_or_else(|| self.not_found(key))?;
        object.retain_until = object.retain_until.max(until);
        Ok(())
    }

    fn thaw(&self, key: &str, keep: Duration) -> Result<Thaw> {
        let takes = millis(self.shared.options.thaw_takes);
        let mut guard = self.lock();
        let state = &mut *guard;
        let now = state.now;
        let object = state.objects.get_mut(key).ok_or_else(|| self.not_found(key))?;
        if !self.is_cold(object) {
            return Ok(Thaw::Ready);
        }
        match &mut object.thawed {
            // Asking again prolongs the copy's life.
            Some(thawed) if now < thawed.until => {
                thawed.until = thawed
                    .until
                    .max(thawed.ready_at.max(now).saturating_add(millis(keep)));
            }
            thawed => {
                let ready_at = now.saturating_add(takes);
                *thawed = Some(Thawed {
                    ready_at,
                    until: ready_at.saturating_add(millis(keep)),
                });
            }
        }
        Ok(if object.is_thawed(now) {
            Thaw::Ready
        } else {
            Thaw::InProgress
        })
    }
}

fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_end_by_the_clock_of_the_storage() {
        let storage = MemoryStorage::new();
        let until = storage.now() + 1000;
        storage
            .put(
                "a",
                &[b"x"],
                &PutOptions {
                    retain_until: Some(until),
                    ..Default::default()
                },
            )
            .unwrap();
        assert!(matches!(storage.delete("a"), Err(StorageError::Locked { .. })));
        storage.retain("a", until - 500).unwrap();
        assert_eq!(
            storage.retained_until("a"),
            Some(until),
            "retention is never shortened"
        );
        storage.advance(Duration::from_millis(1000));
        storage.delete("a").unwrap();
        assert!(storage.head("a").unwrap_err().is_not_found());
    }

    #[test]
    fn cold_objects_thaw_in_their_time() {
        let storage = MemoryStorage::new();
        let options = PutOptions {
            class: Some("GLACIER".into()),
            ..Default::default()
        };
        storage.put("a", &[b"cold"], &options).unwrap();
        assert!(matches!(storage.get("a"), Err(StorageError::Cold { .. })));
        let day = Duration::from_secs(24 * 3600);
        assert_eq!(storage.thaw("a", day).unwrap(), Thaw::InProgress);
        storage.advance(Duration::from_secs(5 * 3600));
        assert_eq!(storage.thaw("a", day).unwrap(), Thaw::Ready);
        assert_eq!(storage.get("a").unwrap(), b"cold");
        storage.advance(day);
        assert!(matches!(storage.get("a"), Err(StorageError::Cold { .. })));
    }

    #[test]
    fn capacity_is_of_what_is_kept() {
        let storage = MemoryStorage::with_options(MemoryOptions {
            capacity: 10,
            ..Default::default()
        });
        storage.put("a", &[&[0; 10]], &PutOptions::default()).unwrap();
        storage.put("a", &[&[1; 10]], &PutOptions::default()).unwrap();
        let full = storage.put("b", &[&[0; 1]], &PutOptions::default());
        assert!(matches!(full, Err(StorageError::Full { .. })));
        storage.delete("a").unwrap();
        storage.put("b", &[&[0; 10]], &PutOptions::default()).unwrap();
        assert_eq!(storage.used(), 10);
    }
}
