//! Disk images of all shapes.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use relight_repo::session::IMAGE_CHUNK;
use relight_workloads::WorkloadError;
use relight_workloads::image::Target;

use crate::lab::{Dice, Lab, stored};
use crate::tree::noise;

const CHUNK: u64 = IMAGE_CHUNK as u64;

fn restored(lab: &Lab, image: &Path) -> PathBuf {
    let snapshot = lab.save_image(image).unwrap();
    let target = image.with_extension("restored");
    let _ = fs::remove_file(&target);
    lab.restore_image(&snapshot.archives[0], &target, Target::NewFile)
        .unwrap();
    target
}

#[test]
fn odd_sizes() {
    let lab = Lab::new();
    for size in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 4097] {
        let image = lab.path("image");
        fs::write(&image, noise(size + 1, size as usize)).unwrap();
        let back = restored(&lab, &image);
        assert!(
            fs::read(&back).unwrap() == fs::read(&image).unwrap(),
            "{size} bytes"
        );
    }
}

#[test]
fn holes_cost_nothing_and_stay_holes() {
    let lab = Lab::new();
    let image = lab.path("image");
    File::create(&image).unwrap().set_len(10 << 30).unwrap();
    let began = Instant::now();
    let back = restored(&lab, &image);
    assert!(began.elapsed().as_secs() < 60, "{:?}", began.elapsed());
    let meta = back.metadata().unwrap();
    assert_eq!((meta.len(), meta.blocks()), (10 << 30, 0));
    assert_eq!(stored(&*lab.storage, "packs/data/"), 0);

    // Data in the midst of holes: smaller than a chunk, over the edge of two, at an odd end.
    let file = OpenOptions::new().write(true).open(&image).unwrap();
    file.set_len((10 << 30) + 12_345).unwrap();
    for (at, length) in [
        (5 * CHUNK + 8192, 4096),
        (100 * CHUNK - 4096, 8192),
        (2_500 * CHUNK, CHUNK),
    ] {
        file.write_all_at(&noise(at, length as usize), at).unwrap();
    }
    let back = restored(&lab, &image);
    let (wanted, found) = (File::open(&image).unwrap(), File::open(&back).unwrap());
    assert_eq!(found.metadata().unwrap().len(), (10 << 30) + 12_345);
    assert!(found.metadata().unwrap().blocks() * 512 < 64 << 20);
    for at in [
        4 * CHUNK,
        5 * CHUNK,
        99 * CHUNK,
        100 * CHUNK,
        2_499 * CHUNK,
        2_500 * CHUNK,
    ] {
        let (mut first, mut second) = (vec![0; 2 * IMAGE_CHUNK], vec![1; 2 * IMAGE_CHUNK]);
        wanted.read_exact_at(&mut first, at).unwrap();
        found.read_exact_at(&mut second, at).unwrap();
        assert!(first == second, "at {at}");
    }
}

#[test]
fn what_was_in_the_target_is_gone() {
    let lab = Lab::new();
    let image = lab.path("image");
    let file = File::create(&image).unwrap();
    file.set_len(10 * CHUNK + 5000).unwrap();
    file.write_all_at(&noise(1, 300_000), 3 * CHUNK + 100_000)
        .unwrap();
    file.write_all_at(&noise(2, 100), 10 * CHUNK + 4000).unwrap();
    let snapshot = lab.save_image(&image).unwrap();
    let archive = &snapshot.archives[0];
    let wanted = fs::read(&image).unwrap();

    let target = lab.path("target");
    fs::write(&target, vec![0xaa; wanted.len() + 7]).unwrap();
    lab.restore_image(archive, &target, Target::Overwrite).unwrap();
    let found = fs::read(&target).unwrap();
    assert!(found[..wanted.len()] == wanted);
    assert_eq!(
        found[wanted.len()..],
        [0xaa; 7],
        "what is behind the image is not touched"
    );

    fs::write(&target, vec![0xaa; wanted.len() - 1]).unwrap();
    let refused = lab.restore_image(archive, &target, Target::Overwrite);
    assert!(matches!(refused, Err(WorkloadError::Refused(_))), "{refused:?}");
    assert!(
        fs::read(&target).unwrap().iter().all(|byte| *byte == 0xaa),
        "and nothing was written"
    );
    assert!(
        lab.restore_image(archive, &target, Target::NewFile).is_err(),
        "a new file takes the place of none"
    );
}

/// A loop device that is let go of in the end.
struct Loop(PathBuf);

