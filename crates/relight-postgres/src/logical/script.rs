//! The SQL that `pg_dumpall` writes, statement by statement.

/// The statements of a script, without what is an order to `psql` and not to the server: nothing of what such an order may do
/// on this machine is done.
pub(super) fn statements(text: &str) -> Vec<&str> {
    let bytes = text.as_bytes();
    let (mut found, mut begin, mut at) = (Vec::new(), 0, 0);
    let end_of_line = |from: usize| text[from..].find('\n').map_or(bytes.len(), |to| from + to + 1);
    while at < bytes.len() {
        let between = text[begin..at].trim().is_empty();
        match bytes[at] {
            b'\\' if between => {
                at = end_of_line(at);
                begin = at;
            }
            b'-' if bytes[at..].starts_with(b"--") => {
                at = end_of_line(at);
                if between {
                    begin = at;
                }
            }
            quote @ (b'\'' | b'"') => {
                // In E'…' a backslash takes the next character along.
                let escapes = quote == b'\'' && at > 0 && matches!(bytes[at - 1], b'E' | b'e');
                at += 1;
                while at < bytes.len() && bytes[at] != quote {
                    at += if escapes && bytes[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            b';' => {
                at += 1;
                found.push(text[begin..at].trim());
                begin = at;
            }
            _ => at += 1,
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::statements;

    #[test]
    fn statements_end_where_they_do_and_orders_to_psql_are_left_out() {
        let script = "--\n-- Roles; and more\n--\n\n\\restrict abc\nCREATE ROLE \"a;b\";\nALTER ROLE x PASSWORD 'it''s;';\n\
                      \\! touch /tmp/made\n-- done\nCOMMENT ON ROLE x IS E'a\\';\n\\\\! b';\n\\unrestrict abc\n";
        assert_eq!(
            statements(script),
            [
                "CREATE ROLE \"a;b\";",
                "ALTER ROLE x PASSWORD 'it''s;';",
                "COMMENT ON ROLE x IS E'a\\';\n\\\\! b';"
            ]
        );
        for broken in ["", "'", "\"", "E'\\", "SELECT 1", "--", "\\"] {
            assert!(statements(broken).is_empty(), "{broken:?}");
        }
    }
}
