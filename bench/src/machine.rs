//! What a run was measured on. Figures without it mean nothing.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use relight_model::ByteSize;
use serde::{Deserialize, Serialize};

use crate::failure::{Doing, Result};

/// The machine, as far as it matters for a backup.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    /// Model name of the processor.
    pub cpu: String,
    /// Processors this process may use.
    pub cores: usize,
    /// Instructions that the tools may use for hashing and sealing.
    pub features: Vec<String>,
    /// Main memory in bytes.
    pub memory_bytes: u64,
    /// Release of the kernel.
    pub kernel: String,
    /// Name and version of the distribution.
    pub distribution: String,
    /// File system and device of the working directory.
    pub disk: String,
    /// What the disk took, with everything on it at the end, in bytes a second. An upper bound for whoever writes
    /// durably.
    pub disk_write_rate: u64,
    /// Load of the last minute before the run: others who had a part in the figures.
    pub load_before: f64,
}

const PROBE_BYTES: u64 = 256 << 20;

impl Machine {
    /// Looks at this machine, and at the disk under `work` with a short write probe.
    pub fn look(work: &Path) -> Result<Self> {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let field = |name: &str| {
            let line = cpuinfo.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_once(':'))
                .map_or("", |(_, value)| value.trim())
                .to_owned()
        };
        let flags = field("flags");
        let interesting = [
            "sha_ni",
            "aes",
            "vaes",
            "pclmulqdq",
            "vpclmulqdq",
            "avx2",
            "avx512f",
        ];
        let features = interesting
            .into_iter()
            .filter(|wanted| flags.split(' ').any(|flag| flag == *wanted));
        let memory_kib = read("/proc/meminfo").lines().find_map(|line| {
            line.strip_prefix("MemTotal:")?
                .trim()
                .strip_suffix(" kB")?
                .parse::<u64>()
                .ok()
        });
        let distribution = read("/etc/os-release")
            .lines()
            .find_map(|line| Some(line.strip_prefix("PRETTY_NAME=")?.trim_matches('"').to_owned()));
        Ok(Self {
            cpu: field("model name"),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            features: features.map(str::to_owned).collect(),
            memory_bytes: memory_kib.unwrap_or(0) * 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            distribution: distribution.unwrap_or_default(),
            disk: disk_of(work, &read("/proc/self/mountinfo")),
            disk_write_rate: probe(work)?,
            load_before: read("/proc/loadavg")
                .split(' ')
                .next()
                .and_then(|load| load.parse().ok())
                .unwrap_or(0.0),
        })
    }

    /// A Markdown list of all this.
    pub fn describe(&self) -> String {
        let features = self.features.join(" ");
        format!(
            "- processor: {}, {} cores ({features})\n- memory: {}; kernel {}; {}\n- disk: {}, takes {}/s written \
             through\n- load before the run: {}\n",
            self.cpu,
            self.cores,
            ByteSize(self.memory_bytes),
            self.kernel,
            self.distribution,
            self.disk,
            ByteSize(self.disk_write_rate),
            self.load_before
        )
    }
}

/// File system type and device of the mount that holds `path`, from the text of `mountinfo` (see proc(5)).
fn disk_of(path: &Path, mountinfo: &str) -> String {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mounts = mountinfo.lines().filter_map(|line| {
        let (own, rest) = line.split_once(" - ")?;
        let at = own.split(' ').nth(4)?;
        let mut rest = rest.split(' ');
        path.starts_with(at)
            .then_some((at.len(), rest.next()?, rest.next()?))
    });
    // Of mounts over one another the last one is seen.
    let found = mounts.max_by_key(|&(length, ..)| length);
    found.map_or_else(
        || "unknown".to_owned(),
        |(_, kind, device)| format!("{kind} on {device}"),
    )
}

fn probe(work: &Path) -> Result<u64> {
    let path = work.join("disk-probe");
    let doing = || format!("probe the disk with {}", path.display());
    let mut piece = vec![0; 1 << 20];
    for (index, byte) in piece.iter_mut().enumerate() {
        *byte = (index * index / 7) as u8;
    }
    rustix::fs::sync();
    let started = Instant::now();
    let mut file = File::create(&path).doing(doing)?;
    for _ in 0..PROBE_BYTES >> 20 {
        file.write_all(&piece).doing(doing)?;
    }
    file.sync_all().doing(doing)?;
    let elapsed = started.elapsed();
    drop(file);
    fs::remove_file(&path).doing(doing)?;
    Ok((PROBE_BYTES as f64 / elapsed.as_secs_f64()) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_mount_holds_the_path() {
        let mountinfo = "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
                         30 22 0:25 / /srv rw shared:2 - xfs /dev/vdb rw\n";
        assert_eq!(disk_of(Path::new("/srv/bench"), mountinfo), "xfs on /dev/vdb");
        assert_eq!(disk_of(Path::new("/srvx"), mountinfo), "ext4 on /dev/vda");
        assert_eq!(disk_of(Path::new("/x"), ""), "unknown");
    }
}
