//! Paths: as people give them, and as people see them.

use std::fmt::Write;

use crate::error::{Result, WorkloadError};

/// The parts of a path; empty ones and `.` do not matter.
///
/// # Errors
/// [`WorkloadError::Refused`] where one is `..`.
pub fn components(path: &[u8]) -> Result<Vec<&[u8]>> {
    let parts: Vec<&[u8]> = path
        .split(|&byte| byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .collect();
    if parts.contains(&b"..".as_slice()) {
        return Err(WorkloadError::Refused(format!(
            "the path {} has a part `..`; give the path from the root of the snapshot",
            printable(path)
        )));
    }
    Ok(parts)
}

/// The path of `name` in the folder `folder`.
pub fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    match (folder, name) {
        (b"", _) => name.to_vec(),
        (_, b"") => folder.to_vec(),
        _ => [folder, name].join(&b'/'),
    }
}

/// A path for people to read. What could play tricks on a terminal, and what is not UTF-8, is written `\xNN`; in such
/// a path a backslash is `\\`.
pub fn printable(path: &[u8]) -> String {
    let clean = std::str::from_utf8(path)
        .ok()
        .filter(|text| !text.chars().any(is_special));
    if let Some(text) = clean {
        return text.to_string();
    }
    let mut out = String::with_capacity(path.len() + 16);
    for chunk in path.utf8_chunks() {
        for char in chunk.valid().chars() {
            if char == '\\' {
                out.push_str("\\\\");
            } else if is_special(char) {
                let mut bytes = [0; 4];
                escape(char.encode_utf8(&mut bytes).as_bytes(), &mut out);
            } else {
                out.push(char);
            }
        }
        escape(chunk.invalid(), &mut out);
    }
    out
}

fn escape(bytes: &[u8], out: &mut String) {
    for byte in bytes {
        let _ = write!(out, "\\x{byte:02x}");
    }
}

/// Control characters, and those that turn the direction of writing.
fn is_special(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_fall_into_parts() {
        assert_eq!(
            components(b"/etc//ssh/./x/").unwrap(),
            [&b"etc"[..], b"ssh", b"x"]
        );
        assert!(components(b"").unwrap().is_empty());
        assert!(components(b"/etc/../shadow").is_err());
        assert_eq!(join(b"a", b"b"), b"a/b");
        assert_eq!((join(b"", b"b"), join(b"a", b"")), (b"b".to_vec(), b"a".to_vec()));
    }

    #[test]
    fn nothing_printable_reaches_the_terminal_as_a_command() {
        assert_eq!(printable("/käse/a\\x2db".as_bytes()), "/käse/a\\x2db");
        assert_eq!(printable(b"a\x1b[31mb\\\n"), "a\\x1b[31mb\\\\\\x0a");
        assert_eq!(printable(b"\xff/\xc3\xa4"), "\\xff/ä");
        assert_eq!(printable("x\u{202e}y".as_bytes()), "x\\xe2\\x80\\xaey");
    }
}
