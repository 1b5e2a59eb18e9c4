//! The streaming receiver.

use std::fs;
use std::time::{Duration, Instant};

use crate::lab::{self, Server};
use crate::log_lab::{Load, LogLab, count, kill_server, wait, wait_recovered};

/// Recovers from a base backup and the log, to its very end, and gives how many transactions there are: at least `least`.
#[track_caller]
fn recovered(lab: &LogLab, base: &std::path::Path, least: u64, more: &str) -> u64 {
    let restored = lab.restored(17, base, &lab.shell("wal-fetch", "%f %p --partial"), more);
    restored.up();
    wait_recovered(&restored);
    let there = count(&restored);
    assert!(
        there >= least,
        "{there} of {least} were recovered: {}",
        lab.receive_log()
    );
    there
}

/// Waits until everything that the server has written is durable in the repository, as it was told.
fn wait_caught_up(server: &Server) {
    wait("the receiver", || {
        server.sql("SELECT count(*) FROM pg_stat_replication WHERE flush_lsn >= pg_current_wal_lsn()") == "1"
    });
}

#[test]
fn what_was_acknowledged_a_second_before_the_primary_was_killed_is_recovered() {
    let lab = LogLab::new();
    let server = Server::start(17, "");
    Load::prepare(&server);
    let receiver = lab.receive(&server.url(), &[]);
    wait_caught_up(&server);
    let base = lab.base(&server, "base");
    let load = Load::default();
    let killed = std::thread::scope(|scope| {
        scope.spawn(|| load.run(&server.url()));
        std::thread::sleep(Duration::from_secs(4));
        kill_server(&server);
        Instant::now()
    });
    let (acknowledged, second) = (load.last(), load.before(killed - Duration::from_secs(1)));
    // Nothing is left of the primary.
    fs::remove_dir_all(&server.data).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    assert!(receiver.stop(), "{}", lab.receive_log());
    let there = recovered(&lab, &base, second, "");
    println!("{acknowledged} acknowledged, {second} of them a second before, {there} recovered");
    assert!(acknowledged > 100, "{acknowledged}");
}

#[test]
fn a_receiver_killed_again_and_again_leaves_no_gap_even_without_its_disk() {
    let lab = LogLab::new();
    let server = Server::start(17, "");
    Load::prepare(&server);
    let mut receiver = lab.receive(&server.url(), &[]);
    wait_caught_up(&server);
    let base = lab.base(&server, "base");
    let load = Load::default();
    let killed = std::thread::scope(|scope| {
        scope.spawn(|| load.run(&server.url()));
        for round in 0..4 {
            std::thread::sleep(Duration::from_millis(900));
            server.sql("INSERT INTO numbered SELECT -n, repeat(md5(n::text), 30) FROM generate_series(1, 10000) n ON CONFLICT DO NOTHING; DELETE FROM numbered WHERE n < 0");
            receiver.kill();
            if round % 2 == 0 {
                fs::remove_dir_all(lab.path("cache")).unwrap();
            }
            receiver = lab.receive(&server.url(), &[]);
            wait_caught_up_to(&server);
        }
        std::thread::sleep(Duration::from_millis(2500));
        // Both at once, and the receiver's disk with it.
        kill_server(&server);
        Instant::now()
    });
    receiver.kill();
    fs::remove_dir_all(lab.path("cache")).unwrap();
    let second = load.before(killed - Duration::from_secs(2));
    let there = recovered(&lab, &base, second, "");
    println!(
        "{} acknowledged, {second} of them two seconds before, {there} recovered",
        load.last()
    );
}

/// Waits until a receiver is connected that has told how far it is.
fn wait_caught_up_to(server: &Server) {
    wait("the receiver", || {
        let query = "SELECT count(*) FROM pg_stat_replication WHERE flush_lsn > pg_current_wal_lsn() - 10000000::numeric";
        server.sql(query) == "1"
    });
}

