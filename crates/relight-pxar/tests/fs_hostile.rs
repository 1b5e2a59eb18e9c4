//! Archives and targets that are meant to lead a restore elsewhere.
#![allow(clippy::unwrap_used)]

mod fs_support;

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};

use fs_support::places::*;
use fs_support::*;
use relight_pxar::fs::extract::{ConflictPolicy, ExtractOptions, RestoreError};
use relight_pxar::{Encoder, payload};

/// An archive made by hand; every file has the content `evil`.
fn forge(build: impl FnOnce(&mut Encoder<Vec<u8>>, &mut dyn FnMut() -> u64)) -> MemoryArchive {
    let mut archive = MemoryArchive::default();
    archive.payload.write(&payload::START_MARKER);
    let mut encoder = Encoder::new(Vec::new(), None, &of_mode(DIRECTORY)).unwrap();
    let stream = &mut archive.payload;
    build(&mut encoder, &mut || {
        let place = stream.size();
        stream.write(&payload::header(4));
        stream.write(b"evil");
        place
    });
    archive.metadata = encoder.finish().unwrap();
    archive
}

fn replace(archive: &mut MemoryArchive, from: &[u8], to: &[u8]) {
    assert_eq!(from.len(), to.len());
    let mut count = 0;
    for start in 0..archive.metadata.len() - from.len() {
        if archive.metadata[start..].starts_with(from) {
            archive.metadata[start..start + to.len()].copy_from_slice(to);
            count += 1;
        }
    }
    assert!(count > 0);
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    for evil in [
        &b"../outside/x"[..],
        b"..",
        b".",
        b"/etc/passwd",
        b"a/b",
        b"a\0b",
        b"",
    ] {
        let Places {
            _scratch,
            target,
            outside,
            ..
        } = places();
        let harmless = vec![b'h'; evil.len().max(1)];
        let mut archive = forge(|encoder, content| {
            let place = content();
            encoder.add_file_ref(&harmless, &of_mode(FILE), place, 4).unwrap();
        });
        if evil.is_empty() {
            replace(&mut archive, b"h\0", b"\0\0");
        } else {
            replace(
                &mut archive,
                &[&harmless[..], b"\0"].concat(),
                &[evil, b"\0"].concat(),
            );
        }
        let result = try_extract(&archive, &target, &ExtractOptions::default());
        assert!(
            matches!(result, Err(RestoreError::Archive(_))),
            "{evil:?}: {result:?}"
        );
        assert!(names(&target).is_empty() && names(&outside).is_empty());
    }
}

#[test]
fn links_in_an_archive_are_not_followed() {
    let Places {
        _scratch,
        target,
        outside,
        ..
    } = places();
    fs::write(outside.join("secret"), "secret").unwrap();
    let to = outside.as_os_str().as_encoded_bytes();
    // A link out, and then a directory and a file of the same name.
    for directory in [true, false] {
        let mut archive = forge(|encoder, content| {
            let link = encoder.add_symlink(b"name", &of_mode(LINK), to).unwrap();
            if directory {
                encoder.start_directory(b"namf", &of_mode(DIRECTORY)).unwrap();
                let place = content();
                encoder.add_file_ref(b"file", &of_mode(FILE), place, 4).unwrap();
                encoder.end_directory().unwrap();
            } else {
                let place = content();
                encoder.add_file_ref(b"namf", &of_mode(FILE), place, 4).unwrap();
            }
            // Through the link, above the root, by an absolute path, and at something that is no file.
            for (name, target) in [
                (&b"z1"[..], &b"name/secret"[..]),
                (b"z2", b"../outside/secret"),
                (b"z3", b"/etc/passwd"),
                (b"z4", b""),
            ] {
                encoder.add_hardlink(name, target, link + 1).unwrap();
            }
        });
        replace(&mut archive, b"namf\0", b"name\0");
        let report = try_extract(&archive, &target, &with(ConflictPolicy::Skip, false)).unwrap();
        assert!(!report.losses.is_empty());
        assert_eq!(names(&outside), ["secret"]);
        assert_eq!(fs::metadata(outside.join("secret")).unwrap().nlink(), 1);
        assert_eq!(names(&target), ["name"]);
        fs::remove_dir_all(&target).unwrap();
    }
}

#[test]
fn links_that_lie_in_the_target_are_not_followed() {
    for conflict in [
        ConflictPolicy::Skip,
        ConflictPolicy::KeepNewer,
        ConflictPolicy::Replace,
        ConflictPolicy::Rename,
        ConflictPolicy::Fail,
    ] {
        let Places {
            _scratch,
            source,
            target,
            outside,
        } = places();
        fs::create_dir(source.join("directory")).unwrap();
        fs::write(source.join("directory/file"), "content").unwrap();
        fs::write(source.join("file"), "content").unwrap();
        let (archive, _) = capture_clean(&source, None);
        symlink(&outside, target.join("directory")).unwrap();
        symlink(outside.join("file"), target.join("file")).unwrap();
        let result = try_extract(&archive, &target, &with(conflict, true));
        assert!(names(&outside).is_empty(), "{conflict:?}");
        match conflict {
            ConflictPolicy::Fail => assert!(matches!(result, Err(RestoreError::Exists { .. }))),
            // What is there is from now, and what is in the archive from long ago.
            ConflictPolicy::Skip | ConflictPolicy::KeepNewer => assert_eq!(result.unwrap().skipped, 2),
            ConflictPolicy::Replace => {
                assert_eq!(result.unwrap().replaced, 2);
                assert_same(&source, &target);
            }
            ConflictPolicy::Rename => {
                result.unwrap();
                assert_eq!(
                    names(&target),
                    ["directory", "directory.restored", "file", "file.restored"]
                );
                assert_same(&source.join("directory"), &target.join("directory.restored"));
            }
        }
    }
}

#[test]
fn links_swapped_in_during_a_restore_are_not_followed() {
    let Places {
        _scratch,
        source,
        target,
        outside,
    } = places();
    for directory in 0..20 {
        fs::create_dir(source.join(format!("{directory}"))).unwrap();
        for file in 0..20 {
            fs::write(source.join(format!("{directory}/{file}")), "content").unwrap();
        }
    }
    let (archive, _) = capture_clean(&source, None);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut round = 0;
            while !stop.load(Ordering::Relaxed) {
                round += 1;
                let name = target.join(format!("{}", round % 20));
                let aside = target.join("aside");
                let _ = fs::rename(&name, &aside);
                let _ = symlink(&outside, &name);
                std::thread::yield_now();
                let _ = fs::remove_file(&name);
                let _ = fs::rename(&aside, &name);
                let _ = fs::remove_dir_all(&aside);
            }
        });
        for _ in 0..30 {
            // Some of it is lost; what matters is where nothing is.
            let _ = try_extract(&archive, &target, &with(ConflictPolicy::Replace, false));
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(names(&outside).is_empty());
}
