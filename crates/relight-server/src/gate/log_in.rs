//! Log-ins: the password, then the second factor if there is one.

use std::net::SocketAddr;
use std::sync::Arc;

use jiff::Timestamp;
use relight_pbs::access::UserId;
use serde_json::json;
use zeroize::Zeroizing;

use super::tickets::SALT;
use super::{Gate, Issued, Refusal};
use crate::error::{Result, ServerError};
use crate::signin::{Realm, TotpSecret};
use crate::state::{Known, PasswordHash, RecoveryCodes, SecondFactor, State, Tried, User, random};

/// What a good password gives.
pub enum LogIn {
    /// A ticket.
    Done(LoggedIn),
    /// The question for a second factor.
    SecondFactor(Challenge),
}

/// Somebody who has logged in.
pub struct LoggedIn {
    /// Who.
    pub user: UserId,
    /// The ticket.
    pub issued: Issued,
    /// Recovery codes that were made on the way, to be shown once.
    pub codes: Option<RecoveryCodes>,
}

/// The question for a second factor.
pub struct Challenge {
    /// Whose.
    pub user: UserId,
    /// What is to be sent along with the answer, within five minutes.
    pub ticket: String,
    /// None: the user has none yet, must have one, and makes it now.
    pub factor: Option<SecondFactor>,
}

fn now() -> i64 {
    Timestamp::now().as_second()
}

impl Gate {
    /// Checks a user's password, or a ticket in its place, and gives a new ticket, or asks for the second factor.
    ///
    /// # Errors
    /// Wrong, or too many wrong ones from there.
    pub async fn log_in(
        &self,
        name: &str,
        password: &str,
        peer: Option<SocketAddr>,
    ) -> Result<LogIn, Refusal> {
        if password.starts_with("PBS:") {
            return self.renew(name, password, peer).map(LogIn::Done);
        }
        let user = self.check_password(name, password, peer).await?;
        let factor = self.factor(&user.id)?;
        if factor.is_none() && !self.must_have_factor(&user) {
            return Ok(LogIn::Done(self.logged_in(&user, None, None, peer)));
        }
        // As the original writes it, so that its clients know what to ask for.
        let codes: Vec<u32> = (0..factor.map_or(0, |factor| factor.codes)).collect();
        let what = json!({"totp": factor.is_some(), "recovery": codes});
        Ok(LogIn::SecondFactor(Challenge {
            ticket: self.tickets.challenge(&user.id, user.epoch, &what, now()),
            user: user.id.clone(),
            factor,
        }))
    }

    /// Checks a user's password. Knowing it is not enough to log in where a second factor is wanted.
    ///
    /// # Errors
    /// Wrong, or too many wrong ones from there.
    pub async fn check_password(
        &self,
        name: &str,
        password: &str,
        peer: Option<SocketAddr>,
    ) -> Result<User, Refusal> {
        let (now, name) = (now(), &*self.canonical(name));
        self.throttle.check(peer, name, now).map_err(Refusal::TooMany)?;
        let known = self.known().ok_or(Refusal::Wrong)?;
        if let Some((user, directory)) = self.directory_of(name) {
            let admitted = self.admit_by_directory(&user, &directory, password).await;
            return admitted.inspect_err(|refusal| {
                if *refusal == Refusal::Wrong {
                    self.throttle.failed(peer, name, now);
                }
            });
        }
        // Whoever has a provider has no password here, and the same work is done for nothing.
        let found = find(&known, name).filter(|user| self.keeps_password(&user.id));
        let hash = found.and_then(|user| user.password.clone());
        let good = self.is_password(hash, password).await;
        match found.filter(|user| good && self.is_active(user, now)) {
            Some(user) => Ok(user.clone()),
            None => {
                self.throttle.failed(peer, name, now);
                Err(Refusal::Wrong)
            }
        }
    }

    async fn is_password(&self, hash: Option<PasswordHash>, password: &str) -> bool {
        let password = Zeroizing::new(password.as_bytes().to_vec());
        let _turn = self.hashing.acquire().await;
        let verified =
            tokio::task::spawn_blocking(move || PasswordHash::verify(hash.as_ref(), &password)).await;
        match verified {
            Ok(Ok(good)) => good,
            Ok(Err(error)) => {
                tracing::error!("{error}");
                false
            }
            Err(_) => false,
        }
    }

