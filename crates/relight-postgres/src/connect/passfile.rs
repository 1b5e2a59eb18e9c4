//! The password file: lines of `host:port:database:user:password`.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use zeroize::Zeroizing;

/// The password for a connection, if the file has one. A file that others may read is not used, as in libpq.
pub(super) fn password(
    path: &Path,
    host: &str,
    port: u16,
    database: &str,
    user: &str,
) -> Option<Zeroizing<String>> {
    let meta = std::fs::metadata(path).ok()?;
    if !meta.is_file() {
        return None;
    }
    if meta.mode() & 0o077 != 0 {
        tracing::warn!(
            "the password file {} is not used, because others may read it: chmod 600 it",
            path.display()
        );
        return None;
    }
    let text = Zeroizing::new(std::fs::read_to_string(path).ok()?);
    text.lines()
        .find_map(|line| matching(line, [host, &port.to_string(), database, user]))
}

fn matching(line: &str, wanted: [&str; 4]) -> Option<Zeroizing<String>> {
    if line.starts_with('#') {
        return None;
    }
    let mut rest = line;
    for wanted in wanted {
        let (field, after) = field(rest)?;
        if !(field == "*" && rest.starts_with('*')) && field != wanted {
            return None;
        }
        rest = after;
    }
    // The password is the rest of the line, with the same escapes.
    let mut password = Zeroizing::new(String::new());
    let mut chars = rest.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' => password.extend(chars.next()),
            ':' => break,
            char => password.push(char),
        }
    }
    Some(password)
}

/// A field without its escapes, and what is behind its colon.
fn field(text: &str) -> Option<(String, &str)> {
    let mut field = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '\\' => field.extend(chars.next().map(|(_, char)| char)),
            ':' => return Some((field, &text[at + 1..])),
            char => field.push(char),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(line: &str) -> Option<String> {
        matching(line, ["db1", "5432", "replication", "back:up"]).map(|password| password.to_string())
    }

    #[test]
    fn the_first_line_that_fits() {
        assert_eq!(
            find(r"db1:5432:replication:back\:up:se\:cr\\et").as_deref(),
            Some(r"se:cr\et")
        );
        assert_eq!(find("*:*:*:*:x").as_deref(), Some("x"));
        assert_eq!(find("# *:*:*:*:x"), None);
        assert_eq!(find("db2:*:*:*:x"), None);
        assert_eq!(find("*:*:*:*"), None);
        assert_eq!(find(r"\*:*:*:*:x"), None);
    }

    #[test]
    fn a_file_that_others_may_read_is_not_used() {
        use std::os::unix::fs::PermissionsExt;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "*:*:*:*:x\n").unwrap();
        let mode =
            |mode| std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        mode(0o600);
        assert!(password(file.path(), "h", 1, "d", "u").is_some());
        mode(0o640);
        assert!(password(file.path(), "h", 1, "d", "u").is_none());
    }
}
