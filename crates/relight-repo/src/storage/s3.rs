//! A bucket (or a prefix in one) of an S3-compatible object store as storage.
//!
//! # What is relied on
//!
//! Reads and lists see what was written before (AWS since 2020, Ceph, MinIO and the others that were tested do). A
//! successful `PUT` is durable. Nothing else: conditional writes, versions, object locks, storage classes are used
//! where they are, and found out rather than assumed.
//!
//! # How the contract is kept
//!
//! - **Whole or not.** Every request carries the SHA-256 of its body in its signature, so the server refuses a body
//!   that arrives damaged or short. Parts of an object become visible together, when the upload is completed; the
//!   answer to that is read to its end, as it may be an error with status 200.
//! - **Complete lists.** Pages are followed to the end; a page that is cut off, a page that promises another and does
//!   not say where, and keys that were not asked for are errors.
//! - **Honest errors.** A 404 means "no such object" only with the code `NoSuchKey`: missing buckets and web servers
//!   that know nothing of S3 answer 404 as well.
//! - **`put_new`** uses `If-None-Match: *` where a probe showed that the bucket heeds it, and [`claim`] elsewhere (the
//!   gateway of Ceph 16.2, for one, heeds it on buckets without versions only). When
//!   an answer was lost, and the second try finds the object there, a mark in its metadata tells whether the first
//!   try wrote it.
//!
//! # Retries
//!
//! Requests that got no answer, or one that asks to come back (5xx, 429, `SlowDown`), are repeated with doubling
//! waits. All requests sent are safe to repeat.
//!
//! # Versioned buckets
//!
//! Object lock needs versions. There, a plain `DELETE` would only hide the object, and deleting its newest version
//! would bring back the one before. [`Storage::delete`] therefore deletes all versions of the key, oldest first, and
//! stops with [`StorageError::Locked`] at the first that is locked: the object then stays visible.
//! Versions that `put` replaced stay until then; a lifecycle rule for noncurrent versions can remove them sooner.

mod answer;
mod bucket;
mod client;
mod config;
mod credentials;
#[cfg(fuzzing)]
pub mod fuzzing;
mod list;
mod lock;
mod multipart;
mod sign;
mod thaw;
mod xml;

use std::fmt;
use std::io::{self, Read};
use std::sync::Mutex;
use std::time::Duration;

pub use bucket::Finding;
pub use config::{Addressing, Conditions, ConfigError, LockMode, Retries, S3Config};
pub use credentials::{Credentials, Environment};

use self::answer::{Failed, Reason, Refusal};
use self::bucket::Traits;
use self::client::{Answer, Client, Request, Unread, parse_http_date};
use super::{Capabilities, Millis, ObjectInfo, PutOptions, Remark, Storage, StorageError, Thaw, claim};

type Result<T, E = StorageError> = std::result::Result<T, E>;

/// Metadata that marks which call of `put_new` wrote an object.
const MARK: &str = "x-amz-meta-relight-write";

/// Where the objects lie that a probe writes and deletes. Never listed.
const PROBES: &str = "probe/";

/// Memory that is set aside for an object before its content comes. More is added as it does.
const TRUSTED_LENGTH: u64 = 64 << 20;

/// A storage in a bucket. Cheap to share; connections are kept and used again by all threads.
pub struct S3Storage {
    client: Client,
    config: S3Config,
    /// Empty or with a `/` at its end.
    prefix: String,
    location: String,
    /// Whether `put_new` goes by conditions, once that is known.
    conditions: Mutex<Option<bool>>,
    traits: Mutex<Traits>,
}

impl fmt::Debug for S3Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Storage")
            .field("location", &self.location)
            .finish_non_exhaustive()
    }
}

impl S3Storage {
    /// The storage at a location of the form [`S3Config::parse`] reads, with what it leaves open, and the
    /// credentials, from the environment. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// Where the location or the configuration cannot be used, or there are no credentials.
    pub fn open(location: &str) -> Result<Self, ConfigError> {
        let environment = |name: &str| std::env::var(name).ok();
        Self::with_environment(
            S3Config::parse(location)?.with_environment(&environment),
            &environment,
        )
    }

