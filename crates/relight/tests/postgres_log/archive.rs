//! `archive_command` and `restore_command`.

use std::fs;

use crate::lab::{self, Server};
use crate::log_lab::{LogLab, count, wait, wait_recovered};

fn archiving(lab: &LogLab, version: u32) -> Server {
    Server::start(
        version,
        &format!(
            "archive_mode = on\narchive_command = '{}'",
            lab.shell("wal-push", "%p")
        ),
    )
}

fn insert(server: &Server, from: u64, to: u64) {
    server.sql(&format!(
        "INSERT INTO numbered SELECT n, repeat(md5(n::text), 20) FROM generate_series({from}, {to}) n"
    ));
}

/// Waits until the segment that is being written now is in the repository.
fn switch(lab: &LogLab, server: &Server) {
    let name = server.sql("SELECT pg_walfile_name(pg_current_wal_lsn())");
    server.sql("SELECT pg_switch_wal()");
    let done = format!("SELECT last_archived_wal >= '{name}' FROM pg_stat_archiver");
    wait("the archiver", || server.sql(&done) == "t");
    let found = lab
        .command(&["wal-fetch", &name, "probe", "-w", "main", "--ahead", "0"])
        .output()
        .unwrap();
    assert!(
        found.status.success(),
        "{}",
        String::from_utf8_lossy(&found.stderr)
    );
}

#[test]
fn servers_of_all_versions_archive_and_recover() {
    for version in [14, 15, 16, 18] {
        let lab = LogLab::new();
        let server = archiving(&lab, version);
        crate::log_lab::Load::prepare(&server);
        let base = lab.base(&server, "base");
        insert(&server, 1, 20_000);
        switch(&lab, &server);
        server.down("immediate");
        let restored = lab.restored(version, &base, &lab.shell("wal-fetch", "%f %p"), "");
        restored.up();
        wait_recovered(&restored);
        assert_eq!(count(&restored), 20_000);
        // A restored cluster is on a timeline of its own, and its history gets into the log as well.
        assert_eq!(
            restored.sql("SELECT timeline_id FROM pg_control_checkpoint()"),
            "2"
        );
    }
}

#[test]
fn a_repository_that_goes_away_in_the_middle_of_a_recovery_ends_it_without_a_promotion() {
    let lab = LogLab::new();
    let server = archiving(&lab, 17);
    crate::log_lab::Load::prepare(&server);
    let base = lab.base(&server, "base");
    let mut names = Vec::new();
    for step in 0..3 {
        insert(&server, step * 5_000 + 1, (step + 1) * 5_000);
        names.push(server.sql("SELECT pg_walfile_name(pg_current_wal_lsn())"));
        switch(&lab, &server);
    }
    server.down("immediate");
    let (repo, away) = (lab.path("repo"), lab.path("away"));
    let (repo_text, away_text) = (repo.display(), away.display());
    let fetch = lab.shell("wal-fetch", "%f %p --ahead 0");
    let failing = format!(
        "if [ %f = {} ]; then mv {repo_text} {away_text}; fi; {fetch}",
        names[1]
    );
    let restored = lab.restored(17, &base, &failing, "");
    // It may let readers in before it comes to the segment.
    let _ = lab::command(17, "pg_ctl")
        .arg("-D")
        .arg(&restored.data)
        .args(["start", "-w", "-t", "30", "-l"])
        .arg(restored.folder.path().join("log"))
        .args(["-o", &format!("-k {}", restored.socket().display())])
        .output()
        .unwrap();
    wait("the server to give up", || {
        !restored.data.join("postmaster.pid").exists()
    });
    let log = restored.log();
    assert!(
        log.contains("could not restore file") && log.contains("exit code 200"),
        "{log}"
    );
    assert!(log.contains("is not available"), "{log}");
    assert!(
        !restored.data.join("pg_wal/00000002.history").exists(),
        "it was promoted: {log}"
    );
    // The repository is back: the recovery goes on where it was.
    fs::rename(&away, &repo).unwrap();
    restored.configure(&format!(
        "restore_command = '{}'",
        lab.shell("wal-fetch", "%f %p")
    ));
    restored.up();
    wait_recovered(&restored);
    assert_eq!(count(&restored), 15_000);
}

#[test]
fn a_segment_that_is_gone_is_a_gap_and_not_the_end() {
    let lab = LogLab::new();
    let server = archiving(&lab, 17);
    crate::log_lab::Load::prepare(&server);
    let mut names = Vec::new();
    for step in 0..3 {
        insert(&server, step * 100 + 1, (step + 1) * 100);
        names.push(server.sql("SELECT pg_walfile_name(pg_current_wal_lsn())"));
        switch(&lab, &server);
    }
    let snapshots = lab.json(&["snapshots"]);
    let holding = snapshots["snapshots"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|snapshot| {
            let archives = snapshot["archives"].as_array().unwrap();
            archives
                .iter()
                .any(|archive| archive["name"] == names[1].as_str())
        })
        .map(|snapshot| snapshot["id"].as_str().unwrap().to_string());
    for id in holding {
        lab.ok(&["forget", &id, "--apply", "--force"]);
    }
    let fetch = |name: &str| {
        lab.command(&["wal-fetch", name, "probe", "-w", "main", "--ahead", "0"])
            .output()
            .unwrap()
    };
    let output = fetch(&names[1]);
    assert_eq!(output.status.code(), Some(200));
    assert!(String::from_utf8_lossy(&output.stderr).contains("this is a gap"));
    assert_eq!(fetch("0000000100000000000000FF").status.code(), Some(1));
    assert_eq!(fetch("00000002.history").status.code(), Some(1));
    // Whatever is wrong with the call itself is not the end of the log either.
    for wrong in [
        &["wal-fetch"][..],
        &["wal-fetch", "x", "y", "-w", "main"],
        &["wal-fetch", "--no-such-option"],
    ] {
        assert_eq!(
            lab.command(wrong).output().unwrap().status.code(),
            Some(200),
            "{wrong:?}"
        );
    }
    let elsewhere = [
        "wal-fetch",
        names[0].as_str(),
        "probe",
        "-w",
        "other",
        "--ahead",
        "0",
    ];
    assert_eq!(lab.command(&elsewhere).output().unwrap().status.code(), Some(200));
}

#[test]
fn another_cluster_is_refused_and_keeps_its_log() {
    let lab = LogLab::new();
    let server = archiving(&lab, 17);
    switch(&lab, &server);
    let other = archiving(&lab, 17);
    other.sql("SELECT pg_switch_wal()");
    wait("a failure", || {
        other.sql("SELECT failed_count > 0 FROM pg_stat_archiver") == "t"
    });
    assert!(
        other
            .log()
            .contains("comes from the cluster with system identifier"),
        "{}",
        other.log()
    );
    assert_eq!(other.sql("SELECT archived_count FROM pg_stat_archiver"), "0");
}
