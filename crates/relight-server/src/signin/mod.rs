//! How somebody proves who it is: a second factor after the password, directories, providers of identities.

pub(crate) mod config;
mod directory;
mod jwt;
mod provider;
mod qr;
pub(crate) mod totp;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use config::{RealmConfig, SecondFactorRule, SignInConfig};
pub use directory::{Directory, DirectoryError};
pub use provider::{Begun, Provider, ProviderError};
pub use qr::QrPicture;
use relight_pbs::access::UserId;
pub use totp::TotpSecret;

use crate::error::{Result, ServerError};

/// Somebody, as a directory or a provider knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// The name, without the realm.
    pub name: String,
    /// What stays the same when the name is given to somebody else.
    pub subject: String,
    /// Groups by the names they have here.
    pub groups: Vec<String>,
}

/// That a user is of a realm whose users are not made here.
pub fn not_made_here(user: &UserId) -> ServerError {
    let realm = user.realm();
    ServerError::Refused(format!(
        "users of [realm.{realm}] are made by their first log-in there: {user} is not made here; give a role to a group of the directory, \
         or take another realm for users of this server"
    ))
}

/// What the configuration says of log-ins.
#[derive(Default)]
pub struct SignIn {
    /// Whether the server's own users with a password need a second factor.
    pub second_factor_required: bool,
    realms: BTreeMap<String, Realm>,
}

/// Whose users the server does not keep itself.
#[derive(Clone)]
pub enum Realm {
    /// They prove themselves by a password that a directory knows.
    Directory(Arc<Directory>),
    /// They prove themselves to a provider of identities, in their browsers.
    Provider(Arc<Provider>),
}

/// A realm, as people choose it.
pub struct Choice<'a> {
    /// Its name.
    pub name: &'a str,
    /// What people are shown.
    pub title: &'a str,
    /// Whether one logs in at a provider, and not with a password.
    pub provider: bool,
}

impl SignIn {
    /// As the configuration says.
    ///
    /// # Errors
    /// A file that it names cannot be read.
    pub fn new(sign_in: &SignInConfig, realms: &BTreeMap<String, RealmConfig>) -> Result<Self> {
        let realm = |(name, config): (&String, &RealmConfig)| -> Result<_> {
            let realm = match config.clone() {
                RealmConfig::Ldap(config) => Realm::Directory(Arc::new(Directory::new(name, config, false)?)),
                RealmConfig::Ad(config) => Realm::Directory(Arc::new(Directory::new(name, config, true)?)),
                RealmConfig::Openid(config) => {
                    let url = sign_in.url.as_deref().unwrap_or_default();
                    Realm::Provider(Arc::new(Provider::new(name, config, url)?))
                }
            };
            Ok((name.clone(), realm))
        };
        Ok(Self {
            second_factor_required: sign_in.totp == SecondFactorRule::Required,
            realms: realms.iter().map(realm).collect::<Result<_>>()?,
        })
    }

    /// The realm of a user; none for the server's own users.
    pub fn realm_of(&self, user: &UserId) -> Option<&Realm> {
        self.realms.get(user.realm())
    }

    /// All directories.
    pub fn directories(&self) -> impl Iterator<Item = &Arc<Directory>> {
        self.realms.values().filter_map(|realm| match realm {
            Realm::Directory(directory) => Some(directory),
            Realm::Provider(_) => None,
        })
    }

    /// The provider of a realm.
    pub fn provider(&self, realm: &str) -> Option<&Arc<Provider>> {
        match self.realms.get(realm)? {
            Realm::Provider(provider) => Some(provider),
            Realm::Directory(_) => None,
        }
    }

    /// The provider at which a log-in is under way.
    pub fn provider_of(&self, state: &str) -> Option<&Arc<Provider>> {
        let is_of = |realm: &&String| self.provider(realm).is_some_and(|provider| provider.knows(state));
        self.realms
            .keys()
            .find(is_of)
            .and_then(|realm| self.provider(realm))
    }

    /// All realms, as people choose them.
    pub fn choices(&self) -> impl Iterator<Item = Choice<'_>> {
        self.realms.iter().map(|(name, realm)| match realm {
            Realm::Directory(directory) => Choice {
                name,
                title: directory.title(),
                provider: false,
            },
            Realm::Provider(provider) => Choice {
                name,
                title: provider.title(),
                provider: true,
            },
        })
    }

    /// Whether users of a realm need a second factor beside their password.
    pub(crate) fn requires_factor(&self, user: &UserId) -> bool {
        match self.realm_of(user) {
            None => self.second_factor_required,
            Some(Realm::Directory(directory)) => directory.config.totp == SecondFactorRule::Required,
            // The provider has its own.
            Some(Realm::Provider(_)) => false,
        }
    }
}
