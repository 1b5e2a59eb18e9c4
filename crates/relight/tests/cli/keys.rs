//! `key`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use relight_keys::KeyFile;
use relight_repo::keyring;
use relight_repo::storage::local::LocalStorage;

use super::lab::Lab;

fn ids(lab: &Lab) -> Vec<String> {
    let list = lab.run_without_key(&["key", "list", "--json"]).ok().json();
    list.as_array()
        .unwrap()
        .iter()
        .map(|row| row["id"].as_str().unwrap().to_string())
        .collect()
}

#[test]
fn an_added_key_opens_and_a_removed_one_does_not() {
    let lab = Lab::saved();
    lab.run(&["key", "add", "--new-key-file", "second", "--label", "the second"])
        .ok();
    assert_eq!(
        fs::metadata(lab.path("second")).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let with_second = |arguments: &[&str]| {
        let mut all = vec!["--key-file", "second"];
        all.extend(arguments);
        lab.run_without_key(&all)
    };
    with_second(&["snapshots"]).ok();
    assert!(with_second(&["key", "test"]).ok().text().contains("the second"));
    // The same key twice says nothing new.
    lab.run(&["key", "add", "--new-key-file", "second"])
        .fails("already");

    let all = ids(&lab);
    lab.run(&["key", "remove", &all[0]]).fails("another one");
    with_second(&["key", "remove", &all[0], "--rotate"]).ok();
    let run = lab.run(&["snapshots"]).code(1);
    assert!(run.err.contains("key file"), "{}", run.err);
    with_second(&["ls", "latest", "src"]).ok();
    with_second(&["key", "remove", &all[1]]).fails("last");
    assert_eq!(ids(&lab).len(), 1);
}

#[test]
fn a_recovery_key_is_written_for_its_owner_and_opens_everything() {
    let lab = Lab::saved();
    let before = lab.repository_files();
    lab.run(&["key", "recovery"]).fails("--output");
    lab.run(&["key", "recovery", "--json"]).fails("--output");
    assert!(lab.repository_files() == before);
    let run = lab
        .run(&["key", "recovery", "--output", "page.txt", "--json"])
        .ok();
    let page = fs::read_to_string(lab.path("page.txt")).unwrap();
    assert_eq!(
        fs::metadata(lab.path("page.txt")).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let key = page.lines().find(|line| line.matches('-').count() == 8).unwrap();
    assert!(
        !run.text().contains(key) && !run.err.contains(key),
        "the key is in the file alone"
    );

    // The page, and what somebody types from it.
    lab.run_without_key(&["snapshots", "--recovery-key-file", "page.txt"])
        .ok();
    fs::write(lab.path("typed"), key.to_lowercase().replace('-', " ")).unwrap();
    lab.run_without_key(&["key", "test", "--recovery-key-file", "typed"])
        .ok();
    // Beside the key of every day, both are tried.
    let both = lab
        .run(&["key", "test", "--recovery-key-file", "typed", "--json"])
        .ok()
        .json();
    assert_eq!(both.as_array().unwrap().len(), 2);

    let mut wrong: Vec<char> = key.chars().collect();
    wrong[1] = if wrong[1] == '7' { '8' } else { '7' };
    fs::write(lab.path("typed"), wrong.iter().collect::<String>()).unwrap();
    lab.run_without_key(&["key", "test", "--recovery-key-file", "typed"])
        .fails("group 1");
    lab.run(&["key", "recovery", "--output", "page.txt"])
        .fails("page.txt");
    assert_eq!(fs::read_to_string(lab.path("page.txt")).unwrap(), page);
}

#[test]
fn a_passphrase_can_be_added_and_a_short_one_not() {
    let lab = Lab::saved();
    fs::write(lab.path("short"), "short\n").unwrap();
    let before = lab.repository_files();
    lab.run(&["key", "add", "--new-password-file", "short"])
        .fails("12");
    assert!(lab.repository_files() == before);
    fs::write(lab.path("good"), "correct horse battery\n").unwrap();
    lab.run(&["key", "add", "--new-password-file", "good"]).ok();
    lab.run_without_key(&["snapshots", "--password-file", "good"])
        .ok();
    fs::write(lab.path("wrong"), "incorrect horse battery\n").unwrap();
    lab.run_without_key(&["snapshots", "--password-file", "wrong"])
        .code(1);
    lab.run_without_key(&["key", "test", "--password-file", "wrong"])
        .code(1);
}

#[test]
fn a_rewrite_brings_everything_under_the_new_key() {
    let lab = Lab::saved();
    let rotated = lab
        .run(&["key", "rotate", "--rewrite", "--grace", "0", "--json"])
        .ok()
        .json();
    assert_eq!(rotated["rewrite"]["keys"][0]["key"], rotated["new_data_key"]);
    // The second one deletes what the first one has moved.
    let done = lab.run(&["key", "rewrite", "--grace", "0"]).ok().text();
    assert!(
        done.contains("Everything is sealed under the current key"),
        "{done}"
    );
    let uses = lab.run(&["key", "uses", "--json"]).ok().json();
    let of = |number: usize, what: &str| uses[number][what].as_u64().unwrap();
    assert!(of(0, "data_packs") > 0 && of(0, "snapshots") == 1);
    assert_eq!(
        (of(1, "data_packs"), of(1, "metadata_packs"), of(1, "snapshots")),
        (0, 0, 0)
    );
    lab.run(&["verify"]).ok();
    assert_eq!(lab.run(&["dump", "latest", "src/hello.txt"]).ok().out, b"hello\n");
}

#[test]
fn a_lost_data_key_says_what_is_lost_and_hides_nothing_else() {
    let lab = Lab::saved();
    let first = lab.run(&["key", "uses", "--json"]).ok().json()[0]["key"]
        .as_str()
        .unwrap()
        .to_string();
    let old = lab.run(&["snapshots", "--json"]).ok().json()["snapshots"][0]["id"]
        .as_str()
        .unwrap()
        .to_string();
    lab.run(&["key", "rotate"]).ok();
    fs::remove_dir_all(lab.path("src")).unwrap();
    fs::create_dir(lab.path("src")).unwrap();
    fs::write(lab.path("src/new"), "new").unwrap();
    lab.save_with(&["--full"]);

    let storage = LocalStorage::open(&lab.path("repo")).unwrap();
    let key = KeyFile::read(&lab.path("key")).unwrap();
    let opened = keyring::unlock(&storage, &key).unwrap();
    let retire = |change: &mut relight_keys::Change<'_>| change.retire(first.parse().unwrap());
    keyring::change(&storage, &opened, jiff::Timestamp::now(), retire).unwrap();
    fs::remove_dir_all(lab.path("cache")).unwrap();

    let run = lab.run(&["dump", "latest", "src/new"]).ok();
    assert_eq!(run.out, b"new");
    assert!(run.err.contains(&first), "{}", run.err);
    let report = lab.run(&["verify", "--json"]).code(4).json();
    assert_eq!(report["manifests"][0]["snapshot"], old.as_str());
    assert_eq!(report["manifests"][0]["damage"], "key-missing");
    assert!(lab.run(&["key", "uses"]).code(4).text().contains("LOST"));
}

#[test]
fn after_a_rotation_old_and_new_are_readable() {
    let lab = Lab::saved();
    lab.run(&["key", "rotate"]).ok();
    fs::write(lab.path("src/new"), "new").unwrap();
    lab.save();
    assert_eq!(lab.run(&["dump", "latest", "src/new"]).ok().out, b"new");
    assert_eq!(lab.run(&["dump", "latest", "src/hello.txt"]).ok().out, b"hello\n");
    assert!(lab.run(&["key", "test"]).ok().text().contains("2 data keys"));
}

#[test]
fn an_old_data_key_goes_when_nothing_needs_it() {
    let lab = Lab::saved();
    assert!(
        lab.run(&["key", "retire"])
            .ok()
            .text()
            .contains("no old data key")
    );
    let first = lab.run(&["key", "uses", "--json"]).ok().json()[0]["key"]
        .as_str()
        .unwrap()
        .to_string();
    lab.run(&["key", "retire", &first]).fails("current");
    lab.run(&["key", "retire", "nonsense"]).fails("no data key");
    lab.run(&["key", "retire", "00000000"])
        .fails("not in the keyring");
    lab.run(&["key", "rotate", "--rewrite", "--grace", "0"]).ok();
    // What was rewritten waits as condemned packs.
    let run = lab.run(&["key", "retire", &first]).code(3);
    assert!(
        run.text().contains("still needed") && run.text().contains("packs"),
        "{}",
        run.text()
    );
    assert!(lab.run(&["key", "test"]).ok().text().contains("2 data keys"));
    lab.run(&["key", "rewrite", "--grace", "0"]).ok();
    let retired = lab.run(&["key", "retire", "--json"]).ok().json();
    assert_eq!(retired["retired"][0], first.as_str());
    assert_eq!(retired["kept"], serde_json::json!([]));
    fs::remove_dir_all(lab.path("cache")).unwrap();
    assert!(lab.run(&["key", "test"]).ok().text().contains("1 data key"));
    lab.run(&["verify"]).ok();
    lab.save();
    assert_eq!(lab.run(&["dump", "latest", "src/hello.txt"]).ok().out, b"hello\n");
}

#[test]
fn what_a_lost_data_key_does_not_seal_is_restored_listed_and_forgotten() {
    let lab = Lab::saved();
    let first = lab.run(&["key", "uses", "--json"]).ok().json()[0]["key"]
        .as_str()
        .unwrap()
        .to_string();
    let lost = lab.run(&["snapshots", "--json"]).ok().json()["snapshots"][0]["id"]
        .as_str()
        .unwrap()
        .to_string();
    lab.run(&["notes", &lost[..8], "the first"]).ok();
    lab.run(&["key", "rotate"]).ok();
    // Old content, which the lost key seals, beside new.
    fs::write(lab.path("src/new"), "new").unwrap();
    let mixed = lab.save();
    fs::write(lab.path("disk"), super::lab::noise(3, 5_000_000)).unwrap();
    let image = lab
        .run(&["backup", "--image", "disk", "-w", "vm/1", "--json"])
        .ok()
        .json()["short_id"]
        .as_str()
        .unwrap()
        .to_string();

    let storage = LocalStorage::open(&lab.path("repo")).unwrap();
    let key = KeyFile::read(&lab.path("key")).unwrap();
    let opened = keyring::unlock(&storage, &key).unwrap();
    let retire = |change: &mut relight_keys::Change<'_>| change.retire(first.parse().unwrap());
    keyring::change(&storage, &opened, jiff::Timestamp::now(), retire).unwrap();
    fs::remove_dir_all(lab.path("cache")).unwrap();

    let listed = lab.run(&["snapshots", "--json"]).code(4).json();
    assert_eq!(listed["snapshots"].as_array().unwrap().len(), 2);
    assert_eq!(listed["unreadable"][0]["id"], lost.as_str());
    lab.run(&["restore", &image, "--to", "all"]).ok();
    assert!(fs::read(lab.path("all/disk.img")).unwrap() == fs::read(lab.path("disk")).unwrap());
    // A part that is whole comes back; of the rest each file is told.
    lab.run(&["restore", &mixed, "src/new", "--to", "part"]).ok();
    assert_eq!(fs::read(lab.path("part/src/new")).unwrap(), b"new");
    let run = lab.run(&["restore", &mixed, "--to", "rest"]);
    assert_ne!(run.code, 0, "{}", run.text());
    assert!(
        format!("{}{}", run.text(), run.err).contains("docs/big"),
        "{}{}",
        run.text(),
        run.err
    );
    lab.run(&["stats"]).code(4);
    // It can be forgotten, by name.
    lab.run(&["forget", &lost, "--force", "--apply"]).ok();
    assert_eq!(
        lab.run(&["snapshots", "--json"]).ok().json()["unreadable"],
        serde_json::json!([])
    );
}
