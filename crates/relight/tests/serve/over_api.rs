//! The commands that ask another host's server: the real program against the real server, by a token, with nothing of the
//! server's own files at hand.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use super::elsewhere::Elsewhere;
use super::lab::Lab;
use super::runs::PLAN;

#[test]
fn runs_are_asked_for_and_looked_at_from_elsewhere() {
    let lab = Lab::with_plan(PLAN);
    lab.user("jane@pbs", "Admin", "/");
    let header = lab.token("jane@pbs!script", "Admin", "/");
    let server = lab.serve();
    let far = Elsewhere::new(&lab, &server, &header, "jane@pbs!script");

    let (_, said) = far.ends(4, &["overview", "--strict"]);
    assert_eq!(said, "");
    let (printed, said) = far.ends(0, &["run", "host/web"]);
    assert!(
        printed.contains("outcome    good") && said.contains("run 1: backup host/web"),
        "{printed}{said}"
    );
    let overview = far.json(&["overview"]);
    assert_eq!(overview["workloads"][0]["health"], "unproven", "{overview:#}");
    assert!(far.ok(&["overview"]).contains("unproven  host/web  files"));

    let run = far.json(&["run", "drill", "host/web"]);
    assert_eq!((&run["number"], &run["outcome"]), (&2.into(), &"good".into()));
    let listed = far.json(&["runs", "--kind", "backup"]);
    assert_eq!(
        (listed.as_array().unwrap().len(), &listed[0]["number"]),
        (1, &1.into())
    );
    // What is told on the server's own host, in the same words.
    assert_eq!(far.ok(&["runs"]), lab.ok(&["runs"]));
    assert_eq!(far.ok(&["runs", "show", "2"]), lab.ok(&["runs", "show", "2"]));
    // Foreseen by what was measured there.
    let next = ["plan", "next", "--from", "2026-12-31", "--until", "2027-01-04"];
    assert_eq!(far.ok(&next), lab.ok(&next));
    assert_eq!(far.json(&next), lab.json(&next));
    assert!(far.ok(&next).contains("backup  host/web"));
    assert_eq!(
        far.json(&["runs", "follow", "2"])["snapshot"],
        listed[0]["snapshot"]
    );

    let records = far.json(&["evidence", "list", "--kind", "run"]);
    assert_eq!(records, lab.json(&["evidence", "list", "--kind", "run"]));
    fs::create_dir(lab.path("reports")).unwrap();
    let period = ["report", "compliance", "--from", "2026-01-01"];
    let report = far.json(&[&period[..], &["--format", "pdf", "-o", "reports"]].concat());
    assert_eq!(report["whole"], true, "{report:#}");
    let written = fs::read_dir(lab.path("reports"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    assert!(written.file_name().to_str().unwrap().ends_with(".pdf"));
    assert!(fs::read(written.path()).unwrap().starts_with(b"%PDF-"));

    // What makes no sense is told in the server's words, and by the exit code.
    for (code, arguments, says) in [
        (1, &["run", "backup", "host/other"][..], "not in the plan"),
        (1, &["runs", "cancel", "1"], "has ended already"),
        (1, &["runs", "show", "77"], "there is no run 77"),
        (1, &["runs", "--since", "2026-01-01T00:00:00Z"], "--before"),
        (1, &["api", "GET", "/nothing"], "not found"),
        (1, &["api", "POST", "/runs", "--data", "{"], "no JSON (line 1"),
        (2, &["api", "PATCH", "/runs"], "GET, POST, PUT, DELETE"),
        (
            2,
            &["runs", "--server", "https://h:8007"],
            "user@realm!token@host",
        ),
    ] {
        let (_, said) = far.ends(code, arguments);
        assert!(said.contains(says), "{arguments:?}: {said}");
    }

    // Any call.
    let asked = far.json(&["api", "POST", "runs", "--data", r#"{"job": "verify host/web"}"#]);
    assert_eq!(asked["data"]["job"], "verify host/web");
    far.ok(&["api", "get", "/api/v1/openapi.json", "-o", "openapi.json"]);
    let described: Value = serde_json::from_slice(&fs::read(lab.path("openapi.json")).unwrap()).unwrap();
    assert_eq!(described["openapi"], "3.1.0");
    server.stop();
    let (_, said) = far.ends(1, &["overview"]);
    assert!(said.contains("cannot connect to 127.0.0.1"), "{said}");
}

#[test]
fn whoever_is_not_known_or_may_not_is_told_so() {
    let lab = Lab::with_plan(PLAN);
    lab.user("jane@pbs", "DatastoreReader", "/datastore/main");
    let header = lab.token("jane@pbs!script", "DatastoreReader", "/datastore/main");
    let server = lab.serve();
    let mut far = Elsewhere::new(&lab, &server, &header, "jane@pbs!script");
    let (_, said) = far.ends(1, &["run", "host/web"]);
    assert!(said.contains("Runs.Ask") || said.contains("privilege"), "{said}");
    // A password in the place of a token's secret.
    fs::copy(lab.path("user-password"), lab.path("token")).unwrap();
    let (_, said) = far.ends(1, &["overview"]);
    assert!(said.contains("the secret is another"), "{said}");
    far.server = far.server.replace("!script", "");
    assert!(far.ok(&["overview"]).contains("host/web"));
    // Another certificate.
    far.fingerprint = far.fingerprint.replace(|c: char| c.is_ascii_digit(), "0");
    let (_, said) = far.ends(1, &["overview"]);
    assert!(said.contains("is not trusted"), "{said}");
    fs::remove_file(lab.path("token")).unwrap();
    let (_, said) = far.ends(1, &["overview"]);
    assert!(!said.contains("Secret12345"), "{said}");
}

#[test]
fn people_are_managed_from_elsewhere() {
    let lab = Lab::with_plan(PLAN);
    lab.user("jane@pbs", "Admin", "/");
    lab.ok(&["role", "add", "night-shift", "--may", "backup,drill"]);
    let header = lab.token("jane@pbs!script", "Admin", "/");
    let server = lab.serve();
    let far = Elsewhere::new(&lab, &server, &header, "jane@pbs!script");
    let added = far.ok(&[
        "user",
        "add",
        "bob@pbs",
        "--new-password-file",
        "user-password",
        "--comment",
        "of the night",
    ]);
    assert!(added.contains("bob@pbs is added"), "{added}");
    let made = far.json(&["token", "add", "bob@pbs!cron", "--expires", "2099-01-01"]);
    assert!(made["secret"].as_str().unwrap().len() > 20);
    far.ok(&["acl", "set", "/datastore/main", "night-shift", "bob@pbs"]);
    // In the words of the server's own host.
    for list in [
        &["user", "list"][..],
        &["role", "list"],
        &["acl", "list"],
        &["acl", "roles"],
    ] {
        assert_eq!(far.ok(list), lab.ok(list), "{list:?}");
    }
    assert!(far.ok(&["token", "list", "bob@pbs"]).contains("bob@pbs!cron"));
    assert!(lab.ok(&["acl", "list"]).contains("night-shift"));
    let bob = far.as_user("bob@pbs");
    assert!(bob.ok(&["overview"]).contains("host/web"));
    assert_eq!(far.ok(&["session", "list"]), lab.ok(&["session", "list"]));
    let sessions = far.json(&["session", "list", "bob@pbs"]);
    assert_eq!(sessions.as_array().unwrap().len(), 1, "{sessions}");
    let (_, said) = bob.ends(1, &["user", "add", "eve@pbs", "--no-password"]);
    assert!(
        said.contains("privilege") || said.contains("permission"),
        "{said}"
    );
    far.ok(&["session", "revoke", sessions[0]["id"].as_str().unwrap()]);
    bob.ok(&["overview"]);
    far.ok(&["session", "revoke", "--all", "bob@pbs"]);
    assert_eq!(far.json(&["session", "list", "bob@pbs"]), serde_json::json!([]));
    far.ok(&["acl", "remove", "/datastore/main", "bob@pbs", "night-shift"]);
    far.ok(&["token", "remove", "bob@pbs!cron"]);
    assert!(
        !lab.ok(&["acl", "list"]).contains("night-shift") && !lab.ok(&["token", "list"]).contains("cron")
    );
    far.ok(&["user", "disable", "bob@pbs"]);
    bob.ends(1, &["overview"]);
    far.ok(&["user", "enable", "bob@pbs"]);
    bob.ok(&["overview"]);
    let (_, said) = far.ends(1, &["user", "totp", "bob@pbs", "--remove"]);
    assert!(said.contains("bob@pbs has no second factor"), "{said}");
    let (_, said) = far.ends(1, &["user", "remove", "jane@pbs"]);
    assert!(said.contains("you would remove yourself"), "{said}");
    assert!(
        far.ok(&["user", "remove", "bob@pbs"])
            .contains("bob@pbs is removed")
    );
    bob.ends(1, &["overview"]);
    assert!(!lab.ok(&["user", "list"]).contains("bob@pbs"));
    server.stop();
}

#[test]
fn a_second_person_decides_from_elsewhere() {
    let lab = Lab::with_plan(&PLAN.replace(
        "[plan]",
        "[approvals]\nrequired = ['access', 'retention']\n[plan]",
    ));
    lab.user("jane@pbs", "Admin", "/");
    lab.user("anna@pbs", "Approver", "/");
    let header = lab.token("jane@pbs!script", "Admin", "/");
    let server = lab.serve();
    let far = Elsewhere::new(&lab, &server, &header, "jane@pbs!script");
    let give = ["acl", "set", "/", "Viewer", "anna@pbs"];
    let (_, said) = far.ends(1, &give);
    assert!(said.contains("request 1; do the same again"), "{said}");
    assert_eq!(far.ok(&["approval", "list"]), lab.ok(&["approval", "list"]));
    assert_eq!(far.json(&["approval", "list"]), lab.json(&["approval", "list"]));
    let (_, said) = far.ends(1, &["approval", "approve", "1"]);
    assert!(said.contains("a token cannot approve"), "{said}");
    let (_, said) = far.as_user("jane@pbs").ends(1, &["approval", "approve", "1"]);
    assert!(said.contains("your own"), "{said}");
    let anna = far.as_user("anna@pbs");
    let done = anna.ok(&["approval", "approve", "1", "--remark", "by telephone"]);
    assert!(done.contains("jane@pbs!script can do it once, until"), "{done}");
    far.ok(&give);
    let again = ["acl", "set", "/", "Operator", "anna@pbs"];
    far.ends(1, &again);
    assert!(
        anna.ok(&["approval", "deny", "2", "--remark", "no"])
            .contains("denied")
    );
    let (_, said) = far.ends(1, &again);
    assert!(said.contains("denied by anna@pbs (request 2): no"), "{said}");
    assert_eq!(far.ok(&["approval", "list"]), lab.ok(&["approval", "list"]));
    server.stop();
}

#[test]
fn the_plan_is_shown_checked_and_edited_from_elsewhere() {
    let lab = Lab::with_plan(PLAN);
    lab.user("jane@pbs", "Admin", "/");
    let header = lab.token("jane@pbs!script", "Admin", "/");
    let server = lab.serve();
    let far = Elsewhere::new(&lab, &server, &header, "jane@pbs!script");
    for show in [&["plan", "show"][..], &["plan", "show", "host/web"]] {
        assert_eq!(far.ok(show), lab.ok(show), "{show:?}");
    }
    let checked = far.ok(&["plan", "check"]);
    assert!(
        checked.contains("RL119") && checked.contains("nothing needs a second person"),
        "{checked}"
    );
    assert!(
        lab.ok(&["plan", "check"])
            .contains("nothing needs a second person")
    );
    let editor = |script: &str| {
        fs::write(lab.path("editor"), format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(lab.path("editor"), fs::Permissions::from_mode(0o755)).unwrap();
    };
    editor("exit 0");
    let (_, said) = far.ends(0, &["plan", "edit"]);
    assert!(said.contains("nothing is changed"), "{said}");
    editor("sed -i 's/keep-last = 2/keep-last = 4/' \"$1\"");
    // Without a terminal nobody can say yes; what was written is not lost.
    let (_, said) = far.ends(1, &["plan", "edit"]);
    assert!(
        said.contains("--yes") && said.contains("+   ") && said.contains("keep-last = 4"),
        "{said}"
    );
    let kept = said.split("--file ").nth(1).unwrap().lines().next().unwrap();
    assert!(fs::read_to_string(kept).unwrap().contains("keep-last = 4"));
    let (_, said) = far.ends(0, &["plan", "check", "--file", kept]);
    assert!(!said.contains("error"), "{said}");
    far.ok(&["plan", "edit", "--file", kept, "--yes"]);
    let text = fs::read_to_string(lab.path("relight.toml")).unwrap();
    assert!(
        text.contains("keep-last = 4") && text.contains("password-file = 'password'"),
        "{text}"
    );
    editor("echo '[nonsense' >> \"$1\"");
    let (_, said) = far.ends(1, &["plan", "edit", "--yes"]);
    assert!(said.contains("cannot be read"), "{said}");
    // Somebody else was faster.
    editor(&format!(
        "sed -i 's/keep-last = 4/keep-last = 5/' \"$1\"; echo '# by hand' >> {}",
        lab.path("relight.toml").display()
    ));
    let (_, said) = far.ends(1, &["plan", "edit", "--yes"]);
    assert!(said.contains("changed by somebody else"), "{said}");
    server.stop();
}

#[test]
fn restores_and_drills_are_asked_for_from_elsewhere() {
    let lab = Lab::with_plan(PLAN);
    let text = fs::read_to_string(lab.path("relight.toml")).unwrap();
    let root = lab.path("restored");
    fs::create_dir(&root).unwrap();
    let text = text.replace("[plan]", &format!("[restore]\nroots = [{root:?}]\n[plan]"));
    fs::write(lab.path("relight.toml"), text).unwrap();
    lab.user("jane@pbs", "Admin", "/");
    let header = lab.token("jane@pbs!script", "Admin", "/");
    let server = lab.serve();
    let far = Elsewhere::new(&lab, &server, &header, "jane@pbs!script");
    far.ok(&["run", "host/web"]);
    far.ok(&["run", "drill", "host/web"]);
    let drills = far.ok(&["drills"]);
    assert!(drills.contains("host/web  passed"), "{drills}");
    assert_eq!(drills, lab.ok(&["drills"]));
    let to = root.join("here");
    let start = ["restores", "start", "host/web", "--to", to.to_str().unwrap()];
    let planned = far.ok(&[&start[..], &["--plan"]].concat());
    assert!(planned.contains("1 files"), "{planned}");
    assert!(!to.exists());
    let (_, said) = far.ends(1, &start);
    assert!(said.contains("say --yes"), "{said}");
    let done = far.ok(&[&start[..], &["--yes"]].concat());
    assert!(done.contains("outcome    good"), "{done}");
    assert!(to.join("data/one").exists() || fs::read_dir(&to).unwrap().count() > 0);
    assert!(far.ok(&["restores"]).contains("restore host/web"));
    assert_eq!(far.ok(&["restores"]), lab.ok(&["restores", "list"]));
    let early = ["--at", "2001-01-01T00:00:00Z", "--yes"];
    let (_, said) = far.ends(1, &[&start[..], &early].concat());
    assert!(said.contains("no recovery point of host/web from 2001"), "{said}");
    server.stop();
}

#[test]
fn a_recovery_key_is_made_for_somebody_elsewhere_once() {
    let lab = Lab::with_plan(&PLAN.replace("[plan]", "[approvals]\nrequired = ['keys']\n[plan]"));
    lab.user("otto@pbs", "KeyOfficer", "/");
    lab.user("anna@pbs", "Approver", "/");
    let header = lab.token("otto@pbs!script", "KeyOfficer", "/");
    let server = lab.serve();
    let far = Elsewhere::new(&lab, &server, &header, "otto@pbs!script");
    let make = ["key", "recovery", "--repo", "main", "--label", "the safe"];
    // Secrets are for people and files.
    let (_, said) = far.ends(1, &make);
    assert!(said.contains("--output FILE"), "{said}");
    let page = [&make[..], &["--output", "page"]].concat();
    let (_, said) = far.ends(1, &page);
    assert!(said.contains("request 1; do the same again"), "{said}");
    assert!(!lab.path("page").exists());
    far.as_user("anna@pbs").ok(&["approval", "approve", "1"]);
    let told = far.json(&page);
    assert_eq!(
        (&told["label"], &told["output"]),
        (&"the safe".into(), &"page".into())
    );
    let mode = fs::metadata(lab.path("page")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let output = lab
        .command(&["key", "test", "--json", "--recovery-key-file", "page"])
        .env_remove("RELIGHT_PASSWORD_FILE")
        .output()
        .unwrap();
    let tested: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(tested[0]["id"], told["id"], "{tested}");
    let (_, said) = far.ends(1, &page);
    assert!(
        said.contains("make page"),
        "what is there is not written over: {said}"
    );
    let (_, said) = far.ends(1, &["key", "recovery", "--repo", "other", "--output", "second"]);
    assert!(said.contains("there is no repository"), "{said}");
    server.stop();
}