    /// The storage with this configuration, with credentials from its file or the given environment.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn with_environment(config: S3Config, environment: Environment<'_>) -> Result<Self, ConfigError> {
        let client = Client::new(&config, environment)?;
        Ok(Self::new(config, client))
    }

    /// The storage with this configuration and these credentials.
    ///
    /// # Errors
    ///
    /// Where the configuration cannot be used.
    pub fn with_credentials(config: S3Config, credentials: Credentials) -> Result<Self, ConfigError> {
        let client = Client::with_credentials(&config, credentials)?;
        Ok(Self::new(config, client))
    }

    fn new(config: S3Config, client: Client) -> Self {
        let prefix = if config.prefix.is_empty() {
            String::new()
        } else {
            format!("{}/", config.prefix)
        };
        let slash = if config.prefix.is_empty() { "" } else { "/" };
        let at = config
            .endpoint
            .as_ref()
            .map(|_| format!(" at {}", client.endpoint()))
            .unwrap_or_default();
        let location = format!("s3://{}{slash}{}{at}", config.bucket, config.prefix);
        Self {
            client,
            config,
            prefix,
            location,
            conditions: Mutex::default(),
            traits: Mutex::default(),
        }
    }

    /// The key in the bucket.
    fn full(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    fn error(&self, failed: Failed, action: &'static str, key: &str) -> StorageError {
        failed.into_error(action, key, &self.location)
    }

    fn short(&self, key: &str, wanted_end: u64) -> StorageError {
        StorageError::Short {
            key: key.into(),
            location: self.location.clone(),
            wanted_end,
        }
    }

    fn not_found(&self, key: &str) -> StorageError {
        StorageError::NotFound {
            key: key.into(),
            location: self.location.clone(),
        }
    }

    /// The headers that options ask for. Refuses what the bucket would silently ignore.
    fn put_headers(&self, options: &PutOptions) -> Result<Vec<(&'static str, String)>> {
        let mut headers = Vec::new();
        if let Some(class) = &options.class {
            headers.push(("x-amz-storage-class", class.clone()));
        }
        if let Some(until) = options.retain_until {
            self.require_locks()?;
            headers.push(("x-amz-object-lock-mode", self.config.lock_mode.name().into()));
            headers.push(("x-amz-object-lock-retain-until-date", lock::date(until)));
        }
        Ok(headers)
    }

    fn put_whole(
        &self,
        key: &str,
        parts: &[&[u8]],
        options: &PutOptions,
        more: &[(&str, &str)],
    ) -> Result<Result<(), Failed>> {
        let owned = self.put_headers(options)?;
        let mut headers: Vec<_> = owned
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        headers.extend(more);
        let request = Request {
            method: "PUT",
            key: &self.full(key),
            headers: &headers,
            body: parts,
            // AWS and others want it with a lock; all take it.
            md5: options.retain_until.is_some(),
            ..Request::default()
        };
        Ok(self.client.run(&request, Answer::drain))
    }

    /// `put_new` by condition.
    fn put_if_absent(&self, key: &str, parts: &[&[u8]], options: &PutOptions) -> Result<()> {
        let exists = || StorageError::AlreadyExists {
            key: key.into(),
            location: self.location.clone(),
        };
        let mark = self.random()?;
        let headers = [("if-none-match", "*"), (MARK, mark.as_str())];
        let Err(failed) = self.put_whole(key, parts, options, &headers)? else {
            return Ok(());
        };
        match failed.status() {
            // The answer to an earlier try was lost: it may have been that one which wrote the object.
            Some(412) if failed.uncertain => match self.mark_of(key) {
                Ok(found) if found.as_deref() == Some(mark.as_str()) => Ok(()),
                Ok(_) => Err(exists()),
                Err(failed) => Err(self.error(failed, "create", key)),
            },
            Some(412) => Err(exists()),
            _ => Err(self.error(failed, "create", key)),
        }
    }

    /// Which call wrote an object; `None` if the object is gone or was written otherwise.
    fn mark_of(&self, key: &str) -> Result<Option<String>, Failed> {
        let request = Request {
            method: "HEAD",
            key: &self.full(key),
            ..Request::default()
        };
        match self
            .client
            .run(&request, |answer| Ok(answer.header(MARK).map(String::from)))
        {
            Err(failed) if failed.status() == Some(404) => Ok(None),
            other => other,
        }
    }

    fn random(&self) -> Result<String> {
        let mut bytes = [0; 16];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| StorageError::Unsupported {
            location: "this host".into(),
            what: "give random numbers",
        })?;
        Ok(hex::encode(bytes))
    }

    /// The size, time and headers of an object.
    fn look_up(&self, key: &str) -> Result<Answer> {
        let full = self.full(key);
        let request = Request {
            method: "HEAD",
            key: &full,
            ..Request::default()
        };
        let failed = match self.client.run(&request, |answer| Ok(answer.take())) {
            Ok(answer) => return Ok(answer),
            Err(failed) => failed,
        };
        if failed.status() != Some(404) {
            return Err(self.error(failed, "look up", key));
        }
        // An answer to HEAD has no body, so no code: is it the object that is missing, or the bucket?
        let request = Request {
            method: "GET",
            headers: &[("range", "bytes=0-0")],
            ..request
        };
        match self.client.run(&request, Answer::drain) {
            Err(failed) if failed.status() == Some(416) => {}
            Err(failed) => return Err(self.error(failed, "look up", key)),
            Ok(()) => {}
        }
        // It came to be between the two.
        let request = Request {
            method: "HEAD",
            key: &full,
            ..Request::default()
        };
        self.client
            .run(&request, |answer| Ok(answer.take()))
            .map_err(|failed| match failed.status() {
                Some(404) => self.not_found(key),
                _ => self.error(failed, "look up", key),
            })
    }

    fn info(&self, key: &str, answer: &Answer) -> Result<ObjectInfo> {
        let modified = answer.header("last-modified").and_then(parse_http_date);
        match (answer.length(), modified) {
            (Some(size), Some(modified)) => Ok(ObjectInfo {
                key: key.into(),
                size,
                modified: modified.as_millisecond(),
            }),
            _ => Err(StorageError::Unavailable {
                action: "look up",
                key: key.into(),
                location: self.location.clone(),
                reason: "the answer has no length or no time".into(),
            }),
        }
    }
}

