//! Object lock, and deleting for good on buckets with versions.

use jiff::Timestamp;

use super::client::{Answer, Request};
use super::multipart::unsupported;
use super::{Failed, Refusal, Result, S3Storage};
use crate::storage::{Millis, StorageError};

/// A lock on an object.
struct Retention {
    mode: String,
    until: Timestamp,
}

impl S3Storage {
    /// Refuses what a bucket without object lock would silently ignore.
    pub(super) fn require_locks(&self) -> Result<()> {
        if self.has_locks()? {
            return Ok(());
        }
        let what = "lock objects against deletion: object lock is not on; it can be switched on when a bucket is made";
        Err(unsupported(&self.location, what))
    }

    fn locked(&self, key: &str) -> StorageError {
        StorageError::Locked {
            key: key.into(),
            location: self.location.clone(),
        }
    }

    pub(super) fn delete_for_good(&self, key: &str) -> Result<()> {
        let full = self.full(key);
        if !self
            .is_versioned(&full)
            .map_err(|failed| self.error(failed, "delete", key))?
        {
            return self.delete_version(key, &full, None);
        }
        let versions = self
            .versions_of(&full)
            .map_err(|failed| self.error(failed, "delete", key))?;
        // Oldest first: were the newest deleted and an older one locked, the older would come to light.
        for version in versions.iter().rev() {
            self.delete_version(key, &full, Some(&version.id))?;
        }
        Ok(())
    }

    fn delete_version(&self, key: &str, full: &str, version: Option<&str>) -> Result<()> {
        let query: Vec<_> = version.map(|id| ("versionId", id)).into_iter().collect();
        let request = Request {
            method: "DELETE",
            key: full,
            query: &query,
            ..Request::default()
        };
        match self.client.run(&request, Answer::drain) {
            Ok(()) => Ok(()),
            Err(failed) if failed.has_code("NoSuchKey") || failed.has_code("NoSuchVersion") => Ok(()),
            Err(failed) if failed.refusal().is_some_and(may_be_lock) && self.is_locked(full, version) => {
                Err(self.locked(key))
            }
            Err(failed) => Err(self.error(failed, "delete", key)),
        }
    }

    /// Whether retention or a legal hold forbids to delete a version. Servers answer the attempt with the same "access
    /// denied" as where a permission is missing.
    fn is_locked(&self, full: &str, version: Option<&str>) -> bool {
        let mut query = vec![("legal-hold", "")];
        query.extend(version.map(|id| ("versionId", id)));
        let request = Request {
            method: "GET",
            key: full,
            query: &query,
            ..Request::default()
        };
        let held = self.client.run(&request, |answer| {
            Ok(answer.any_document()?.text_of("Status") == "ON")
        });
        let retained = self.retention_of(full, version);
        matches!(held, Ok(true))
            || matches!(retained, Ok(Some(retention)) if retention.until > Timestamp::now())
    }

    fn retention_of(&self, full: &str, version: Option<&str>) -> Result<Option<Retention>, Failed> {
        let mut query = vec![("retention", "")];
        query.extend(version.map(|id| ("versionId", id)));
        let request = Request {
            method: "GET",
            key: full,
            query: &query,
            ..Request::default()
        };
        let answer = self.client.run(&request, |answer| {
            let document = answer.any_document()?;
            let until = super::list::time(document.text_of("RetainUntilDate"));
            Ok(until.map(|until| Retention {
                mode: document.text_of("Mode").into(),
                until,
            }))
        });
        match answer {
            Err(failed)
                if failed.has_code("NoSuchObjectLockConfiguration")
                    || failed.has_code("ObjectLockConfigurationNotFoundError") =>
            {
                Ok(None)
            }
            other => other,
        }
    }

    pub(super) fn extend_lock(&self, key: &str, until: Millis) -> Result<()> {
        self.require_locks()?;
        let full = self.full(key);
        let wanted = date(until);
        let wanted_time = super::list::time(&wanted).unwrap_or(Timestamp::MAX);
        let failed_with = |failed| match self.error(failed, "lock", key) {
            // These have a version only if the object is there.
            StorageError::Unavailable { reason, .. } if reason.contains("NoSuchVersion") => {
                self.not_found(key)
            }
            error => error,
        };
        let current = self.retention_of(&full, None).map_err(failed_with)?;
        let mode = match &current {
            Some(retention) if retention.until >= wanted_time => return Ok(()),
            // A lock in compliance mode cannot be turned into one of the other mode.
            Some(retention) if !retention.mode.is_empty() => retention.mode.clone(),
            _ => self.config.lock_mode.name().into(),
        };
        let document =
            format!("<Retention><Mode>{mode}</Mode><RetainUntilDate>{wanted}</RetainUntilDate></Retention>");
        let body = [document.as_bytes()];
        let request = Request {
            method: "PUT",
            key: &full,
            query: &[("retention", "")],
            body: &body,
            md5: true,
            ..Request::default()
        };
        let Err(failed) = self.client.run(&request, Answer::drain) else {
            return Ok(());
        };
        // Another may have extended it further meanwhile: then ours was refused as shortening it.
        match self.retention_of(&full, None) {
            Ok(Some(retention)) if retention.until >= wanted_time => Ok(()),
            _ => Err(failed_with(failed)),
        }
    }
}

fn may_be_lock(refusal: &Refusal) -> bool {
    matches!(refusal.status, 400 | 403 | 405 | 409)
}

/// A time for a lock: whole seconds, never earlier than asked for.
pub(super) fn date(until: Millis) -> String {
    let seconds = until.div_euclid(1000) + i64::from(until.rem_euclid(1000) > 0);
    let time = Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_are_never_rounded_down() {
        assert_eq!(date(1_795_385_971_000), "2026-11-22T22:19:31Z");
        assert_eq!(date(1_795_385_971_001), "2026-11-22T22:19:32Z");
        assert_eq!(date(-1), "1970-01-01T00:00:00Z");
        assert!(date(i64::MAX).starts_with("9999-12-"));
    }
}
