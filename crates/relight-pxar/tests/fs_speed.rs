//! How long trees of many small files take. Run with
//! `cargo test --release -p relight-pxar --test fs_speed -- --ignored --nocapture`.
#![allow(clippy::unwrap_used)]

mod fs_support;

use std::fs;
use std::time::{Duration, Instant};

use fs_support::*;
use relight_pxar::fs::extract::ExtractOptions;

/// `SPEED_FILES` in the environment says otherwise, `SPEED_DIR` where the files lie.
fn files() -> u32 {
    std::env::var("SPEED_FILES").map_or(200_000, |number| number.parse().unwrap())
}

fn cpu() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> (T, f64) {
    let (start, used) = (Instant::now(), cpu());
    let result = work();
    let (wall, used) = (start.elapsed(), cpu() - used);
    let each = wall.as_secs_f64() * 1e6 / f64::from(files());
    println!("{what}: {wall:.2?} ({each:.1} µs a file), processor {used:.2?}");
    (result, each)
}

#[test]
#[ignore = "makes 200,000 files; for release builds"]
fn many_small_files() {
    let scratch = match std::env::var_os("SPEED_DIR") {
        Some(dir) => tempfile::tempdir_in(dir).unwrap(),
        None => tempfile::tempdir().unwrap(),
    };
    let source = scratch.path().join("source");
    let content = tree::noise(1, 4096);
    for directory in 0..files() / 100 {
        let path = source.join(format!("{}/{directory}", directory / 50));
        fs::create_dir_all(&path).unwrap();
        for file in 0..100 {
            let length = (file * 37 % 4000) as usize;
            fs::write(path.join(format!("file number {file}")), &content[..length]).unwrap();
        }
    }
    let ((mut archive, _), _) = timed("first capture", || capture_clean(&source, None));
    println!(
        "metadata {} MiB, stat records {} MiB",
        archive.metadata.len() >> 20,
        archive.stats.len() >> 20
    );
    age(&mut archive);
    let ((_, report), each) = timed("unchanged capture", || capture_clean(&source, Some(&archive)));
    assert_eq!(report.bytes_read, 0);
    assert!(each < 10.0, "{each} µs a file unchanged");
    for writers in [1, 2] {
        let target = scratch.path().join(format!("target {writers}"));
        let options = ExtractOptions {
            writers,
            sync: false,
            ..ExtractOptions::default()
        };
        let (_, each) = timed(&format!("restore, {writers} writers"), || {
            extract_clean(&archive, &target, &options)
        });
        assert!(each < 60.0, "{each} µs a file restored");
        timed("the same again", || extract_clean(&archive, &target, &options));
    }
    timed("compare", || {
        assert_same(&source, &scratch.path().join("target 2"))
    });
}

#[test]
#[ignore = "REAL_TREES in the environment names trees, with colons between them; they are held in memory"]
fn real_trees_come_back_the_same() {
    let trees = std::env::var("REAL_TREES").unwrap_or_else(|_| "/etc:/var/lib/dpkg".into());
    for source in trees.split(':').map(std::path::Path::new) {
        let scratch = tempfile::tempdir().unwrap();
        let target = scratch.path().join("target");
        let (mut archive, report) = capture_clean(source, None);
        println!(
            "{}: {:?}, {} bytes",
            source.display(),
            report.counts,
            report.bytes
        );
        extract_clean(&archive, &target, &ExtractOptions::default());
        assert_same(source, &target);
        age(&mut archive);
        let (again, report) = capture_clean(source, Some(&archive));
        assert_eq!(report.bytes_read, 0);
        assert_same_as_archive(&again, &target);
    }
}