impl Storage for S3Storage {
    fn location(&self) -> String {
        self.location.clone()
    }

    /// What is not known yet is asked for, with a probe object for conditions. Where that fails (also because writing
    /// is not permitted), the answer is no, and it is asked again next time.
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            conditional_put: self.has_conditions().unwrap_or(false),
            retention: self.has_locks().unwrap_or(false),
        }
    }

    fn put(&self, key: &str, parts: &[&[u8]], options: &PutOptions) -> Result<()> {
        let length = parts.iter().map(|part| part.len() as u64).sum::<u64>();
        if length > self.config.multipart_above {
            return self.put_in_parts(key, parts, length, options);
        }
        self.put_whole(key, parts, options, &[])?
            .map_err(|failed| self.error(failed, "write", key))
    }

    fn put_new(&self, key: &str, parts: &[&[u8]], options: &PutOptions) -> Result<()> {
        if self.has_conditions()? {
            // Always whole: some servers ignore conditions when a multipart upload is completed.
            self.put_if_absent(key, parts, options)
        } else {
            claim::put_new(self, key, parts, options, &claim::Timing::default())
        }
    }

    fn get(&self, key: &str) -> Result<Vec<u8>> {
        let request = Request {
            method: "GET",
            key: &self.full(key),
            ..Request::default()
        };
        let read = self.client.run(&request, |answer| {
            let announced = answer.length();
            // Never more than fits into `usize`, as it is limited.
            let mut content = Vec::with_capacity(announced.unwrap_or(0).min(TRUSTED_LENGTH) as usize);
            answer.reader().read_to_end(&mut content)?;
            match announced {
                Some(length) if length != content.len() as u64 => {
                    Err(Unread::Broken(format!("got {} of {length} bytes", content.len())))
                }
                _ => Ok(content),
            }
        });
        read.map_err(|failed| self.error(failed, "read", key))
    }

    fn get_range(&self, key: &str, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let length = buffer.len() as u64;
        let Some(end) = offset.checked_add(length) else {
            return Err(self.short(key, u64::MAX));
        };
        if length == 0 {
            // HTTP knows no range of no bytes.
            return match self.head(key)? {
                info if info.size < end => Err(self.short(key, end)),
                _ => Ok(()),
            };
        }
        let range = format!("bytes={offset}-{}", end - 1);
        let headers = [("range", range.as_str())];
        let request = Request {
            method: "GET",
            key: &self.full(key),
            headers: &headers,
            ..Request::default()
        };
        let read = self.client.run(&request, |answer| {
            let first = match answer.header("content-range") {
                Some(range) => {
                    first_of(range).ok_or_else(|| Unread::Broken(format!("a range that is none: {range}")))?
                }
                // The range was ignored: the object comes from its beginning.
                None if answer.status == 200 => 0,
                None => return Err(Unread::Broken("a part of the object without saying which".into())),
            };
            let skip = offset
                .checked_sub(first)
                .ok_or_else(|| Unread::Broken("another range".into()))?;
            let announced = answer.length();
            if announced.is_some_and(|announced| announced < skip.saturating_add(length)) {
                return Ok(false);
            }
            let mut reader = answer.reader();
            if io::copy(&mut reader.by_ref().take(skip), &mut io::sink())? < skip {
                return Ok(false);
            }
            match reader.read_exact(buffer) {
                Ok(()) => {}
                // Without an announced length, the end of the body is the end of the object.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && announced.is_none() => {
                    return Ok(false);
                }
                Err(error) => return Err(error.into()),
            }
            // What follows is the rest of an object whose range was ignored; a little is worth reading to keep the
            // connection.
            io::copy(&mut reader.take(1 << 20), &mut io::sink())?;
            Ok(true)
        });
        match read {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.short(key, end)),
            Err(failed) => match self.error(failed, "read", key) {
                StorageError::Short { .. } => Err(self.short(key, end)),
                error => Err(error),
            },
        }
    }

    fn head(&self, key: &str) -> Result<ObjectInfo> {
        let answer = self.look_up(key)?;
        self.info(key, &answer)
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>> {
        let mut found = self.list_all(prefix)?;
        for hidden in [claim::PREFIX, PROBES] {
            if !prefix.starts_with(hidden) {
                found.retain(|object| !object.key.starts_with(hidden));
            }
        }
        Ok(found)
    }

    fn delete(&self, key: &str) -> Result<()> {
        self.delete_for_good(key)
    }

    fn retain(&self, key: &str, until: Millis) -> Result<()> {
        self.extend_lock(key, until)
    }

    fn sweep(&self) -> Result<usize> {
        self.sweep_leftovers()
    }

    fn remarks(&self) -> Result<Vec<Remark>> {
        let remark = |finding: Finding| Remark {
            text: finding.to_string(),
            danger: finding.is_danger(),
        };
        Ok(self.examine()?.into_iter().map(remark).collect())
    }

    fn thaw(&self, key: &str, keep: Duration) -> Result<Thaw> {
        self.ask_for_thaw(key, keep)
    }
}

/// The first byte of `bytes 5-9/100`.
fn first_of(range: &str) -> Option<u64> {
    range
        .trim()
        .strip_prefix("bytes")?
        .trim_start()
        .split('-')
        .next()?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests;
