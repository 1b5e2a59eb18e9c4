//! Drills of disk images.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use relight_repo::session::Session;
use relight_repo::snapshot::SnapshotSpec;
use relight_server::drills::DrillRequest;
use relight_server::evidence::detail::DrillDetail;
use relight_workloads::image::Images;
use relight_workloads::kind::{Kind, Subject, Work};

use crate::lab::{Lab, settings};

const MIB: u64 = 1 << 20;

/// A disk of 64 MiB with an MBR, and in its one partition what `program` makes there.
fn disk(lab: &Lab, program: &str, arguments: &[&str]) -> PathBuf {
    let (part, disk) = (lab.path("part"), lab.path("disk.raw"));
    let size = if program == "mkfs.xfs" {
        320 * MIB
    } else {
        62 * MIB
    };
    File::create(&part).unwrap().set_len(size).unwrap();
    run(program, arguments, &part);
    let file = File::create(&disk).unwrap();
    file.set_len(size + 2 * MIB).unwrap();
    let mut entry = [0; 16];
    entry[4] = 0x83;
    entry[8..12].copy_from_slice(&2048u32.to_le_bytes());
    entry[12..16].copy_from_slice(&((size / 512) as u32).to_le_bytes());
    file.write_all_at(&entry, 446).unwrap();
    file.write_all_at(&[0x55, 0xaa], 510).unwrap();
    file.write_all_at(&fs::read(&part).unwrap(), MIB).unwrap();
    disk
}

fn run(program: &str, arguments: &[&str], target: &Path) {
    let output = Command::new(program).args(arguments).arg(target).output();
    let output =
        output.unwrap_or_else(|error| panic!("{program}: {error}; scripts/test installs what is needed"));
    assert!(output.status.success(), "{program}: {output:?}");
}

/// Changes bytes of the disk.
fn change(disk: &Path, at: u64, bytes: &[u8]) {
    let file = OpenOptions::new().write(true).open(disk).unwrap();
    file.write_all_at(bytes, at).unwrap();
}

