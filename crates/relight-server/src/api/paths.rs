//! Paths in snapshots as callers give and get them. Names on disks are bytes; a text of JSON or of an address is not. So a path
//! is percent-encoded where it is not plain: what the list of files says is understood again.

use percent_encoding::{AsciiSet, percent_decode_str, percent_encode};
use relight_pbs::service::http::{ApiError, ApiResult};

/// The longest path that is taken, in bytes.
const LONGEST: usize = 8 << 10;
/// What is no part of an encoded value of a header (RFC 8187, section 3.2.1: attr-char).
const NOT_ATTR: &AsciiSet = &percent_encoding::NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// A path as it is told.
pub(super) fn told(path: &[u8]) -> String {
    // What is UTF-8 stays readable; any other byte, and what could play tricks, is `%XX`.
    let mut out = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        for char in chunk.valid().chars() {
            if is_plain(char) && char != '%' {
                out.push(char);
                continue;
            }
            let mut bytes = [0; 4];
            let bytes = char.encode_utf8(&mut bytes).as_bytes();
            out.extend(percent_encode(bytes, percent_encoding::NON_ALPHANUMERIC));
        }
        out.extend(percent_encode(
            chunk.invalid(),
            percent_encoding::NON_ALPHANUMERIC,
        ));
    }
    out
}

/// Whether a character shows itself and leaves others alone.
fn is_plain(char: char) -> bool {
    !char.is_control()
        && !matches!(char, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{61c}')
}

/// The bytes of a path that was told.
///
/// # Errors
/// 400: it is too long, or has a zero byte.
pub(super) fn bytes(told: &str) -> ApiResult<Vec<u8>> {
    let bytes: Vec<u8> = percent_decode_str(told).collect();
    if bytes.len() > LONGEST || bytes.contains(&0) {
        return Err(ApiError::bad_request(format!(
            "a path is at most {LONGEST} bytes long, and has no zero byte"
        )));
    }
    Ok(bytes)
}

/// `Content-Disposition` (RFC 6266) for a name that somebody else chose: browsers save it under that name, and nothing in it
/// can end the header or name a folder.
pub(super) fn attachment(name: &str) -> String {
    let clean: String = name
        .chars()
        .filter(|char| is_plain(*char))
        .map(|char| {
            if matches!(char, '/' | '\\' | '\u{fffd}') {
                '_'
            } else {
                char
            }
        })
        .take(200)
        .collect();
    let clean = match clean.trim_matches(['.', ' ']) {
        "" => "download",
        _ => clean.trim_start_matches(['.', ' ']),
    };
    let plain: String = clean
        .chars()
        .map(|char| match char {
            char if char.is_ascii_alphanumeric() || "-_.()+ ".contains(char) => char,
            _ => '_',
        })
        .collect();
    let encoded = percent_encode(clean.as_bytes(), NOT_ATTR);
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_comes_back_as_it_was() {
        for path in [
            &b"etc/hosts"[..],
            "käse/日本.txt".as_bytes(),
            b"100%/%41",
            b"new\nline\ttab\x7f",
            b"\xff\xfe/\xc3(",
            "rtl\u{202e}gpj.exe".as_bytes(),
            b"<script>alert('1')</script>\"&amp;",
        ] {
            let told = told(path);
            assert_eq!(bytes(&told).unwrap(), path, "{told}");
            assert!(!told.chars().any(|char| !is_plain(char)), "{told}");
        }
        assert_eq!(told("a b/käse".as_bytes()), "a b/käse");
        assert!(bytes("a%00b").is_err() && bytes(&"x".repeat(9000)).is_err());
    }

    #[test]
    fn no_name_gets_out_of_its_header() {
        for (name, says) in [
            (
                "report.pdf",
                "attachment; filename=\"report.pdf\"; filename*=UTF-8''report.pdf",
            ),
            (
                "a\"b\r\nSet-Cookie: x=1",
                "attachment; filename=\"a_bSet-Cookie_ x_1\"; filename*=UTF-8''a%22bSet-Cookie%3A%20x%3D1",
            ),
            (
                "../../etc/passwd",
                "attachment; filename=\"_.._etc_passwd\"; filename*=UTF-8''_.._etc_passwd",
            ),
            (
                "rtl\u{202e}gpj.exe",
                "attachment; filename=\"rtlgpj.exe\"; filename*=UTF-8''rtlgpj.exe",
            ),
            (
                "käse",
                "attachment; filename=\"k_se\"; filename*=UTF-8''k%C3%A4se",
            ),
            (
                "..",
                "attachment; filename=\"download\"; filename*=UTF-8''download",
            ),
        ] {
            assert_eq!(attachment(name), says);
        }
    }
}
