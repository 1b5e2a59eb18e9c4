//! One pattern: parsing and matching.

use super::set::Set;

/// Why a line is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Nothing is left that could match.
    #[error("the pattern is empty: name what to exclude, or remove it")]
    Empty,
    /// Names never hold zero bytes.
    #[error("the pattern holds a zero byte, which no name does")]
    ZeroByte,
    /// A backslash takes the next byte as it is, and there is none.
    #[error("the pattern ends with a backslash: write \\\\ for a backslash itself")]
    TrailingBackslash,
    /// A `[` without its `]`.
    #[error("the pattern opens a set with [ and does not close it: add ], or write \\[ for a bracket itself")]
    UnclosedSet,
    /// A `[:name:]` that is none of the known ones.
    #[error("the pattern names an unknown class of characters with [:…:]")]
    UnknownClass,
    /// A `..` component.
    #[error(
        "the pattern has a component `..`, which no path in an archive has: name the path from the root of the archive"
    )]
    ParentDirectory,
}

/// A pattern as a user wrote it, ready to match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: Vec<u8>,
    include: bool,
    directories_only: bool,
    segments: Vec<Segment>,
}

/// One component of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    /// `**`: any number of components.
    Deep,
    /// A name without anything special.
    Literal(Vec<u8>),
    /// A name with something special.
    Glob(Vec<Token>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Byte(u8),
    /// `?`
    Any,
    /// `*`
    Star,
    Set(Box<Set>),
}

impl Pattern {
    /// Reads a pattern. White space counts, and `#` is nothing special; for lines of a file see
    /// [`super::parse_file`].
    pub fn parse(text: &[u8]) -> Result<Self, PatternError> {
        if text.contains(&0) {
            return Err(PatternError::ZeroByte);
        }
        let (include, rest) = match text.strip_prefix(b"!") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let mut parser = Parser {
            rest,
            segments: Vec::new(),
            tokens: Vec::new(),
            has_special: false,
        };
        let anchored = rest.starts_with(b"/") || rest.starts_with(b"./");
        let directories_only = parser.run()?;
        let mut segments = parser.segments;
        if segments.is_empty() {
            return Err(PatternError::Empty);
        }
        if !anchored {
            segments.insert(0, Segment::Deep);
        }
        // Neighbouring `**` say nothing more than one, except at the end, where one component must be left for it.
        segments.dedup_by(|next, previous| *next == Segment::Deep && *previous == Segment::Deep);
        Ok(Self {
            text: text.to_vec(),
            include,
            directories_only,
            segments,
        })
    }

    /// The pattern as it was written.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// Whether it includes what it matches, instead of excluding it.
    pub fn is_include(&self) -> bool {
        self.include
    }

    /// Whether it matches a path, given from the directory the pattern is for and without a leading slash.
    pub fn matches(&self, path: &[u8], is_directory: bool) -> bool {
        if path.is_empty() || (self.directories_only && !is_directory) {
            return false;
        }
        match self.segments.as_slice() {
            // By far the most frequent: a single name at any depth.
            [Segment::Deep, segment] if *segment != Segment::Deep => {
                let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
                segment.matches(name)
            }
            segments => matches_path(segments, path),
        }
    }
}

/// Whether a pattern's segments match a whole path. Going back to the last `**` is enough: what an earlier one could
/// take more, the later one can as well.
fn matches_path(segments: &[Segment], path: &[u8]) -> bool {
    let mut segments = segments;
    let mut rest = Some(path);
    let mut retry: Option<(&[Segment], &[u8])> = None;
    loop {
        match (segments.split_first(), rest) {
            (None, None) => return true,
            // At the end, `**` needs something to match: `a/**` is what lies in `a`, not `a` itself.
            (Some((Segment::Deep, [])), rest) => return rest.is_some(),
            (Some((Segment::Deep, after)), Some(text)) => {
                retry = Some((after, text));
                segments = after;
                continue;
            }
            (Some((segment, after)), Some(text)) => {
                let (name, next) = split_component(text);
                if segment.matches(name) {
                    segments = after;
                    rest = next;
                    continue;
                }
            }
            _ => {}
        }
        let Some((after, text)) = retry else { return false };
        let (_, Some(next)) = split_component(text) else {
            return false;
        };
        retry = Some((after, next));
        segments = after;
        rest = Some(next);
    }
}

/// The first component of a path and what follows its slash.
fn split_component(path: &[u8]) -> (&[u8], Option<&[u8]>) {
    match path.iter().position(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], Some(&path[slash + 1..])),
        None => (path, None),
    }
}