impl Loop {
    fn over(file: &Path) -> Option<Self> {
        let made = Command::new("losetup")
            .args(["--find", "--show"])
            .arg(file)
            .output()
            .ok()?;
        let path = String::from_utf8(made.stdout).unwrap();
        made.status.success().then(|| Self(path.trim().into()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.0).status();
    }
}

#[test]
fn block_devices() {
    let lab = Lab::new();
    let (source, target) = (lab.path("source"), lab.path("target"));
    let size = 12 * CHUNK + 512;
    let mut content = noise(3, size as usize);
    content[CHUNK as usize..6 * IMAGE_CHUNK + 512].fill(0);
    fs::write(&source, &content).unwrap();
    fs::write(&target, vec![0xaa; size as usize + 4096]).unwrap();
    let (Some(from), Some(to)) = (Loop::over(&source), Loop::over(&target)) else {
        eprintln!("not tried: loop devices need root");
        return;
    };
    let snapshot = lab.save_image(&from.0).unwrap();
    assert_eq!(snapshot.archives[0].root.size, size);
    lab.restore_image(&snapshot.archives[0], &to.0, Target::Overwrite)
        .unwrap();
    drop((from, to));
    let found = fs::read(&target).unwrap();
    assert!(found[..size as usize] == content);
    assert!(found[size as usize..].iter().all(|byte| *byte == 0xaa));
}

#[test]
fn images_that_grow_and_shrink_store_what_is_new() {
    let lab = Lab::new();
    let image = lab.path("image");
    let mut content = noise(4, 6 * IMAGE_CHUNK);
    let mut snapshots = Vec::new();
    for change in 0..4 {
        match change {
            1 => content.extend(noise(5, IMAGE_CHUNK / 2)),
            2 => content.truncate(3 * IMAGE_CHUNK + 77),
            3 => content[2 * IMAGE_CHUNK + 5] ^= 1,
            _ => {}
        }
        fs::write(&image, &content).unwrap();
        let snapshot = lab.save_image(&image).unwrap();
        if change > 0 {
            assert!(
                snapshot.figures.added <= CHUNK + 4096,
                "{change}: {:?}",
                snapshot.figures
            );
        }
        snapshots.push((snapshot, content.clone()));
    }
    for (number, (snapshot, wanted)) in snapshots.iter().enumerate() {
        let target = lab.path(&format!("restored {number}"));
        lab.restore_image(&snapshot.archives[0], &target, Target::NewFile)
            .unwrap();
        assert!(fs::read(&target).unwrap() == *wanted, "{number}");
    }
}

/// Raised when it goes out of scope, also by a panic: a thread that waits for the flag ends with the test.
struct Raised<'a>(&'a std::sync::atomic::AtomicBool);

impl Drop for Raised<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

#[test]
fn images_that_change_while_they_are_read() {
    let lab = Lab::new();
    let image = lab.path("image");
    let size = 16 * CHUNK;
    fs::write(&image, noise(6, size as usize)).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let snapshot = std::thread::scope(|scope| {
        scope.spawn(|| {
            let file = OpenOptions::new().write(true).open(&image).unwrap();
            let mut dice = Dice(7);
            // It only grows: becoming shorter is another matter, and no snapshot.
            let mut length = size;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                file.write_all_at(&dice.next().to_le_bytes(), dice.below(size - 8))
                    .unwrap();
                if dice.below(100) == 0 {
                    length += dice.below(1000);
                    file.set_len(length).unwrap();
                }
            }
        });
        let _writer_ends = Raised(&stop);
        lab.save_image(&image).unwrap()
    });
    // What it holds is some mix, but it is sound.
    assert!(lab.verify().is_clean());
    let target = lab.path("restored");
    lab.restore_image(&snapshot.archives[0], &target, Target::NewFile)
        .unwrap();
    assert_eq!(target.metadata().unwrap().len(), snapshot.archives[0].root.size);
}

#[test]
fn an_image_that_is_cut_short_while_it_is_read_gives_no_snapshot() {
    let lab = Lab::new();
    let image = lab.path("image");
    fs::write(&image, noise(8, 40 * IMAGE_CHUNK)).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let over = std::sync::atomic::AtomicBool::new(false);
    let done = std::sync::atomic::AtomicU64::new(0);
    let failed = std::thread::scope(|scope| {
        scope.spawn(|| {
            while done.load(std::sync::atomic::Ordering::Relaxed) < CHUNK {
                if over.load(std::sync::atomic::Ordering::Relaxed) {
                    return;
                }
                std::thread::yield_now();
            }
            OpenOptions::new()
                .write(true)
                .open(&image)
                .unwrap()
                .set_len(20 * CHUNK)
                .unwrap();
        });
        let _cutter_ends = Raised(&over);
        let session = lab.session();
        relight_workloads::image::back_up(&session, "disk", &image, None, &done, &stop)
    });
    let error = failed.unwrap_err().to_string();
    assert!(
        error.contains("became shorter") && error.contains("image"),
        "{error}"
    );
    assert!(lab.repository.snapshot_ids().unwrap().is_empty());
    assert!(lab.storage.list("sessions/").unwrap().is_empty());
}
