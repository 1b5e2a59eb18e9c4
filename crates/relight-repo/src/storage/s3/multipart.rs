//! Large objects, in parts.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::client::{Answer, Request, Unread};
use super::xml::escape;
use super::{Failed, Reason, Result, S3Storage};
use crate::storage::{PutOptions, StorageError};

/// S3 takes no more parts than this.
const MOST_PARTS: u64 = 10_000;

/// An upload under way.
struct Upload<'a> {
    storage: &'a S3Storage,
    full: &'a str,
    id: String,
    /// Whether parts need `Content-MD5`, as they do where the object will be locked.
    md5: bool,
}

impl S3Storage {
    /// Writes an object in parts, several at once. On failure nothing of it stays.
    pub(super) fn put_in_parts(
        &self,
        key: &str,
        content: &[&[u8]],
        length: u64,
        options: &PutOptions,
    ) -> Result<()> {
        let full = self.full(key);
        let mut restarted = false;
        loop {
            let upload = self.begin_upload(key, &full, options)?;
            let outcome = upload
                .send(content, length)
                .and_then(|etags| upload.complete(&etags));
            let Err(failed) = outcome else {
                // The gateway of Ceph 16.2, for one, forgets the lock that an upload was begun with.
                return match options.retain_until {
                    Some(until) => self.extend_lock(key, until),
                    None => Ok(()),
                };
            };
            // Completed by a try whose answer was lost, or thrown away by someone: either way a fresh upload settles it.
            if failed.has_code("NoSuchUpload") && !restarted {
                restarted = true;
                continue;
            }
            upload.abort();
            return Err(self.error(failed, "write", key));
        }
    }

    fn begin_upload<'a>(&'a self, key: &str, full: &'a str, options: &PutOptions) -> Result<Upload<'a>> {
        let owned = self.put_headers(options)?;
        let headers: Vec<_> = owned
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let request = Request {
            method: "POST",
            key: full,
            query: &[("uploads", "")],
            headers: &headers,
            ..Request::default()
        };
        let begun = self.client.run(&request, |answer| {
            // Named otherwise by some servers; the id is what counts.
            let document = answer.any_document()?;
            match document.text_of("UploadId") {
                "" => Err(Unread::Broken("an upload without an id".into())),
                id => Ok(id.to_string()),
            }
        });
        let id = begun.map_err(|failed| self.error(failed, "write", key))?;
        Ok(Upload {
            storage: self,
            full,
            id,
            md5: options.retain_until.is_some(),
        })
    }

    /// Removes what dead writers left behind: uploads that were begun more than a day ago, probe objects and claims of
    /// that age. Nothing of it is ever listed as an object, but it is paid for. Returns how many.
    ///
    /// # Errors
    ///
    /// Those of the storage.
    pub fn sweep_leftovers(&self) -> Result<usize> {
        const DAY: i64 = 24 * 3600;
        let old = |begun: jiff::Timestamp| {
            jiff::Timestamp::now()
                .as_second()
                .saturating_sub(begun.as_second())
                > DAY
        };
        let mut removed = crate::storage::claim::sweep(self)?;
        for probe in self.list_all(super::PROBES)? {
            if jiff::Timestamp::from_millisecond(probe.modified).is_ok_and(old) {
                self.delete_for_good(&probe.key)?;
                removed += 1;
            }
        }
        let uploads = match self.unfinished_uploads() {
            Ok(uploads) => uploads,
            // A server without such lists has nothing to sweep that we could find.
            Err(failed) if matches!(failed.status(), Some(405 | 501)) || failed.has_code("NoSuchUpload") => {
                Vec::new()
            }
            Err(failed) => return Err(self.error(failed, "list uploads", "")),
        };
        for (full, id, begun) in uploads {
            if old(begun) {
                Upload {
                    storage: self,
                    full: &full,
                    id,
                    md5: false,
                }
                .abort();
                removed += 1;
            }
        }
        Ok(removed)
    }
}

