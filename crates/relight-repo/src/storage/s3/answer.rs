//! What servers answer when they do not do what they were asked, and what that means to the engine.

use super::super::StorageError;
use super::xml::Element;

/// A definite answer that is not success.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Refusal {
    pub status: u16,
    /// The error code of S3 (`NoSuchKey`); empty where the answer has none, as in answers to HEAD.
    pub code: String,
    pub message: String,
    /// The region the bucket is in, where the server says that it is another one.
    pub region: Option<String>,
    /// Whether the answer is one of S3 at all, not of some web server or proxy in between.
    pub is_s3: bool,
}

impl Refusal {
    /// Reads the body of an error.
    pub fn of(status: u16, body: &[u8]) -> Self {
        match Element::parse(body) {
            Ok(error) if error.name == "Error" => Self {
                status,
                ..Self::from_xml(&error)
            },
            _ => Self {
                status,
                ..Self::default()
            },
        }
    }

    /// Reads an `<Error>` element, as it also comes with status 200.
    pub fn from_xml(error: &Element) -> Self {
        let region = error.text_of("Region");
        Self {
            status: 200,
            code: limited(error.text_of("Code")),
            message: limited(error.text_of("Message")),
            region: Some(region.to_string()).filter(|region| !region.is_empty()),
            is_s3: true,
        }
    }

    /// Whether the same request may well succeed later. Codes count more than the status: an error after the
    /// headers were sent comes with status 200.
    pub fn is_transient(&self) -> bool {
        match self.code.as_str() {
            "InternalError"
            | "SlowDown"
            | "ServiceUnavailable"
            | "RequestTimeout"
            | "OperationAborted"
            | "ConditionalRequestConflict"
            | "Throttling"
            | "ThrottlingException"
            | "TooManyRequests"
            | "RequestThrottled"
            | "XMinioServerNotInitialized" => true,
            "NotImplemented" | "InsufficientStorage" | "QuotaExceeded" => false,
            _ => matches!(self.status, 408 | 425 | 429 | 500 | 502 | 503 | 504),
        }
    }

    /// Whether the request may have had its effect all the same.
    pub fn is_uncertain(&self) -> bool {
        // An error of the server says nothing on how far it got; being told to slow down does.
        self.is_transient()
            && !matches!(
                self.code.as_str(),
                "SlowDown" | "ConditionalRequestConflict" | "TooManyRequests"
            )
            && self.status != 429
    }

    /// For messages.
    pub fn words(&self) -> String {
        let code = if self.code.is_empty() {
            String::new()
        } else {
            format!(" {}", self.code)
        };
        let message = if self.message.is_empty() {
            String::new()
        } else {
            format!(" ({})", self.message)
        };
        format!("HTTP {}{code}{message}", self.status)
    }
}

/// What a server wrote goes into logs and terminals: no control characters, and not without end.
fn limited(text: &str) -> String {
    text.chars()
        .filter(|character| !character.is_control())
        .take(300)
        .collect()
}

/// Why a request came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reason {
    Refused(Refusal),
    /// No answer, or a broken one.
    Unreachable(String),
}

/// A request that came to nothing, after all retries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failed {
    pub reason: Reason,
    /// Whether one of the tries may have had its effect without our learning of it.
    pub uncertain: bool,
}

impl Failed {
    pub fn refusal(&self) -> Option<&Refusal> {
        match &self.reason {
            Reason::Refused(refusal) => Some(refusal),
            Reason::Unreachable(_) => None,
        }
    }

    pub fn status(&self) -> Option<u16> {
        self.refusal().map(|refusal| refusal.status)
    }

    pub fn has_code(&self, code: &str) -> bool {
        self.refusal().is_some_and(|refusal| refusal.code == code)
    }

