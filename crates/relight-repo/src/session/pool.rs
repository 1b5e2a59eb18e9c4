//! Memory that goes round: chunk and pack buffers are cleared once and used again, because fresh pages cost more
//! time than hashing what is written to them.

use std::sync::Mutex;

/// A pool of buffers of one kind.
pub(crate) struct Pool<T> {
    free: Mutex<Vec<T>>,
    make: Box<dyn Fn() -> T + Send + Sync>,
    most: usize,
}

impl<T> Pool<T> {
    /// Buffers are made by `make`; at most `most` are kept.
    pub fn new(most: usize, make: impl Fn() -> T + Send + Sync + 'static) -> Self {
        Self {
            free: Mutex::new(Vec::new()),
            make: Box::new(make),
            most,
        }
    }

    /// A used buffer or a new one. Its content is whatever it was.
    pub fn take(&self) -> T {
        let used = self
            .free
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .pop();
        used.unwrap_or_else(|| (self.make)())
    }

    /// Gives a buffer back.
    pub fn give(&self, buffer: T) {
        let mut free = self.free.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if free.len() < self.most {
            free.push(buffer);
        }
    }
}
