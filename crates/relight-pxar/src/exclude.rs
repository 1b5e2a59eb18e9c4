//! What to leave out of an archive: patterns given for the whole tree, and those of `.pxarexclude` files.
//!
//! The rules are those of the original, which resemble git's. A pattern names files and directories below the
//! directory it is given for; `/` in front ties it to that directory, else it may match at any depth. `/` at the end restricts it
//! to directories. `*` and `?` match any bytes and any byte but slashes, `[…]` one of a set, `**` any number of
//! directories, `\` takes the next byte as it is. `!` in front includes again what an earlier pattern excludes. The last
//! pattern that matches decides, those of deeper directories after those of outer ones. What lies in an excluded
//! directory is never looked at, so nothing in it can be included again.
//!
//! Three differences, each in favour of what was meant: `./x` is `/x` (the original accepts it and never matches), `!`
//! negates a set as `^` does, and a pattern of a `.pxarexclude` file never matches by names above its directory.

mod pattern;
mod set;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use pattern::{Pattern, PatternError};

/// Name of the files that hold patterns for the directory they lie in.
pub const EXCLUDE_FILE: &[u8] = b".pxarexclude";

/// What the patterns say of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Included again, by a pattern with `!`.
    Include,
    /// Left out.
    Exclude,
}

/// A line of a pattern file that is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {error}")]
pub struct LineError {
    /// Number of the line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub error: PatternError,
}

/// Reads the patterns of a `.pxarexclude` file: one a line, white space around it dropped; empty lines and those that
/// begin with `#` are passed over. Lines that are no pattern are handed back apart, for a warning.
pub fn parse_file(content: &[u8]) -> (Vec<Pattern>, Vec<LineError>) {
    let mut patterns = Vec::new();
    let mut errors = Vec::new();
    for (index, line) in content.split(|&byte| byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        match Pattern::parse(line) {
            Ok(pattern) => patterns.push(pattern),
            Err(error) => errors.push(LineError {
                line: index + 1,
                error,
            }),
        }
    }
    (patterns, errors)
}

/// The patterns in force in a directory. Cloning is cheap, and several threads may use one at once.
#[derive(Debug, Clone)]
pub struct Matcher {
    innermost: Arc<Level>,
}

/// Patterns given for one directory.
#[derive(Debug)]
struct Level {
    outer: Option<Arc<Level>>,
    /// Path of the directory from the root of the archive; empty for the root.
    directory: Vec<u8>,
    patterns: Vec<(Pattern, AtomicU64)>,
}

impl Matcher {
    /// Patterns for the whole archive.
    pub fn new(patterns: impl IntoIterator<Item = Pattern>) -> Self {
        Self {
            innermost: Arc::new(Level::new(None, &[], patterns)),
        }
    }

    /// The patterns in force in a directory with patterns of its own. `directory` is its path from the root of the
    /// archive, without a leading slash; empty for the root.
    pub fn enter(&self, directory: &[u8], patterns: impl IntoIterator<Item = Pattern>) -> Self {
        Self {
            innermost: Arc::new(Level::new(Some(Arc::clone(&self.innermost)), directory, patterns)),
        }
    }

    /// What the patterns say of a path from the root of the archive (without a leading slash); `None` where none
    /// matches.
    pub fn decide(&self, path: &[u8], is_directory: bool) -> Option<Decision> {
        let mut decision = None;
        let mut level = Some(&self.innermost);
        while let Some(current) = level {
            if let Some(path) = current.relative(path) {
                current.decide(path, is_directory, &mut decision);
            }
            level = current.outer.as_ref();
        }
        decision
    }

    /// Whether a path is to be left out.
    pub fn excludes(&self, path: &[u8], is_directory: bool) -> bool {
        self.decide(path, is_directory) == Some(Decision::Exclude)
    }

    /// The patterns given with [`Matcher::new`] or [`Matcher::enter`] for this one and how many paths each matched so
    /// far, whether or not a later pattern decided otherwise. 0 after the whole tree was walked is worth a warning. A
    /// path may count once or more often, the count is exact only in being 0 or not.
    pub fn counts(&self) -> impl Iterator<Item = (&Pattern, u64)> {
        self.innermost
            .patterns
            .iter()
            .map(|(pattern, count)| (pattern, count.load(Ordering::Relaxed)))
    }

