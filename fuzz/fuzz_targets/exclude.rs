//! Parses exclude patterns and matches them against a path from the same input, in one folder and in one below.
#![no_main]

use libfuzzer_sys::fuzz_target;
use relight_pxar::exclude::{Matcher, Pattern, parse_file};

fuzz_target!(|data: &[u8]| {
    // The last line is the path.
    let (file, path) = match data.iter().rposition(|&byte| byte == b'\n') {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => data.split_at(data.len() / 2),
    };
    let (patterns, errors) = parse_file(file);
    for error in errors {
        let _ = error.to_string();
    }
    for pattern in &patterns {
        // What a pattern says is what it was read from.
        let again = Pattern::parse(pattern.text());
        assert!(again.is_ok_and(|again| again.matches(path, false) == pattern.matches(path, false)));
    }
    let matcher = Matcher::new(patterns.clone());
    let decision = matcher.decide(path, true);
    assert_eq!(matcher.decide(path, true), decision);
    let folder = path.split(|&byte| byte == b'/').next().unwrap_or_default();
    let inner = matcher.enter(folder, patterns);
    let _ = inner.excludes(path, false);
    let _ = inner.unmatched().count();
});
