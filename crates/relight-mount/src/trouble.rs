//! Says what could not be read: every error the kernel is told comes with a line that names snapshot and path. A file
//! that is tried again and again is named once a minute.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// An object is not named again before.
const AGAIN: Duration = Duration::from_secs(60);
/// Objects of which it is remembered that they were named.
const REMEMBERED: usize = 1024;

/// What was said already.
#[derive(Default)]
pub struct Trouble {
    said: Mutex<HashMap<u64, Instant>>,
}

impl Trouble {
    /// Says that an object could not be read, unless that was said just before. `what` names it and is only called if
    /// it is needed.
    pub fn say(&self, number: u64, what: impl FnOnce() -> String, error: &dyn Display) {
        let now = Instant::now();
        let mut said = self.said.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if said
            .get(&number)
            .is_some_and(|&at| now.duration_since(at) < AGAIN)
        {
            return;
        }
        if said.len() >= REMEMBERED {
            said.clear();
        }
        said.insert(number, now);
        drop(said);
        tracing::error!("{}: {error}", what());
    }
}
