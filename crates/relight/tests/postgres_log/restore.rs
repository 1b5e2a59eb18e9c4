//! Restores that do not come to their end: killed, on a disk that is too small, and on one that fills meanwhile.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

use crate::lab::{self, Server};
use crate::log_lab::LogLab;

/// A repository with a base backup of a cluster and the log of what came after it.
struct Site {
    lab: LogLab,
    server: Server,
}

const ROWS: &str = "SELECT count(*) || ' ' || md5(string_agg(t::text, ',' ORDER BY id)) FROM t";

impl Site {
    fn new() -> Self {
        let lab = LogLab::new();
        let server = Server::start(
            17,
            &format!(
                "archive_mode = on\narchive_command = '{}'",
                lab.shell("wal-push", "%p")
            ),
        );
        // Much that does not compress, in files of several MiB and in many small ones.
        server.sql(
            "CREATE TABLE t AS SELECT g AS id, (SELECT string_agg(md5(g || '.' || n), '') FROM generate_series(1, 60) n) AS text \
             FROM generate_series(1, 15000) g",
        );
        lab.ok(&["postgres", "backup", "main", "--url", &server.url()]);
        server.sql("INSERT INTO t SELECT id + 100000, text FROM t WHERE id <= 3000");
        let name = server.sql("SELECT pg_walfile_name(pg_current_wal_lsn())");
        server.sql("SELECT pg_switch_wal()");
        crate::log_lab::wait("the archiver", || {
            server.sql(&format!(
                "SELECT last_archived_wal >= '{name}' FROM pg_stat_archiver"
            )) == "t"
        });
        Self { lab, server }
    }