    /// The patterns of [`Matcher::counts`] that matched nothing so far.
    pub fn unmatched(&self) -> impl Iterator<Item = &Pattern> {
        self.counts()
            .filter(|(_, count)| *count == 0)
            .map(|(pattern, _)| pattern)
    }
}

impl Level {
    fn new(outer: Option<Arc<Level>>, directory: &[u8], patterns: impl IntoIterator<Item = Pattern>) -> Self {
        let patterns = patterns
            .into_iter()
            .map(|pattern| (pattern, AtomicU64::new(0)))
            .collect();
        Self {
            outer,
            directory: directory.to_vec(),
            patterns,
        }
    }

    /// A path from this directory on; none where it lies outside.
    fn relative<'p>(&self, path: &'p [u8]) -> Option<&'p [u8]> {
        if self.directory.is_empty() {
            return Some(path);
        }
        path.strip_prefix(self.directory.as_slice())?.strip_prefix(b"/")
    }

    fn decide(&self, path: &[u8], is_directory: bool, decision: &mut Option<Decision>) {
        for (pattern, count) in self.patterns.iter().rev() {
            // Once decided, patterns before matter only for having matched at all.
            if decision.is_some() && count.load(Ordering::Relaxed) > 0 {
                continue;
            }
            if pattern.matches(path, is_directory) {
                count.fetch_add(1, Ordering::Relaxed);
                let verdict = if pattern.is_include() {
                    Decision::Include
                } else {
                    Decision::Exclude
                };
                decision.get_or_insert(verdict);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matcher(lines: &[&str]) -> Matcher {
        Matcher::new(lines.iter().map(|line| Pattern::parse(line.as_bytes()).unwrap()))
    }

    #[test]
    fn the_last_match_decides() {
        let matcher = matcher(&["*.log", "!keep.log", "/secret/keep.log"]);
        assert_eq!(matcher.decide(b"a/b.log", false), Some(Decision::Exclude));
        assert_eq!(matcher.decide(b"a/keep.log", false), Some(Decision::Include));
        assert_eq!(matcher.decide(b"secret/keep.log", false), Some(Decision::Exclude));
        assert_eq!(matcher.decide(b"a/b.txt", false), None);
    }

    #[test]
    fn patterns_of_a_directory_apply_below_it_and_win_over_outer_ones() {
        let root = matcher(&["*.o", "/build"]);
        let (patterns, errors) = parse_file(b"# objects are wanted here\n\n  !*.o \r\n/tmp/\n");
        assert!(errors.is_empty());
        let inner = root.enter(b"src/lib", patterns);
        assert_eq!(inner.decide(b"src/lib/a.o", false), Some(Decision::Include));
        assert_eq!(inner.decide(b"src/lib/tmp", true), Some(Decision::Exclude));
        assert_eq!(inner.decide(b"src/lib/deep/tmp", true), None);
        assert_eq!(inner.decide(b"src/lib/build", true), None);
        assert_eq!(inner.decide(b"src/library/a.o", false), Some(Decision::Exclude));
        assert_eq!(root.decide(b"src/lib/a.o", false), Some(Decision::Exclude));
    }

    #[test]
    fn patterns_that_matched_nothing_are_known() {
        let matcher = matcher(&["*.tmp", "a.tmp", "/never", "*.tmp"]);
        assert!(matcher.excludes(b"x/a.tmp", false));
        assert!(!matcher.excludes(b"x/a", false));
        let unmatched: Vec<_> = matcher.unmatched().map(Pattern::text).collect();
        assert_eq!(unmatched, [b"/never"]);
    }

    #[test]
    fn bad_lines_are_told_by_number() {
        let (patterns, errors) = parse_file(b"ok\n[a-\n#[\nalso ok\n../up\n");
        assert_eq!(patterns.len(), 2);
        let lines: Vec<_> = errors.iter().map(|error| error.line).collect();
        assert_eq!(lines, [2, 5]);
    }
}
