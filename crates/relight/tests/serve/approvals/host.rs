//! What needs a second person on the server's host: commands by which recovery points are gone early, or production is written over.

use std::fs;

use super::super::lab::Lab;
use super::super::runs::PLAN;

/// A server's host, on which some things need a second person, and its plan keeps three recovery points.
fn host(required: &str) -> Lab {
    let lab = Lab::with_plan(&PLAN.replace("keep-last = 2", "keep-last = 3"));
    let guarded = format!("[approvals]\nrequired = [{required}]\n[[repository]]");
    lab.change("[[repository]]", &guarded);
    lab.user("anna@pbs", "Approver", "/");
    lab
}

fn save(lab: &Lab) -> String {
    let saved = lab.json(&["backup", "--workload", "host/web", "data"]);
    saved["snapshot"].as_str().unwrap().to_owned()
}

/// The number of the request that a command made, or found waiting.
#[track_caller]
fn asks(lab: &Lab, command: &[&str]) -> String {
    let refused = lab.fails(command);
    assert!(refused.contains("approval of a second person"), "{refused}");
    let number = refused.split("request ").nth(1).unwrap();
    number.chars().take_while(char::is_ascii_digit).collect()
}

#[test]
fn what_the_plan_keeps_is_forgotten_on_the_host_only_as_somebody_has_seen_it() {
    let lab = host("'delete'");
    let first = save(&lab);
    for _ in 0..3 {
        save(&lab);
    }
    // What the plan lets go of anyway needs nobody, nor does what only looks.
    lab.ok(&["forget", &first, "--apply"]);
    let forget = ["forget", "--keep-last", "1", "--apply"];
    lab.ok(&forget[..3]);
    let number = asks(&lab, &forget);
    assert_eq!(asks(&lab, &forget), number, "the same request");
    assert_eq!(lab.points("host/web"), 3);
    let told = lab.decide("approve", &number);
    assert!(told.contains("forget 2 recovery points of main"), "{told}");
    assert!(
        told.contains(": host/web of 2") && told.contains(" and 2"),
        "{told}"
    );
    let asked = lab.json(&["approval", "list"]);
    assert_eq!(asked["requests"][0]["who"], "root@host");
    // Meanwhile other ones would go: nobody has seen those.
    save(&lab);
    let other = asks(&lab, &forget);
    assert_ne!(other, number);
    assert_eq!(lab.points("host/web"), 4);
    lab.decide("approve", &other);
    lab.ok(&forget);
    assert_eq!(lab.points("host/web"), 1);
    let told = lab.ok(&["evidence", "list", "--kind", "approval"]);
    assert!(
        told.contains(&format!("an approval was used: request {other}")),
        "{told}"
    );
    let told = lab.ok(&["evidence", "list", "--kind", "change"]);
    assert!(told.contains("forgot snapshots by command"), "{told}");

    // What keeps a recovery point is taken away by two.
    let last = save(&lab);
    lab.ok(&["unprotect", &last]);
    lab.ok(&["protect", &last]);
    let number = asks(&lab, &["unprotect", &last]);
    lab.decide("deny", &number);
    let refused = lab.fails(&["unprotect", &last]);
    assert!(refused.contains("denied"), "{refused}");
    assert!(lab.fails(&["forget", &last, "--apply"]).contains("is protected"));
    lab.ok(&["approval", "break-glass", "--reason", "anna is away"]);
    lab.ok(&["unprotect", &last]);
    lab.ok(&["forget", &last, "--apply"]);
    let told = lab.ok(&["evidence", "list", "--kind", "approval"]);
    assert!(told.contains("went without approval"), "{told}");
}

#[test]
fn production_is_written_over_on_the_host_by_two() {
    let lab = host("'restore'");
    let saved = save(&lab);
    // Elsewhere nobody is asked, and for other things neither.
    lab.ok(&["restore", &saved, "--to", "elsewhere"]);
    fs::write(lab.path("data/one"), "changed since").unwrap();
    let above = lab.folder.path().to_str().unwrap();
    let restore = ["restore", &saved, "--to", above, "--conflict", "replace"];
    let number = asks(&lab, &restore);
    let one = || fs::read_to_string(lab.path("data/one")).unwrap();
    assert_eq!(one(), "changed since");
    let told = lab.decide("approve", &number);
    assert!(
        told.contains("is in production; files that are there: replace"),
        "{told}"
    );
    // Another way there is the same place; another thing to do there is not the same.
    std::os::unix::fs::symlink(above, lab.path("link")).unwrap();
    let other = ["restore", &saved, "--to", "link", "--conflict", "rename"];
    assert_ne!(asks(&lab, &other), number);
    lab.ok(&["restore", &saved, "--to", "link", "--conflict", "replace"]);
    assert_eq!(one(), "one");
    let told = lab.ok(&["evidence", "list", "--kind", "restore"]);
    assert!(told.contains("restored"), "{told}");

    // An image over what a device or file holds.
    fs::write(lab.path("disk.raw"), vec![7; 1 << 16]).unwrap();
    lab.ok(&["backup", "--workload", "host/disk", "--image", "disk.raw"]);
    fs::write(lab.path("disk.raw"), vec![8; 1 << 16]).unwrap();
    let over = ["restore", "host/disk@latest", "disk.img", "--onto", "disk.raw"];
    asks(&lab, &over);
    assert_eq!(fs::read(lab.path("disk.raw")).unwrap(), vec![8; 1 << 16]);
    lab.ok(&["approval", "break-glass", "--reason", "anna is away"]);
    lab.ok(&over);
    assert_eq!(fs::read(lab.path("disk.raw")).unwrap(), vec![7; 1 << 16]);
}

#[test]
fn a_job_that_removes_what_vanished_elsewhere_is_made_by_two() {
    let lab = host("'delete'");
    fs::write(lab.path("secret"), "a secret\n").unwrap();
    let fingerprint = ["aa"; 32].join(":");
    lab.ok(&[
        "remote",
        "add",
        "site-a",
        "--host",
        "127.0.0.1:1",
        "--auth-id",
        "sync@pbs!copy",
        "--secret-file",
        "secret",
        "--fingerprint",
        &fingerprint,
    ]);
    let job = |name| {
        let there = ["--remote", "site-a", "--remote-store", "main"];
        [&["sync", "add", name, "--store", "main"][..], &there].concat()
    };
    lab.ok(&job("s-1"));
    let removing = [&job("s-2")[..], &["--remove-vanished"]].concat();
    let number = asks(&lab, &removing);
    assert!(!lab.ok(&["sync", "list"]).contains("s-2"));
    let told = lab.decide("approve", &number);
    assert!(told.contains("make the job s-2, which deletes"), "{told}");
    lab.ok(&removing);
    assert!(lab.ok(&["sync", "list"]).contains("s-2"));
}
