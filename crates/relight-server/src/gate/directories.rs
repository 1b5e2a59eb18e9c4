//! Users that are kept elsewhere: let in by directories and providers; those of directories are looked up again from time to time.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use relight_pbs::access::UserId;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Gate, LoggedIn, Refusal};
use crate::error::ServerError;
use crate::signin::{Begun, Directory, DirectoryError, Person, ProviderError, Realm};
use crate::state::{Record, User};

/// Refusals come after a multiple of this, so that the time does not tell whether the directory has such a user.
const EVEN: Duration = Duration::from_millis(500);
/// Users that are looked up over one connection.
const TOGETHER: usize = 500;

impl Gate {
    /// The directory that a name belongs to, and the user of that name: to directories, large and small letters are the same.
    pub(super) fn directory_of(&self, name: &str) -> Option<(UserId, Arc<Directory>)> {
        let user: UserId = name.parse().ok()?;
        let Some(Realm::Directory(directory)) = self.sign_in.realm_of(&user) else {
            return None;
        };
        let (local, realm) = name.rsplit_once('@')?;
        let user = format!("{}@{realm}", local.to_ascii_lowercase()).parse().ok()?;
        Some((user, directory.clone()))
    }

    /// A name as its user has it here.
    pub(super) fn canonical<'n>(&self, name: &'n str) -> Cow<'n, str> {
        match self.directory_of(name) {
            Some((user, _)) => Cow::Owned(user.into()),
            None => Cow::Borrowed(name),
        }
    }

    /// Asks a directory, and takes in whom it lets in.
    pub(super) async fn admit_by_directory(
        &self,
        user: &UserId,
        directory: &Directory,
        password: &str,
    ) -> Result<User, Refusal> {
        let begin = Instant::now();
        let name = user.as_str().rsplit_once('@').map_or("", |(name, _)| name);
        let refusal = match directory.log_in(name, password).await {
            Ok(person) => match self.admit(user, person).await {
                Ok(user) => return Ok(user),
                Err(refusal) => refusal,
            },
            Err(DirectoryError::Down(why)) => {
                tracing::error!("realm {}: {why}", user.realm());
                Refusal::Unavailable
            }
            Err(DirectoryError::Refused(why)) => {
                tracing::info!(target: "audit", "realm {}: {user} is not let in: {why}", user.realm());
                Refusal::Wrong
            }
        };
        let steps = begin.elapsed().as_millis() / EVEN.as_millis() + 1;
        tokio::time::sleep_until(begin + EVEN * u32::try_from(steps).unwrap_or(1)).await;
        Err(refusal)
    }

    /// Whether a user may do anything. Whom a realm let in that is not configured any more, nobody vouches for.
    pub(super) fn is_active(&self, user: &User, now: i64) -> bool {
        let vouched = user.elsewhere.is_none() || self.sign_in.realm_of(&user.id).is_some();
        vouched && user.is_active(now)
    }

    /// Begins a log-in at the provider of a realm.
    ///
    /// # Errors
    /// There is no such realm, or the provider cannot be asked.
    pub async fn begin_at_provider(&self, realm: &str, peer: Option<SocketAddr>) -> Result<Begun, Refusal> {
        // Each log-in that is begun is remembered: nobody begins them without end.
        let (name, now) = (format!("@{realm}"), Timestamp::now().as_second());
        self.throttle.check(peer, &name, now).map_err(Refusal::TooMany)?;
        let provider = self.sign_in.provider(realm).ok_or(Refusal::Wrong)?.clone();
        let begun = tokio::task::spawn_blocking(move || provider.begin()).await;
        begun.map_err(|_| Refusal::Unavailable)?.map_err(|error| {
            tracing::error!("realm {realm}: {error}");
            Refusal::Unavailable
        })
    }

    /// Ends a log-in with what a provider sent back, and takes in whom it vouches for.
    ///
    /// # Errors
    /// It does not fit what was begun, the user may not log in, or the provider cannot be asked.
    pub async fn finish_at_provider(
        &self,
        answer: HashMap<String, String>,
        browser: String,
        peer: Option<SocketAddr>,
    ) -> Result<LoggedIn, Refusal> {
        let now = Timestamp::now().as_second();
        // Each log-in has a state of its own, so that only all of an address are counted: nobody's name is known yet.
        let state = answer.get("state").cloned().unwrap_or_default();
        self.throttle.check(peer, &state, now).map_err(Refusal::TooMany)?;
        let provider = answer
            .get("state")
            .and_then(|state| self.sign_in.provider_of(state))
            .cloned();
        let wrong = || {
            self.throttle.failed(peer, &state, now);
            Refusal::Wrong
        };
        let provider = provider.ok_or_else(wrong)?;
        let asked = provider.clone();
        let person = tokio::task::spawn_blocking(move || asked.finish(&answer, &browser, now)).await;
        let realm = provider.realm();
        let person = match person.map_err(|_| Refusal::Unavailable)? {
            Ok(person) => person,
            Err(ProviderError::Down(why)) => {
                tracing::error!("realm {realm}: {why}");
                return Err(Refusal::Unavailable);
            }
            Err(ProviderError::Refused(why)) => {
                tracing::warn!(target: "audit", "realm {realm}: somebody is not let in: {why}");
                return Err(wrong());
            }
        };
        let Ok(user) = format!("{}@{realm}", person.name).parse::<UserId>() else {
            tracing::warn!(target: "audit", "realm {realm}: {:?} cannot be the name of a user here", person.name);
            return Err(wrong());
        };
        let user = self.admit(&user, person).await?;
        Ok(self.logged_in(&user, None, None, peer))
    }

    /// Takes in somebody who has proven elsewhere who it is.
    async fn admit(&self, user: &UserId, person: Person) -> Result<User, Refusal> {
        let (id, now) = (user.clone(), Timestamp::now());
        let admitted = self.with_state(move |state| match state.admit(&id, &person, now.as_second()) {
            Err(ServerError::Refused(why)) => {
                tracing::warn!(target: "audit", "{why}");
                Ok(false)
            }
            Err(other) => Err(other),
            Ok(made) => {
                if made {
                    state.add_records(&[record(&id, "a user was made at its first log-in", now)])?;
                }
                Ok(true)
            }
        });
        if !admitted.await? {
            return Err(Refusal::Wrong);
        }
        let known = self.known().ok_or(Refusal::Wrong)?;
        let user = known
            .user(user)
            .filter(|user| self.is_active(user, now.as_second()));
        user.cloned().ok_or(Refusal::Wrong)
    }

    /// Looks the users of every directory up again from time to time, until told to stop.
    pub(crate) fn watch_directories(self: &Arc<Self>, stop: &watch::Sender<bool>) {
        for directory in self.sign_in.directories() {
            let (gate, directory, mut stop) = (self.clone(), directory.clone(), stop.subscribe());
            tokio::spawn(async move {
                loop {
                    tokio::select! {
                        _ = stop.wait_for(|stop| *stop) => return,
                        () = tokio::time::sleep(directory.recheck()) => {}
                    }
                    gate.look_up_again(&directory).await;
                }
            });
        }
    }

    /// Looks them up once.
    async fn look_up_again(&self, directory: &Directory) {
        let Some(known) = self.known() else { return };
        let users: Vec<UserId> = known
            .users
            .iter()
            .filter(|user| user.id.realm() == directory.realm())
            .filter(|user| user.elsewhere.as_ref().is_some_and(|elsewhere| !elsewhere.gone))
            .map(|user| user.id.clone())
            .collect();
        for some in users.chunks(TOGETHER) {
            let name = |user: &UserId| {
                user.as_str()
                    .rsplit_once('@')
                    .map_or("", |(name, _)| name)
                    .to_owned()
            };
            let names: Vec<String> = some.iter().map(name).collect();
            let people = match directory.look_up(&names).await {
                Ok(people) => people,
                // Nobody is locked out by a directory that is down: backups go on.
                Err(error) => {
                    return tracing::warn!("realm {}: users are not looked up: {error}", directory.realm());
                }
            };
            for (user, person) in some.iter().zip(people) {
                let (id, gone, now) = (user.clone(), person.is_none(), Timestamp::now());
                let done = self.with_state(move |state| {
                    let changed = state.looked_up(&id, person.as_ref(), now.as_second())?;
                    if changed {
                        let what = if gone {
                            "the directory does not let the user in any more: its sessions are ended, its tokens are kept out"
                        } else {
                            "the user's groups have changed in the directory"
                        };
                        state.add_records(&[record(&id, what, now)])?;
                    }
                    Ok(())
                });
                if done.await.is_err() {
                    return;
                }
            }
        }
    }
}

fn record(user: &UserId, what: &str, now: Timestamp) -> Record {
    Record {
        time: now,
        who: Some(user.to_string()),
        peer: None,
        what: what.to_owned(),
        parameters: String::new(),
        status: 200,
        message: String::new(),
    }
}
