//! Memory stays flat however large an archive is. Measured in a process of its own.

use std::io::{self, Read, Write};
use std::process::Command;
use std::sync::atomic::AtomicU64;

use relight_workloads::stream;

use crate::lab::{GO_ON, Lab};
use crate::tree::noise;

const LENGTH: u64 = 3 << 30;
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
        let count = buffer.len().min((LENGTH - self.at).min(64 << 10) as usize);
        let (block, within) = (self.at / (8 << 20), self.at % (8 << 20));
        if within < 2 << 20 {
            let from = (block * 4099 + within) as usize % (self.noise.len() - count);
            buffer[..count].copy_from_slice(&self.noise[from..from + count]);
        } else {
            buffer[..count].fill(0);
        }
        self.at += count as u64;
        Ok(count)
    }
}

/// Counts, and adds up what comes.
struct Sum(u64, u64);

impl Sum {
    fn of(bytes: &[u8], sum: u64) -> u64 {
        bytes.iter().fold(sum, |sum, &byte| sum.rotate_left(1) ^ u64::from(byte))
    }
}

impl Write for Sum {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        self.1 = Self::of(bytes, self.1);
        Ok(bytes.len())
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
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    let lab = Lab::new();
    let snapshot = lab.save_stream(&mut source()).unwrap();
    let saved = peak();
    let mut back = Sum(0, 0);
    stream::restore(&lab.reader(), &snapshot.archives[0], &mut back, &AtomicU64::new(0), &GO_ON).unwrap();
    println!("peak: {saved} KiB after the backup, {} KiB after the restore", peak());
    let (mut wanted, mut buffer, mut from) = (0, vec![0; 64 << 10], source());
    loop {
        let count = from.read(&mut buffer).unwrap();
        if count == 0 {
            break;
        }
        wanted = Sum::of(&buffer[..count], wanted);
    }
    assert_eq!((back.0, back.1), (LENGTH, wanted));
    assert!(peak() < MOST, "{} KiB", peak());
}
