//! Queries of the simple protocol and what comes back.

use super::server_message::ServerMessage;

/// What a server says while a query runs.
#[derive(Debug)]
pub enum Event<'a> {
    /// A result set begins: the names of its columns.
    Columns(Vec<String>),
    /// A row.
    Row(Vec<Option<String>>),
    /// It waits for data, which [`super::Connection::put_copy_data`] sends.
    CopyIn,
    /// It is about to send data.
    CopyOut,
    /// Data go both ways: streaming replication.
    CopyBoth,
    /// A piece of data.
    Data(&'a [u8]),
    /// There will be no more data.
    CopyDone,
    /// A command ended well: its tag.
    Complete(String),
    /// It did not do what it was asked; [`Event::Ready`] follows if the connection can still be used.
    Error(Box<ServerMessage>),
    /// It waits for the next query.
    Ready,
}

/// One result set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResultSet {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Values of the rows, as text.
    pub rows: Vec<Vec<Option<String>>>,
}

/// One row of a result set.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    columns: &'a [String],
    values: &'a [Option<String>],
}

impl ResultSet {
    /// Its rows, with columns by name.
    pub fn iter(&self) -> impl Iterator<Item = Row<'_>> {
        self.rows.iter().map(|values| Row {
            columns: &self.columns,
            values,
        })
    }

    /// The first row.
    pub fn first(&self) -> Option<Row<'_>> {
        self.iter().next()
    }

    /// The first value of the first row.
    pub fn value(&self) -> Option<&str> {
        self.rows.first()?.first()?.as_deref()
    }
}

impl<'a> Row<'a> {
    /// A value by the name of its column; none if it is NULL or there is no such column.
    pub fn get(&self, column: &str) -> Option<&'a str> {
        let at = self.columns.iter().position(|name| name == column)?;
        self.values.get(at)?.as_deref()
    }

    /// A value by the name of its column, and empty if it is NULL.
    pub fn text(&self, column: &str) -> &'a str {
        self.get(column).unwrap_or_default()
    }

    /// A value that is a number or something else that can be read from text.
    pub fn parse<T: std::str::FromStr>(&self, column: &str) -> Option<T> {
        self.get(column)?.parse().ok()
    }

    /// Whether a value of type boolean is true.
    pub fn is_true(&self, column: &str) -> bool {
        matches!(self.get(column), Some("t" | "true" | "on"))
    }
}

/// A text as a literal of SQL, whatever `standard_conforming_strings` says.
pub fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') {
        format!(" E'{}'", quoted.replace('\\', "\\\\"))
    } else {
        format!("'{quoted}'")
    }
}

/// A name as an identifier of SQL.
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Reads the body of a RowDescription message.
pub(super) fn columns(body: &[u8]) -> Option<Vec<String>> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    let mut names = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let end = rest.iter().position(|&byte| byte == 0)?;
        names.push(String::from_utf8_lossy(&rest[..end]).into_owned());
        // Table, column, type, size, modifier and format.
        rest = rest.get(end + 1 + 18..)?;
    }
    Some(names)
}

/// Reads the body of a DataRow message.
pub(super) fn row(body: &[u8]) -> Option<Vec<Option<String>>> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    let mut values = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let length = i32::from_be_bytes(*length);
        if length < 0 {
            values.push(None);
            rest = after;
        } else {
            let (value, after) = after.split_at_checked(length as usize)?;
            values.push(Some(String::from_utf8_lossy(value).into_owned()));
            rest = after;
        }
    }
    Some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_identifiers_cannot_be_left() {
        assert_eq!(literal("a'b"), "'a''b'");
        assert_eq!(literal(r"a\'b"), r" E'a\\''b'");
        assert_eq!(identifier("a\"b"), "\"a\"\"b\"");
    }

    #[test]
    fn rows_that_are_cut_off_are_refused() {
        let body = [0, 2, 0, 0, 0, 1, b'x', 255, 255, 255, 255];
        assert_eq!(row(&body), Some(vec![Some("x".into()), None]));
        for end in 0..body.len() {
            assert_eq!(row(&body[..end]), None, "{end}");
        }
    }
}