impl Segment {
    /// Whether it matches one component of a path.
    fn matches(&self, name: &[u8]) -> bool {
        match self {
            Segment::Deep => true,
            Segment::Literal(literal) => literal == name,
            Segment::Glob(tokens) => matches_name(tokens, name),
        }
    }
}

/// Whether tokens match a whole name, going back to the last star only.
fn matches_name(tokens: &[Token], name: &[u8]) -> bool {
    let (mut token, mut byte) = (0, 0);
    let mut retry = None;
    loop {
        let here = match (tokens.get(token), name.get(byte)) {
            (None, None) => return true,
            (Some(Token::Star), _) => {
                retry = Some((token + 1, byte));
                token += 1;
                continue;
            }
            (Some(Token::Byte(wanted)), Some(found)) => wanted == found,
            (Some(Token::Any), Some(_)) => true,
            (Some(Token::Set(set)), Some(&found)) => set.contains(found),
            _ => false,
        };
        if here {
            token += 1;
            byte += 1;
            continue;
        }
        match retry {
            Some((after, from)) if from < name.len() => {
                retry = Some((after, from + 1));
                token = after;
                byte = from + 1;
            }
            _ => return false,
        }
    }
}

struct Parser<'t> {
    rest: &'t [u8],
    segments: Vec<Segment>,
    tokens: Vec<Token>,
    /// Whether the segment at hand holds anything but bytes taken as they are.
    has_special: bool,
}

impl Parser<'_> {
    /// Reads all segments; whether the pattern ends with a slash.
    fn run(&mut self) -> Result<bool, PatternError> {
        let mut ends_with_slash = false;
        while let Some((&byte, rest)) = self.rest.split_first() {
            self.rest = rest;
            ends_with_slash = byte == b'/';
            match byte {
                b'/' => self.end_segment()?,
                b'\\' => {
                    let (&byte, rest) = self.rest.split_first().ok_or(PatternError::TrailingBackslash)?;
                    self.rest = rest;
                    if byte == b'/' {
                        ends_with_slash = true;
                        self.end_segment()?;
                    } else {
                        self.tokens.push(Token::Byte(byte));
                    }
                }
                b'?' => self.special(Token::Any),
                b'*' => self.special(Token::Star),
                b'[' => {
                    let (set, rest) = Set::parse(self.rest)?;
                    self.rest = rest;
                    self.special(Token::Set(Box::new(set)));
                }
                _ => self.tokens.push(Token::Byte(byte)),
            }
        }
        self.end_segment()?;
        Ok(ends_with_slash)
    }

    fn special(&mut self, token: Token) {
        self.has_special = true;
        self.tokens.push(token);
    }

    fn end_segment(&mut self) -> Result<(), PatternError> {
        let mut tokens = std::mem::take(&mut self.tokens);
        let has_special = std::mem::take(&mut self.has_special);
        if !has_special {
            let literal: Vec<u8> = tokens.iter().filter_map(Token::byte).collect();
            match literal.as_slice() {
                b"" | b"." => {}
                b".." => return Err(PatternError::ParentDirectory),
                _ => self.segments.push(Segment::Literal(literal)),
            }
            return Ok(());
        }
        if tokens.len() > 1 && tokens.iter().all(|token| *token == Token::Star) {
            self.segments.push(Segment::Deep);
            return Ok(());
        }
        tokens.dedup_by(|next, previous| *next == Token::Star && *previous == Token::Star);
        self.segments.push(Segment::Glob(tokens));
        Ok(())
    }
}

