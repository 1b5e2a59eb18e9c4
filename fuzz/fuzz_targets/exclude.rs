//! Parses exclude patterns and matches them against a path from the same input.
#![no_main]

use libfuzzer_sys::fuzz_target;
use relight_pxar::exclude::{Matcher, parse_file};

fuzz_target!(|data: &[u8]| {
    let (patterns, path) = data.split_at(data.len() / 2);
    let (patterns, _) = parse_file(patterns);
    let matcher = Matcher::new(patterns);
    let _ = matcher.decide(path, true);
    let _ = matcher.excludes(path, false);
});
