//! `verify`, `collect`, `copy`, `repair`.

use std::fs;
use std::path::Path;

use super::lab::{Lab, noise};

/// Turns a bit in the middle of a file.
fn spoil(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let mut permissions = fs::metadata(path).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o600);
    fs::set_permissions(path, permissions).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn verify_finds_nothing_where_nothing_is_wrong() {
    let lab = Lab::saved();
    let report = lab.run(&["verify", "--json"]).ok().json();
    assert_eq!(
        (&report["restorable"], &report["clean"]),
        (&true.into(), &true.into())
    );
    assert!(report["figures"]["packs"].as_u64().unwrap() >= 2);
    lab.run(&["verify", "--structure"]).ok();
    lab.run(&["verify", "--share", "1/30"]).ok();
    lab.run(&["verify", "--snapshot", "latest"]).ok();
    let again = lab
        .run(&["verify", "--unless-checked-within", "1d", "--json"])
        .ok()
        .json();
    assert_eq!(again["figures"]["packs"], 0);
}

#[test]
fn verify_names_the_files_that_are_concerned_and_copies_bring_them_back() {
    let lab = Lab::saved();
    lab.make_key("other-key");
    let other = lab.path("other");
    let other = other.to_str().unwrap();
    lab.run_without_key(&["init", "--key-file", "other-key", "--repo", other])
        .ok();
    let copied = lab
        .run(&["copy", "--to", other, "--to-key-file", "other-key", "--json"])
        .ok()
        .json();
    assert_eq!(copied["copied"].as_array().unwrap().len(), 1);
    let again = lab
        .run(&["copy", "--to", other, "--to-key-file", "other-key", "--json"])
        .ok()
        .json();
    assert_eq!(
        (
            again["copied"].as_array().unwrap().len(),
            again["skipped"].as_array().unwrap().len()
        ),
        (0, 1)
    );

    spoil(&lab.packs("data")[0]);
    let report = lab.run(&["verify", "--json"]).code(4).json();
    assert_eq!(report["restorable"], false);
    let archive = &report["affected"][0]["archives"][0];
    assert_eq!(archive["paths"][0]["path"], "src/docs/big", "{report:#}");
    assert_eq!(archive["path_count"], 1);
    let text = lab.run(&["verify"]).code(4).text();
    assert!(
        text.contains("src/docs/big") && text.contains("corrupt"),
        "{text}"
    );

    lab.run(&["repair", "packs", "--from", other, "--from-key-file", "other-key"])
        .ok();
    assert_eq!(
        lab.run(&["dump", "latest", "src/docs/big"]).ok().out,
        fs::read(lab.path("src/docs/big")).unwrap()
    );
}

#[test]
fn the_next_backup_stores_again_what_was_found_lost() {
    let lab = Lab::saved();
    spoil(&lab.packs("data")[0]);
    lab.run(&["verify"]).code(4);
    lab.save();
    assert_eq!(
        lab.run(&["dump", "latest", "src/docs/big"]).ok().out,
        fs::read(lab.path("src/docs/big")).unwrap()
    );
}

#[test]
fn parity_repairs_in_place() {
    let lab = Lab::new();
    let repo = lab.path("with-parity");
    let with = |arguments: &[&str]| {
        let mut all = vec!["--repo", repo.to_str().unwrap()];
        all.extend(arguments);
        lab.run(&all)
    };
    with(&["init", "--parity", "10"]).ok();
    fs::write(lab.path("src/file"), noise(5, 2_000_000)).unwrap();
    with(&["backup", "src", "-w", "host/lab"]).ok();
    let files = super::lab::files(&repo);
    let pack = files
        .keys()
        .filter(|path| path.to_str().unwrap().contains("/packs/data/"));
    let pack = pack.max_by_key(|path| files[*path].len()).unwrap();
    spoil(pack);
    with(&["verify"]).code(4);
    let report = with(&["repair", "packs", "--json"]).ok().json();
    assert_eq!(report["rebuilt"].as_array().unwrap().len(), 1);
    assert!(fs::read(pack).unwrap() == files[pack]);
    with(&["verify"]).ok();
}

#[test]
fn collect_frees_what_nobody_needs_and_nothing_else() {
    let lab = Lab::saved();
    fs::write(lab.path("src/docs/big"), noise(2, 3_000_000)).unwrap();
    lab.save();
    let full: usize = lab
        .packs("data")
        .iter()
        .map(|path| fs::metadata(path).unwrap().len() as usize)
        .sum();
    lab.run(&["forget", "--keep-last", "1", "--apply"]).ok();
    let before = lab.repository_files();
    let plan = lab
        .run(&["collect", "--dry-run", "--grace", "0", "--json"])
        .ok()
        .json();
    let packs = |what: &str| plan[what]["packs"].as_u64().unwrap();
    assert!(packs("condemn") + packs("rewrite") > 0);
    assert!(lab.repository_files() == before);
    lab.run(&["collect", "--grace", "0"]).ok();
    lab.run(&["collect", "--grace", "0"]).ok();
    let rest: usize = lab
        .packs("data")
        .iter()
        .map(|path| fs::metadata(path).unwrap().len() as usize)
        .sum();
    assert!(rest < full * 2 / 3, "{rest} of {full}");
    lab.run(&["verify"]).ok();
    assert_eq!(
        lab.run(&["dump", "latest", "src/docs/big"]).ok().out,
        fs::read(lab.path("src/docs/big")).unwrap()
    );
}

#[test]
fn stats_tell_what_is_shared_and_what_is_exclusive() {
    let lab = Lab::saved();
    lab.save();
    fs::write(lab.path("disk"), noise(9, 4_000_000)).unwrap();
    lab.run(&["backup", "--image", "disk", "-w", "vm/1"]).ok();
    let stats = lab.run(&["stats", "--json"]).ok().json();
    let of = |number: usize, what: &str| stats["workloads"][number][what].clone();
    assert_eq!(
        (of(0, "workload"), of(0, "snapshots")),
        ("host/lab".into(), 2.into())
    );
    assert_eq!(
        (of(1, "workload"), of(1, "logical")),
        ("vm/1".into(), 4_000_000.into())
    );
    let content = of(0, "needed")["content"].as_u64().unwrap();
    assert!(
        (3_000_000..3_200_000).contains(&content),
        "saved twice and kept once: {content}"
    );
    assert!(of(1, "exclusive")["stored"].as_u64().unwrap() >= 4_000_000);
    let text = lab.run(&["stats"]).ok().text();
    assert!(text.contains("vm/1") && text.contains("deduplication"), "{text}");
}

#[test]
fn an_empty_repository_is_not_emptied_by_accident() {
    let lab = Lab::saved();
    lab.run(&["forget", "latest", "--apply", "--force"]).ok();
    let packs = lab.packs("data").len();
    lab.run(&["collect", "--grace", "0"]).code(1);
    assert_eq!(lab.packs("data").len(), packs);
    lab.run(&["collect", "--grace", "0", "--allow-empty"]).ok();
}

#[test]
fn a_lost_index_is_made_again_from_the_packs() {
    let lab = Lab::saved();
    for path in lab.repository_files().into_keys() {
        if path.to_str().unwrap().contains("/index/") {
            fs::remove_file(path).unwrap();
        }
    }
    fs::remove_dir_all(lab.path("cache")).unwrap();
    lab.run(&["dump", "latest", "src/hello.txt"]).code(4);
    let report = lab.run(&["repair", "index", "--json"]).ok().json();
    assert!(report["packs"].as_u64().unwrap() >= 2);
    assert_eq!(lab.run(&["dump", "latest", "src/hello.txt"]).ok().out, b"hello\n");
}