impl Upload<'_> {
    /// Sends all parts; returns their tags in order.
    fn send(&self, content: &[&[u8]], length: u64) -> Result<Vec<String>, Failed> {
        let config = &self.storage.config;
        let part_size = config.part_size.max(length.div_ceil(MOST_PARTS));
        let count = usize::try_from(length.div_ceil(part_size)).unwrap_or(usize::MAX);
        let next = AtomicUsize::new(0);
        let stop = AtomicBool::new(false);
        let etags = Mutex::new(vec![String::new(); count]);
        let failure = Mutex::new(None);
        let lane = || {
            while !stop.load(Ordering::Relaxed) {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= count {
                    return;
                }
                let part = window(content, index as u64 * part_size, part_size);
                match self.send_part(index + 1, &part) {
                    Ok(etag) => etags.lock().unwrap_or_else(PoisonError::into_inner)[index] = etag,
                    Err(failed) => {
                        stop.store(true, Ordering::Relaxed);
                        failure
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .get_or_insert(failed);
                    }
                }
            }
        };
        thread::scope(|scope| {
            for _ in 1..config.parallel_parts.min(count) {
                scope.spawn(lane);
            }
            lane();
        });
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(failed) => Err(failed),
            None => Ok(etags.into_inner().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    fn send_part(&self, number: usize, part: &[&[u8]]) -> Result<String, Failed> {
        let number = number.to_string();
        let request = Request {
            method: "PUT",
            key: self.full,
            query: &[("partNumber", &number), ("uploadId", &self.id)],
            body: part,
            md5: self.md5,
            ..Request::default()
        };
        self.storage.client.run(&request, |answer| {
            answer.drain()?;
            match answer.header("etag") {
                Some(etag) => Ok(etag.to_string()),
                None => Err(Unread::Broken("a part was taken without a tag".into())),
            }
        })
    }

    /// Makes the object visible. The answer may be an error with status 200, which only its body tells.
    fn complete(&self, etags: &[String]) -> Result<(), Failed> {
        let mut document = String::from("<CompleteMultipartUpload>");
        for (index, etag) in etags.iter().enumerate() {
            let (number, etag) = (index + 1, escape(etag));
            document.push_str(&format!(
                "<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
            ));
        }
        document.push_str("</CompleteMultipartUpload>");
        let body = [document.as_bytes()];
        let query = [("uploadId", self.id.as_str())];
        let request = Request {
            method: "POST",
            key: self.full,
            query: &query,
            body: &body,
            ..Request::default()
        };
        self.storage.client.run(&request, |answer| {
            let document = answer.any_document()?;
            if document.name.starts_with("CompleteMultipartUpload") {
                return Ok(());
            }
            Err(Unread::Alien(format!(
                "completing an upload was answered with <{}>",
                document.name
            )))
        })
    }

    /// Throws the parts away. What cannot be thrown away now, [`S3Storage::sweep_leftovers`] does.
    fn abort(&self) {
        let query = [("uploadId", self.id.as_str())];
        let request = Request {
            method: "DELETE",
            key: self.full,
            query: &query,
            ..Request::default()
        };
        match self.storage.client.run(&request, Answer::drain) {
            Ok(()) => {}
            Err(failed) if failed.has_code("NoSuchUpload") => {}
            Err(failed) => {
                let reason = match &failed.reason {
                    Reason::Refused(refusal) => refusal.words(),
                    Reason::Unreachable(reason) => reason.clone(),
                };
                tracing::warn!(
                    key = self.full,
                    reason,
                    "an upload could not be aborted; its parts stay for now"
                );
            }
        }
    }
}

/// The slices that make up `length` bytes from `start` of the content in pieces.
fn window<'a>(content: &[&'a [u8]], start: u64, length: u64) -> Vec<&'a [u8]> {
    let (mut skip, mut left) = (start, length);
    let mut slices = Vec::new();
    for piece in content {
        let size = piece.len() as u64;
        if skip >= size {
            skip -= size;
            continue;
        }
        if left == 0 {
            break;
        }
        let end = size.min(skip.saturating_add(left));
        // Both lie within the piece, so they fit.
        slices.push(&piece[skip as usize..end as usize]);
        left -= end - skip;
        skip = 0;
    }
    slices
}

/// For the one place that turns a refusal into "cannot do that at all".
pub(super) fn unsupported(location: &str, what: &'static str) -> StorageError {
    StorageError::Unsupported {
        location: location.into(),
        what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_cover_content_once() {
        let content: [&[u8]; 5] = [b"abc", b"", b"defg", b"h", b"ijklmnop"];
        let whole = content.concat();
        for size in 1..20 {
            let parts: Vec<Vec<u8>> = (0..whole.len().div_ceil(size))
                .map(|n| window(&content, (n * size) as u64, size as u64).concat())
                .collect();
            assert!(parts[..parts.len() - 1].iter().all(|part| part.len() == size));
            assert_eq!(parts.concat(), whole);
        }
        assert!(window(&content, 16, 5).is_empty());
    }
}
