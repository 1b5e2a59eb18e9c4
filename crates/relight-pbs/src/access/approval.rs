//! What needs a second person, where whoever runs the server wants that.

use std::fmt;
use std::str::FromStr;

use http::{HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};

use crate::service::http::ApiError;

/// The number of a request for approval, in an answer that asks for one.
pub const APPROVAL: HeaderName = HeaderName::from_static("relight-approval");

/// A kind of thing that one person alone may not be enough for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Removing recovery points before the plan does, or taking away their protection.
    Delete,
    /// Keeping recovery points for a shorter time, or promising less.
    Retention,
    /// Giving keys away.
    Keys,
    /// Restoring over what is in production.
    Restore,
    /// Changing who may do what, and by which password one logs in.
    Access,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Delete,
        Self::Retention,
        Self::Keys,
        Self::Restore,
        Self::Access,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::Retention => "retention",
            Self::Keys => "keys",
            Self::Restore => "restore",
            Self::Access => "access",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Action {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|action| action.name() == text);
        found.ok_or_else(|| {
            let text: String = text.chars().take(64).collect();
            let names = Self::ALL.map(Self::name).join(", ");
            format!("{text:?} is nothing that approval can be asked for; there are {names}")
        })
    }
}

/// What is about to be done.
#[derive(Debug, Clone, Copy)]
pub struct Guarded<'a> {
    /// What kind of thing.
    pub action: Action,
    /// Where: who approves needs the privilege there, such as at `/datastore/main/lab`.
    pub path: &'a str,
    /// In words for the one who approves: everything that matters, as nothing else is shown.
    pub subject: &'a str,
    /// All that is about to happen, to the last byte: an approval holds for exactly this.
    pub exact: &'a str,
    /// Why, if the caller says so.
    pub reason: Option<&'a str>,
}

/// Leave to do a guarded thing once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "what is not done gives its approval back"]
pub struct Pass(pub Option<u64>);

/// Why a guarded thing may not be done now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unapproved {
    /// Nobody has decided yet.
    #[error(
        "this needs the approval of a second person: it is asked for with request {number}; do the same again once it is approved"
    )]
    Waiting {
        /// The request.
        number: u64,
    },
    /// Somebody decided against it.
    #[error("this was denied by {by} (request {number}){}", said(.remark))]
    Denied {
        /// The request.
        number: u64,
        /// Who decided.
        by: String,
        /// What that one said.
        remark: String,
    },
    /// The caller has asked for too many things that nobody has decided on.
    #[error("{0} requests for approval wait already; let somebody decide on them first")]
    TooMany(usize),
    /// It cannot be looked up.
    #[error("approvals cannot be looked up; the server's log tells more")]
    Unknown,
}

fn said(remark: &str) -> String {
    if remark.is_empty() {
        String::new()
    } else {
        format!(": {remark}")
    }
}

impl From<Unapproved> for ApiError {
    fn from(why: Unapproved) -> Self {
        let (status, number) = match &why {
            Unapproved::Waiting { number } => (StatusCode::CONFLICT, Some(*number)),
            Unapproved::Denied { number, .. } => (StatusCode::FORBIDDEN, Some(*number)),
            Unapproved::TooMany(_) => (StatusCode::TOO_MANY_REQUESTS, None),
            Unapproved::Unknown => (StatusCode::INTERNAL_SERVER_ERROR, None),
        };
        let error = Self::new(status, why.to_string());
        match number {
            Some(number) => error.with_header(APPROVAL, HeaderValue::from(number)),
            None => error,
        }
    }
}