impl Token {
    fn byte(&self) -> Option<u8> {
        match self {
            Token::Byte(byte) => Some(*byte),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, matching: &[&str], others: &[&str]) {
        let pattern = Pattern::parse(pattern.as_bytes()).unwrap();
        for path in matching {
            assert!(
                pattern.matches(path.as_bytes(), true),
                "{pattern:?} should match {path}"
            );
        }
        for path in others {
            assert!(
                !pattern.matches(path.as_bytes(), true),
                "{pattern:?} should not match {path}"
            );
        }
    }

    #[test]
    fn names_match_at_any_depth_unless_anchored() {
        check(
            "foo",
            &["foo", "a/foo", "a/b/foo"],
            &["foo/a", "xfoo", "foox", ""],
        );
        check("/foo", &["foo"], &["a/foo", "foo/a"]);
        check("a/b", &["a/b", "x/a/b"], &["a/x/b", "xa/b", "a/b/c"]);
        check("/a/b", &["a/b"], &["x/a/b"]);
    }

    #[test]
    fn a_dot_slash_in_front_anchors_and_odd_slashes_do_not_matter() {
        check("./foo", &["foo"], &["a/foo"]);
        check("/a//b", &["a/b"], &["a"]);
        check("a/./b", &["a/b", "c/a/b"], &["a"]);
    }

    #[test]
    fn stars_stay_within_a_component() {
        check(
            "*.tmp",
            &["a.tmp", "x/.tmp", "x/a.b.tmp"],
            &["a.tmp.x", "a.tmp/x"],
        );
        check("/var/*/cache", &["var/a/cache"], &["var/cache", "var/a/b/cache"]);
        check("a*b*c", &["abc", "axxbxxbxxc"], &["axxbxxcx", "a/bc"]);
        check("a?c", &["abc"], &["ac", "a/c", "abbc"]);
        check("/foo**bar", &["foobar", "foo1bar"], &["foo/bar"]);
    }

    #[test]
    fn two_stars_cross_components() {
        check("/a/**/b", &["a/b", "a/x/b", "a/x/y/b"], &["b", "a/x", "xa/b"]);
        check("**/*.tmp", &["a.tmp", "x/y/a.tmp"], &["a"]);
        check("/a/**", &["a/b", "a/b/c"], &["a", "b/a/c"]);
        check("**", &["a", "a/b"], &[""]);
        check(
            "/**/a/**/b/c",
            &["a/b/c", "x/a/y/b/b/c", "a/b/b/c"],
            &["a/b", "b/c", "a/b/c/d"],
        );
        check("/a/**/**", &["a/b"], &["a"]);
    }

    #[test]
    fn sets_match_one_byte() {
        check("x[a-cz]", &["xa", "xb", "xz"], &["xd", "x", "xaa"]);
        check("x[^a-c]", &["xd"], &["xa", "x/", "x"]);
        check("x[!a-c]", &["xd", "x!"], &["xa"]);
        check("x[]a]", &["x]", "xa"], &["xb"]);
        check("x[a-]", &["x-", "xa"], &["xb"]);
        check("x[[:digit:]_]", &["x1", "x_"], &["xa", "x:"]);
        check("x[\\]]", &["x]"], &["x\\"]);
        check("x[c-a]", &["xb"], &["x-"]);
    }

    #[test]
    fn a_slash_at_the_end_means_directories() {
        let pattern = Pattern::parse(b"cache/").unwrap();
        assert!(pattern.matches(b"a/cache", true));
        assert!(!pattern.matches(b"a/cache", false));
    }

    #[test]
    fn escapes_and_bytes_beyond_utf_8() {
        check("\\!a\\*", &["!a*"], &["!ab"]);
        check("\\#x", &["#x"], &["x"]);
        let pattern = Pattern::parse(b"\xff*\xe4").unwrap();
        assert!(pattern.matches(b"d/\xff12\xe4", false));
        assert!(!pattern.matches(b"d/\xff12", false));
        assert!(Pattern::parse(b"!a").unwrap().is_include());
        assert!(!Pattern::parse(b"a").unwrap().is_include());
    }

    #[test]
    fn what_cannot_match_is_refused() {
        let refused: [(&[u8], _); 9] = [
            (b"", PatternError::Empty),
            (b"/", PatternError::Empty),
            (b"!", PatternError::Empty),
            (b"./", PatternError::Empty),
            (b"a\\", PatternError::TrailingBackslash),
            (b"[abc", PatternError::UnclosedSet),
            (b"[[:nonsense:]]", PatternError::UnknownClass),
            (b"../a", PatternError::ParentDirectory),
            (b"a\0", PatternError::ZeroByte),
        ];
        for (text, error) in refused {
            assert_eq!(Pattern::parse(text), Err(error));
        }
    }

    #[test]
    fn many_stars_do_not_take_forever() {
        let pattern = Pattern::parse("*a".repeat(60).as_bytes()).unwrap();
        assert!(!pattern.matches(&[b'a'; 250].map(|_| b'b'), false));
        let deep = Pattern::parse("**/a/".repeat(60).as_bytes()).unwrap();
        let path = "a/".repeat(2000);
        assert!(deep.matches(format!("{path}a").as_bytes(), true));
        assert!(!deep.matches(format!("{path}b").as_bytes(), true));
    }
}
