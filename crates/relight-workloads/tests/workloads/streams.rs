//! Streams of all lengths, and those that break off.

use std::io::{self, Read};
use std::sync::atomic::AtomicU64;

use relight_repo::RepoError;
use relight_repo::snapshot::Snapshot;
use relight_workloads::{WorkloadError, stream};

use crate::lab::{GO_ON, Lab};
use crate::tree::noise;

fn read_back(lab: &Lab, snapshot: &Snapshot) -> Vec<u8> {
    let mut back = Vec::new();
    stream::restore(
        &lab.reader(),
        &snapshot.archives[0],
        &mut back,
        &AtomicU64::new(0),
        &GO_ON,
    )
    .unwrap();
    back
}

/// Gives as many bytes at a time as it likes, and is interrupted at times.
struct Uneven<'a>(&'a [u8], u32);

impl Read for Uneven<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.1 = self.1.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if self.1.is_multiple_of(7) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let count = buffer
            .len()
            .min(self.0.len())
            .min(1 + (self.1 >> 12) as usize % 100_000);
        buffer[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        Ok(count)
    }
}

#[test]
fn streams_of_any_length() {
    let lab = Lab::new();
    for length in [0, 1, 4096, (256 << 10) - 1, 4 << 20, 33_000_001] {
        let content = noise(length + 9, length as usize);
        let snapshot = lab.save_stream(&mut Uneven(&content, 1)).unwrap();
        assert_eq!(snapshot.size(), length);
        assert!(read_back(&lab, &snapshot) == content, "{length} bytes");
    }
}

#[test]
fn zeros_are_not_stored() {
    let lab = Lab::new();
    let snapshot = lab.save_stream(&mut io::repeat(0).take(100_000_000)).unwrap();
    assert!(snapshot.figures.stored < 64 << 10, "{:?}", snapshot.figures);
    let back = read_back(&lab, &snapshot);
    assert_eq!(back.len(), 100_000_000);
    assert!(back.iter().all(|byte| *byte == 0));
}

struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::new(
            io::ErrorKind::ConnectionReset,
            "the guest went away",
        ))
    }
}

#[test]
fn a_stream_that_breaks_off_leaves_no_snapshot_and_is_not_in_vain() {
    let mut lab = Lab::new();
    let content = noise(10, 60 << 20);
    let failed = lab
        .save_stream(&mut content[..50 << 20].chain(Broken))
        .unwrap_err();
    assert!(
        matches!(failed, WorkloadError::Repo(RepoError::Source(_))),
        "{failed}"
    );
    assert!(failed.to_string().contains("the guest went away"), "{failed}");
    assert!(lab.repository.snapshot_ids().unwrap().is_empty());
    assert!(lab.storage.list("sessions/").unwrap().is_empty());
    lab.reopen();
    let snapshot = lab.save_stream(&mut &content[..]).unwrap();
    println!("{:?}", snapshot.figures);
    assert!(
        snapshot.figures.added < 30 << 20,
        "most was there: {:?}",
        snapshot.figures
    );
    assert!(read_back(&lab, &snapshot) == content);
}
