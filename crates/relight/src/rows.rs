//! Long results, printed row by row while they are found: lines for people, one JSON object with a list for programs.

use std::io::{self, BufWriter, Stdout, Write};

use serde::Serialize;
use serde_json::{Map, Value};

use crate::context::Global;

/// Rows on their way to standard output.
pub struct Rows {
    out: BufWriter<Stdout>,
    json: bool,
    count: u64,
    /// Whoever read the output went away.
    closed: bool,
}

impl Rows {
    /// Begins a result. `head` is what its JSON object says before the rows, which are its list `name`.
    pub fn begin(global: &Global, head: &impl Serialize, name: &str) -> Self {
        let mut rows = Self {
            out: BufWriter::new(io::stdout()),
            json: global.json,
            count: 0,
            closed: false,
        };
        if global.json {
            let mut text = String::from("{");
            for (key, value) in fields(head) {
                text += &format!("\n  {}: {value},", Value::String(key));
            }
            text += &format!("\n  {}: [", Value::String(name.to_string()));
            rows.put(&text);
        }
        rows
    }

    /// Prints a row, for people as `words` says it.
    pub fn row<T: Serialize>(&mut self, row: &T, words: impl FnOnce(&T) -> String) {
        if self.json {
            let comma = if self.count > 0 { "," } else { "" };
            let text =
                serde_json::to_string(row).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"));
            self.put(&format!("{comma}\n    {text}"));
        } else {
            self.put(&(words(row) + "\n"));
        }
        self.count += 1;
    }

    /// Whether nobody reads any more, so that looking for more is in vain.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Ends the result: with the fields of `tail` in JSON, for people with what `words` says.
    pub fn end<T: Serialize>(mut self, tail: &T, words: impl FnOnce(&T) -> String) {
        if self.json {
            let mut text = String::from(if self.count > 0 { "\n  ]" } else { "]" });
            for (key, value) in fields(tail) {
                text += &format!(",\n  {}: {value}", Value::String(key));
            }
            self.put(&(text + "\n}\n"));
        } else {
            let text = words(tail);
            self.put(&text);
        }
        let _ = self.out.flush();
    }

    fn put(&mut self, text: &str) {
        if !self.closed {
            self.closed = self.out.write_all(text.as_bytes()).is_err();
        }
    }
}

fn fields(value: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(value) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}