    /// A new ticket for an old one.
    fn renew(&self, name: &str, ticket: &str, peer: Option<SocketAddr>) -> Result<LoggedIn, Refusal> {
        let (now, name) = (now(), &*self.canonical(name));
        self.throttle.check(peer, name, now).map_err(Refusal::TooMany)?;
        let known = self.known().ok_or(Refusal::Wrong)?;
        let is_of = |user: &&User| {
            let ticket = self.tickets.verify(ticket, now);
            ticket.is_ok_and(|ticket| ticket.user() == &user.id && self.tickets.is_of(&ticket, user.epoch))
        };
        let id = super::sessions::id_of(ticket);
        let ended = known.ended.contains(&id) || self.is_ended_unwritten(&id);
        // Whom a provider vouches for goes there again: nothing else tells whether it still does.
        let is_known_here =
            |user: &&User| !matches!(self.sign_in.realm_of(&user.id), Some(Realm::Provider(_)));
        let found = find(&known, name)
            .filter(|_| !ended)
            .filter(is_of)
            .filter(is_known_here)
            .filter(|user| self.is_active(user, now));
        match found {
            // Whoever has to have a second factor since then logs in again.
            Some(user) if !self.must_have_factor(user) || self.factor(&user.id)?.is_some() => {
                Ok(self.logged_in(user, None, Some(ticket), peer))
            }
            _ => {
                self.throttle.failed(peer, name, now);
                Err(Refusal::Wrong)
            }
        }
    }

    /// Checks the second factor of somebody whose password was good: a code of the app, or a recovery code. For whoever has
    /// none yet, the first code of a new app.
    ///
    /// # Errors
    /// Wrong, or too many wrong ones.
    pub async fn second_factor(
        &self,
        name: &str,
        challenge: &str,
        code: &str,
        peer: Option<SocketAddr>,
    ) -> Result<LoggedIn, Refusal> {
        let (at, name) = (now(), &*self.canonical(name));
        self.throttle.check(peer, name, at).map_err(Refusal::TooMany)?;
        let user = match self.challenged(name, challenge) {
            Some(user) => user,
            None => {
                self.throttle.failed(peer, name, at);
                return Err(Refusal::Wrong);
            }
        };
        let outcome = match self.factor(&user.id)? {
            Some(_) => self.try_code(&user.id, code).await?,
            None => {
                let (id, code) = (user.id.clone(), Zeroizing::new(code.to_owned()));
                let confirmed = self
                    .with_state(move |state| state.confirm_totp(&id, &code, at))
                    .await?;
                return match confirmed {
                    Some(codes) => self.again(&user.id, Some(codes)),
                    None => {
                        self.throttle.failed(peer, name, at);
                        Err(Refusal::WrongCode)
                    }
                };
            }
        };
        match outcome {
            Tried::Good { .. } => Ok(self.logged_in(&user, None, None, peer)),
            Tried::Wait(seconds) => Err(Refusal::TooMany(seconds)),
            Tried::Wrong => {
                self.throttle.failed(peer, name, at);
                Err(Refusal::WrongCode)
            }
        }
    }

    /// Tries the second factor of a user.
    async fn try_code(&self, user: &UserId, code: &str) -> Result<Tried, Refusal> {
        let (id, code) = (user.clone(), Zeroizing::new(code.to_owned()));
        self.with_state(move |state| state.try_second_factor(&id, &code, now()))
            .await
    }

    /// Checks password and second factor at once, of somebody who is logged in and is about to change how it proves who it is.
    ///
    /// # Errors
    /// Wrong, or too many wrong ones.
    pub async fn prove(
        &self,
        user: &UserId,
        password: &str,
        code: Option<&str>,
        peer: Option<SocketAddr>,
    ) -> Result<(), Refusal> {
        self.check_password(user.as_str(), password, peer).await?;
        if self.factor(user)?.is_none() {
            return Ok(());
        }
        match self.try_code(user, code.unwrap_or_default()).await? {
            Tried::Good { .. } => Ok(()),
            Tried::Wait(seconds) => Err(Refusal::TooMany(seconds)),
            Tried::Wrong => {
                self.throttle.failed(peer, user.as_str(), now());
                Err(Refusal::WrongCode)
            }
        }
    }

