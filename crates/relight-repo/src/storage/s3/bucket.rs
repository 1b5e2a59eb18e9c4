//! What a bucket can do and how it is set up: asked for once, when it matters.

use std::fmt;
use std::sync::PoisonError;

use super::client::{Answer, Request};
use super::config::Conditions;
use super::{Failed, PROBES, Result, S3Storage, StorageError};
use crate::storage::claim;

/// What is known of the bucket so far.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Traits {
    versioned: Option<Versioned>,
    locks: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Versioned {
    No,
    Yes,
    /// It may not be asked: each object tells.
    Unknown,
}

/// Something about the set-up of a bucket that an operator should know.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// The bucket locks every new object by itself. Then leases, claims and what was collected cannot be deleted.
    DefaultRetention,
    /// A lifecycle rule deletes objects that Relight keeps.
    Expires {
        /// Its name.
        rule: String,
    },
    /// A lifecycle rule moves objects to another class, metadata too.
    Transitions {
        /// Its name.
        rule: String,
        /// The class.
        class: String,
    },
    /// The bucket keeps replaced and deleted versions, and no lifecycle rule removes them.
    KeepsVersions,
    /// No lifecycle rule removes uploads that were never completed.
    KeepsUploads,
}

impl Finding {
    /// Whether this endangers the repository, rather than costing money.
    pub fn is_danger(&self) -> bool {
        matches!(
            self,
            Self::DefaultRetention | Self::Expires { .. } | Self::Transitions { .. }
        )
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DefaultRetention => f.write_str(
                "the bucket has a default retention, which locks everything that is written; remove it, as Relight sets \
                 retention for each object",
            ),
            Self::Expires { rule } => {
                write!(f, "lifecycle rule '{rule}' deletes objects of the repository; remove it or change its prefix")
            }
            Self::Transitions { rule, class } => write!(
                f,
                "lifecycle rule '{rule}' moves objects of the repository to {class}; remove it or change its prefix, and \
                 choose the class of data in Relight instead"
            ),
            Self::KeepsVersions => f.write_str(
                "the bucket keeps old versions for ever; add a lifecycle rule that removes noncurrent versions after a day",
            ),
            Self::KeepsUploads => f.write_str(
                "add a lifecycle rule that aborts incomplete multipart uploads after a day, so that their parts are not \
                 paid for if a writer dies",
            ),
        }
    }
}

impl S3Storage {
    /// Whether `put_new` can go by conditions. The first call writes a probe object twice, unless the configuration
    /// says how it is.
    pub(super) fn has_conditions(&self) -> Result<bool> {
        if self.config.conditions == Conditions::Trust {
            return Ok(true);
        }
        // Held during the probe: one is enough, however many threads come at once.
        let mut known = self.conditions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = *known {
            return Ok(known);
        }
        let heeded = self.config.conditions == Conditions::Probe && self.probe()?;
        if !heeded {
            tracing::info!(
                location = self.location,
                "conditions are not used on this bucket: writers are told apart by claims"
            );
            if let Err(error) = claim::settle_in(self) {
                tracing::debug!(%error, "nothing keeps the folder of claims");
            }
            // What dead writers left behind would be in the way of nobody else.
            if let Err(error) = claim::sweep(self) {
                tracing::debug!(%error, "old claims were not removed");
            }
        }
        *known = Some(heeded);
        Ok(heeded)
    }

    fn probe(&self) -> Result<bool> {
        let key = format!("{PROBES}{}", self.random()?);
        let write = || {
            let headers = [("if-none-match", "*")];
            let full = self.full(&key);
            let request = Request {
                method: "PUT",
                key: &full,
                headers: &headers,
                body: &[b"probe"],
                ..Request::default()
            };
            self.client.run(&request, Answer::drain)
        };
        let first = write();
        let heeded = match first {
            Ok(()) => match write() {
                Ok(()) => Ok(false),
                Err(failed) if failed.status() == Some(412) => Ok(true),
                Err(failed) if is_not_known(&failed) => Ok(false),
                Err(failed) => Err(failed),
            },
            // Its name is random: it is there because a try whose answer was lost wrote it, so the condition was heeded.
            Err(failed) if failed.status() == Some(412) && failed.uncertain => Ok(true),
            // Some servers refuse the header.
            Err(failed) if is_not_known(&failed) => Ok(false),
            Err(failed) => Err(failed),
        };
        let deleted = self.delete_for_good(&key);
        let heeded = heeded.map_err(|failed| self.error(failed, "probe", &key))?;
        if let Err(error) = deleted {
            tracing::warn!(%error, "a probe object could not be deleted");
        }
        Ok(heeded)
    }