/// Saves the disk and drills it.
fn drill(lab: &Lab, disk: &Path, probe: &str, ask: impl FnOnce(&mut DrillRequest<'_>)) -> DrillDetail {
    let subject = Subject {
        workload: "vm/100".parse().unwrap(),
        source: settings(&format!("images = [{disk:?}]")),
        probe: settings(probe),
    };
    let session = Session::begin(lab.repository.clone(), Arc::new(AtomicBool::new(false))).unwrap();
    let captured = Images.capture(&subject, &session, None, &Work::quiet()).unwrap();
    let spec = SnapshotSpec {
        workload: "vm/100".into(),
        attributes: captured.attributes,
        ..SnapshotSpec::default()
    };
    session.publish(spec, captured.archives).unwrap();
    lab.drill(&Images, "", |request| {
        request.drilled.subject = subject;
        ask(request);
    })
}

fn shown(detail: &DrillDetail) -> Vec<String> {
    let probes = detail.probes.iter();
    probes
        .map(|probe| format!("{} {}: {}", probe.passed, probe.name, probe.seen))
        .collect()
}

#[test]
fn partitions_and_file_systems_are_looked_at() {
    let lab = Lab::new();
    let disk = disk(&lab, "mkfs.ext4", &["-q"]);
    let detail = drill(&lab, &disk, "", |request| request.control = true);
    assert!(detail.is_good(), "{detail:?}");
    assert_eq!(
        shown(&detail),
        [
            "true content: 1 images, 64.0 MiB, read back and as they were saved",
            "true partitions: disk.img: MBR, 1 partitions",
            "true file-system: disk.img partition 1: ext4, checked and clean",
        ]
    );
    let control = detail.control.unwrap();
    assert!(
        control.noticed && control.spoiled.contains("noticed by content"),
        "{control:?}"
    );

    // Mounted when it was saved: the journal is applied to a copy.
    run(
        "debugfs",
        &["-w", "-R", "feature needs_recovery"],
        &lab.path("part"),
    );
    let part = fs::read(lab.path("part")).unwrap();
    change(&disk, MIB, &part);
    let detail = drill(&lab, &disk, "", |_| {});
    assert!(
        shown(&detail)[2].ends_with("checked and clean, after its journal was applied"),
        "{detail:?}"
    );
    assert!(detail.is_good());
}

#[test]
fn a_file_system_on_all_of_a_disk_and_one_of_another_kind_are_checked() {
    let lab = Lab::new();
    let disk = disk(&lab, "mkfs.xfs", &["-q"]);
    let detail = drill(&lab, &disk, "", |_| {});
    assert!(detail.is_good(), "{detail:?}");
    assert_eq!(
        shown(&detail)[2],
        "true file-system: disk.img partition 1: xfs, checked and clean"
    );
    let whole = lab.path("part");
    let detail = drill(&lab, &whole, "", |_| {});
    assert_eq!(
        shown(&detail)[1],
        "true file-system: part.img: xfs, checked and clean"
    );
    // An inode of the root directory that says nonsense: the superblock is as good as before.
    change(&whole, 64 * 512 + 512 * 32, &[0xff; 400]);
    let found = fs::read(&whole).unwrap();
    let at = found.windows(2).position(|pair| pair == b"IN").unwrap();
    change(&whole, at as u64, &[0; 100]);
    let detail = drill(&lab, &whole, "", |_| {});
    assert_eq!(detail.code.as_deref(), Some("RL309"), "{detail:?}");
}

#[test]
fn what_was_broken_when_it_was_saved_does_not_pass() {
    let lab = Lab::new();
    let disk = disk(&lab, "mkfs.ext4", &["-q"]);
    // The copy of the block bitmap's place in the first group descriptor.
    let good = fs::read(&disk).unwrap();
    for (at, bytes, probe, says) in [
        (
            MIB + 1024 + 4,
            &[0xff; 4][..],
            "file-system",
            "checksum of its superblock",
        ),
        (MIB + 4096, &[0xff; 16][..], "file-system", "exit code"),
        (454, &[0xff; 4][..], "partitions", "beyond the end"),
    ] {
        fs::write(&disk, &good).unwrap();
        change(&disk, at, bytes);
        let detail = drill(&lab, &disk, "", |_| {});
        assert_eq!(detail.code.as_deref(), Some("RL309"), "{detail:?}");
        let message = detail.message.as_deref().unwrap();
        assert!(message.starts_with(probe) && message.contains(says), "{message}");
    }
}

/// Says `text` on the first serial port and stops: 16-bit code of a boot sector.
fn boot_sector(text: &str) -> Vec<u8> {
    let mut sector = vec![
        0xfa, // cli
        0x31, 0xc0, // xor ax, ax
        0x8e, 0xd8, // mov ds, ax
        0xbe, 0x22, 0x7c, // mov si, text
        0xac, // next: lodsb
        0x84, 0xc0, // test al, al
        0x74, 0x12, // jz end
        0x88, 0xc4, // mov ah, al
        0xba, 0xfd, 0x03, // mov dx, 0x3fd
        0xec, // wait: in al, dx
        0xa8, 0x20, // test al, 0x20
        0x74, 0xfb, // jz wait
        0xba, 0xf8, 0x03, // mov dx, 0x3f8
        0x88, 0xe0, // mov al, ah
        0xee, // out dx, al
        0xeb, 0xe9, // jmp next
        0xf4, // end: hlt
        0xeb, 0xfd, // jmp end
    ];
    sector.extend(text.as_bytes());
    sector.resize(510, 0);
    sector.extend([0x55, 0xaa]);
    sector
}

#[test]
fn a_machine_is_booted_until_it_says_its_marker() {
    let lab = Lab::new();
    let disk = lab.path("disk");
    let mut image = boot_sector("Welcome\r\nweb01 login:");
    image.resize(4 << 20, 0);
    fs::write(&disk, &image).unwrap();
    let probe = "boot = { marker = 'web01 login:', memory = '128 MiB', timeout = '120 s' }";
    let detail = drill(&lab, &disk, probe, |_| {});
    assert!(detail.is_good(), "{detail:?}");
    assert!(
        shown(&detail)[1].starts_with("true boot: it said \"web01 login:\" after"),
        "{detail:?}"
    );

    let began = Instant::now();
    let probe = "boot = { marker = 'db01 login:', memory = '128 MiB', timeout = '15 s', disk = 'scsi' }";
    let detail = drill(&lab, &disk, probe, |_| {});
    assert_eq!(detail.code.as_deref(), Some("RL309"));
    let message = detail.message.unwrap();
    assert!(
        message.contains("within 15") && message.ends_with("Welcome / web01 login:"),
        "{message}"
    );
    assert!(began.elapsed() < Duration::from_secs(60));
}

#[test]
fn words_for_booting_are_checked() {
    let lab = Lab::new();
    let disk = lab.path("disk");
    fs::write(&disk, boot_sector("x")).unwrap();
    for (probe, says) in [
        ("boot = { marker = ' ' }", "marker says nothing"),
        ("boot = { memory = '1 GiB' }", "marker"),
        ("boot = { marker = 'x', memory = '1 KiB' }", "nothing boots"),
        ("bot = { marker = 'x' }", "there is no \"bot\""),
    ] {
        let detail = drill(&lab, &disk, probe, |_| {});
        assert_eq!(detail.code.as_deref(), Some("RL302"), "{detail:?}");
        assert!(detail.message.as_deref().unwrap().contains(says), "{detail:?}");
    }
    for (probe, says) in [
        (
            "boot = { marker = 'x', image = 'other' }",
            "there is no image \"other\"; there is: disk.img",
        ),
        ("boot = { marker = 'x', memory = '100 TiB' }", "are free here"),
    ] {
        let detail = drill(&lab, &disk, probe, |_| {});
        assert_eq!(detail.code.as_deref(), Some("RL310"), "{detail:?}");
        assert!(detail.message.as_deref().unwrap().contains(says), "{detail:?}");
    }
}
