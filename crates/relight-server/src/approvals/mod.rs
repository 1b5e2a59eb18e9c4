//! Approval by a second person: what one may not do alone is asked for, decided by another user who may decide, and done once.
//!
//! What is asked for is the exact thing, by its digest: the caller does the same again once it is approved, and anything else
//! needs a request of its own. A request ends after a time, and so does an approval.

mod held;
mod lowered;
mod request;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use relight_pbs::access::{Access, Action, AuthId, Guarded, Pass, Privileges, Unapproved, UserId};

pub use held::HOST;
pub(crate) use held::{Held, held, is_of_host};
pub use lowered::{lowered, other_roles};
pub use request::{Decision, Digest, Glass, Request, Standing};

use crate::config::{ApprovalsConfig, Config};
use crate::error::{Result, ServerError};
use crate::gate::Gate;
use crate::runs::Board;
use crate::state::{NewApproval, PasswordHash, State};

/// Requests of one user and its tokens that may wait at a time.
const WAITING: usize = 50;
/// Longest reason and remark in bytes.
pub const MAX_WORDS: usize = 1024;
/// Longest text of what a request is about, in characters.
const MAX_SUBJECT: usize = 4096;

/// Refuses words that change the look of a list.
///
/// # Errors
/// They do.
pub fn check_words(words: &str) -> Result<()> {
    if words.len() > MAX_WORDS || words.chars().any(char::is_control) {
        return Err(ServerError::Refused(format!(
            "a reason has one line of at most {MAX_WORDS} bytes"
        )));
    }
    Ok(())
}

fn later(now: Timestamp, config: &ApprovalsConfig) -> Timestamp {
    let valid = SignedDuration::try_from(config.valid.0).unwrap_or(SignedDuration::from_hours(24));
    now.checked_add(valid).unwrap_or(Timestamp::MAX)
}

impl Gate {
    /// For commands on the server's host, whether the server runs or not: with its state, its rules and its plan.
    ///
    /// # Errors
    /// State or plan cannot be read.
    pub fn on_host(config: &Config) -> Result<Self> {
        let gate = Self::new(Arc::new(State::open(&config.server.state)?))?;
        gate.follow(&Board::open(config)?);
        Ok(gate.with_approvals(config.approvals.clone()))
    }

    /// Goes on only if this is the user's password, for commands on the host, where nobody guesses over a network.
    ///
    /// # Errors
    /// It is not, or the user may not log in.
    pub fn confirm_on_host(&self, user: &UserId, password: &str) -> Result<()> {
        let known = self.state().known()?;
        let found = known
            .user(user)
            .filter(|user| user.is_active(Timestamp::now().as_second()));
        let factor = self
            .factor(user)
            .map_err(|_| ServerError::System("second factors cannot be looked up".into()))?;
        if factor.is_some() {
            return Err(ServerError::Refused(format!(
                "{user} logs in with a second factor: decide on the page"
            )));
        }
        let hash = found.and_then(|user| user.password.as_ref());
        if PasswordHash::verify(hash, password.as_bytes())? {
            Ok(())
        } else {
            Err(ServerError::Refused(format!(
                "{user} and this password do not fit together, or the user is disabled"
            )))
        }
    }

    /// Whether a kind of thing needs a second person here.
    pub fn is_guarded(&self, action: Action) -> bool {
        self.approvals.required.contains(&action)
    }

    /// What needs a second person here.
    pub fn approvals_config(&self) -> &ApprovalsConfig {
        &self.approvals
    }

    /// Whether a user may decide on a request: not its own, nor one of its tokens'.
    pub fn may_decide(&self, user: &UserId, request: &Request, now: Timestamp) -> bool {
        let active = |user: &UserId| {
            let known = self.state().known().ok();
            known.is_some_and(|known| {
                known
                    .user(user)
                    .is_some_and(|user| user.is_active(now.as_second()))
            })
        };
        user != request.who.user()
            && active(user)
            && self
                .privileges(&user.clone().into(), &request.path)
                .contains(Privileges::APPROVAL_DECIDE)
    }