    /// Makes a secret for whoever was asked for a second factor and has none yet.
    ///
    /// # Errors
    /// It was not asked, or has one.
    pub fn begin_by_challenge(
        &self,
        name: &str,
        challenge: &str,
    ) -> Result<(UserId, TotpSecret), ServerError> {
        let user = self.challenged(name, challenge);
        let user = user.ok_or_else(|| ServerError::Refused("log in first".into()))?;
        let secret = self.state.begin_totp(&user.id)?;
        Ok((user.id, secret))
    }

    /// Takes the first code of somebody who is logged in. All its sessions end; this is a new one. None: the code is wrong.
    ///
    /// # Errors
    /// Nothing was begun.
    pub fn confirm_totp(&self, user: &UserId, code: &str) -> Result<Option<LoggedIn>> {
        let codes = self.state.confirm_totp(user, code, now())?;
        Ok(codes.and_then(|codes| self.again(user, Some(codes)).ok()))
    }

    /// A new session of somebody whose sessions have just ended by what it did itself.
    ///
    /// # Errors
    /// There is no such user any more.
    pub fn again(&self, user: &UserId, codes: Option<RecoveryCodes>) -> Result<LoggedIn, Refusal> {
        let known = self.known().ok_or(Refusal::Wrong)?;
        let user = known.user(user).ok_or(Refusal::Wrong)?;
        Ok(self.logged_in(user, codes, None, None))
    }

    fn challenged(&self, name: &str, challenge: &str) -> Option<User> {
        let (known, now) = (self.known()?, now());
        let user = find(&known, &self.canonical(name)).filter(|user| self.is_active(user, now))?;
        self.tickets
            .verify_challenge(challenge, &user.id, user.epoch, now)
            .ok()?;
        Some(user.clone())
    }

    /// `renewed`: the ticket in place of which this one is given.
    pub(super) fn logged_in(
        &self,
        user: &User,
        codes: Option<RecoveryCodes>,
        renewed: Option<&str>,
        peer: Option<SocketAddr>,
    ) -> LoggedIn {
        let salt = random().unwrap_or_else(|error| {
            // Then two log-ins within one second are one session; nothing else rests on it.
            tracing::error!("{error}");
            [0; SALT]
        });
        let issued = self.tickets.issue(&user.id, user.epoch, now(), salt);
        self.opened(&user.id, &issued.ticket, renewed, peer);
        LoggedIn {
            user: user.id.clone(),
            issued,
            codes,
        }
    }

    /// Whether a user may log in with a second factor only.
    pub fn must_have_factor(&self, user: &User) -> bool {
        self.has_password(user) && self.sign_in.requires_factor(&user.id)
    }

    /// Whether a user logs in with a password.
    pub fn has_password(&self, user: &User) -> bool {
        match self.sign_in.realm_of(&user.id) {
            None => user.password.is_some(),
            Some(Realm::Directory(_)) => true,
            Some(Realm::Provider(_)) => false,
        }
    }

    /// Whether the server keeps the password of a user itself.
    pub fn keeps_password(&self, user: &UserId) -> bool {
        self.sign_in.realm_of(user).is_none()
    }

    pub(crate) fn factor(&self, user: &UserId) -> Result<Option<SecondFactor>, Refusal> {
        // Nobody is let in on a state that cannot be read.
        self.state.second_factor(user).map_err(unreadable)
    }

    pub(super) async fn with_state<T: Send + 'static>(
        &self,
        work: impl FnOnce(&State) -> Result<T> + Send + 'static,
    ) -> Result<T, Refusal> {
        let state = Arc::clone(&self.state);
        let done = tokio::task::spawn_blocking(move || work(&state)).await;
        done.map_err(|_| Refusal::Wrong)?.map_err(unreadable)
    }
}

fn unreadable(error: ServerError) -> Refusal {
    match error {
        // Nothing was begun, for example.
        ServerError::Refused(_) => Refusal::WrongCode,
        other => {
            tracing::error!("{other}");
            Refusal::Wrong
        }
    }
}

fn find<'a>(known: &'a Known, name: &str) -> Option<&'a User> {
    known.user(&name.parse().ok()?)
}
