//! How the host is: what `/proc` and the root file system say (proc(5), statvfs(3)). What cannot be read is zero.

use std::collections::HashMap;
use std::fs;
use std::sync::{Mutex, PoisonError};

/// Bytes of something.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Space {
    pub(super) total: u64,
    pub(super) used: u64,
    pub(super) free: u64,
}

/// Remembers the counters of the last question, so that load is that of the time since.
#[derive(Default)]
pub(super) struct Host {
    last: Mutex<Ticks>,
}

#[derive(Clone, Copy, Default)]
struct Ticks {
    all: u64,
    idle: u64,
    wait: u64,
}

fn ticks() -> Ticks {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let first = stat.lines().next().unwrap_or_default();
    // user nice system idle iowait irq softirq steal
    let fields: Vec<u64> = first
        .split_whitespace()
        .skip(1)
        .take(8)
        .filter_map(|field| field.parse().ok())
        .collect();
    let field = |at: usize| fields.get(at).copied().unwrap_or(0);
    Ticks {
        all: fields.iter().sum(),
        idle: field(3),
        wait: field(4),
    }
}

impl Host {
    /// Shares of processor time that were used, and waited for storage.
    pub(super) fn load(&self) -> (f64, f64) {
        let now = ticks();
        let last = std::mem::replace(
            &mut *self.last.lock().unwrap_or_else(PoisonError::into_inner),
            now,
        );
        let all = now.all.saturating_sub(last.all).max(1);
        #[allow(clippy::cast_precision_loss, reason = "a share that people are shown")]
        let share = |ticks: u64| (ticks as f64 / all as f64).clamp(0.0, 1.0);
        let idle = now.idle.saturating_sub(last.idle) + now.wait.saturating_sub(last.wait);
        (
            share(all.saturating_sub(idle)),
            share(now.wait.saturating_sub(last.wait)),
        )
    }

    /// Memory and swap.
    pub(super) fn memory(&self) -> (Space, Space) {
        let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let fields: HashMap<&str, u64> = text
            .lines()
            .filter_map(|line| {
                let (name, value) = line.split_once(':')?;
                let kib: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
                Some((name, kib.saturating_mul(1024)))
            })
            .collect();
        let field = |name: &str| fields.get(name).copied().unwrap_or(0);
        let space = |total: u64, free: u64| Space {
            total,
            used: total.saturating_sub(free),
            free,
        };
        (
            space(field("MemTotal"), field("MemAvailable")),
            space(field("SwapTotal"), field("SwapFree")),
        )
    }

    /// The root file system.
    pub(super) fn root() -> Space {
        rustix::fs::statvfs("/").map_or_else(
            |_| Space::default(),
            |stat| Space {
                total: stat.f_blocks.saturating_mul(stat.f_frsize),
                used: stat
                    .f_blocks
                    .saturating_sub(stat.f_bfree)
                    .saturating_mul(stat.f_frsize),
                free: stat.f_bavail.saturating_mul(stat.f_frsize),
            },
        )
    }

    /// Load averages over 1, 5 and 15 minutes.
    pub(super) fn averages() -> Vec<f64> {
        let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        text.split(' ')
            .take(3)
            .map(|field| field.parse().unwrap_or(0.0))
            .collect()
    }

    /// Seconds since the host was started.
    pub(super) fn uptime() -> u64 {
        let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
        text.split(['.', ' '])
            .next()
            .and_then(|seconds| seconds.parse().ok())
            .unwrap_or(0)
    }

    /// Whether it was started by EFI, and with Secure Boot (UEFI specification, global variable `SecureBoot`).
    pub(super) fn boot() -> (bool, bool) {
        let variable = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
        // Four bytes of attributes, then the value.
        let secure = fs::read(variable).is_ok_and(|bytes| bytes.get(4) == Some(&1));
        (std::path::Path::new("/sys/firmware/efi").exists(), secure)
    }

    /// Name and number of processors.
    pub(super) fn processors() -> (String, usize) {
        let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = text
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let model = model.map_or("unknown", |(_, model)| model);
        (
            model.to_string(),
            std::thread::available_parallelism().map_or(1, usize::from),
        )
    }
}
