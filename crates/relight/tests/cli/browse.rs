//! `ls`, `find`, `diff`.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use super::lab::{Lab, noise};

#[test]
fn ls_shows_a_snapshot_as_one_folder() {
    let lab = Lab::saved();
    assert_eq!(lab.run(&["ls", "latest"]).ok().text(), "src\n");
    assert_eq!(
        lab.run(&["ls", "latest", "src"]).ok().text(),
        "src/docs\nsrc/hello.txt\nsrc/link\n"
    );
    assert_eq!(lab.run(&["ls", "latest", "/"]).ok().text(), "src\n");
    let everything =
        "src\nsrc/docs\nsrc/docs/big\nsrc/docs/deep\nsrc/docs/deep/note\nsrc/hello.txt\nsrc/link\n";
    assert_eq!(lab.run(&["ls", "latest", "-R"]).ok().text(), everything);
    // As it was where it was saved.
    let original = lab.path("src/docs");
    assert_eq!(
        lab.run(&["ls", "latest", original.to_str().unwrap()]).ok().text(),
        "src/docs/big\nsrc/docs/deep\n"
    );
    assert_eq!(
        lab.run(&["ls", "host/lab@latest", "src/hello.txt"]).ok().text(),
        "src/hello.txt\n"
    );
    let long = lab.run(&["ls", "latest", "-l", "src"]).ok().text();
    assert!(
        long.contains("-rw-r--r--") && long.contains("src/link -> hello.txt"),
        "{long}"
    );

    let json = lab.run(&["ls", "latest", "src/docs", "--json"]).ok().json();
    assert_eq!(json["entries"][0]["path"], "src/docs/big");
    assert_eq!(json["entries"][0]["size"], 3_000_000);
    assert_eq!(json["entries"][1]["kind"], "directory");
    assert_eq!(
        lab.run(&["ls", "latest", "src/docs/deep", "--json"]).ok().json()["entries"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn names_that_are_no_text_are_shown_and_found() {
    let lab = Lab::new();
    let odd = OsStr::from_bytes(b"odd\xff\x1b[31m");
    fs::write(lab.path("src").join(odd), "x").unwrap();
    lab.save();
    assert_eq!(
        lab.run(&["ls", "latest", "src"]).ok().text(),
        "src/odd\\xff\\x1b[31m\n"
    );
    let json = lab.run(&["ls", "latest", "src", "--json"]).ok().json();
    assert_eq!(json["entries"][0]["path_hex"], "7372632f6f6464ff1b5b33316d");
    let path = std::path::Path::new("src").join(odd);
    let output = lab.command(&["dump", "latest"]).arg(path).output().unwrap();
    assert_eq!(output.stdout, b"x");
}

#[test]
fn find_tells_each_version_of_a_file_and_who_has_it() {
    let lab = Lab::saved();
    let second = lab.save();
    fs::write(lab.path("src/hello.txt"), "hello again\n").unwrap();
    let third = lab.save();
    let found = lab.run(&["find", "*.txt", "--json"]).ok().json();
    assert_eq!(found["snapshots_searched"], 3);
    // The first two are the same tree, which is read once.
    assert_eq!(found["trees_read"], 2);
    let matches = found["matches"].as_array().unwrap();
    assert_eq!(matches.len(), 2, "{matches:?}");
    assert_eq!(matches[0]["path"], "src/hello.txt");
    assert_eq!(matches[0]["size"], 12);
    assert!(matches[0]["snapshots"][0].as_str().unwrap().starts_with(&third));
    assert_eq!(matches[1]["snapshots"].as_array().unwrap().len(), 2);
    assert!(matches[1]["snapshots"][0].as_str().unwrap().starts_with(&second));

    let newest = lab.run(&["find", "*.txt", "--newest", "--json"]).ok().json();
    assert_eq!(newest["matches"].as_array().unwrap().len(), 1);
    let deep = lab
        .run(&["find", "/src/docs/**", "-s", "latest", "--json"])
        .ok()
        .json();
    assert_eq!(deep["matches"].as_array().unwrap().len(), 3);
    let original = format!("{}/docs/*", lab.path("src").display());
    assert_eq!(
        lab.run(&["find", &original, "-s", "latest", "--json"])
            .ok()
            .json()["matches"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert!(
        lab.run(&["find", "nothing*"])
            .ok()
            .text()
            .contains("Nothing matches in 3 snapshots")
    );
}

#[test]
fn diff_tells_content_attributes_types_and_what_came_and_went() {
    let lab = Lab::saved();
    fs::write(lab.path("src/gone"), "gone").unwrap();
    fs::write(lab.path("src/kind"), "a file").unwrap();
    fs::write(lab.path("src/touched"), noise(7, 100_000)).unwrap();
    let before = lab.save();

    fs::remove_file(lab.path("src/gone")).unwrap();
    fs::remove_file(lab.path("src/kind")).unwrap();
    fs::create_dir(lab.path("src/kind")).unwrap();
    fs::write(lab.path("src/kind/inside"), "x").unwrap();
    fs::set_permissions(lab.path("src/hello.txt"), fs::Permissions::from_mode(0o600)).unwrap();
    let mut big = fs::read(lab.path("src/docs/big")).unwrap();
    big[1_500_000] ^= 1;
    fs::write(lab.path("src/docs/big"), big).unwrap();
    // The same bytes with another time, written again.
    fs::write(lab.path("src/touched"), noise(7, 100_000)).unwrap();
    let touched = fs::File::options()
        .write(true)
        .open(lab.path("src/touched"))
        .unwrap();
    touched
        .set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000))
        .unwrap();
    let after = lab.save();

    let json = lab.run(&["diff", &before, &after, "--json"]).ok().json();
    let of = |path: &str| {
        let all = json["differences"].as_array().unwrap();
        all.iter()
            .find(|one| one["path"] == path)
            .cloned()
            .unwrap_or_default()
    };
    assert_eq!(of("src/gone")["change"], "removed");
    assert_eq!(
        (
            of("src/kind")["change"].as_str(),
            of("src/kind")["former_kind"].as_str()
        ),
        (Some("type"), Some("file"))
    );
    assert_eq!(of("src/kind/inside")["change"], "added");
    assert_eq!(of("src/hello.txt")["attributes"], serde_json::json!(["mode"]));
    assert!(of("src/hello.txt").get("content").is_none());
    assert_eq!(of("src/docs/big")["content"], true);
    assert_eq!(
        of("src/touched")["attributes"],
        serde_json::json!(["modification-time"])
    );
    assert!(
        of("src/touched").get("content").is_none(),
        "the bytes are the same"
    );
    assert!(of("src/docs/deep").is_null() && of("src/link").is_null());
    assert_eq!(json["totals"]["added"], 1);

    let part = lab.run(&["diff", &before, &after, "src/docs"]).ok().text();
    assert!(
        part.contains("M src/docs/big") && !part.contains("hello"),
        "{part}"
    );
    assert_eq!(
        lab.run(&["diff", &after, &after]).ok().text(),
        "No differences.\n"
    );
}

#[test]
fn diff_finds_content_that_changed_behind_size_and_time_when_asked() {
    let lab = Lab::saved();
    let path = lab.path("src/hello.txt");
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&path, "HELLO\n").unwrap();
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_modified(time)
        .unwrap();
    lab.save();
    let older = lab.run(&["snapshots", "--json"]).ok().json()["snapshots"][0]["short_id"]
        .as_str()
        .unwrap()
        .to_string();
    assert!(!lab.run(&["diff", &older, "latest"]).ok().text().contains("hello"));
    assert!(
        lab.run(&["diff", &older, "latest", "--content"])
            .ok()
            .text()
            .contains("M src/hello.txt")
    );
}
