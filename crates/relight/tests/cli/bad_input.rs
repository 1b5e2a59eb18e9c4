//! Bad input of every command: a clear error, and nothing changed.

use std::fs;

use super::lab::Lab;

/// What is wrong, how the program must end, and words that must be in what it says.
type Case<'a> = (&'a [&'a str], i32, &'a str);

fn check(lab: &Lab, cases: &[Case<'_>]) {
    let before = lab.repository_files();
    for (arguments, code, says) in cases {
        let run = lab.run(arguments).code(*code);
        assert!(
            run.err.contains(says),
            "relight {}: {:?} does not say {says:?}",
            arguments.join(" "),
            run.err
        );
        assert!(
            lab.repository_files() == before,
            "relight {} changed the repository",
            arguments.join(" ")
        );
    }
}

/// Each command that works on a repository, with arguments that are fine.
const FINE: &[&[&str]] = &[
    &["backup", "src", "-w", "host/lab"],
    &["snapshots"],
    &["ls", "latest"],
    &["find", "x"],
    &["diff", "latest", "latest"],
    &["restore", "latest", "--to", "out"],
    &["dump", "latest", "src/hello.txt"],
    &["forget", "--keep-last", "1", "--apply"],
    &["protect", "latest"],
    &["unprotect", "latest"],
    &["notes", "latest", "x"],
    &["verify"],
    &["collect", "--grace", "0"],
    &["stats"],
    &["copy", "--to", "elsewhere"],
    &["repair", "index"],
    &["repair", "packs"],
    &["key", "add", "--new-key-file", "new-key"],
    &["key", "recovery", "--output", "page"],
    &["key", "test"],
    &["key", "remove", "00000000"],
    &["key", "rotate"],
    &["key", "rewrite"],
    &["key", "uses"],
];

#[test]
fn arguments_that_make_no_sense() {
    let lab = Lab::saved();
    check(
        &lab,
        &[
            (&[], 2, "Usage"),
            (&["nonsense"], 2, "unrecognized"),
            (&["ls"], 2, "SNAPSHOT"),
            (&["ls", "latest", "--nonsense"], 2, "--nonsense"),
            (&["backup"], 1, "say what to save"),
            (&["backup", "no-such-folder"], 1, "no-such-folder"),
            (&["backup", "src", "-w", "nokind"], 2, "is not a workload"),
            (&["backup", "src", "-e", "["], 1, "["),
            (&["backup", "--stdin", "../escape"], 1, "../escape"),
            (&["find", "["], 1, "["),
            (&["find", "!x"], 1, "!"),
            (&["find", "x", "-w", "host/none"], 1, "host/none"),
            (&["restore", "latest"], 2, "--to"),
            (&["dump", "latest"], 2, "PATH"),
            (&["dump", "latest", "src", "--format", "rar"], 2, "rar"),
            (&["forget"], 1, "say which snapshots are kept"),
            (&["forget", "--keep-last", "0", "--apply"], 2, "--keep-last"),
            (&["forget", "--keep-last", "-1", "--apply"], 2, "-1"),
            (&["forget", "--keep-within", "7", "--apply"], 2, "--keep-within"),
            (&["forget", "--keep-dayly", "7", "--apply"], 2, "--keep-dayly"),
            (
                &["forget", "--keep-last", "1", "latest", "--apply"],
                1,
                "not both",
            ),
            (
                &["forget", "--keep-last", "1", "-w", "host/none", "--apply"],
                1,
                "host/none",
            ),
            (
                &["forget", "--plan", "no-such-file", "--apply"],
                1,
                "no-such-file",
            ),
            (&["forget", "--plan", "src/hello.txt", "--apply"], 1, "is no plan"),
            (&["verify", "--share", "2/3"], 2, "1/30"),
            (&["verify", "--share", "0"], 2, "1/30"),
            (
                &["verify", "--share", "1/3", "--structure"],
                2,
                "cannot be used with",
            ),
            (&["collect", "--grace", "5"], 2, "unit"),
            (&["collect", "--grace", "-1d"], 2, "-1"),
            (&["collect", "--max-waste", "101"], 2, "101"),
            (&["copy"], 2, "--to"),
            (
                &["copy", "--to", "repo", "--to-key-file", "key"],
                1,
                "is this repository",
            ),
            (
                &["copy", "--to", "src", "--to-key-file", "key"],
                1,
                "holds no Relight repository",
            ),
            (&["repair"], 2, "Usage"),
            (&["repair", "packs", "--pack", "xyz"], 1, "is no pack"),
            (
                &["repair", "packs", "--from", "src", "--from-key-file", "key"],
                1,
                "holds no Relight repository",
            ),
            (
                &["key", "add", "--new-password-file", "no-such-file"],
                1,
                "no-such-file",
            ),
            (&["key", "add", "--new-key-file", "src/hello.txt"], 1, "hello.txt"),
            (&["key", "remove", "xyz"], 1, "key list"),
            (&["key", "remove", "00000000"], 1, "00000000"),
            (&["init"], 1, "already holds"),
            (&["init", "--parity", "101"], 2, "101"),
        ],
    );
    assert!(!lab.path("escape").exists());
}

#[test]
fn snapshots_and_paths_that_are_not_there() {
    let lab = Lab::saved();
    let mut cases: Vec<(Vec<&str>, i32, &str)> = Vec::new();
    let commands: &[&[&str]] = &[
        &["ls", "S"],
        &["find", "x", "-s", "S"],
        &["diff", "S", "latest"],
        &["diff", "latest", "S"],
        &["restore", "S", "--to", "out"],
        &["dump", "S", "src/hello.txt"],
        &["forget", "S", "--apply"],
        &["protect", "latest", "S"],
        &["unprotect", "S"],
        &["notes", "S", "x"],
        &["verify", "-s", "S"],
        &["copy", "S", "--to", "repo"],
    ];
    let wrong = [
        ("00000000", "no snapshot"),
        ("host/none@latest", "no snapshot of host/none"),
        ("host/lab@1999-01-01", "host/lab has no snapshot"),
        ("host/lab@yesterday", "not a time"),
        ("12", "too short"),
        ("../../etc/passwd", "names no snapshot"),
        ("", "names no snapshot"),
    ];
    for command in commands {
        for (snapshot, says) in wrong {
            let arguments = command
                .iter()
                .map(|part| if *part == "S" { snapshot } else { part });
            cases.push((arguments.collect(), 1, says));
        }
    }
    for (path, says) in [
        ("src/nothing", "nothing"),
        ("/etc/shadow", "shadow"),
        ("src/../../x", ".."),
    ] {
        cases.push((vec!["ls", "latest", path], 1, says));
        cases.push((vec!["dump", "latest", path], 1, says));
        cases.push((vec!["diff", "latest", "latest", path], 1, says));
    }
    let cases: Vec<Case<'_>> = cases
        .iter()
        .map(|(arguments, code, says)| (&arguments[..], *code, *says))
        .collect();
    check(&lab, &cases);

    // A restore restores what is there, and tells what is not.
    let before = lab.repository_files();
    let run = lab
        .run(&["restore", "latest", "src/nothing", "src/hello.txt", "--to", "out"])
        .code(3);
    assert!(run.text().contains("src/nothing"));
    assert_eq!(fs::read(lab.path("out/src/hello.txt")).unwrap(), b"hello\n");
    lab.run(&["restore", "latest", "/etc/shadow", "--to", "elsewhere"])
        .fails("shadow");
    let run = lab.run(&["restore", "latest", "src/../../x", "--to", "elsewhere"]);
    assert_ne!(run.code, 0);
    assert!(!lab.path("x").exists() && lab.repository_files() == before);
}

#[test]
fn a_wrong_place_and_a_wrong_key() {
    let lab = Lab::saved();
    lab.make_key("wrong-key");
    fs::create_dir(lab.path("empty")).unwrap();
    let before = lab.repository_files();
    for arguments in FINE {
        let with = |more: &[&str]| lab.run_without_key(&[*arguments, more].concat());
        let what = arguments.join(" ");
        let run = with(&["--repo", "no-such-folder", "--key-file", "key"]).code(1);
        assert!(run.err.contains("no-such-folder"), "{what}: {}", run.err);
        with(&["--repo", "empty", "--key-file", "key"]).fails("holds no Relight repository");
        with(&["--repo", "ftp://host/path", "--key-file", "key"]).fails("not a known kind of storage");
        with(&["--repo", "s3://bucket/../x", "--key-file", "key"]).fails("S3 location");
        with(&["--repo", "s3://key:secret@bucket", "--key-file", "key"]).fails("credentials");
        with(&["--key-file", "no-such-key"]).fails("no-such-key");
        if *arguments != ["key", "test"] {
            with(&["--key-file", "wrong-key"]).fails("key");
        } else {
            with(&["--key-file", "wrong-key"]).code(1);
        }
        // There is no terminal to ask for a passphrase.
        with(&[]).fails("no terminal");
        if *arguments != ["key", "test"] {
            with(&["--key-file", "key", "--password-file", "key"]).fails("give one of");
        }
        let run = lab
            .command(arguments)
            .env_remove("RELIGHT_REPOSITORY")
            .output()
            .unwrap();
        assert!(String::from_utf8_lossy(&run.stderr).contains("--repo"), "{what}");
        assert!(lab.repository_files() == before, "{what} changed the repository");
    }
    assert_eq!(fs::read_dir(lab.path("empty")).unwrap().count(), 0);
    for made in ["out", "new-key", "page", "no-such-folder"] {
        assert!(!lab.path(made).exists(), "{made} was made");
    }
}

#[test]
fn errors_are_json_where_that_was_asked_for() {
    let lab = Lab::saved();
    let run = lab.run(&["ls", "00000000", "--json"]).code(1);
    assert!(run.out.is_empty());
    let error: serde_json::Value = serde_json::from_str(&run.err).unwrap();
    assert!(error["error"].as_str().unwrap().contains("no snapshot"));
}
