//! Names of tasks.

use std::fmt;
use std::str::FromStr;

use super::ids::{NameError, as_text};

/// The name of a task, as clients poll it:
/// `UPID:node:PID:PSTART:TASK:START:type:id:authid:` with numbers in upper-case hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Upid {
    /// Name of the host.
    pub node: String,
    /// Process.
    pub pid: u32,
    /// When the process was started, in clock ticks since boot.
    pub pstart: u64,
    /// A number that no other task of the process has.
    pub task: u64,
    /// When the task began, in seconds since 1970.
    pub start: i64,
    /// What it does: `verify_snapshot`, `garbage_collection`, …
    pub worker_type: String,
    /// To what it does it, unescaped; none if that is clear.
    pub worker_id: Option<String>,
    /// Who asked for it, such as `user@realm!token`.
    pub auth_id: String,
}

/// Longest name of a task in bytes.
const MAX: usize = 1024;

/// Escapes what may not be in a part: `/` becomes `-`; all but letters, digits, `_` and inner dots becomes `\xNN`.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'/' => out.push('-'),
            b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => out.push(char::from(byte)),
            b'.' if at > 0 => out.push('.'),
            other => out.push_str(&format!("\\x{other:02x}")),
        }
    }
    out
}

fn unescape(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        match first {
            b'-' => out.push(b'/'),
            b'\\' => {
                let (code, after) = after.strip_prefix(b"x")?.split_at_checked(2)?;
                let code = std::str::from_utf8(code).ok()?;
                out.push(u8::from_str_radix(code, 16).ok()?);
                rest = after;
            }
            other => out.push(*other),
        }
    }
    String::from_utf8(out).ok()
}

impl fmt::Display for Upid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "UPID:{}:{:08X}:{:08X}:{:08X}:{:08X}:{}:{}:{}:",
            self.node,
            self.pid,
            self.pstart,
            self.task,
            self.start,
            self.worker_type,
            self.worker_id.as_deref().map(escape).unwrap_or_default(),
            self.auth_id
        )
    }
}

impl FromStr for Upid {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let refused = || NameError::new("UPID", text, "is not the name of a task");
        if text.len() > MAX || !text.is_ascii() || text.bytes().any(|b| b.is_ascii_whitespace() || b == 0) {
            return Err(refused());
        }
        let parts: Vec<&str> = text.splitn(11, ':').collect();
        let [
            "UPID",
            node,
            pid,
            pstart,
            task,
            start,
            worker_type,
            id,
            auth_id,
            "",
        ] = parts[..]
        else {
            return Err(refused());
        };
        let hex = |text: &str| match text.len() {
            // from_str_radix would take a sign.
            8..=16 if text.bytes().all(|b| b.is_ascii_hexdigit()) => u64::from_str_radix(text, 16).ok(),
            _ => None,
        };
        let named = |text: &str| {
            text.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        // They become parts of file names of task logs.
        let safe = |text: &str| !text.contains('/') && !text.starts_with('.');
        if node.is_empty() || !named(node) || !safe(node) || worker_type.is_empty() || !named(worker_type) {
            return Err(refused());
        }
        if auth_id.is_empty() || !safe(auth_id) || !safe(id) || !safe(worker_type) {
            return Err(refused());
        }
        let number = |text| hex(text).ok_or_else(refused);
        Ok(Self {
            node: node.to_string(),
            pid: u32::try_from(number(pid)?).map_err(|_| refused())?,
            pstart: number(pstart)?,
            task: number(task)?,
            start: i64::try_from(number(start)?).map_err(|_| refused())?,
            worker_type: worker_type.to_string(),
            worker_id: match id {
                "" => None,
                id => Some(unescape(id).ok_or_else(refused)?),
            },
            auth_id: auth_id.to_string(),
        })
    }
}

as_text!(Upid);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_original_read_back() {
        for text in [
            r"UPID:relay:000017A8:0001A2B3:00000012:6B0357E9:verify:golden\x3ahost-fix:root@pam:",
            r"UPID:relay:000017A8:0001A2B3:00000012:6B0357E9:garbage_collection:golden:bkup@pbs!tok1:",
            "UPID:pbs1:0000044C:00000334:00000000:65541234:logrotate::root@pam:",
        ] {
            assert_eq!(text.parse::<Upid>().unwrap().to_string(), text);
        }
        let upid: Upid = r"UPID:n:00000001:00000002:00000003:00000004:verify:a\x3ab-c\x2dd:u@pbs:"
            .parse()
            .unwrap();
        assert_eq!(upid.worker_id.as_deref(), Some("a:b/c-d"));
        assert_eq!((upid.pid, upid.pstart, upid.task, upid.start), (1, 2, 3, 4));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "UPID:",
            "UPID:n:1:2:3:4:t:i:a:",
            "UPID:n:00000001:00000002:00000003:00000004:t:i:a",
            "UPID:n:00000001:00000002:00000003:00000004:t:i:a:b:",
            "UPID:n:+0000001:00000002:00000003:00000004:t:i:a:",
            "UPID:../n:00000001:00000002:00000003:00000004:t:i:a:",
            "UPID:n:00000001:00000002:00000003:00000004:t:../i:a:",
            r"UPID:n:00000001:00000002:00000003:00000004:t:\x2:a:",
            "UPID:n:00000001:00000002:00000003:FFFFFFFFFFFFFFFF:t:i:a:",
        ] {
            assert!(text.parse::<Upid>().is_err(), "{text}");
        }
    }
}
