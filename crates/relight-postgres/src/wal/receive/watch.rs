//! Watches over the slot while its log is received.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::options::Options;
use super::slot::SlotState;
use crate::protocol::Connection;

/// How often the slot is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Looks at the slot now and then, and raises the alarm.
pub(super) struct Watch<'a> {
    options: &'a Options,
    connection: std::sync::Mutex<Connection>,
}

impl<'a> Watch<'a> {
    pub fn new(options: &'a Options, connection: Connection) -> Self {
        Self {
            options,
            connection: std::sync::Mutex::new(connection),
        }
    }

    pub fn run(&self, stop: &AtomicBool) {
        let mut connection = self
            .connection
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut said: Option<(String, Timestamp)> = None;
        let mut looked: Option<Instant> = None;
        while !stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(50));
            if looked.is_some_and(|looked| looked.elapsed() < LOOK_EVERY) {
                continue;
            }
            looked = Some(Instant::now());
            // If the server does not answer, the other connection notices as well.
            let Ok(Some(slot)) = SlotState::look(&mut connection, &self.options.slot) else {
                continue;
            };
            let alarm = slot.alarm(&self.options.slot, self.options.alarm);
            let now = Timestamp::now();
            if let Some(following) = &self.options.following {
                following.well(now, Some(slot.kept()), slot.limit);
                following.alarm("slot", alarm.clone());
            }
            // The same words once a minute.
            let repeated = |alarm: &String| {
                said.as_ref()
                    .is_some_and(|(words, when)| words == alarm && now.duration_since(*when).as_secs() < 60)
            };
            if let Some(alarm) = alarm.filter(|alarm| !repeated(alarm)) {
                tracing::warn!("{alarm}");
                said = Some((alarm, now));
            }
        }
    }
}