#[test]
fn a_failover_is_followed_and_both_timelines_can_be_recovered() {
    let lab = LogLab::new();
    let server = Server::start(17, "");
    Load::prepare(&server);
    // A standby beside it.
    let folder = lab::folder();
    let data = folder.path().join("data");
    lab::run(
        lab::command(17, "pg_basebackup")
            .args([
                "-h",
                &server.socket().display().to_string(),
                "-U",
                "postgres",
                "-c",
                "fast",
                "-D",
            ])
            .arg(&data),
    );
    let standby = Server::of(17, folder, data);
    standby.configure(&format!(
        "primary_conninfo = 'host={} user=postgres'",
        server.socket().display()
    ));
    let signal = standby.data.join("standby.signal");
    fs::write(&signal, "").unwrap();
    let (uid, gid) = lab::runner();
    std::os::unix::fs::chown(&signal, Some(uid), Some(gid)).unwrap();
    standby.up();
    let url = format!(
        "host={},{} user=postgres dbname=postgres target_session_attrs=primary",
        server.socket().display(),
        standby.socket().display()
    );
    let receiver = lab.receive(&url, &[]);
    wait("the receiver", || {
        server.sql("SELECT count(*) FROM pg_stat_replication WHERE application_name = 'relight'") == "1"
    });
    let base = lab.base(&server, "base");
    server.sql("INSERT INTO numbered SELECT n, 'one' FROM generate_series(1, 1000) n");
    wait("the standby", || {
        standby.sql("SELECT count(*) FROM numbered") == "1000"
    });
    wait("the receiver", || {
        server.sql("SELECT count(*) FROM pg_stat_replication WHERE application_name = 'relight' AND flush_lsn >= pg_current_wal_lsn()") == "1"
    });
    kill_server(&server);
    // For a while there is no primary, only a standby; that ends by itself.
    std::thread::sleep(Duration::from_secs(3));
    standby.promote();
    standby.sql("INSERT INTO numbered SELECT n, 'two' FROM generate_series(1001, 1500) n");
    wait_caught_up(&standby);
    assert!(receiver.stop(), "{}", lab.receive_log());
    assert_eq!(
        recovered(&lab, &base, 1500, "recovery_target_timeline = 'latest'"),
        1500
    );
    assert_eq!(
        recovered(&lab, &base, 1000, "recovery_target_timeline = '1'"),
        1000
    );
    // The old primary comes back and is not taken for the cluster.
    server.up();
    let mut receiver = lab.receive(&server.url(), &[]);
    wait("a refusal", || receiver.ended().is_some());
    assert!(
        lab.receive_log().contains("it is an old primary"),
        "{}",
        lab.receive_log()
    );
}

#[test]
fn log_that_the_server_removed_is_a_gap_with_its_cause() {
    let lab = LogLab::new();
    let server = Server::start(
        17,
        "max_slot_wal_keep_size = 32MB\nmax_wal_size = 32MB\nmin_wal_size = 32MB",
    );
    Load::prepare(&server);
    let receiver = lab.receive(&server.url(), &[]);
    wait_caught_up(&server);
    assert!(receiver.stop());
    for _ in 0..8 {
        server.sql("SELECT pg_switch_wal(); INSERT INTO numbered SELECT coalesce(max(n), 0) + 1, 'x' FROM numbered; CHECKPOINT");
    }
    assert_eq!(server.sql("SELECT wal_status FROM pg_replication_slots"), "lost");
    let receiver = lab.receive(&server.url(), &[]);
    wait_caught_up(&server);
    assert!(receiver.stop());
    let log = lab.receive_log();
    assert!(
        log.contains("was lost") && log.contains("Make a new base backup"),
        "{log}"
    );
    let snapshots = lab.json(&["snapshots"]).to_string();
    assert!(
        snapshots.contains("the server had removed it before it was received"),
        "{snapshots}"
    );
}

