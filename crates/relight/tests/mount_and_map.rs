//! `relight mount` and `relight map` as an operator runs them.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A folder with a repository, its key, and what is to be saved.
struct Lab {
    folder: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        assert!(
            Path::new("/dev/fuse").exists() && rustix::process::geteuid().is_root(),
            "this test mounts file systems: it needs /dev/fuse and root"
        );
        let lab = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        fs::write(lab.path("password"), "correct horse battery staple").unwrap();
        fs::set_permissions(lab.path("password"), fs::Permissions::from_mode(0o600)).unwrap();
        for folder in ["etc", "mount", "map"] {
            fs::create_dir(lab.path(folder)).unwrap();
        }
        fs::write(lab.path("etc/passwd"), "root").unwrap();
        let disk: Vec<u8> = (0..5_000_001u32)
            .flat_map(|number| (number.wrapping_mul(2_654_435_761)).to_le_bytes())
            .collect();
        fs::write(lab.path("disk"), &disk[..9_000_001]).unwrap();
        lab.must(&["init"]);
        lab.must(&[
            "backup",
            "--workload",
            "host/a",
            lab.path("etc").to_str().unwrap(),
        ]);
        lab.must(&[
            "backup",
            "--workload",
            "vm/1",
            "--image",
            lab.path("disk").to_str().unwrap(),
        ]);
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_relight"));
        command
            .args(arguments)
            .env("RELIGHT_REPOSITORY", self.path("repository"))
            .env("RELIGHT_PASSWORD_FILE", self.path("password"))
            .env("RELIGHT_CACHE_DIR", self.path("cache"))
            .env_remove("RELIGHT_KEY_FILE");
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    #[track_caller]
    fn must(&self, arguments: &[&str]) {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }

    /// Starts a command that goes on, and waits until it says that it is ready.
    fn start(&self, arguments: &[&str]) -> (Running, String) {
        let mut child = self
            .command(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        (Running(child), line)
    }
}

struct Running(Child);

impl Running {
    fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(id, signal).unwrap();
    }

    /// The exit code; fails if it takes long.
    fn code(&mut self) -> Option<i32> {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < until, "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.0.try_wait().is_ok_and(|status| status.is_none()) {
            self.signal(rustix::process::Signal::TERM);
            let _ = self.0.wait();
        }
    }
}

#[test]
fn a_mount_is_used_and_ends_cleanly() {
    let lab = Lab::new();
    let (mount, disk) = (lab.path("mount"), fs::read(lab.path("disk")).unwrap());
    for signal in [
        Some(rustix::process::Signal::INT),
        Some(rustix::process::Signal::TERM),
        None,
    ] {
        let (mut running, line) = lab.start(&["mount", mount.to_str().unwrap()]);
        assert!(
            line.contains(&format!("Mounted on {}", mount.display())),
            "{line}"
        );
        assert_eq!(
            fs::read_to_string(mount.join("by-workload/host/a/latest/etc/passwd")).unwrap(),
            "root"
        );
        assert!(fs::read(mount.join("by-workload/vm/1/latest/disk.img")).unwrap() == disk);
        match signal {
            Some(signal) => running.signal(signal),
            None => assert!(Command::new("umount").arg(&mount).status().unwrap().success()),
        }
        assert_eq!(running.code(), Some(0), "{signal:?}");
        assert_eq!(fs::read_dir(&mount).unwrap().count(), 0);
    }
}

#[test]
fn an_image_is_mapped_as_a_file_and_as_a_device() {
    let lab = Lab::new();
    let (map, disk) = (lab.path("map"), fs::read(lab.path("disk")).unwrap());
    let (mut running, line) = lab.start(&["map", "vm/1@latest", "--file", map.to_str().unwrap()]);
    assert!(line.contains("disk.img is at"), "{line}");
    assert!(fs::read(map.join("disk.img")).unwrap() == disk);
    running.signal(rustix::process::Signal::INT);
    assert_eq!(running.code(), Some(0));
    assert_eq!(fs::read_dir(&map).unwrap().count(), 0);

    let socket = lab.path("socket");
    let place = format!("unix:{}", socket.display());
    let (mut running, line) = lab.start(&["map", "latest", "disk", "--nbd", &place]);
    let uri = format!("nbd+unix:///?socket={}", socket.display());
    assert!(line.contains(&uri), "{line}");
    let compare = Command::new("qemu-img")
        .args([
            "compare",
            "-f",
            "raw",
            "-F",
            "raw",
            lab.path("disk").to_str().unwrap(),
            &uri,
        ])
        .output()
        .expect("this test needs qemu-img (Debian: apt-get install qemu-utils)");
    assert!(compare.status.success(), "{compare:?}");
    running.signal(rustix::process::Signal::TERM);
    assert_eq!(running.code(), Some(0));
    assert!(!socket.exists());
}

#[test]
fn what_cannot_be_shown_is_refused_and_says_why() {
    let lab = Lab::new();
    let (etc, map) = (lab.path("etc"), lab.path("map"));
    let (etc, map) = (etc.to_str().unwrap(), map.to_str().unwrap());
    for (arguments, code, reason) in [
        (&["mount", "/nowhere/at/all"][..], 1, "does not exist"),
        (&["mount", etc], 1, "not empty"),
        (&["map", "host/a@latest", "--file", map], 1, "no disk image"),
        (
            &["map", "vm/1@latest", "other", "--file", map],
            1,
            "it has disk.img",
        ),
        (&["map", "latest", "--file", etc], 1, "not empty"),
        (&["map", "12345678", "--file", map], 1, "12345678"),
        (&["map", "latest"], 2, "--nbd"),
        (
            &["map", "latest", "--nbd", "unix:/x", "--file", map],
            2,
            "cannot be used with",
        ),
        (&["map", "latest", "--nbd", "tcp:0.0.0.0:10809"], 2, "ssh -L"),
        (&["map", "latest", "--nbd", "nonsense"], 2, "unix:PATH"),
        (
            &["map", "latest", "--nbd", "unix:/nowhere/at/all"],
            1,
            "cannot listen on",
        ),
    ] {
        let output = lab.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(reason), "{arguments:?}: {said}");
    }
    let without_key = lab
        .command(&["mount", map])
        .env_remove("RELIGHT_PASSWORD_FILE")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(!without_key.status.success());
    assert!(
        String::from_utf8_lossy(&without_key.stderr).contains("RELIGHT_PASSWORD_FILE"),
        "{without_key:?}"
    );
    assert_eq!(fs::read_dir(map).unwrap().count(), 0);
}