    fn command(&self, target: &Path, more: &[&str]) -> Command {
        let target = target.display().to_string();
        let arguments = ["postgres", "restore", "main", "--with-log", "--target", &target];
        let mut command = self.lab.command(&[&arguments[..], more].concat());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// It fails with exit code 1: what it says.
    #[track_caller]
    fn refused(&self, target: &Path, more: &[&str]) -> String {
        let output = self.command(target, more).output().unwrap();
        outcome(&output, 1)
    }

    fn good(&self, target: &Path, more: &[&str]) -> String {
        let output = self.command(target, more).output().unwrap();
        outcome(&output, 0)
    }

    /// A restore that is stopped as soon as `stage` is reached in its directory: nothing goes on there any more. `prepare`
    /// gives a directory for each try, for one that is too fast to be stopped there.
    fn stopped(
        &self,
        more: &[&str],
        prepare: impl Fn() -> PathBuf,
        stage: impl Fn(&Path) -> bool,
    ) -> Stopped {
        for _ in 0..20 {
            let target = prepare();
            let child = self.command(&target, more).spawn().unwrap();
            let stopped = Stopped {
                child: Some(child),
                target,
            };
            while stopped.stop() {
                if stopped.target.join("global/pg_control").exists() {
                    break;
                }
                if stage(&stopped.target) {
                    return stopped;
                }
                stopped.go_on();
                // Else it would hardly get anywhere.
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        panic!("no restore could be stopped at that stage");
    }
}

#[track_caller]
fn outcome(output: &Output, code: i32) -> String {
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(output.status.code(), Some(code), "{text}");
    text
}

/// A restore that does not go on until it is told to. Killed at the end.
struct Stopped {
    child: Option<Child>,
    target: PathBuf,
}

impl Stopped {
    fn process(&self) -> Pid {
        Pid::from_child(self.child.as_ref().unwrap())
    }

    /// Stops all of it. False: it has ended.
    fn stop(&self) -> bool {
        rustix::process::kill_process(self.process(), Signal::STOP).unwrap();
        let events = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let event = rustix::process::waitid(WaitId::Pid(self.process()), events).unwrap();
        event.is_some_and(|event| event.stopped())
    }

    fn go_on(&self) {
        rustix::process::kill_process(self.process(), Signal::CONT).unwrap();
    }

    /// Lets it go on, and waits for its end.
    fn end(mut self) -> Output {
        self.go_on();
        self.child.take().unwrap().wait_with_output().unwrap()
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A file system of its own, unmounted at the end.
struct Mounted(PathBuf);

impl Mounted {
    fn new(place: PathBuf, options: &str) -> Self {
        fs::create_dir(&place).unwrap();
        let (uid, gid) = lab::runner();
        lab::run(
            Command::new("mount")
                .args(["-t", "tmpfs", "-o"])
                .arg(format!("{options},uid={uid},gid={gid},mode=700"))
                .arg("tmpfs")
                .arg(&place),
        );
        Self(place)
    }

    /// Bytes that something takes.
    fn taken(&self) -> u64 {
        let stat = rustix::fs::statvfs(&self.0).unwrap();
        (stat.f_blocks - stat.f_bfree) * stat.f_frsize
    }

    /// Takes all that is free.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = fs::File::create(&path).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
        path
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// All that is in a directory, with permissions.
fn listing(directory: &Path) -> String {
    let output = lab::run(
        Command::new("find")
            .arg(directory)
            .args(["-type", "d", "-printf", "%P/ %m %u\n"])
            .args(["-o", "-printf", "%P %m %u %s %l\n"]),
    );
    let mut lines: Vec<_> = std::str::from_utf8(&output.stdout).unwrap().lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

#[track_caller]
fn assert_same(one: &Path, other: &Path) {
    assert_eq!(listing(one), listing(other));
    lab::run(
        Command::new("diff")
            .args(["-r", "--no-dereference"])
            .arg(one)
            .arg(other),
    );
}

#[track_caller]
fn assert_no_server_starts(data: &Path) {
    let ended = lab::command(17, "postgres").arg("-D").arg(data).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    // Either pg_control is what it misses first, or its configuration is not there yet.
    let why = ["could not find the database system", "contains errors"];
    assert!(
        !ended.status.success() && why.iter().any(|why| said.contains(why)),
        "{said}"
    );
    assert!(!data.join("global/pg_control").exists());
}

/// Files and links in a directory.
fn count_files(directory: &Path) -> usize {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => count_files(&entry.path()),
            _ => 1,
        })
        .sum()
}

/// Whether contents are being written: every file is there (the mark, and not pg_control), and what comes after their contents
/// is not.
fn is_filled(files: usize) -> impl Fn(&Path) -> bool {
    move |target| count_files(target) >= files && !target.join("recovery.signal").exists()
}

fn gets_log(target: &Path) -> bool {
    target.join("recovery.signal").exists()
}

#[test]
fn a_restore_that_is_killed_starts_as_no_server_and_is_completed_to_the_byte() {
    let site = Site::new();
    let rows = site.server.sql(ROWS);
    let folder = lab::folder();
    let whole = folder.path().join("whole");
    let report: serde_json::Value = serde_json::from_str(&site.good(&whole, &["--json"])).unwrap();
    assert!(report["log"]["segments"].as_u64().unwrap() >= 2, "{report}");
    let files = report["files"].as_u64().unwrap() as usize;

    let number = std::cell::Cell::new(0);
    let fresh = || {
        number.set(number.get() + 1);
        folder.path().join(format!("try-{}", number.get()))
    };
    let killed = site.stopped(&[], fresh, is_filled(files));
    let data = killed.target.clone();
    for more in [&[][..], &["--delta"]] {
        let said = site.refused(&data, more);
        assert!(said.contains("another restore is at work"), "{said}");
    }
    drop(killed);
    assert_no_server_starts(&data);
    let said = site.refused(&data, &[]);
    let snapshot = &report["snapshot"].as_str().unwrap()[..8];
    assert!(
        said.contains(snapshot) && said.contains("did not come to its end") && said.contains("--delta"),
        "{said}"
    );

    // While it is completed it is killed again, when only the log is missing. One that was too fast for that is begun anew.
    let again = || {
        let _ = fs::remove_file(data.join("global/pg_control"));
        data.clone()
    };
    drop(site.stopped(&["--delta"], again, gets_log));
    assert_no_server_starts(&data);
    let said = site.good(&data, &["--delta"]);
    assert!(
        said.contains(&format!("completes a restore of {snapshot}")),
        "{said}"
    );
    assert_same(&data, &whole);

    let restored = Server::of(17, folder, data);
    restored.up();
    crate::log_lab::wait_recovered(&restored);
    assert_eq!(restored.sql(ROWS), rows);
}

#[test]
fn what_has_no_room_is_refused_and_a_disk_that_fills_meanwhile_is_told() {
    let site = Site::new();
    let folder = lab::folder();
    let whole = folder.path().join("whole");
    let report: serde_json::Value = serde_json::from_str(&site.good(&whole, &["--json"])).unwrap();
    let files = report["files"].as_u64().unwrap() as usize;

    // Not enough from the beginning.
    let small = Mounted::new(folder.path().join("small"), "size=48m");
    let before = small.taken();
    let said = site.refused(&small.0.join("data"), &[]);
    assert!(
        said.contains("are needed, and there are 48.0 MiB") && said.contains("nothing was written"),
        "{said}"
    );
    assert!(!small.0.join("data").exists());
    assert_eq!(small.taken(), before);
    drop(small);

    // Enough, but not for so many files: found out before there is content, and given back.
    let few = Mounted::new(folder.path().join("few"), "size=400m,nr_inodes=300");
    let said = site.refused(&few.0.join("data"), &[]);
    assert!(
        said.contains("No space left on device") && said.contains("was removed again"),
        "{said}"
    );
    assert_eq!(fs::read_dir(few.0.join("data")).unwrap().count(), 0);
    assert_eq!(few.taken(), 0);
    drop(few);

    // Enough, until somebody else takes it.
    let shared = Mounted::new(folder.path().join("shared"), "size=400m");
    let data = shared.0.join("data");
    let fresh = || {
        let _ = fs::remove_dir_all(&data);
        data.clone()
    };
    let stopped = site.stopped(&[], fresh, is_filled(files));
    let filler = shared.fill();
    let said = outcome(&stopped.end(), 1);
    assert!(
        said.contains("write /tmp/")
            && said.contains("No space left on device")
            && said.contains("no server starts from")
            && said.contains("MiB more, then complete it with --delta"),
        "{said}"
    );
    assert_no_server_starts(&data);
    fs::remove_file(filler).unwrap();
    site.good(&data, &["--delta"]);
    assert_same(&data, &whole);
}