    /// The error for the engine.
    pub fn into_error(self, action: &'static str, key: &str, location: &str) -> StorageError {
        let (key, location) = (key.to_string(), location.to_string());
        let refusal = match self.reason {
            Reason::Unreachable(reason) => {
                return StorageError::Unavailable {
                    action,
                    key,
                    location,
                    reason,
                };
            }
            Reason::Refused(refusal) => refusal,
        };
        let unavailable = |key, location, reason| StorageError::Unavailable {
            action,
            key,
            location,
            reason,
        };
        match (refusal.status, refusal.code.as_str()) {
            (_, "NoSuchKey" | "NoSuchVersion") => StorageError::NotFound { key, location },
            (_, "NoSuchBucket") => {
                let reason = "there is no such bucket there: correct the name or the endpoint, or create it";
                unavailable(key, location, reason.into())
            }
            (_, "InvalidObjectState") => StorageError::Cold { key, location },
            (_, "InvalidRange") | (416, _) => StorageError::Short {
                key,
                location,
                wanted_end: 0,
            },
            (507, _)
            | (_, "QuotaExceeded" | "InsufficientStorage" | "XMinioStorageFull" | "EntityTooLargeForQuota") => {
                StorageError::Full {
                    action,
                    key,
                    location,
                }
            }
            (_, "ObjectLocked") => StorageError::Locked { key, location },
            _ if refusal.message.contains("WORM protected") => StorageError::Locked { key, location },
            (301 | 307 | 308, _) | (400, "AuthorizationHeaderMalformed") => {
                let reason = match &refusal.region {
                    Some(region) => format!("the bucket is in region {region}: set region={region}"),
                    None => format!("{}; set the region or endpoint of the bucket", refusal.words()),
                };
                unavailable(key, location, reason)
            }
            (401 | 403, _) => StorageError::Denied {
                action,
                key,
                location,
                reason: refusal.words(),
            },
            (404, _) => {
                let what = if refusal.is_s3 {
                    ""
                } else {
                    ", and not as S3 does: is this the right endpoint?"
                };
                unavailable(key, location, format!("{}{what}", refusal.words()))
            }
            _ => unavailable(key, location, refusal.words()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(status: u16, body: &str) -> StorageError {
        let reason = Reason::Refused(Refusal::of(status, body.as_bytes()));
        Failed {
            reason,
            uncertain: false,
        }
        .into_error("read", "a/b", "s3://bucket")
    }

    fn xml(code: &str) -> String {
        format!(
            "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>Words \u{7}of it</Message></Error>"
        )
    }

    #[test]
    fn answers_are_told_apart() {
        assert!(error_of(404, &xml("NoSuchKey")).is_not_found());
        let bucket = error_of(404, &xml("NoSuchBucket"));
        assert!(
            matches!(&bucket, StorageError::Unavailable { reason, .. } if reason.contains("no such bucket"))
        );
        // A web server that knows nothing of S3 must not make objects seem deleted.
        let page = error_of(404, "<html><body>Not found</body></html>");
        assert!(matches!(&page, StorageError::Unavailable { reason, .. } if reason.contains("endpoint")));
        assert!(matches!(
            error_of(403, &xml("InvalidObjectState")),
            StorageError::Cold { .. }
        ));
        let denied = error_of(403, &xml("SignatureDoesNotMatch"));
        assert!(
            denied.to_string().contains("SignatureDoesNotMatch (Words of it)"),
            "{denied}"
        );
        assert!(matches!(denied, StorageError::Denied { .. }));
        assert!(matches!(error_of(507, ""), StorageError::Full { .. }));
        assert!(matches!(
            error_of(403, &xml("QuotaExceeded")),
            StorageError::Full { .. }
        ));
        assert!(matches!(error_of(416, ""), StorageError::Short { .. }));
        assert!(matches!(error_of(503, ""), StorageError::Unavailable { .. }));
        let region = error_of(
            301,
            "<Error><Code>PermanentRedirect</Code><Region>eu-west-1</Region></Error>",
        );
        assert!(region.to_string().contains("region=eu-west-1"), "{region}");
    }

    #[test]
    fn what_may_pass_is_tried_again() {
        let transient = |status, body: &str| Refusal::of(status, body.as_bytes()).is_transient();
        for status in [408, 429, 500, 502, 503, 504] {
            assert!(transient(status, ""), "{status}");
        }
        for status in [400, 401, 403, 404, 405, 409, 411, 412, 416, 501, 507] {
            assert!(!transient(status, ""), "{status}");
        }
        assert!(transient(400, &xml("RequestTimeout")));
        assert!(transient(409, &xml("ConditionalRequestConflict")));
        assert!(transient(200, &xml("InternalError")));
        assert!(!Refusal::of(503, xml("SlowDown").as_bytes()).is_uncertain());
        assert!(Refusal::of(500, b"").is_uncertain());
    }
}
