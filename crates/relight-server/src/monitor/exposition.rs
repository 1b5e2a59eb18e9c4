//! The text format of Prometheus, version 0.0.4 (prometheus.io, "Exposition formats").

use std::fmt::Write;

use jiff::Timestamp;
use relight_model::TimeSpan;

/// What the format is called over HTTP.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Something that is written as a number. Prometheus counts in seconds and bytes.
pub(super) trait Value {
    fn number(&self) -> f64;
}

#[allow(clippy::cast_precision_loss, reason = "the format has no other numbers")]
mod values {
    use super::{TimeSpan, Timestamp, Value};

    impl Value for u64 {
        fn number(&self) -> f64 {
            *self as f64
        }
    }
    impl Value for usize {
        fn number(&self) -> f64 {
            *self as f64
        }
    }
    impl Value for Timestamp {
        fn number(&self) -> f64 {
            self.as_millisecond() as f64 / 1000.0
        }
    }
    impl Value for TimeSpan {
        fn number(&self) -> f64 {
            self.0.as_secs_f64()
        }
    }
    impl Value for f64 {
        fn number(&self) -> f64 {
            *self
        }
    }
    impl Value for u32 {
        fn number(&self) -> f64 {
            f64::from(*self)
        }
    }
    impl Value for bool {
        fn number(&self) -> f64 {
            f64::from(u8::from(*self))
        }
    }
}

/// A text that grows by one family of metrics after the other.
#[derive(Default)]
pub(super) struct Text(String);

/// One family; its samples follow each other.
pub(super) struct Family<'t> {
    text: &'t mut String,
    name: &'static str,
}

impl Text {
    /// A family whose values go up and down.
    pub fn gauge(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "gauge", help)
    }

    /// A family whose values only go up, until the server is started again.
    pub fn counter(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "counter", help)
    }

    fn family(&mut self, name: &'static str, kind: &str, help: &str) -> Family<'_> {
        // Helps are our own words: nothing in them needs escaping.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        Family {
            text: &mut self.0,
            name,
        }
    }

    /// The text.
    pub fn finish(self) -> String {
        self.0
    }
}

impl Family<'_> {
    /// A sample, if there is a value.
    pub fn add(&mut self, labels: &[(&str, &str)], value: Option<impl Value>) {
        let Some(value) = value else { return };
        self.text.push_str(self.name);
        for (n, (name, value)) in labels.iter().enumerate() {
            self.text.push(if n == 0 { '{' } else { ',' });
            self.text.push_str(name);
            self.text.push_str("=\"");
            escape(self.text, value);
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {}", value.number());
    }
}

/// In a label's value, backslash, quotation mark and line feed are escaped.
fn escape(text: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            c => text.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_and_samples_are_written_as_the_format_says() {
        let mut text = Text::default();
        let mut family = text.gauge("relight_x_bytes", "How large.");
        family.add(&[("workload", "a\"b\\c\nd")], Some(5_u64));
        family.add(&[("workload", "none")], None::<u64>);
        family.add(&[], Some(TimeSpan::from_secs(90)));
        assert_eq!(
            text.finish(),
            "# HELP relight_x_bytes How large.\n# TYPE relight_x_bytes gauge\n\
             relight_x_bytes{workload=\"a\\\"b\\\\c\\nd\"} 5\nrelight_x_bytes 90\n"
        );
    }
}
