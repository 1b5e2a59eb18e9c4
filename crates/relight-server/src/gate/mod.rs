//! Who sends a request, and what that one may do: the answers to what the service asks, from the state.

mod directories;
mod log_in;
mod records;
mod sessions;
mod throttle;
mod tickets;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use jiff::Timestamp;
use relight_pbs::access::{
    Access, AuditEvent, AuthId, Credentials, Grantee, Guarded, Pass, Privileges, Unapproved, Unauthenticated,
    UserId, granted, group_path, place_of,
};
use relight_pbs::formats::ids::Group;
use tokio::sync::Semaphore;

pub use log_in::{Challenge, LogIn, LoggedIn};
pub(crate) use records::Records;
pub(crate) use sessions::session_of_call;
use throttle::Throttle;
pub use tickets::{CSRF_TICKET, Issued, TicketError, Tickets};

use crate::config::ApprovalsConfig;
use crate::error::Result;
use crate::roles::PlanGrants;
use crate::runs::{Board, Planned};
use crate::signin::SignIn;
use crate::state::{Known, State};

/// Passwords that are hashed at a time: each takes some 50 ms of a processor and 32 MiB.
const HASHED_AT_ONCE: usize = 2;

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Wrong user, password or ticket; which, is not told.
    Wrong,
    /// Too many wrong ones before: come back in so many seconds.
    TooMany(u64),
    /// The password was good, and the code after it was not.
    WrongCode,
    /// The directory of a realm cannot be asked.
    Unavailable,
}

/// The gate.
pub struct Gate {
    state: Arc<State>,
    tickets: Tickets,
    throttle: Throttle,
    hashing: Semaphore,
    records: Records,
    unwritten: Mutex<sessions::Unwritten>,
    /// What needs a second person.
    pub(crate) approvals: ApprovalsConfig,
    sign_in: SignIn,
    /// Where the plan is that holds now.
    board: OnceLock<Board>,
    /// What it grants, as it was looked at last.
    grants: Mutex<Option<(Arc<Planned>, Arc<PlanGrants>)>>,
}

