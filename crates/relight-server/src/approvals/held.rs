//! A plan that was changed on the host and keeps less: nobody was asked before it came, so nothing is forgotten by it until
//! somebody has approved it, or the time to do so is over.

use jiff::Timestamp;
use relight_model::plan::Plan;
use relight_pbs::access::{Action, Guarded};

use super::{Digest, Request, Standing, later, lowered};
use crate::config::ApprovalsConfig;
use crate::error::Result;
use crate::runs::Planned;
use crate::state::{NewApproval, State};

/// In whose name things are asked for on the host: of whoever can write the server's files there.
pub const HOST: &str = "root@host";

/// Why nothing is forgotten now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    /// The request that waits, or was denied.
    pub number: u64,
    /// Until when, if nobody decides. None: it was denied.
    pub until: Option<Timestamp>,
    /// What is less, in words.
    pub lowered: Vec<String>,
}

/// Looks whether a plan may be forgotten by; asks for approval if that takes one and was not asked for. What keeps no less
/// than the plan that was agreed on last is agreed on.
///
/// # Errors
/// The state cannot be read or written.
pub(crate) fn held(
    state: &State,
    config: &ApprovalsConfig,
    planned: &Planned,
    now: Timestamp,
) -> Result<Option<Held>> {
    if !config.required.contains(&Action::Retention) {
        return Ok(None);
    }
    let agreed = state.agreed_plan()?;
    // The first plan of a server, or of a server that asks for approval for the first time, is the one that holds.
    let Some(agreed) = agreed else {
        state.set_agreed_plan(&planned.text)?;
        return Ok(None);
    };
    let less = match Plan::parse(&agreed) {
        Ok(before) => lowered(&before, &planned.plan),
        Err(_) => vec!["what was agreed on before cannot be understood".into()],
    };
    if less.is_empty() {
        if *planned.text != *agreed {
            state.set_agreed_plan(&planned.text)?;
        }
        return Ok(None);
    }
    let subject = format!(
        "the plan was changed on the host, and keeps or promises less: {}",
        less.join("; ")
    );
    let subject: String = subject.chars().take(super::MAX_SUBJECT).collect();
    let what = Guarded {
        action: Action::Retention,
        path: "/system",
        subject: &subject,
        exact: &planned.digest,
        reason: None,
    };
    let who = HOST
        .parse()
        .map_err(|error| crate::error::ServerError::System(format!("{HOST}: {error}")))?;
    let digest = Digest::of(&what);
    let found = state.last_approval_of(&who, &digest)?;
    let new = NewApproval {
        action: what.action,
        path: what.path,
        subject: &subject,
        digest,
        reason: "",
        who: &who,
        expires: later(now, config),
    };
    if let Some(glass) = state.broken_glass(now)? {
        state.note_done_alone(&new, &glass, now)?;
        state.set_agreed_plan(&planned.text)?;
        return Ok(None);
    }
    let Some(found) = found else {
        let number = state.ask_approval(&new, now)?;
        tracing::warn!(target: "audit", "{subject}: nothing is forgotten until somebody approves request {number}, or the time is over");
        return Ok(Some(Held {
            number,
            until: Some(later(now, config)),
            lowered: less,
        }));
    };
    match found.standing(now) {
        Standing::Denied => Ok(Some(Held {
            number: found.number,
            until: None,
            lowered: less,
        })),
        Standing::Waiting => Ok(Some(Held {
            number: found.number,
            until: Some(found.expires),
            lowered: less,
        })),
        standing => {
            if standing == Standing::Approved {
                state.use_approval(found.number, Some(now), now)?;
            }
            // Approved, or for so long nobody was against it: everybody who is told of alarms was told of this one.
            state.set_agreed_plan(&planned.text)?;
            Ok(None)
        }
    }
}

/// Whether a request is about a plan that was changed on the host.
pub(crate) fn is_of_host(request: &Request) -> bool {
    request.action == Action::Retention && request.who.to_string() == HOST
}