    /// Why somebody may not decide on a request, if so.
    pub fn may_not_decide(&self, who: &AuthId, request: &Request, now: Timestamp) -> Option<String> {
        let number = request.number;
        if who.token().is_some() {
            return Some("a token cannot approve or deny: log in as a user".into());
        }
        if who.user() == request.who.user() {
            return Some(format!(
                "request {number} is your own: somebody else has to decide on it"
            ));
        }
        if !self.may_decide(who.user(), request, now) {
            let path = &request.path;
            return Some(format!(
                "to decide on request {number} takes Approval.Decide at {path}"
            ));
        }
        None
    }

    /// Whether somebody may see a request.
    pub fn may_see(&self, who: &AuthId, request: &Request) -> bool {
        who.owns_as(&request.who)
            || self
                .privileges(who, &request.path)
                .contains(Privileges::APPROVAL_DECIDE)
            || self
                .privileges(who, "/system")
                .contains(Privileges::EVIDENCE_READ)
    }

    /// Decides on a request.
    ///
    /// # Errors
    /// It does not wait for a decision, or this one may not decide: a token, who asked for it, who has no privilege.
    pub fn decide(
        &self,
        who: &AuthId,
        number: u64,
        approve: bool,
        remark: &str,
        now: Timestamp,
    ) -> Result<Request> {
        let refused = |why: String| Err(ServerError::Refused(why));
        check_words(remark)?;
        let found = self
            .state()
            .approval(number)?
            .filter(|found| self.may_see(who, found));
        let Some(found) = found else {
            return refused(format!("there is no request {number}"));
        };
        if let Some(why) = self.may_not_decide(who, &found, now) {
            return refused(why);
        }
        let decision = Decision {
            approved: approve,
            by: who.user().clone(),
            at: now,
            remark: remark.to_owned(),
        };
        self.state()
            .decide_approval(number, &decision, later(now, &self.approvals))
    }

    /// Leave to do a guarded thing now; without it, the request for it.
    ///
    /// # Errors
    /// Nobody has approved it, somebody has denied it, or too many requests wait.
    pub fn leave(&self, who: &AuthId, what: &Guarded<'_>, now: Timestamp) -> Result<Pass, Unapproved> {
        if !self.is_guarded(what.action) {
            return Ok(Pass(None));
        }
        self.seek(who, what, now).unwrap_or_else(|error| {
            tracing::error!("{error}");
            Err(Unapproved::Unknown)
        })
    }

    fn seek(&self, who: &AuthId, what: &Guarded<'_>, now: Timestamp) -> Result<Result<Pass, Unapproved>> {
        let state = self.state();
        let subject: String = what.subject.chars().take(MAX_SUBJECT).collect();
        let new = NewApproval {
            action: what.action,
            path: what.path,
            subject: &subject,
            digest: Digest::of(what),
            reason: what.reason.unwrap_or_default(),
            who,
            expires: later(now, &self.approvals),
        };
        check_words(new.reason)?;
        if let Some(glass) = state.broken_glass(now)? {
            state.note_done_alone(&new, &glass, now)?;
            return Ok(Ok(Pass(None)));
        }
        if let Some(found) = state.approval_of(who, &new.digest, now)? {
            let number = found.number;
            match &found.decision {
                None => return Ok(Err(Unapproved::Waiting { number })),
                Some(Decision {
                    approved: false,
                    by,
                    remark,
                    ..
                }) => {
                    let (by, remark) = (by.to_string(), remark.clone());
                    return Ok(Err(Unapproved::Denied { number, by, remark }));
                }
                // Who may not decide any more has decided nothing that is still to be done.
                Some(decision) if !self.may_decide(&decision.by, &found, now) => {
                    state.end_approval(number, now)?
                }
                Some(_) if state.use_approval(number, Some(now), now)? => return Ok(Ok(Pass(Some(number)))),
                // The same call was made at the same time, and was first.
                Some(_) => {}
            }
        }
        let waiting = state.approvals_waiting(who.user(), now)?;
        if waiting >= WAITING {
            return Ok(Err(Unapproved::TooMany(waiting)));
        }
        let number = state.ask_approval(&new, now)?;
        Ok(Err(Unapproved::Waiting { number }))
    }

    /// Takes leave back that was not made use of.
    pub fn give_back(&self, pass: Pass, now: Timestamp) {
        if let Pass(Some(number)) = pass
            && let Err(error) = self.state().use_approval(number, None, now)
        {
            tracing::error!("{error}: the approval of request {number} is lost");
        }
    }
}

#[cfg(test)]
mod tests;
