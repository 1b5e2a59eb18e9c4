//! Memory stays flat however large an archive is. Measured in a process of its own.

use std::io::{self, Read, Write};
use std::process::Command;
use std::sync::atomic::AtomicU64;

use relight_workloads::stream;

use crate::lab::{GO_ON, Lab};
use crate::tree::noise;

const LENGTH: u64 = 3 << 30;
/// Each block begins with so much that never repeats; the rest of it is a hole.
const NOISE: u64 = 1 << 20;
const BLOCK: u64 = 8 << 20;
const CHILD: &str = "RELIGHT_TEST_MEMORY";
/// Peak resident memory that is allowed, in KiB.
const MOST: u64 = 300 << 10;

/// Long holes with a little that never repeats between them.
struct Sparse {
    at: u64,
    noise: Vec<u8>,
}

impl Read for Sparse {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (block, within) = (self.at / BLOCK, self.at % BLOCK);
        let is_noise = within < NOISE;
        let end = if is_noise { NOISE } else { BLOCK }.min(LENGTH - self.at + within);
        let count = buffer.len().min((end - within) as usize);
        if is_noise {
            let from = (block * 4099 + within) as usize;
            let noise = self.noise[from..from + count].iter();
            buffer
                .iter_mut()
                .zip(noise)
                .for_each(|(byte, noise)| *byte = noise ^ (block as u8));
        } else {
            buffer[..count].fill(0);
        }
        self.at += count as u64;
        Ok(count)
    }
}

/// Compares what comes with what it must be.
struct Check {
    wanted: Sparse,
    buffer: Vec<u8>,
}

impl Write for Check {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let wanted = &mut self.buffer[..bytes.len().min(64 << 10)];
        self.wanted.read_exact(wanted)?;
        assert!(bytes[..wanted.len()] == *wanted, "before byte {}", self.wanted.at);
        Ok(wanted.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn source() -> Sparse {
    Sparse {
        at: 0,
        noise: noise(11, 16 << 20),
    }
}

fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn memory_is_bounded() {
    if std::env::var_os(CHILD).is_none() {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "memory::memory_is_bounded", "--nocapture"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        println!("{}", String::from_utf8_lossy(&output.stdout));
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        return;
    }
    let lab = Lab::new();
    let snapshot = lab.save_stream(&mut source()).unwrap();
    let saved = peak();
    let mut back = Check {
        wanted: source(),
        buffer: vec![0; 64 << 10],
    };
    stream::restore(
        &lab.reader(),
        &snapshot.archives[0],
        &mut back,
        &AtomicU64::new(0),
        &GO_ON,
    )
    .unwrap();
    assert_eq!(back.wanted.at, LENGTH);
    println!(
        "peak: {saved} KiB after the backup, {} KiB after the restore",
        peak()
    );
    assert!(peak() < MOST, "{} KiB", peak());
}
