//! Objects in cold classes.

use std::time::Duration;

use jiff::Timestamp;

use super::client::{Answer, Request, parse_http_date};
use super::{Result, S3Storage, StorageError};
use crate::storage::{Storage, Thaw};

/// The header `x-amz-restore`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Restore {
    Ongoing,
    Until(Option<Timestamp>),
}

pub(super) fn parse(header: &str) -> Option<Restore> {
    if header.contains("ongoing-request=\"true\"") {
        return Some(Restore::Ongoing);
    }
    if !header.contains("ongoing-request=\"false\"") {
        return None;
    }
    let until = header
        .split("expiry-date=\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next());
    Some(Restore::Until(until.and_then(parse_http_date)))
}

impl S3Storage {
    pub(super) fn ask_for_thaw(&self, key: &str, keep: Duration) -> Result<Thaw> {
        let answer = self.look_up(key)?;
        let class = answer.header("x-amz-storage-class").unwrap_or("STANDARD");
        let archive_tier = answer.header("x-amz-archive-status").is_some();
        if !matches!(class, "GLACIER" | "DEEP_ARCHIVE") && !archive_tier {
            return Ok(Thaw::Ready);
        }
        match answer.header("x-amz-restore").and_then(parse) {
            Some(Restore::Ongoing) => return Ok(Thaw::InProgress),
            // Lasts nearly as long as asked for: whole days are counted, so asking every time would only cost.
            Some(Restore::Until(until))
                if until.is_none_or(|until| {
                    let left = until.as_second().saturating_sub(Timestamp::now().as_second());
                    left >= i64::try_from(keep.as_secs())
                        .unwrap_or(i64::MAX)
                        .saturating_sub(24 * 3600)
                        && left > 0
                }) =>
            {
                return Ok(Thaw::Ready);
            }
            _ => {}
        }
        let tier = &self.config.thaw_tier;
        // The archive tiers of intelligent tiering move the object itself: there is no copy with an end.
        let document = if archive_tier {
            format!(
                "<RestoreRequest><GlacierJobParameters><Tier>{tier}</Tier></GlacierJobParameters></RestoreRequest>"
            )
        } else {
            let days = keep.as_secs().div_ceil(24 * 3600).max(1);
            format!(
                "<RestoreRequest><Days>{days}</Days><GlacierJobParameters><Tier>{tier}</Tier>\
                 </GlacierJobParameters></RestoreRequest>"
            )
        };
        let body = [document.as_bytes()];
        let request = Request {
            method: "POST",
            key: &self.full(key),
            query: &[("restore", "")],
            body: &body,
            md5: true,
            ..Request::default()
        };
        let asked = self.client.run(&request, |answer| {
            answer.drain()?;
            Ok(answer.status)
        });
        match asked {
            // Was thawed already and is kept longer now.
            Ok(200) => Ok(Thaw::Ready),
            Ok(_) => Ok(Thaw::InProgress),
            Err(failed) if failed.has_code("RestoreAlreadyInProgress") => Ok(Thaw::InProgress),
            Err(failed) => {
                // Some stores have classes by these names that can be read at once, and know of no thawing.
                match self.get_range(key, 0, &mut [0]) {
                    Ok(()) | Err(StorageError::Short { .. }) => Ok(Thaw::Ready),
                    Err(_) => Err(self.error(failed, "thaw", key)),
                }
            }
        }
    }

    /// The storage class an object lies in, by the server's name.
    ///
    /// # Errors
    ///
    /// Those of [`Storage::head`].
    pub fn class_of(&self, key: &str) -> Result<String> {
        let answer: Answer = self.look_up(key)?;
        Ok(answer.header("x-amz-storage-class").unwrap_or("STANDARD").into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restore_headers_are_read() {
        assert_eq!(parse("ongoing-request=\"true\""), Some(Restore::Ongoing));
        let done = "ongoing-request=\"false\", expiry-date=\"Sun, 22 Nov 2026 00:00:00 GMT\"";
        assert_eq!(
            parse(done),
            Some(Restore::Until(parse_http_date("Sun, 22 Nov 2026 00:00:00 GMT")))
        );
        assert_eq!(parse("ongoing-request=\"false\""), Some(Restore::Until(None)));
        assert_eq!(parse("what"), None);
    }
}
