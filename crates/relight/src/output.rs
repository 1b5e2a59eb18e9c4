//! What a command says: words for people on a terminal, or JSON for programs.

use std::io::Write;

use serde::Serialize;

use crate::context::Global;
use crate::failure::Failure;

/// A result: as JSON if that was asked for, else as `words` writes it.
pub fn text<T: Serialize>(global: &Global, value: &T, words: impl FnOnce(&T, &mut String)) -> String {
    if global.json {
        serde_json::to_string_pretty(value).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
            + "\n"
    } else {
        let mut text = String::new();
        words(value, &mut text);
        text
    }
}

/// Prints a result.
pub fn result<T: Serialize>(global: &Global, value: &T, words: impl FnOnce(&T, &mut String)) {
    let text = text(global, value, words);
    // A reader that went away (`| head`) is no reason to complain.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// Says on standard error why a command failed.
pub fn failure(global: &Global, failure: &Failure) {
    if global.json {
        #[derive(Serialize)]
        struct Error {
            error: String,
        }
        let error = Error {
            error: failure.to_string(),
        };
        eprintln!("{}", serde_json::to_string(&error).unwrap_or_default());
    } else {
        eprintln!("relight: {failure}");
    }
}

/// Says something on standard error that is worth knowing but no failure.
pub fn remark(global: &Global, text: &str) {
    if !global.quiet {
        eprintln!("relight: {text}");
    }
}

/// Lines up columns. The first row is the heading; columns named in `right` are aligned to the right.
pub fn table(rows: &[Vec<String>], right: &[usize], out: &mut String) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let fill = widths[column].saturating_sub(cell.chars().count());
            if column > 0 {
                line.push_str("  ");
            }
            if right.contains(&column) {
                line.extend(std::iter::repeat_n(' ', fill));
                line.push_str(cell);
            } else {
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', fill));
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
}
