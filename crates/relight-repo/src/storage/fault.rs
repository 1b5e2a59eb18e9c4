//! A storage that fails on command, for tests: wraps any other and injects exactly the faults it was told to, at
//! exactly the operations it was told to.
//!
//! A [`FaultStorage`] stands for *one process* that uses a storage; its clones are threads of that process. The
//! storage inside is the world: it lives on when the process crashes. [`FaultStorage::restart`] is the next process,
//! [`FaultStorage::another`] one that runs beside.
//!
//! ```
//! # use std::sync::Arc;
//! # use relight_repo::storage::{Storage, PutOptions, memory::MemoryStorage};
//! # use relight_repo::storage::fault::{FaultStorage, Moment};
//! let world = MemoryStorage::new();
//! let process = FaultStorage::new(Arc::new(world.clone()));
//! process.crash_at(2, Moment::After);
//! process.put("a", &[b"1"], &PutOptions::default()).unwrap();
//! process.put("b", &[b"2"], &PutOptions::default()).unwrap_err(); // written, but the process never learns of it
//! process.get("a").unwrap_err(); // it is dead
//! assert_eq!(process.restart().get("b").unwrap(), b"2");
//! ```
//!
//! A whole scenario is tested at every operation by running it once with nothing injected, asking how many
//! [`operations`](FaultStorage::operations) there were, and then running it again with a crash at each.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Capabilities, Millis, ObjectInfo, PutOptions, Result, Storage, StorageError, Thaw};

/// Which call of [`Storage`] an operation was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "named after the calls")]
pub enum Kind {
    Put,
    PutNew,
    Get,
    GetRange,
    Head,
    List,
    Delete,
    Retain,
    Thaw,
}

impl Kind {
    /// Whether it changes what is stored.
    pub fn is_write(self) -> bool {
        matches!(self, Self::Put | Self::PutNew | Self::Delete | Self::Retain)
    }

    /// Whether it hands out content.
    pub fn is_read(self) -> bool {
        matches!(self, Self::Get | Self::GetRange)
    }

    fn action(self) -> &'static str {
        match self {
            Self::Put | Self::PutNew => "write",
            Self::Get | Self::GetRange => "read",
            Self::Head => "look up",
            Self::List => "list",
            Self::Delete => "delete",
            Self::Retain => "lock",
            Self::Thaw => "thaw",
        }
    }
}

/// One call that a process made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// Which it is in this process: 1, 2, 3 …
    pub number: u64,
    /// What was called.
    pub kind: Kind,
    /// The key, or the prefix of a list.
    pub key: String,
    /// Bytes to be written, or to be read by `get_range`; 0 for the others.
    pub bytes: u64,
}

/// When a crash happens in an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Before the operation had any effect.
    Before,
    /// After it had its whole effect, but before the process learned of it.
    After,
}

/// What goes wrong with an operation. A fault that cannot happen to its kind (a torn read) does nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// No effect; [`StorageError::Io`] as from a failing disk.
    Io,
    /// No effect; [`StorageError::Full`].
    Full,
    /// No effect; [`StorageError::Unavailable`].
    Unavailable,
    /// No effect; [`StorageError::Denied`].
    Denied,
    /// Reads: [`StorageError::Short`].
    Short,
    /// The whole effect, but the answer is lost: [`StorageError::Unavailable`].
    LostAnswer,
    /// Writes of objects: acknowledged and visible, but undone by [`FaultStorage::power_cut`]. Storages promise that
    /// this never happens; disks and gateways that lie about it exist.
    LostWrite,
    /// Writes of objects: acknowledged, but only the first so many bytes are stored.
    Torn(u64),
    /// Reads: this bit (counted from the first byte of what is returned, modulo its length) arrives flipped.
    Flip(u64),
    /// The operation takes this much longer.
    Delay(Duration),
}

type Predicate = Box<dyn Fn(&Operation) -> bool + Send>;
type Hook = Arc<dyn Fn(&Operation) + Send + Sync>;

struct Rule {
    when: Predicate,
    fault: Fault,
    left: u64,
}

