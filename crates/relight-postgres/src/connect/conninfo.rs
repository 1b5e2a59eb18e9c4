//! Connection strings of keywords and values: `host=db1 port=5432 user=backup`.

use crate::error::{PostgresError, Result};

/// Keywords and values, in their order. A value in single quotes may hold spaces; a backslash takes away the meaning of
/// the character behind it.
pub(super) fn parse(text: &str) -> Result<Vec<(String, String)>> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let wrong = |why: &str| PostgresError::Settings(format!("the connection string {why}"));
        let Some((key, after)) = rest.split_once('=') else {
            return Err(wrong("has a keyword without '=' and value"));
        };
        let key = key.trim_end();
        if key.is_empty() || key.contains(char::is_whitespace) {
            return Err(wrong("has a keyword without '=' and value"));
        }
        let (value, after) =
            value(after.trim_start()).ok_or_else(|| wrong("has a quote that is not closed"))?;
        pairs.push((key.to_string(), value));
        rest = after.trim_start();
    }
    Ok(pairs)
}

/// A value and what follows it.
fn value(text: &str) -> Option<(String, &str)> {
    let (quoted, text) = match text.strip_prefix('\'') {
        Some(text) => (true, text),
        None => (false, text),
    };
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '\\' => value.extend(chars.next().map(|(_, char)| char)),
            '\'' if quoted => return Some((value, &text[at + 1..])),
            char if !quoted && char.is_whitespace() => return Some((value, &text[at..])),
            char => value.push(char),
        }
    }
    (!quoted).then_some((value, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        parse(text).unwrap()
    }

    fn of(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect()
    }

    #[test]
    fn quotes_spaces_and_backslashes() {
        assert_eq!(pairs(""), of(&[]));
        assert_eq!(
            pairs("host=db1 port = 5433  user='back up' dbname='o\\'clock' x="),
            of(&[
                ("host", "db1"),
                ("port", "5433"),
                ("user", "back up"),
                ("dbname", "o'clock"),
                ("x", "")
            ])
        );
        assert_eq!(pairs(r"options=-c\ geqo=off"), of(&[("options", "-c geqo=off")]));
        for wrong in ["host", "host db1", "host='a", "=x"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