impl Gate {
    /// Over a state.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn new(state: Arc<State>) -> Result<Self> {
        let tickets = Tickets::new(&*state.ticket_key()?);
        let records = Records::start(state.clone())?;
        Ok(Self {
            state,
            tickets,
            throttle: Throttle::default(),
            hashing: Semaphore::new(HASHED_AT_ONCE),
            records,
            unwritten: Mutex::default(),
            approvals: ApprovalsConfig::default(),
            sign_in: SignIn::default(),
            board: OnceLock::new(),
            grants: Mutex::new(None),
        })
    }

    /// The same, with what the configuration says of log-ins.
    #[must_use]
    pub fn with_sign_in(mut self, sign_in: SignIn) -> Self {
        self.sign_in = sign_in;
        self
    }

    /// With rules about what needs a second person.
    #[must_use]
    pub fn with_approvals(mut self, approvals: ApprovalsConfig) -> Self {
        self.approvals = approvals;
        self
    }

    /// From now on the roles of the plan hold, too.
    pub(crate) fn follow(&self, board: &Board) {
        let _ = self.board.set(board.clone());
    }

    /// What the plan grants now.
    pub(crate) fn grants(&self) -> Arc<PlanGrants> {
        let Some(board) = self.board.get() else {
            return Arc::default();
        };
        let planned = board.planned();
        let mut grants = self.grants.lock().unwrap_or_else(PoisonError::into_inner);
        match &*grants {
            Some((of, known)) if Arc::ptr_eq(of, &planned) => known.clone(),
            _ => {
                let made = Arc::new(PlanGrants::of(&planned.plan));
                *grants = Some((planned, made.clone()));
                made
            }
        }
    }

    /// What somebody may do at a path: a token never more than its user.
    pub(crate) fn privileges_by(&self, known: &Known, who: &AuthId, path: &str) -> Privileges {
        let grants = self.grants();
        let of_user = own_privileges(known, &grants, &who.user().clone().into(), path);
        match who.token() {
            None => of_user,
            Some(_) if of_user.is_empty() => Privileges::NONE,
            Some(_) => of_user & own_privileges(known, &grants, who, path),
        }
    }

    /// What the configuration says of log-ins.
    pub fn sign_in(&self) -> &SignIn {
        &self.sign_in
    }

    /// The state.
    pub fn state(&self) -> &Arc<State> {
        &self.state
    }

    /// Writes down what has not been yet. No records are taken afterwards.
    pub fn close(&self) {
        self.records.close();
    }

    fn known(&self) -> Option<Arc<Known>> {
        // Nobody is let in on a state that cannot be read.
        self.state
            .known()
            .inspect_err(|error| tracing::error!("{error}"))
            .ok()
    }

    /// A token against forged requests for a user whose ticket was found good. None: there is no such user.
    pub fn csrf(&self, user: &UserId) -> Option<String> {
        let known = self.known()?;
        let user = known.user(user)?;
        let now = Timestamp::now().as_second();
        Some(self.tickets.csrf(&user.id, user.epoch, now))
    }

    fn authenticate_token(&self, text: &str, now: i64) -> Result<AuthId, Unauthenticated> {
        let wrong = |why: &str| Unauthenticated::new(format!("API token: {why}"));
        let (id, secret) = text.split_once(':').ok_or_else(|| wrong("no secret"))?;
        let id: AuthId = id.parse().map_err(|error| wrong(&format!("{error}")))?;
        if id.token().is_none() {
            return Err(wrong("the name is that of a user"));
        }
        let secret = percent_encoding::percent_decode_str(secret).decode_utf8_lossy();
        let known = self.known().ok_or_else(|| wrong("the state cannot be read"))?;
        let user = known.user(id.user()).ok_or_else(|| wrong("no such user"))?;
        let token = known.token(&id).ok_or_else(|| wrong("no such token"))?;
        if !token.has_secret(&secret) {
            return Err(wrong("wrong secret"));
        }
        if !self.is_active(user, now) || !token.is_active(now) {
            return Err(wrong("disabled or expired"));
        }
        Ok(id)
    }

    fn authenticate_ticket(
        &self,
        ticket: &str,
        credentials: &Credentials<'_>,
        now: i64,
    ) -> Result<AuthId, Unauthenticated> {
        let wrong = |why: String| Unauthenticated::new(format!("ticket: {why}"));
        let ticket = percent_encoding::percent_decode_str(ticket).decode_utf8_lossy();
        let signed = self
            .tickets
            .verify(&ticket, now)
            .map_err(|error| wrong(error.to_string()))?;
        let known = self
            .known()
            .ok_or_else(|| wrong("the state cannot be read".into()))?;
        let user = known
            .user(signed.user())
            .ok_or_else(|| wrong("no such user".into()))?;
        if !self.tickets.is_of(&signed, user.epoch) {
            return Err(wrong(
                "it was not signed here, or the password was changed since".into(),
            ));
        }
        if !self.is_active(user, now) {
            return Err(wrong("the user is disabled or expired".into()));
        }
        let id = sessions::id_of(&ticket);
        if known.ended.contains(&id) || self.is_ended_unwritten(&id) {
            return Err(wrong("its session was ended".into()));
        }
        if credentials.changing {
            let csrf = credentials.csrf.ok_or_else(|| wrong("no CSRF token".into()))?;
            self.tickets
                .verify_csrf(csrf, &user.id, user.epoch, now)
                .map_err(|error| wrong(error.to_string()))?;
        }
        Ok(user.id.clone().into())
    }
}

/// The ticket in `Cookie` headers.
fn ticket_of(cookies: &str) -> Option<&str> {
    let named = |wanted: &str| {
        cookies.split(';').find_map(|cookie| {
            let (name, value) = cookie.trim().split_once('=')?;
            (name == wanted).then_some(value)
        })
    };
    // The name with the prefix is one that no other host or path can have set.
    named("__Host-PBSAuthCookie").or_else(|| named("PBSAuthCookie"))
}

