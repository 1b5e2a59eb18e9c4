//! Plain HTTP on the port of TLS: told to come back with https.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Longest head that is read for it.
const MAX_HEAD: usize = 8 * 1024;

/// Whether a connection that begins with this byte is TLS: a record of type handshake (RFC 8446, section 5.1).
pub fn is_tls(first: u8) -> bool {
    first == 0x16
}

/// Answers one plain HTTP request by `301 Moved Permanently` to the same target with https, and ends the connection. What is no
/// HTTP request gets no answer.
pub async fn redirect(mut io: impl AsyncRead + AsyncWrite + Unpin, limit: Duration) {
    let _ = tokio::time::timeout(limit, answer(&mut io)).await;
}

async fn answer(io: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        if head.len() > MAX_HEAD || io.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    if let Some(location) = location(&head) {
        let answer = format!(
            "HTTP/1.1 301 Moved Permanently\r\nlocation: {location}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
        io.write_all(answer.as_bytes()).await?;
        io.shutdown().await?;
    }
    Ok(())
}

/// The same target with https.
fn location(head: &[u8]) -> Option<String> {
    let head = std::str::from_utf8(head).ok()?;
    let mut lines = head.split("\r\n");
    let target = lines.next()?.split(' ').nth(1)?;
    let host = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("host").then(|| value.trim())
    })?;
    let safe = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
    (safe(target) && safe(host) && target.starts_with('/') && !host.contains(['/', '@']))
        .then(|| format!("https://{host}{target}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_is_kept() {
        let head = b"GET /api2/json/version?x=1 HTTP/1.1\r\nHost: backup.example:8007\r\n\r\n";
        assert_eq!(
            location(head).unwrap(),
            "https://backup.example:8007/api2/json/version?x=1"
        );
        for head in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"GET http://x/ HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\rSet-Cookie: x\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a@evil\r\n\r\n",
            b"\xff\xfe\r\n\r\n",
        ] {
            assert_eq!(location(head), None);
        }
    }
}
