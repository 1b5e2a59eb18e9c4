//! The clocks of this machine, as the scheduler compares them.

use std::sync::OnceLock;
use std::time::Duration;

use jiff::Timestamp;
use relight_model::schedule::Clock;
use rustix::time::{ClockId, clock_gettime};

/// Where the system tells which boot this is (proc(5)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What they say now.
pub fn read() -> Clock {
    // A clock that nobody sets and that goes on while the machine sleeps.
    let monotonic = clock_gettime(ClockId::Boottime);
    Clock {
        wall: Timestamp::now(),
        monotonic: Duration::new(
            monotonic.tv_sec.unsigned_abs(),
            u32::try_from(monotonic.tv_nsec).unwrap_or(0),
        ),
        boot: boot(),
    }
}

/// A number that is another one after each boot.
fn boot() -> u64 {
    static BOOT: OnceLock<u64> = OnceLock::new();
    *BOOT.get_or_init(|| {
        let id = std::fs::read_to_string(BOOT_ID).unwrap_or_default();
        let digits: String = id.chars().filter(char::is_ascii_hexdigit).take(16).collect();
        u64::from_str_radix(&digits, 16).unwrap_or(0)
    })
}
