//! An image as a file: a file system in it is mounted from there.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use common::tree::{adversarial, noise, unseal};
use common::{Lab, assert_same, names, run};
use relight_mount::{Image, MountOptions};

/// A loop mount, until this is dropped.
struct Loop<'a>(&'a Path);

impl<'a> Loop<'a> {
    fn mount(image: &Path, at: &'a Path, options: &str) -> Self {
        run(
            "mount",
            &["-o", options, image.to_str().unwrap(), at.to_str().unwrap()],
        );
        Self(at)
    }
}

impl Drop for Loop<'_> {
    fn drop(&mut self) {
        run("umount", &[self.0.to_str().unwrap()]);
    }
}

#[test]
fn an_ext4_image_is_mounted_from_the_repository() {
    common::require_fuse();
    common::require("mkfs.ext4", "e2fsprogs");
    let lab = Lab::new();
    let (disk, inside) = (lab.path("disk"), lab.folder("inside"));
    File::create(&disk).unwrap().set_len(300 << 20).unwrap();
    run("mkfs.ext4", &["-q", "-F", "-b", "4096", disk.to_str().unwrap()]);
    {
        let _loop = Loop::mount(&disk, &inside, "loop");
        adversarial(&inside);
    }
    let snapshot = lab.save_images("vm/100", &[("disk", &disk)]);
    let image = Image::open(lab.open(), &snapshot, "disk.img").unwrap();
    let directory = lab.folder("map");
    let mut mapped = relight_mount::mount::image(&image, &directory, &MountOptions::default()).unwrap();
    assert_eq!(names(&directory), ["disk.img"]);
    let file = directory.join("disk.img");
    let meta = fs::metadata(&file).unwrap();
    assert_eq!(meta.len(), 300 << 20);
    assert!(
        meta.blocks() * 512 < 200 << 20,
        "{} blocks: holes are known",
        meta.blocks()
    );
    run("cmp", &[disk.to_str().unwrap(), file.to_str().unwrap()]);

    let (original, restored) = (lab.folder("original"), lab.folder("restored"));
    {
        let _first = Loop::mount(&disk, &original, "loop,ro");
        let _second = Loop::mount(&file, &restored, "loop,ro");
        assert_same(&original, &restored);
    }
    // A copy with the usual program keeps the holes.
    let copy = lab.path("copy");
    run("cp", &[file.to_str().unwrap(), copy.to_str().unwrap()]);
    run("cmp", &[disk.to_str().unwrap(), copy.to_str().unwrap()]);
    assert!(fs::metadata(&copy).unwrap().blocks() * 512 < 200 << 20);
    mapped.unmount().unwrap();

    let _loop = Loop::mount(&disk, &inside, "loop");
    unseal(&inside);
}

#[test]
fn an_image_of_an_odd_size_is_read_from_any_place() {
    common::require_fuse();
    let lab = Lab::new();
    let mut content = noise(7, 13_000_001);
    content[4_194_304..8_388_608].fill(0);
    fs::write(lab.path("disk"), &content).unwrap();
    let snapshot = lab.save_images("vm/1", &[("disk", &lab.path("disk"))]);
    let image = Image::open(lab.open(), &snapshot, "disk.img").unwrap();
    assert!(Image::open(lab.open(), &snapshot, "other.img").is_err());
    let mapped = relight_mount::mount::image(&image, &lab.folder("map"), &MountOptions::default()).unwrap();
    let file = File::open(mapped.path().join("disk.img")).unwrap();
    for (from, length) in [
        (0, 1),
        (4_194_300, 10),
        (8_388_600, 100),
        (13_000_000, 1),
        (5, 12_999_990),
    ] {
        let mut part = vec![9; length];
        file.read_exact_at(&mut part, from).unwrap();
        assert!(
            part == content[from as usize..from as usize + length],
            "{length} from {from}"
        );
    }
    assert_eq!(file.read_at(&mut [0; 10], 13_000_001).unwrap(), 0);
    assert_eq!(file.read_at(&mut [0; 10], 12_999_999).unwrap(), 2);
}
