//! Errors and notices of a server.

use std::fmt;

/// An error or notice (documentation of PostgreSQL, "Error and Notice Message Fields").
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerMessage {
    /// ERROR, FATAL, PANIC, WARNING …, not translated.
    pub severity: String,
    /// SQLSTATE.
    pub code: String,
    /// What happened.
    pub text: String,
    /// More of it.
    pub detail: String,
    /// What could be done.
    pub hint: String,
}

impl ServerMessage {
    /// Reads the body of a message.
    pub(super) fn parse(mut body: &[u8]) -> Self {
        let mut message = Self::default();
        while let Some((&kind, rest)) = body.split_first() {
            if kind == 0 {
                break;
            }
            let end = rest.iter().position(|&byte| byte == 0).unwrap_or(rest.len());
            let text = String::from_utf8_lossy(&rest[..end]).into_owned();
            body = rest.get(end + 1..).unwrap_or_default();
            match kind {
                b'S' if message.severity.is_empty() => message.severity = text,
                b'V' => message.severity = text,
                b'C' => message.code = text,
                b'M' => message.text = text,
                b'D' => message.detail = text,
                b'H' => message.hint = text,
                _ => {}
            }
        }
        message
    }
}

impl fmt::Display for ServerMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        if !self.detail.is_empty() {
            write!(f, " ({})", self.detail.trim_end_matches('.'))?;
        }
        if !self.hint.is_empty() {
            write!(f, "; hint: {}", self.hint)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_in_any_order_and_cut_off() {
        let message = ServerMessage::parse(b"SFEHLER\0VERROR\0C42601\0Mwrong\0Dmore.\0Htry\0Xother\0\0");
        assert_eq!(
            (message.severity.as_str(), message.code.as_str()),
            ("ERROR", "42601")
        );
        assert_eq!(message.to_string(), "wrong (more); hint: try");
        assert_eq!(ServerMessage::parse(b"Mcut").text, "cut");
        assert_eq!(ServerMessage::parse(b""), ServerMessage::default());
    }
}
