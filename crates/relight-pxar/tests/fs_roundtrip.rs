//! Trees that go into an archive come back the same.
#![allow(clippy::unwrap_used)]

mod fs_support;

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use fs_support::*;
use relight_pxar::fs::extract::ExtractOptions;

struct Unsealed(tempfile::TempDir);

impl Drop for Unsealed {
    fn drop(&mut self) {
        tree::unseal(&self.0.path().join("source"));
        tree::unseal(&self.0.path().join("target"));
    }
}

#[test]
fn an_adversarial_tree_comes_back_the_same() {
    let scratch = Unsealed(tempfile::tempdir().unwrap());
    let source = scratch.0.path().join("source");
    let target = scratch.0.path().join("target");
    fs::create_dir(&source).unwrap();
    tree::adversarial(&source);

    let (archive, report) = capture_clean(&source, None);
    assert!(report.counts.hardlinks >= 4 && report.bytes > 10_000_000_000 && report.bytes_read < 20_000_000);
    assert_same_as_archive(&archive, &source);

    let options = ExtractOptions {
        verify: true,
        ..ExtractOptions::default()
    };
    let report = extract_clean(&archive, &target, &options);
    assert_eq!(report.verified, report.files);
    assert_same(&source, &target);
    assert_same_as_archive(&archive, &target);
    let sparse = fs::metadata(target.join("sparse")).unwrap();
    assert!(sparse.len() == 10_000_000_000 && sparse.blocks() * 512 < 1_000_000);

    // Again: everything is complete, and nothing changes.
    let report = extract_clean(&archive, &target, &ExtractOptions::default());
    assert_eq!(
        (report.files, report.others, report.hardlinks, report.directories),
        (0, 0, 0, 0)
    );
    assert_same(&source, &target);
}

#[test]
fn an_unchanged_tree_is_not_read_again() {
    let scratch = Unsealed(tempfile::tempdir().unwrap());
    let source = scratch.0.path().join("source");
    fs::create_dir(&source).unwrap();
    tree::adversarial(&source);
    let (mut first, report) = capture_clean(&source, None);
    assert_eq!(report.unchanged_files, 0);
    age(&mut first);
    let (mut second, report) = capture_clean(&source, Some(&first));
    assert_eq!(
        (report.bytes_read, report.unchanged_files),
        (0, report.counts.files)
    );
    assert_same_as_archive(&second, &source);
    age(&mut second);
    let (third, report) = capture_clean(&source, Some(&second));
    assert_eq!(report.bytes_read, 0);
    // Nothing grows from one to the next but by the tail marker in the last chunk.
    assert!(third.payload.size() <= first.payload.size() + 32);
    let target = scratch.0.path().join("target");
    extract_clean(&third, &target, &ExtractOptions::default());
    assert_same(&source, &target);
}

#[test]
fn directories_nested_a_thousand_deep_come_back() {
    let scratch = tempfile::tempdir().unwrap();
    let source = scratch.path().join("source");
    let target = scratch.path().join("target");
    fs::create_dir(&source).unwrap();
    tree::deep(&source, 1300);
    let (mut archive, report) = capture_clean(&source, None);
    assert_eq!(report.counts.directories, 1301);
    age(&mut archive);
    let (archive, report) = capture_clean(&source, Some(&archive));
    assert_eq!(report.unchanged_files, 13);
    extract_clean(&archive, &target, &ExtractOptions::default());
    assert_same(&source, &target);
    assert_same_as_archive(&archive, &target);
    tree::remove_deep(&source);
    tree::remove_deep(&target);
}

#[test]
fn without_privileges_an_own_tree_comes_back_the_same() {
    let scratch = tempfile::tempdir().unwrap();
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let source = scratch.path().join("source");
    let target = scratch.path().join("target");
    as_nobody(|| {
        fs::create_dir(&source).unwrap();
        tree::adversarial(&source);
        // Nobody but root may read a file without permissions.
        fs::remove_file(source.join("modes/0000")).unwrap();
        let (archive, _) = capture_clean(&source, None);
        let report = extract_clean(&archive, &target, &ExtractOptions::default());
        assert!(report.files > 30);
        assert_same(&source, &target);
    });
}

#[test]
fn project_ids_and_file_systems_made_anew_are_kept() {
    // Kernels without quotas do not mount ext4 with project ids; XFS keeps them all the same.
    for make in [
        &["mkfs.ext4", "-q", "-O", "quota,project"][..],
        &["mkfs.xfs", "-q"],
    ] {
        let scratch = tempfile::tempdir().unwrap();
        let image = scratch.path().join("image");
        fs::File::create(&image).unwrap().set_len(400 << 20).unwrap();
        let made = Command::new(make[0]).args(&make[1..]).arg(&image).status();
        let place = scratch.path().join("mounted");
        fs::create_dir(&place).unwrap();
        let mounted = made.is_ok_and(|status| status.success())
            && Command::new("mount")
                .args(["-o", "loop"])
                .arg(&image)
                .arg(&place)
                .status()
                .is_ok_and(|status| status.success());
        if !mounted {
            eprintln!("{} cannot be made or mounted here: not tested", make[0]);
            continue;
        }
        let result = std::panic::catch_unwind(|| {
            let (source, target) = (place.join("source"), place.join("target"));
            fs::create_dir_all(source.join("directory")).unwrap();
            fs::write(source.join("directory/file"), "x").unwrap();
            fs::write(source.join("plain"), "x").unwrap();
            for (path, project) in [("directory", 42), ("directory/file", 4_000_000_000)] {
                let file = fs::File::open(source.join(path)).unwrap();
                relight_pxar::fs::project::set_project_id(file.as_fd(), project).unwrap();
            }
            tree::add_flags(
                &source.join("directory"),
                rustix::fs::IFlags::from_bits_retain(0x2000_0000),
            );
            let (archive, _) = capture_clean(&source, None);
            extract_clean(&archive, &target, &ExtractOptions::default());
            assert_same(&source, &target);
            let file = fs::File::open(target.join("directory/file")).unwrap();
            assert_eq!(
                relight_pxar::fs::project::project_id(file.as_fd()).unwrap(),
                4_000_000_000
            );
        });
        Command::new("umount").arg("-l").arg(&place).status().unwrap();
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    }
}
