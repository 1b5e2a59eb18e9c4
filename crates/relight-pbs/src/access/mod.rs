//! Who may do what: the values of the permission model, and the trait by which the service asks whoever keeps users,
//! tokens and rules. Nothing here knows how they are kept.

mod approval;
mod auth_id;
mod grantee;
mod privileges;
mod role;
mod rules;

use std::net::SocketAddr;

use crate::formats::ids::Group;

pub use approval::{APPROVAL, Action, Guarded, Pass, Unapproved};
pub use auth_id::{AuthId, AuthIdError, UserId};
pub use grantee::{Grantee, GroupId};
pub use privileges::Privileges;
pub use role::{HeldRole, Role};
pub use rules::{AclPath, AclPathError, Granted, Rule, granted, group_path, place_of};

/// What a request brings along to say who sends it, as its head has it.
#[derive(Clone, Copy, Default)]
pub struct Credentials<'a> {
    /// Value of the `Authorization` header.
    pub authorization: Option<&'a str>,
    /// Values of the `Cookie` headers, joined by `; `.
    pub cookie: Option<&'a str>,
    /// Value of the `CSRFPreventionToken` header.
    pub csrf: Option<&'a str>,
    /// Whether the request may change something, so that a cookie must come with a CSRF token.
    pub changing: bool,
    /// Where it comes from.
    pub peer: Option<SocketAddr>,
}

/// Why a request is not known to come from anybody. One answer for all reasons, so that it tells no stranger which
/// users there are; the reason goes to the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("authentication failed")]
pub struct Unauthenticated {
    /// What was wrong, for the operator's eyes.
    pub reason: String,
}

impl Unauthenticated {
    /// With its reason.
    pub fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
        }
    }
}

/// A denied or changing request, to be kept.
#[derive(Debug, Clone)]
pub struct AuditEvent<'a> {
    /// Who, if that was known.
    pub who: Option<&'a AuthId>,
    /// From where.
    pub peer: Option<SocketAddr>,
    /// What was asked: method and path, such as `DELETE /admin/datastore/main/snapshots`.
    pub what: &'a str,
    /// Its parameters, without secrets; at most a few hundred bytes.
    pub parameters: &'a str,
    /// The status it was answered with.
    pub status: u16,
    /// Why it was denied or failed; empty if it was done.
    pub message: &'a str,
}

/// What the service asks about access. Called from asynchronous code: it must answer without waiting for long
/// (a look-up in memory or in a local database).
pub trait Access: Send + Sync + 'static {
    /// Who sends a request.
    ///
    /// # Errors
    /// None or wrong credentials, an expired ticket, a disabled user.
    fn authenticate(&self, credentials: &Credentials<'_>) -> Result<AuthId, Unauthenticated>;

    /// What somebody may do at a path such as `/datastore/main/lab`; a token never more than its user.
    fn privileges(&self, who: &AuthId, path: &str) -> Privileges;

    /// Whether there is such a user or token, so that it can own something.
    fn exists(&self, who: &AuthId) -> bool;

    /// Whether somebody has some of the privileges at a path or anywhere under it.
    fn has_below(&self, who: &AuthId, path: &str, some: Privileges) -> bool;

    /// Whether a guarded thing may be done now. Called after it is known that the caller has the privilege for it. Gives leave for
    /// one time; without rules about a second person, always.
    ///
    /// # Errors
    /// It needs an approval that is not there: it is asked for by this.
    fn approved(&self, who: &AuthId, what: &Guarded<'_>) -> Result<Pass, Unapproved> {
        let _ = (who, what);
        Ok(Pass(None))
    }

    /// Takes leave back that was not made use of, because nothing was done.
    fn unused(&self, pass: Pass) {
        let _ = pass;
    }

    /// What somebody may do in a group of the namespace whose rules are at `path`: what it may do in all of them, and what it was
    /// granted in this one.
    fn privileges_in_group(&self, who: &AuthId, path: &str, group: &Group) -> Privileges {
        let _ = group;
        self.privileges(who, path)
    }

    /// Whether somebody was granted some of the privileges in single groups of the namespace whose rules are at `path`.
    fn has_in_groups(&self, who: &AuthId, path: &str, some: Privileges) -> bool {
        let _ = (who, path, some);
        false
    }

    /// Keeps the record of a request.
    fn audit(&self, event: &AuditEvent<'_>);
}
