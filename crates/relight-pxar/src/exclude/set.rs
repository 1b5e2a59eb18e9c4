//! The `[…]` of a pattern: one byte out of a set.

use super::PatternError;

/// The bytes a `[…]` matches, a bit each.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Set([u64; 4]);

impl Set {
    /// Reads a set from behind its `[`; with it comes what follows its `]`.
    pub(super) fn parse(text: &[u8]) -> Result<(Self, &[u8]), PatternError> {
        let (negated, text) = match text.split_first() {
            Some((b'^' | b'!', rest)) => (true, rest),
            _ => (false, text),
        };
        let mut parser = Parser { rest: text };
        let mut set = Set::default();
        let mut first = true;
        // Where a range may begin.
        let mut previous = None;
        loop {
            match parser.next()? {
                b']' if !first => break,
                b'[' if parser.rest.first() == Some(&b':') => {
                    let class = parser.class()?;
                    (0..=u8::MAX).filter(class).for_each(|byte| set.add(byte));
                    previous = None;
                }
                b'-' if previous.is_some() && parser.rest.first().is_some_and(|&next| next != b']') => {
                    let next = parser.next()?;
                    let last = parser.unescape(next)?;
                    let from = previous.take().unwrap_or(last);
                    (from.min(last)..=from.max(last)).for_each(|byte| set.add(byte));
                }
                byte => {
                    let byte = parser.unescape(byte)?;
                    set.add(byte);
                    previous = Some(byte);
                }
            }
            first = false;
        }
        if negated {
            set.negate();
        }
        Ok((set, parser.rest))
    }

    pub(super) fn contains(&self, byte: u8) -> bool {
        self.0[usize::from(byte >> 6)] & (1 << (byte & 63)) != 0
    }

    fn add(&mut self, byte: u8) {
        self.0[usize::from(byte >> 6)] |= 1 << (byte & 63);
    }

    fn negate(&mut self) {
        for word in &mut self.0 {
            *word = !*word;
        }
    }
}

struct Parser<'t> {
    rest: &'t [u8],
}

impl Parser<'_> {
    fn next(&mut self) -> Result<u8, PatternError> {
        let (&byte, rest) = self.rest.split_first().ok_or(PatternError::UnclosedSet)?;
        self.rest = rest;
        Ok(byte)
    }

    /// The byte itself, or for a backslash the one behind it.
    fn unescape(&mut self, byte: u8) -> Result<u8, PatternError> {
        if byte == b'\\' { self.next() } else { Ok(byte) }
    }

    /// Reads a `[:name:]` from behind its `[`.
    fn class(&mut self) -> Result<fn(&u8) -> bool, PatternError> {
        let end = self
            .rest
            .windows(2)
            .position(|pair| pair == b":]")
            .ok_or(PatternError::UnclosedSet)?;
        let name = self.rest.get(1..end).ok_or(PatternError::UnknownClass)?;
        let class = class_named(name).ok_or(PatternError::UnknownClass)?;
        self.rest = &self.rest[end + 2..];
        Ok(class)
    }
}

/// The classes of POSIX (XBD 9.3.5), for ASCII.
fn class_named(name: &[u8]) -> Option<fn(&u8) -> bool> {
    Some(match name {
        b"alnum" => u8::is_ascii_alphanumeric,
        b"alpha" => u8::is_ascii_alphabetic,
        b"blank" => |byte| matches!(byte, b' ' | b'\t'),
        b"cntrl" => u8::is_ascii_control,
        b"digit" => u8::is_ascii_digit,
        b"graph" => u8::is_ascii_graphic,
        b"lower" => u8::is_ascii_lowercase,
        b"print" => |byte| matches!(byte, 0x20..=0x7e),
        b"punct" => u8::is_ascii_punctuation,
        b"space" => |byte| matches!(byte, b' ' | b'\t'..=b'\r'),
        b"upper" => u8::is_ascii_uppercase,
        b"xdigit" => u8::is_ascii_hexdigit,
        _ => return None,
    })
}