#[test]
fn a_full_disk_at_the_receiver_and_a_repository_that_is_away_lose_nothing() {
    let lab = LogLab::new();
    let server = Server::start(17, "");
    Load::prepare(&server);
    let spool = lab.path("spool");
    fs::create_dir(&spool).unwrap();
    lab::run(
        std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=40m,mode=0777", "tmpfs"])
            .arg(&spool),
    );
    let mounted = Mounted(spool.clone());
    let receiver = lab.receive(&server.url(), &["--spool", &spool.display().to_string()]);
    wait_caught_up(&server);
    let base = lab.base(&server, "base");
    wait_caught_up(&server);
    fs::rename(lab.path("repo"), lab.path("away")).unwrap();
    for step in 0..4 {
        let (from, to) = (step * 10_000 + 1, (step + 1) * 10_000);
        server.sql(&format!(
            "INSERT INTO numbered SELECT n, repeat(md5(n::text), 30) FROM generate_series({from}, {to}) n"
        ));
    }
    // Which of the two is noticed first is left to chance.
    wait("a full disk and a repository that is away", || {
        let log = lab.receive_log();
        log.contains("No space left on device") && log.contains("is not available")
    });
    // The server keeps what is not durable. The receiver may just have hung up to try again: the slot is there all the time.
    let behind = "SELECT count(*) FROM pg_replication_slots WHERE restart_lsn < pg_current_wal_lsn() - 1000000::numeric";
    assert_eq!(server.sql(behind), "1");
    fs::rename(lab.path("away"), lab.path("repo")).unwrap();
    wait_caught_up(&server);
    assert!(receiver.stop(), "{}", lab.receive_log());
    drop(mounted);
    assert_eq!(recovered(&lab, &base, 40_000, ""), 40_000);
}

struct Mounted(std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_server_waits_for_the_repository_if_it_is_told_to() {
    let lab = LogLab::new();
    let server = Server::start(17, "");
    Load::prepare(&server);
    let mut receiver = lab.receive(&server.url(), &["--every", "100ms"]);
    wait_caught_up(&server);
    let base = lab.base(&server, "base");
    server.configure("synchronous_standby_names = 'relight'");
    server.reload();
    wait("synchronous", || {
        server.sql("SELECT sync_state FROM pg_stat_replication") == "sync"
    });
    let load = Load::default();
    std::thread::scope(|scope| {
        scope.spawn(|| load.run(&server.url()));
        std::thread::sleep(Duration::from_secs(3));
        kill_server(&server);
    });
    receiver.kill();
    fs::remove_dir_all(lab.path("cache")).unwrap();
    // Every transaction that was acknowledged is in the repository, though both died at once.
    let there = recovered(&lab, &base, load.last(), "");
    println!("{} acknowledged, {there} recovered", load.last());
    assert!(load.last() > 3);
}

#[test]
fn servers_of_the_other_versions_are_received_from_and_recovered() {
    for version in [14, 15, 16, 18] {
        let lab = LogLab::new();
        let server = Server::start(version, "");
        Load::prepare(&server);
        let mut receiver = lab.receive(&server.url(), &[]);
        wait_caught_up(&server);
        let base = lab.base(&server, "base");
        let load = Load::default();
        let stopped = std::thread::scope(|scope| {
            scope.spawn(|| load.run(&server.url()));
            std::thread::sleep(Duration::from_millis(700));
            receiver.kill();
            receiver = lab.receive(&server.url(), &[]);
            wait("the receiver", || {
                server.sql("SELECT count(*) FROM pg_stat_replication WHERE flush_lsn IS NOT NULL") == "1"
            });
            std::thread::sleep(Duration::from_millis(1500));
            let stopped = Instant::now();
            server.down("immediate");
            stopped
        });
        std::thread::sleep(Duration::from_secs(1));
        assert!(receiver.stop(), "{}", lab.receive_log());
        let restored = lab.restored(version, &base, &lab.shell("wal-fetch", "%f %p --partial"), "");
        restored.up();
        wait_recovered(&restored);
        // What was acknowledged last may not have been received.
        let (there, least) = (count(&restored), load.before(stopped - Duration::from_secs(1)));
        assert!(
            there >= least && there > 20,
            "version {version}: {there} of {least}"
        );
    }
}