    /// Whether objects can be locked.
    pub(super) fn has_locks(&self) -> Result<bool> {
        if let Some(known) = self.traits.lock().unwrap_or_else(PoisonError::into_inner).locks {
            return Ok(known);
        }
        let request = Request {
            method: "GET",
            query: &[("object-lock", "")],
            ..Request::default()
        };
        let locks = match self.client.run(&request, Answer::any_document) {
            Ok(document) => document.text_of("ObjectLockEnabled") == "Enabled",
            Err(failed)
                if failed.has_code("ObjectLockConfigurationNotFoundError") || is_not_known(&failed) =>
            {
                false
            }
            Err(failed) => return Err(self.error(failed, "look at the object lock of", "the bucket")),
        };
        self.traits.lock().unwrap_or_else(PoisonError::into_inner).locks = Some(locks);
        Ok(locks)
    }

    /// Whether the bucket keeps versions of the object `full`.
    pub(super) fn is_versioned(&self, full: &str) -> Result<bool, Failed> {
        let known = self
            .traits
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .versioned;
        let versioned = match known {
            Some(known) => known,
            None => {
                let request = Request {
                    method: "GET",
                    query: &[("versioning", "")],
                    ..Request::default()
                };
                let asked = self.client.run(&request, Answer::any_document);
                let versioned = match asked {
                    // Suspended: versions of before are still there.
                    Ok(document) if document.text_of("Status").is_empty() => Versioned::No,
                    Ok(_) => Versioned::Yes,
                    Err(failed) if failed.status() == Some(403) => Versioned::Unknown,
                    Err(failed) if is_not_known(&failed) => Versioned::No,
                    Err(failed) => return Err(failed),
                };
                self.traits
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .versioned = Some(versioned);
                versioned
            }
        };
        match versioned {
            Versioned::No => Ok(false),
            Versioned::Yes => Ok(true),
            Versioned::Unknown => {
                let request = Request {
                    method: "HEAD",
                    key: full,
                    ..Request::default()
                };
                match self
                    .client
                    .run(&request, |answer| Ok(answer.header("x-amz-version-id").is_some()))
                {
                    Err(failed) if failed.status() == Some(404) => Ok(false),
                    other => other,
                }
            }
        }
    }

    /// Looks for what in the set-up of the bucket endangers a repository or costs money for nothing. What may not be
    /// asked, or is not known to the server, is left out.
    ///
    /// # Errors
    ///
    /// [`StorageError::Unavailable`] where the server cannot be asked.
    pub fn examine(&self) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        let ask = |what: &str| -> Result<_, StorageError> {
            let query = [(what, "")];
            let request = Request {
                method: "GET",
                query: &query,
                ..Request::default()
            };
            match self.client.run(&request, Answer::any_document) {
                Ok(document) => Ok(Some(document)),
                Err(failed) if failed.status() == Some(404) && !failed.has_code("NoSuchBucket") => Ok(None),
                Err(failed) if failed.status() == Some(403) || is_not_known(&failed) => Ok(None),
                Err(failed) => Err(self.error(failed, "examine", "the bucket")),
            }
        };
        if let Some(lock) = ask("object-lock")?
            && lock
                .child("Rule")
                .and_then(|rule| rule.child("DefaultRetention"))
                .is_some()
        {
            findings.push(Finding::DefaultRetention);
        }
        let versioned = ask("versioning")?.is_some_and(|versioning| !versioning.text_of("Status").is_empty());
        let lifecycle = ask("lifecycle")?;
        let (mut old_go, mut uploads_go) = (false, false);
        for rule in lifecycle.iter().flat_map(|lifecycle| lifecycle.all("Rule")) {
            let filter = rule.child("Filter");
            let inner = filter
                .map(|filter| filter.child("And").unwrap_or(filter))
                .unwrap_or(rule);
            let prefix = inner.raw_text_of("Prefix");
            let ours = self.prefix.starts_with(prefix) || prefix.starts_with(&self.prefix);
            if rule.text_of("Status") != "Enabled" || !ours {
                continue;
            }
            let name = || rule.text_of("ID").to_string();
            if let Some(expiration) = rule.child("Expiration")
                && (expiration.child("Days").is_some() || expiration.child("Date").is_some())
            {
                findings.push(Finding::Expires { rule: name() });
            }
            if let Some(transition) = rule.child("Transition") {
                let class = transition.text_of("StorageClass").into();
                findings.push(Finding::Transitions { rule: name(), class });
            }
            old_go |= rule.child("NoncurrentVersionExpiration").is_some();
            uploads_go |= rule.child("AbortIncompleteMultipartUpload").is_some();
        }
        if versioned && !old_go {
            findings.push(Finding::KeepsVersions);
        }
        if !uploads_go {
            findings.push(Finding::KeepsUploads);
        }
        Ok(findings)
    }
}

/// Whether the server does not know what it was asked.
fn is_not_known(failed: &Failed) -> bool {
    matches!(failed.status(), Some(405 | 501))
        || [
            "NotImplemented",
            "InvalidArgument",
            "InvalidRequest",
            "MethodNotAllowed",
            "UnsupportedHeader",
        ]
        .iter()
        .any(|code| failed.has_code(code))
}