impl Access for Gate {
    fn authenticate(&self, credentials: &Credentials<'_>) -> Result<AuthId, Unauthenticated> {
        let now = Timestamp::now().as_second();
        let token = credentials
            .authorization
            .and_then(|value| value.strip_prefix("PBSAPIToken"));
        if let Some(token) = token.and_then(|rest| rest.strip_prefix([' ', '='])) {
            return self.authenticate_token(token.trim(), now);
        }
        match credentials.cookie.and_then(ticket_of) {
            Some(ticket) => self.authenticate_ticket(ticket, credentials, now),
            None => Err(Unauthenticated::new("no credentials")),
        }
    }

    fn privileges(&self, who: &AuthId, path: &str) -> Privileges {
        self.known()
            .map_or(Privileges::NONE, |known| self.privileges_by(&known, who, path))
    }

    fn exists(&self, who: &AuthId) -> bool {
        self.known().is_some_and(|known| match who.token() {
            None => known.user(who.user()).is_some(),
            Some(_) => known.token(who).is_some(),
        })
    }

    fn has_below(&self, who: &AuthId, path: &str, some: Privileges) -> bool {
        let Some(known) = self.known() else { return false };
        let under = |rule: &str| {
            rule.strip_prefix(path)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || path.ends_with('/'))
        };
        let grants = self.grants();
        let mine = is_any_of(&known, who.user());
        let may = |path: &str| self.privileges_by(&known, who, path).intersects(some);
        may(path)
            || known
                .rules
                .iter()
                .filter(|rule| mine(&rule.who) && under(rule.path.as_str()))
                .any(|rule| may(rule.path.as_str()))
            || grants
                .places(&mine)
                .any(|(place, grants)| grants.intersects(some) && under(place) && may(place))
    }

    fn privileges_in_group(&self, who: &AuthId, path: &str, group: &Group) -> Privileges {
        self.privileges(who, &group_path(path, group))
    }

    fn has_in_groups(&self, who: &AuthId, path: &str, some: Privileges) -> bool {
        let Some(known) = self.known() else { return false };
        let grants = self.grants();
        let mine = is_any_of(&known, who.user());
        grants.places(&mine).any(|(place, grants)| {
            grants.intersects(some)
                && place_of(place).len() < place.len()
                && place_of(place) == path
                && self.privileges_by(&known, who, place).intersects(some)
        })
    }

    fn approved(&self, who: &AuthId, what: &Guarded<'_>) -> Result<Pass, Unapproved> {
        self.leave(who, what, Timestamp::now())
    }

    fn unused(&self, pass: Pass) {
        self.give_back(pass, Timestamp::now());
    }

    fn audit(&self, event: &AuditEvent<'_>) {
        self.records.add(event);
    }
}

/// Whether a rule is about a user, one of its groups or one of its tokens.
fn is_any_of<'a>(known: &'a Known, user: &'a UserId) -> impl Fn(&Grantee) -> bool + 'a {
    move |who| match who {
        Grantee::Auth(id) => id.user() == user,
        Grantee::Group(group) => known.groups_of(user).contains(group),
    }
}

/// What is given to exactly this user and its groups, or to this token.
fn own_privileges(known: &Known, grants: &PlanGrants, who: &AuthId, path: &str) -> Privileges {
    let groups = match who.token() {
        None => known.groups_of(who.user()),
        Some(_) => &[],
    };
    let is = |one: &Grantee| match one {
        Grantee::Auth(id) => id == who,
        Grantee::Group(group) => groups.contains(group),
    };
    let by_rules = granted(&known.rules, is, place_of(path));
    if by_rules.denied {
        return Privileges::NONE;
    }
    by_rules.privileges | grants.at(is, path)
}

#[cfg(test)]
mod tests;