#[derive(Default)]
struct Process {
    log: Vec<Operation>,
    crash: Option<(u64, Moment)>,
    crashed: bool,
    rules: Vec<Rule>,
    hook: Option<Hook>,
    /// How many further operations a new object stays out of this process's lists.
    list_lag: u64,
    fresh: Vec<(u64, String)>,
}

/// A write that a power cut undoes: the key and what was there before.
type Undo = (String, Option<Vec<u8>>);

/// One process's handle of a storage, with faults. Clones are the same process.
#[derive(Clone)]
pub struct FaultStorage {
    inner: Arc<dyn Storage>,
    process: Arc<Mutex<Process>>,
    volatile: Arc<Mutex<Vec<Undo>>>,
}

impl fmt::Debug for FaultStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultStorage")
            .field("inner", &self.inner)
            .field("operations", &self.operations())
            .field("crashed", &self.is_crashed())
            .finish()
    }
}

impl FaultStorage {
    /// A process that uses `inner`, with nothing injected yet.
    pub fn new(inner: Arc<dyn Storage>) -> Self {
        Self {
            inner,
            process: Arc::default(),
            volatile: Arc::default(),
        }
    }

    /// A second process on the same storage, running beside, with an own count and nothing injected.
    pub fn another(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            process: Arc::default(),
            volatile: Arc::clone(&self.volatile),
        }
    }

    /// The next process: this handle and its clones are dead from now on.
    pub fn restart(&self) -> Self {
        self.process().crashed = true;
        self.another()
    }

    /// The power fails: this process and what [`Fault::LostWrite`] acknowledged are gone. Returns the next process.
    ///
    /// # Errors
    ///
    /// Where the storage inside fails or refuses to take a write back.
    pub fn power_cut(&self) -> Result<Self> {
        let next = self.restart();
        let undo = std::mem::take(&mut *lock(&self.volatile));
        for (key, before) in undo.into_iter().rev() {
            match before {
                Some(content) => self.inner.put(&key, &[&content], &PutOptions::default())?,
                None => self.inner.delete(&key)?,
            }
        }
        Ok(next)
    }

    /// How many operations this process has begun.
    pub fn operations(&self) -> u64 {
        self.process().log.len() as u64
    }

    /// Every operation this process has begun, in order.
    pub fn log(&self) -> Vec<Operation> {
        self.process().log.clone()
    }

    /// Makes the process die at its operation `number` (the first is 1). That call and every later one returns
    /// [`StorageError::Unavailable`], as does one that other threads have under way.
    pub fn crash_at(&self, number: u64, moment: Moment) {
        self.process().crash = Some((number, moment));
    }

    /// Whether the process is dead.
    pub fn is_crashed(&self) -> bool {
        self.process().crashed
    }

    /// Injects `fault` into every operation that `when` holds for, until [`Self::heal`].
    pub fn inject(&self, fault: Fault, when: impl Fn(&Operation) -> bool + Send + 'static) {
        self.inject_times(u64::MAX, fault, when);
    }

    /// Injects `fault` into the first `times` operations that `when` holds for. Several rules may hold at once: the
    /// one added first decides.
    pub fn inject_times(&self, times: u64, fault: Fault, when: impl Fn(&Operation) -> bool + Send + 'static) {
        self.process().rules.push(Rule {
            when: Box::new(when),
            fault,
            left: times,
        });
    }

    /// Injects `fault` into operation `number` alone.
    pub fn inject_at(&self, number: u64, fault: Fault) {
        self.inject(fault, move |operation| operation.number == number);
    }

    /// Removes all rules, the planned crash, the hook and the list lag. A process that is dead stays so.
    pub fn heal(&self) {
        let mut process = self.process();
        process.rules.clear();
        process.crash = None;
        process.hook = None;
        process.list_lag = 0;
    }

    /// Calls `hook` before every operation of this process, in the thread that makes it. It may use other handles
    /// (and run a whole collection, say, right there), but not this one.
    pub fn before_each(&self, hook: impl Fn(&Operation) + Send + Sync + 'static) {
        self.process().hook = Some(Arc::new(hook));
    }

    /// Keeps what this process writes out of its lists for its next `operations` operations. Storages promise that
    /// this never happens; some gateways that claim to be S3 do it.
    pub fn lag_lists(&self, operations: u64) {
        self.process().list_lag = operations;
    }

    /// Flips one bit of a stored object (counted from its first byte, modulo its length), as bit rot does. An empty
    /// object stays as it is. Counts as no operation.
    ///
    /// # Errors
    ///
    /// Those of the storage inside.
    pub fn flip_bit(&self, key: &str, bit: u64) -> Result<()> {
        let mut content = self.inner.get(key)?;
        flip(&mut content, bit);
        self.inner.put(key, &[&content], &PutOptions::default())
    }

    /// Cuts a stored object to `length` bytes, as a torn write does. Counts as no operation.
    ///
    /// # Errors
    ///
    /// Those of the storage inside.
    pub fn truncate(&self, key: &str, length: u64) -> Result<()> {
        let content = self.inner.get(key)?;
        self.inner
            .put(key, &[first(&content, length)], &PutOptions::default())
    }

    /// The storage inside, for looking at the world without faults and without being counted.
    pub fn inner(&self) -> &Arc<dyn Storage> {
        &self.inner
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        lock(&self.process)
    }

    fn dead(&self, kind: Kind, key: &str) -> StorageError {
        self.unavailable(kind, key, "the process has crashed (injected)")
    }

    fn unavailable(&self, kind: Kind, key: &str, reason: &str) -> StorageError {
        StorageError::Unavailable {
            action: kind.action(),
            key: key.to_string(),
            location: self.location(),
            reason: reason.to_string(),
        }
    }

    /// Counts an operation and decides its fate: which fault it suffers, and whether the process dies after it.
    fn begin(&self, kind: Kind, key: &str, bytes: u64) -> Result<(Operation, Option<Fault>)> {
        let (operation, hook) = {
            let mut process = self.process();
            if process.crashed {
                return Err(self.dead(kind, key));
            }
            let number = process.log.len() as u64 + 1;
            let operation = Operation {
                number,
                kind,
                key: key.to_string(),
                bytes,
            };
            process.log.push(operation.clone());
            (operation, process.hook.clone())
        };
        if let Some(hook) = hook {
            hook(&operation);
        }
        let mut process = self.process();
        match process.crash {
            Some((at, Moment::Before)) if at == operation.number => {
                process.crashed = true;
                return Err(self.dead(kind, key));
            }
            // Marked dead at once, so that what other threads have under way fails as well.
            Some((at, Moment::After)) if at == operation.number => {
                process.crashed = true;
                return Ok((operation, None));
            }
            _ if process.crashed => return Err(self.dead(kind, key)),
            _ => {}
        }
        let rule = process
            .rules
            .iter_mut()
            .find(|rule| rule.left > 0 && (rule.when)(&operation));
        let fault = rule.map(|rule| {
            rule.left = rule.left.saturating_sub(1);
            rule.fault
        });
        Ok((operation, fault))
    }

    /// Runs one operation: faults that replace its effect first, then the effect, then those that change its answer.
    fn run<T>(
        &self,
        kind: Kind,
        key: &str,
        bytes: u64,
        effect: impl FnOnce(Option<Fault>) -> Result<T>,
    ) -> Result<T> {
        let (operation, fault) = self.begin(kind, key, bytes)?;
        let (action, owned, location) = (kind.action(), key.to_string(), self.location());
        match fault {
            Some(Fault::Io) => {
                let source = io::Error::other("input/output error (injected)");
                return Err(StorageError::Io {
                    action,
                    key: owned,
                    location,
                    source,
                });
            }
            Some(Fault::Full) => {
                return Err(StorageError::Full {
                    action,
                    key: owned,
                    location,
                });
            }
            Some(Fault::Unavailable) => return Err(self.unavailable(kind, key, "no answer (injected)")),
            Some(Fault::Denied) => {
                let reason = "refused (injected)".to_string();
                return Err(StorageError::Denied {
                    action,
                    key: owned,
                    location,
                    reason,
                });
            }
            Some(Fault::Short) if kind.is_read() => {
                return Err(StorageError::Short {
                    key: owned,
                    location,
                    wanted_end: bytes,
                });
            }
            Some(Fault::Delay(time)) => std::thread::sleep(time),
            _ => {}
        }
        let answer = effect(fault);
        let mut process = self.process();
        if matches!(kind, Kind::Put | Kind::PutNew) && answer.is_ok() && process.list_lag > 0 {
            let visible_from = operation.number.saturating_add(process.list_lag);
            process.fresh.push((visible_from, owned));
        }
        if process.crashed {
            return Err(self.dead(kind, key));
        }
        drop(process);
        match fault {
            Some(Fault::LostAnswer) => Err(self.unavailable(kind, key, "the answer was lost (injected)")),
            _ => answer,
        }
    }

    fn write(&self, kind: Kind, key: &str, parts: &[&[u8]], options: &PutOptions) -> Result<()> {
        let bytes = parts.iter().map(|part| part.len() as u64).sum();
        let put = |parts: &[&[u8]]| match kind {
            Kind::PutNew => self.inner.put_new(key, parts, options),
            _ => self.inner.put(key, parts, options),
        };
        self.run(kind, key, bytes, |fault| match fault {
            Some(Fault::Torn(length)) => put(&[first(&parts.concat(), length)]),
            Some(Fault::LostWrite) => {
                let before = match self.inner.get(key) {
                    Ok(content) => Some(content),
                    Err(error) if error.is_not_found() => None,
                    Err(error) => return Err(error),
                };
                put(parts)?;
                lock(&self.volatile).push((key.to_string(), before));
                Ok(())
            }
            _ => put(parts),
        })
    }
}

