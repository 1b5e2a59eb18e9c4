//! The contract of `relight_repo::storage`, as tests that run against any storage.
//!
//! Each function is given a way to open the storage under test; every call gives another handle of the same, empty
//! place, as another process (or host) would have it. [`conformance!`] makes one `#[test]` of each.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use relight_repo::storage::{PutOptions, Storage, StorageError};

/// Opens one more handle of the place under test.
pub type Open<'a> = &'a dyn Fn() -> Arc<dyn Storage>;

/// Makes a module of tests, one for each part of the contract. `$open` is called once a test and returns a closure
/// that opens handles; attributes go to every test.
#[macro_export]
macro_rules! conformance {
    ($(#[$attribute:meta])* $name:ident, $open:expr) => {
        conformance!(@each $(#[$attribute])* $name, $open,
            content_comes_back_as_it_was_written
            readers_see_objects_whole_while_they_are_replaced
            other_handles_see_writes_and_deletes_at_once
            lists_are_complete_and_exact
            ranges_are_exact
            put_new_has_one_winner
            put_new_leaves_what_is_there
            put_new_can_be_repeated_after_a_delete
            deletes_are_idempotent
            what_is_missing_is_not_found
            large_objects_are_whole
            every_allowed_key_works
            many_threads_at_once
        );
    };
    // One attribute list cannot be repeated for each test in a single step: it goes along as one token tree.
    (@each $(#[$attribute:meta])* $name:ident, $open:expr, $($check:ident)*) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            conformance!(@tests [$(#[$attribute])*] $open, $($check)*);
        }
    };
    (@tests $attributes:tt $open:expr, $($check:ident)*) => {
        $( conformance!(@test $attributes $open, $check); )*
    };
    (@test [$(#[$attribute:meta])*] $open:expr, $check:ident) => {
        $(#[$attribute])*
        #[test]
        fn $check() {
            let open = $open(stringify!($check));
            $crate::suite::$check(&open);
        }
    };
}

fn plain() -> PutOptions {
    PutOptions::default()
}

/// Bytes that look random and are the same for the same seed.
pub fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn keys(storage: &dyn Storage, prefix: &str) -> BTreeSet<String> {
    let found = storage.list(prefix).unwrap();
    let count = found.len();
    let keys: BTreeSet<_> = found.into_iter().map(|object| object.key).collect();
    assert_eq!(keys.len(), count, "a list names no object twice");
    keys
}

pub fn content_comes_back_as_it_was_written(open: Open) {
    let storage = open();
    for (number, length) in [0, 1, 4095, 4096, 100_000, (1 << 20) + 1].into_iter().enumerate() {
        let content = bytes(number as u64, length);
        let key = format!("content/{length}");
        let (head, tail) = content.split_at(length / 3);
        storage.put(&key, &[head, b"", tail], &plain()).unwrap();
        assert_eq!(storage.get(&key).unwrap(), content);
        let info = storage.head(&key).unwrap();
        assert_eq!((info.key, info.size), (key.clone(), length as u64));
        let listed = storage.list("content/").unwrap();
        let listed = listed.into_iter().find(|object| object.key == key).unwrap();
        assert_eq!(listed.size, length as u64);
        // Lists of S3 give milliseconds, heads whole seconds.
        assert!(
            (listed.modified - info.modified).abs() < 1000,
            "{} {}",
            listed.modified,
            info.modified
        );
        assert!(
            info.modified > 1_600_000_000_000,
            "milliseconds since 1970, not {}",
            info.modified
        );
    }
    storage.put("content/none", &[], &plain()).unwrap();
    assert_eq!(storage.get("content/none").unwrap(), b"");
}

pub fn readers_see_objects_whole_while_they_are_replaced(open: Open) {
    const SMALLEST: usize = 30_000;
    let versions: Vec<Vec<u8>> = (0..8).map(|n| vec![n as u8; SMALLEST + n * 50_000]).collect();
    let writer = open();
    writer.put("replaced", &[&versions[0]], &plain()).unwrap();
    let done = AtomicBool::new(false);
    let reads = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..3 {
            let (storage, versions, done, reads) = (open(), &versions, &done, &reads);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let content = storage.get("replaced").unwrap();
                    assert!(
                        versions.contains(&content),
                        "a mixture, or a part of {} bytes",
                        content.len()
                    );
                    let mut part = vec![0xff; SMALLEST];
                    storage.get_range("replaced", 0, &mut part).unwrap();
                    assert!(part.iter().all(|&byte| byte == part[0] && byte < 8), "a mixture");
                    let size = storage.head("replaced").unwrap().size;
                    assert!(
                        versions.iter().any(|version| version.len() as u64 == size),
                        "{size}"
                    );
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        for round in 0.. {
            if round >= 60 && (reads.load(Ordering::Relaxed) > 30 || Instant::now() > deadline) {
                break;
            }
            let version = &versions[round * 5 % 8];
            let (head, tail) = version.split_at(version.len() / 2);
            writer.put("replaced", &[head, tail], &plain()).unwrap();
            let listed = keys(writer.as_ref(), "");
            assert_eq!(
                listed.len(),
                1,
                "only whole objects under their own names: {listed:?}"
            );
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(reads.load(Ordering::Relaxed) > 30, "readers never got to it");
}

pub fn other_handles_see_writes_and_deletes_at_once(open: Open) {
    let (one, two) = (open(), open());
    for round in 0..20u8 {
        let key = format!("seen/{round}");
        one.put(&key, &[&[round]], &plain()).unwrap();
        assert!(keys(two.as_ref(), "seen/").contains(&key));
        assert_eq!(two.get(&key).unwrap(), [round]);
        two.put(&key, &[&[round, 1]], &plain()).unwrap();
        assert_eq!(one.head(&key).unwrap().size, 2);
        assert_eq!(one.get(&key).unwrap(), [round, 1]);
        one.delete(&key).unwrap();
        assert!(two.get(&key).unwrap_err().is_not_found());
        assert!(two.head(&key).unwrap_err().is_not_found());
        assert!(keys(two.as_ref(), "seen/").is_empty());
    }
}

pub fn lists_are_complete_and_exact(open: Open) {
    let storage = open();
    assert!(storage.list("").unwrap().is_empty());
    assert!(storage.list("never/written/").unwrap().is_empty());
    // More than the 1000 objects that a page of S3 holds, in several directories.
    let wanted: BTreeSet<String> = (0..1100)
        .map(|n| format!("list/{:02x}/{n:05}", n % 7))
        .chain((0..30).map(|n| format!("list-other/{n}")))
        .chain(["list.x".to_string(), "lis".to_string()])
        .collect();
    let all: Vec<&String> = wanted.iter().collect();
    thread::scope(|scope| {
        for share in all.chunks(all.len().div_ceil(8)) {
            let storage = &storage;
            scope.spawn(move || {
                for key in share {
                    storage.put(key, &[key.as_bytes()], &plain()).unwrap();
                }
            });
        }
    });
    assert_eq!(keys(storage.as_ref(), ""), wanted);
    for prefix in ["list/", "list/03/", "list-other/"] {
        let under: BTreeSet<_> = wanted
            .iter()
            .filter(|key| key.starts_with(prefix))
            .cloned()
            .collect();
        assert_eq!(keys(storage.as_ref(), prefix), under, "{prefix}");
    }
    assert!(
        keys(storage.as_ref(), "list/0/").is_empty(),
        "a prefix is whole path parts"
    );
    for object in storage.list("").unwrap() {
        assert_eq!(object.size, object.key.len() as u64);
    }
}

pub fn ranges_are_exact(open: Open) {
    let storage = open();
    let content = bytes(7, 100_001);
    storage.put("ranges/a", &[&content], &plain()).unwrap();
    let end = content.len();
    for (offset, length) in [
        (0, end),
        (0, 1),
        (0, 0),
        (1, 4096),
        (end - 1, 1),
        (end, 0),
        (50_000, 50_001),
    ] {
        let mut buffer = vec![0; length];
        storage.get_range("ranges/a", offset as u64, &mut buffer).unwrap();
        assert_eq!(
            buffer,
            content[offset..offset + length],
            "{length} bytes from {offset}"
        );
    }
    let beyond = [
        (end as u64 - 1, 2),
        (end as u64, 1),
        (end as u64 + 1, 1),
        (0, end + 1),
        (1 << 40, 10),
    ];
    for (offset, length) in beyond {
        let error = storage
            .get_range("ranges/a", offset, &mut vec![0; length])
            .unwrap_err();
        assert!(
            matches!(error, StorageError::Short { .. }),
            "{length} bytes from {offset}: {error}"
        );
        assert!(error.to_string().contains("ranges/a"), "{error}");
    }
    storage.put("ranges/empty", &[], &plain()).unwrap();
    storage.get_range("ranges/empty", 0, &mut []).unwrap();
    let error = storage.get_range("ranges/empty", 0, &mut [0]).unwrap_err();
    assert!(matches!(error, StorageError::Short { .. }), "{error}");
    assert!(
        storage
            .get_range("ranges/none", 0, &mut [0])
            .unwrap_err()
            .is_not_found()
    );
}

pub fn put_new_has_one_winner(open: Open) {
    let handles = [open(), open()];
    for round in 0..20 {
        let key = format!("race/{round}");
        let start = std::sync::Barrier::new(8);
        let outcomes: Vec<_> = thread::scope(|scope| {
            let racers: Vec<_> = (0..8u8)
                .map(|racer| {
                    let (storage, key, start) = (&handles[usize::from(racer) % 2], &key, &start);
                    scope.spawn(move || {
                        start.wait();
                        storage.put_new(key, &[b"racer ", &[racer]], &plain())
                    })
                })
                .collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        let winners: Vec<_> = (0..8u8)
            .filter(|&racer| outcomes[usize::from(racer)].is_ok())
            .collect();
        assert_eq!(winners.len(), 1, "{key}: {outcomes:?}");
        assert_eq!(handles[0].get(&key).unwrap(), [b"racer ", &winners[..]].concat());
        for error in outcomes.into_iter().filter_map(Result::err) {
            assert!(error.is_already_exists(), "{error}");
        }
        assert_eq!(
            keys(handles[1].as_ref(), "").len(),
            round + 1,
            "nothing but the objects is listed"
        );
    }
}

pub fn put_new_leaves_what_is_there(open: Open) {
    let (one, two) = (open(), open());
    one.put("there", &[b"first"], &plain()).unwrap();
    let error = two.put_new("there", &[b"second"], &plain()).unwrap_err();
    assert!(error.is_already_exists(), "{error}");
    // Also where the content is the same: who asks wants to know whether it was the one that wrote it.
    let error = two.put_new("there", &[b"first"], &plain()).unwrap_err();
    assert!(error.is_already_exists(), "{error}");
    assert_eq!(two.get("there").unwrap(), b"first");
    one.put("there", &[b"third"], &plain()).unwrap();
    assert_eq!(two.get("there").unwrap(), b"third");
}

pub fn put_new_can_be_repeated_after_a_delete(open: Open) {
    let (one, two) = (open(), open());
    for round in 0..5u8 {
        one.put_new("lease", &[&[round]], &plain()).unwrap();
        assert!(
            two.put_new("lease", &[b"no"], &plain())
                .unwrap_err()
                .is_already_exists()
        );
        two.delete("lease").unwrap();
    }
    assert!(keys(one.as_ref(), "").is_empty());
}

pub fn deletes_are_idempotent(open: Open) {
    let storage = open();
    storage.put("gone/a", &[b"1"], &plain()).unwrap();
    storage.put("gone/a2", &[b"2"], &plain()).unwrap();
    for _ in 0..2 {
        storage.delete("gone/a").unwrap();
        storage.delete("gone/never/was").unwrap();
    }
    assert_eq!(storage.get("gone/a2").unwrap(), b"2");
    assert_eq!(
        keys(storage.as_ref(), ""),
        BTreeSet::from(["gone/a2".to_string()])
    );
}

pub fn what_is_missing_is_not_found(open: Open) {
    let storage = open();
    for key in ["none", "no/such/object"] {
        for error in [
            storage.get(key).unwrap_err(),
            storage.head(key).unwrap_err(),
            storage.get_range(key, 0, &mut [0]).unwrap_err(),
            storage.get_range(key, 0, &mut []).unwrap_err(),
        ] {
            assert!(
                matches!(&error, StorageError::NotFound { key: named, .. } if named == key),
                "{error}"
            );
        }
    }
}

pub fn large_objects_are_whole(open: Open) {
    let (one, two) = (open(), open());
    for length in [8 << 20, (20 << 20) + 12_345] {
        let content = bytes(length as u64, length);
        let parts: Vec<&[u8]> = content.chunks(1_500_000).collect();
        one.put("large", &parts, &plain()).unwrap();
        assert_eq!(two.head("large").unwrap().size, length as u64);
        assert!(two.get("large").unwrap() == content, "{length} bytes differ");
        let (offset, mut buffer) = (length - 5_000_000, vec![0; 4_999_999]);
        two.get_range("large", offset as u64, &mut buffer).unwrap();
        assert!(buffer == content[offset..length - 1]);
    }
    let new = bytes(3, 9 << 20);
    assert!(
        one.put_new("large", &[&new], &plain())
            .unwrap_err()
            .is_already_exists()
    );
    one.put_new("large-new", &[&new], &plain()).unwrap();
    assert!(two.get("large-new").unwrap() == new);
    assert_eq!(keys(two.as_ref(), "").len(), 2);
}

pub fn every_allowed_key_works(open: Open) {
    let storage = open();
    let wanted: BTreeSet<String> = [
        "abcdefghijklmnopqrstuvwxyz/0123456789",
        "dots.and-dashes_and.more/x.y-z_",
        "a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p",
        ".hidden/.x",
        "..a/b..",
        "-/_/.-",
    ]
    .map(String::from)
    .into_iter()
    .chain([format!("long/{}", "x".repeat(200))])
    .collect();
    for key in &wanted {
        storage.put(key, &[key.as_bytes()], &plain()).unwrap();
    }
    assert_eq!(keys(storage.as_ref(), ""), wanted);
    for key in &wanted {
        assert_eq!(storage.get(key).unwrap(), key.as_bytes());
        assert_eq!(storage.head(key).unwrap().size, key.len() as u64);
        storage.delete(key).unwrap();
    }
    assert!(keys(storage.as_ref(), "").is_empty());
}

pub fn many_threads_at_once(open: Open) {
    let storage = open();
    thread::scope(|scope| {
        for thread in 0..16u64 {
            let storage = &storage;
            scope.spawn(move || {
                for round in 0..15 {
                    let key = format!("many/{thread}/{round}");
                    let content = bytes(thread << 32 | round, 10_000 + (thread * 1000 + round) as usize);
                    storage.put(&key, &[&content], &plain()).unwrap();
                    let mut part = vec![0; 5000];
                    storage.get_range(&key, 5000, &mut part).unwrap();
                    assert_eq!(part, content[5000..10_000]);
                    assert_eq!(storage.get(&key).unwrap(), content);
                    if round % 3 == 0 {
                        storage.delete(&key).unwrap();
                    }
                    let mine = keys(storage.as_ref(), &format!("many/{thread}/"));
                    assert_eq!(mine.len() as u64, round - round / 3, "after round {round}");
                }
            });
        }
    });
    assert_eq!(keys(storage.as_ref(), "many/").len(), 16 * 10);
}
