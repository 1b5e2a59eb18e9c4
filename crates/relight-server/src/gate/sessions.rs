//! Sessions: the tickets that were given, so that they can be listed and ended. A ticket is known by a hash of it, which lets
//! nobody in. What cannot be written down, because the disk is full, is kept in memory: it can be listed and ended, too.

use std::net::SocketAddr;
use std::sync::{MutexGuard, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use http::header::COOKIE;
use jiff::Timestamp;
use relight_pbs::access::UserId;
use relight_pbs::service::http::Call;

use super::{Gate, ticket_of};
use crate::error::{Result, ServerError};
use crate::state::Session;

/// How long a ticket is good, in seconds.
const LIFETIME: i64 = 7200;

/// So many are kept in memory; each took a good password.
const KEPT: usize = 10_000;

/// Sessions of which the state knows nothing, because it could not be written.
#[derive(Debug, Default)]
pub(super) struct Unwritten {
    open: Vec<Session>,
    ended: Vec<Session>,
}

impl Unwritten {
    fn keep(&mut self, session: Session, now: Timestamp) {
        self.open.retain(|session| session.until > now);
        self.ended.retain(|session| session.until > now);
        if self.open.len() < KEPT {
            self.open.push(session);
        }
    }
}

/// By which a ticket is known.
pub(super) fn id_of(ticket: &str) -> String {
    hex::encode(&digest(&SHA256, ticket.as_bytes()).as_ref()[..16])
}

/// The session that a call belongs to, if it came with a ticket.
pub(crate) fn session_of_call(call: &Call) -> Option<String> {
    let cookies = call.headers().get_all(COOKIE).iter();
    let cookies: Vec<&str> = cookies.filter_map(|value| value.to_str().ok()).collect();
    let cookies = cookies.join("; ");
    let ticket = percent_encoding::percent_decode_str(ticket_of(&cookies)?).decode_utf8_lossy();
    Some(id_of(&ticket))
}

impl Gate {
    /// Notes that a ticket was given. `renewed`: for which older one.
    pub(super) fn opened(
        &self,
        user: &UserId,
        ticket: &str,
        renewed: Option<&str>,
        peer: Option<SocketAddr>,
    ) {
        let id = id_of(ticket);
        let root = renewed
            .map(id_of)
            .and_then(|old| self.session(&old).ok().flatten());
        let since = Timestamp::now();
        let session = Session {
            root: root.map_or_else(|| id.clone(), |old| old.root),
            id,
            user: user.clone(),
            since,
            until: Timestamp::from_second(since.as_second().saturating_add(LIFETIME)).unwrap_or(since),
            address: peer.map(|peer| peer.ip().to_canonical().to_string()),
            program: None,
        };
        match self.state().open_session(&session) {
            Ok(()) => self.write_what_is_left(),
            Err(error) => {
                tracing::error!("{error}: a session of {user} is kept in memory only");
                self.unwritten().keep(session, since);
            }
        }
    }

    fn unwritten(&self) -> MutexGuard<'_, Unwritten> {
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down what could not be written before. What still cannot be stays.
    fn write_what_is_left(&self) {
        let mut left = self.unwritten();
        let state = self.state();
        left.open.retain(|session| state.open_session(session).is_err());
        left.ended.retain(|session| {
            let written = state
                .open_session(session)
                .and_then(|()| state.end_session(&session.id, session.since));
            !matches!(written, Ok(()) | Err(ServerError::Refused(_)))
        });
    }

    /// Whether a session was ended that could not be written down.
    pub(super) fn is_ended_unwritten(&self, id: &str) -> bool {
        self.unwritten().ended.iter().any(|session| session.id == id)
    }

    /// Sessions that have not ended, of one user or of all, newest first: those that are written down, and those that could not be.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn sessions(&self, of: Option<&UserId>, now: Timestamp) -> Result<Vec<Session>> {
        let mut found = self.state().sessions(of, now)?;
        let left = self.unwritten();
        found.retain(|one| !left.ended.iter().any(|ended| ended.id == one.id));
        let known = self.state().known()?;
        let is_listed = |session: &&Session| {
            session.until > now
                && of.is_none_or(|user| session.user == *user)
                && known.user(&session.user).is_some_and(|user| user.enabled)
        };
        found.extend(left.open.iter().filter(is_listed).cloned());
        found.sort_by(|a, b| b.since.cmp(&a.since).then_with(|| a.id.cmp(&b.id)));
        Ok(found)
    }

    /// A session that has not ended.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn session(&self, id: &str) -> Result<Option<Session>> {
        let left = self.unwritten();
        if let Some(found) = left.open.iter().find(|session| session.id == id) {
            return Ok(Some(found.clone()));
        }
        if left.ended.iter().any(|session| session.id == id) {
            return Ok(None);
        }
        drop(left);
        self.state().session(id)
    }

    /// Ends a session, with all that were renewed from it or before it, at once, even if that cannot be written down now.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn end_session(&self, id: &str, now: Timestamp) -> Result<()> {
        let Some(session) = self.session(id)? else {
            return self.state().end_session(id, now);
        };
        let written = self.state().sessions(Some(&session.user), now)?;
        let mut left = self.unwritten();
        let (gone, open) = std::mem::take(&mut left.open)
            .into_iter()
            .partition(|one| one.root == session.root);
        left.open = open;
        left.ended.extend::<Vec<_>>(gone);
        let written: Vec<Session> = written
            .into_iter()
            .filter(|one| one.root == session.root)
            .collect();
        let ended = written
            .first()
            .map_or(Ok(()), |one| self.state().end_session(&one.id, now));
        if let Err(error) = ended {
            tracing::error!(
                "{error}: that a session of {} was ended is kept in memory only",
                session.user
            );
            left.ended.extend(written);
        }
        Ok(())
    }
}
