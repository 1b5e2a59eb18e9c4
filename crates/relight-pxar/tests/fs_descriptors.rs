//! Few descriptors are enough for any tree. The limit is the process's, so this is a test program of its own.
#![allow(clippy::unwrap_used)]

mod fs_support;

use std::fs;

use fs_support::*;
use relight_pxar::fs::extract::ExtractOptions;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[test]
fn trees_of_many_and_of_deep_directories_need_few_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(512),
            ..limit
        },
    )
    .unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let source = scratch.path().join("source");
    fs::create_dir(&source).unwrap();
    for directory in 0..3000 {
        let path = source.join(format!("{directory}"));
        fs::create_dir(&path).unwrap();
        fs::write(path.join("the only file"), tree::noise(directory, 3000)).unwrap();
    }
    fs::create_dir(source.join("chain")).unwrap();
    tree::deep(&source.join("chain"), 1000);
    let (archive, _) = capture_clean(&source, None);
    let target = scratch.path().join("target");
    extract_clean(
        &archive,
        &target,
        &ExtractOptions {
            writers: 4,
            sync: false,
            ..ExtractOptions::default()
        },
    );
    assert_same(&source, &target);
    tree::remove_deep(&source.join("chain"));
    tree::remove_deep(&target.join("chain"));
}
