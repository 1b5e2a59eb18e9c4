//! A request for approval, and what became of it.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};
use jiff::Timestamp;
use relight_pbs::access::{Action, AuthId, Guarded, UserId};

/// SHA-256 of the exact thing that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Of what is about to be done.
    pub fn of(what: &Guarded<'_>) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(b"relight approval v1");
        for part in [what.action.name(), what.path, what.subject, what.exact] {
            context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            context.update(part.as_bytes());
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        Self(digest)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&hex::encode(self.0))
    }
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Its number: 1, 2, 3 …
    pub number: u64,
    /// What kind of thing.
    pub action: Action,
    /// Where.
    pub path: String,
    /// What, in words.
    pub subject: String,
    /// Of the exact thing.
    pub digest: Digest,
    /// Why; empty if nothing was said.
    pub reason: String,
    /// Who asked.
    pub who: AuthId,
    /// When.
    pub asked: Timestamp,
    /// Until when it can be decided on, or an approval be used.
    pub expires: Timestamp,
    /// What was decided.
    pub decision: Option<Decision>,
    /// When the approval was used.
    pub used: Option<Timestamp>,
}

/// What somebody decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// For it, or against it.
    pub approved: bool,
    /// Who.
    pub by: UserId,
    /// When.
    pub at: Timestamp,
    /// What that one said.
    pub remark: String,
}

/// How a request stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It waits for a decision.
    Waiting,
    /// It may be done, once.
    Approved,
    /// It may not.
    Denied,
    /// It was done.
    Used,
    /// Its time is over.
    Expired,
}

impl Standing {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Waiting,
        Self::Approved,
        Self::Denied,
        Self::Used,
        Self::Expired,
    ];

    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Used => "used",
            Self::Expired => "expired",
        }
    }
}

impl Request {
    /// How it stands.
    pub fn standing(&self, now: Timestamp) -> Standing {
        match &self.decision {
            _ if self.used.is_some() => Standing::Used,
            Some(decision) if !decision.approved => Standing::Denied,
            _ if self.expires <= now => Standing::Expired,
            Some(_) => Standing::Approved,
            None => Standing::Waiting,
        }
    }
}

/// A time in which no second person is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glass {
    /// Who wanted it so.
    pub who: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
    /// Until when.
    pub until: Timestamp,
}
