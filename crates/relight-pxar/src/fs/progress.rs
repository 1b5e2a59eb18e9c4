//! How far a capture or restore has come, for others to look at while it runs.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Counters that one thread raises and any other may read.
#[derive(Debug, Default)]
pub struct Progress {
    /// Regular files done.
    pub files: AtomicU64,
    /// Directories entered.
    pub directories: AtomicU64,
    /// Links, devices, pipes and sockets done.
    pub others: AtomicU64,
    /// Bytes of content done, whether read, reused or skipped.
    pub bytes: Arc<AtomicU64>,
    current: Mutex<Vec<u8>>,
}

impl Progress {
    /// Counts bytes where somebody else looks.
    pub fn counting(bytes: Arc<AtomicU64>) -> Self {
        Self {
            bytes,
            ..Self::default()
        }
    }

    /// The path under work: that of the last directory or large file begun.
    pub fn current_path(&self) -> Vec<u8> {
        self.current.lock().map(|path| path.clone()).unwrap_or_default()
    }

    pub(super) fn set_current_path(&self, path: &[u8]) {
        // Whoever looks at it for a moment must not hold up the work.
        if let Ok(mut current) = self.current.try_lock() {
            current.clear();
            current.extend_from_slice(path);
        }
    }
}

/// Raises a counter.
pub(super) fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

/// Whether the flag asks to stop.
pub(super) fn is_set(flag: &AtomicBool) -> bool {
    flag.load(Ordering::Relaxed)
}
