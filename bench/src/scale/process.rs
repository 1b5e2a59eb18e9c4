//! What this process has used so far, as the kernel counts it.

use std::fs;

use serde::{Deserialize, Serialize};

/// Memory of this process, in bytes.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Memory {
    /// Its own: not backed by files.
    pub anonymous: u64,
    /// Mapped files, which the kernel can drop at any moment.
    pub files: u64,
    /// The most of both together so far.
    pub peak: u64,
}

/// Reads this process's memory from `/proc/self/status`, see proc(5).
pub fn memory() -> Memory {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    };
    Memory {
        anonymous: field("RssAnon:"),
        files: field("RssFile:"),
        peak: field("VmHWM:"),
    }
}

/// Bytes that this process has caused to be read from a disk.
pub fn disk_read() -> u64 {
    let io = fs::read_to_string("/proc/self/io").unwrap_or_default();
    io.lines()
        .find_map(|line| line.strip_prefix("read_bytes:")?.trim().parse().ok())
        .unwrap_or(0)
}

/// Page faults that had to wait for a disk.
pub fn major_faults() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program, in parentheses, may hold blanks. `majflt` is the tenth field after it.
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    after
        .split_ascii_whitespace()
        .nth(9)
        .and_then(|field| field.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_process_uses_memory() {
        let memory = super::memory();
        assert!(memory.anonymous > 0 && memory.peak >= memory.anonymous);
    }
}