impl Storage for FaultStorage {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn put(&self, key: &str, parts: &[&[u8]], options: &PutOptions) -> Result<()> {
        self.write(Kind::Put, key, parts, options)
    }

    fn put_new(&self, key: &str, parts: &[&[u8]], options: &PutOptions) -> Result<()> {
        self.write(Kind::PutNew, key, parts, options)
    }

    fn get(&self, key: &str) -> Result<Vec<u8>> {
        self.run(Kind::Get, key, 0, |fault| {
            let mut content = self.inner.get(key)?;
            if let Some(Fault::Flip(bit)) = fault {
                flip(&mut content, bit);
            }
            Ok(content)
        })
    }

    fn get_range(&self, key: &str, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.run(Kind::GetRange, key, buffer.len() as u64, |fault| {
            self.inner.get_range(key, offset, buffer)?;
            if let Some(Fault::Flip(bit)) = fault {
                flip(buffer, bit);
            }
            Ok(())
        })
    }

    fn head(&self, key: &str) -> Result<ObjectInfo> {
        self.run(Kind::Head, key, 0, |_| self.inner.head(key))
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>> {
        let mut found = self.run(Kind::List, prefix, 0, |_| self.inner.list(prefix))?;
        let process = self.process();
        let now = process.log.len() as u64;
        found.retain(|object| {
            !process
                .fresh
                .iter()
                .any(|(from, key)| *from >= now && *key == object.key)
        });
        Ok(found)
    }

    fn delete(&self, key: &str) -> Result<()> {
        self.run(Kind::Delete, key, 0, |_| self.inner.delete(key))
    }

    fn retain(&self, key: &str, until: Millis) -> Result<()> {
        self.run(Kind::Retain, key, 0, |_| self.inner.retain(key, until))
    }

    fn thaw(&self, key: &str, keep: Duration) -> Result<Thaw> {
        self.run(Kind::Thaw, key, 0, |_| self.inner.thaw(key, keep))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn first(content: &[u8], length: u64) -> &[u8] {
    &content[..usize::try_from(length).unwrap_or(usize::MAX).min(content.len())]
}

fn flip(content: &mut [u8], bit: u64) {
    let bits = content.len() as u64 * 8;
    if bits > 0 {
        let bit = bit % bits;
        // Less than `content.len()`, so it fits.
        content[(bit / 8) as usize] ^= 1 << (bit % 8);
    }
}

#[cfg(test)]
mod tests;
