//! What is open: files and directories by the numbers the kernel was given for them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use fuser::FileHandle;

/// Open things of one kind.
pub struct Handles<T> {
    next: AtomicU64,
    open: RwLock<HashMap<u64, Arc<T>>>,
}

impl<T> Default for Handles<T> {
    fn default() -> Self {
        Self {
            next: AtomicU64::new(1),
            open: RwLock::default(),
        }
    }
}

impl<T> Handles<T> {
    /// Keeps something and numbers it.
    pub fn add(&self, thing: T) -> FileHandle {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.open
            .write()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .insert(number, Arc::new(thing));
        FileHandle(number)
    }

    /// The thing of that number.
    pub fn get(&self, handle: FileHandle) -> Option<Arc<T>> {
        self.open
            .read()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .get(&handle.0)
            .cloned()
    }

    /// Lets go of it.
    pub fn remove(&self, handle: FileHandle) {
        self.open
            .write()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .remove(&handle.0);
    }
}
