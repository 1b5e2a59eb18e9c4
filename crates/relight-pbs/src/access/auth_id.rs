//! Names of users and API tokens.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest `name@realm` in bytes.
const MAX_USER: usize = 64;
/// Longest name of a token in bytes.
const MAX_TOKEN: usize = 64;

/// Why a text names no user and no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {what}")]
pub struct AuthIdError {
    text: String,
    what: &'static str,
}

impl AuthIdError {
    fn user(text: &str) -> Self {
        Self {
            text: text.chars().take(80).collect(),
            what: "user: write name@realm, such as backup@pbs",
        }
    }

    pub(super) fn group(text: &str) -> Self {
        Self {
            text: text.chars().take(180).collect(),
            what: "group: write @name@realm",
        }
    }

    fn auth(text: &str) -> Self {
        Self {
            text: text.chars().take(150).collect(),
            what: "user or token: write name@realm or name@realm!token",
        }
    }
}

/// A user: `name@realm`. The name has no white space, control characters, `:`, `/` or `@`; the realm is a safe name. At most 64
/// bytes in all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UserId(String);

impl UserId {
    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part after the `@`.
    pub fn realm(&self) -> &str {
        self.0.rsplit_once('@').map_or("", |(_, realm)| realm)
    }
}

/// Whether a text is letters, digits, `.`, `_` and `-`, and begins with a letter, a digit or `_`.
fn is_safe(text: &str) -> bool {
    let all = text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    all && text
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_')
}

impl FromStr for UserId {
    type Err = AuthIdError;

    fn from_str(text: &str) -> Result<Self, AuthIdError> {
        let refused = || AuthIdError::user(text);
        let (name, realm) = text.rsplit_once('@').ok_or_else(refused)?;
        let allowed = |c: char| c.is_ascii_graphic() && !matches!(c, ':' | '/' | '@' | '!' | '\\');
        if text.len() > MAX_USER || name.is_empty() || !name.chars().all(allowed) {
            return Err(refused());
        }
        if realm.len() < 2 || realm.len() > 32 || !is_safe(realm) {
            return Err(refused());
        }
        Ok(Self(text.to_string()))
    }
}

impl TryFrom<String> for UserId {
    type Error = AuthIdError;

    fn try_from(text: String) -> Result<Self, AuthIdError> {
        text.parse()
    }
}

impl From<UserId> for String {
    fn from(user: UserId) -> Self {
        user.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A user or one of a user's API tokens: `name@realm` or `name@realm!token`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AuthId {
    user: UserId,
    token: Option<String>,
}

impl AuthId {
    /// A token of a user.
    ///
    /// # Errors
    /// The name of the token is not letters, digits, `.`, `_` and `-`, or longer than 64 bytes.
    pub fn of_token(user: UserId, token: &str) -> Result<Self, AuthIdError> {
        if token.len() > MAX_TOKEN || !is_safe(token) {
            return Err(AuthIdError::auth(token));
        }
        Ok(Self {
            user,
            token: Some(token.to_string()),
        })
    }

    /// The user, or whose token it is.
    pub fn user(&self) -> &UserId {
        &self.user
    }

    /// The name of the token, if it is one.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Whether `owner` is this, or a token of this user. (A token is not its user, and may not act as it.)
    pub fn owns_as(&self, owner: &Self) -> bool {
        self == owner || (self.token.is_none() && self.user == owner.user)
    }
}

impl From<UserId> for AuthId {
    fn from(user: UserId) -> Self {
        Self { user, token: None }
    }
}

impl FromStr for AuthId {
    type Err = AuthIdError;

    fn from_str(text: &str) -> Result<Self, AuthIdError> {
        match text.split_once('!') {
            None => Ok(text.parse::<UserId>()?.into()),
            Some((user, token)) => {
                let refused = |_| AuthIdError::auth(text);
                Self::of_token(user.parse().map_err(refused)?, token).map_err(refused)
            }
        }
    }
}

impl TryFrom<String> for AuthId {
    type Error = AuthIdError;

    fn try_from(text: String) -> Result<Self, AuthIdError> {
        text.parse()
    }
}

impl From<AuthId> for String {
    fn from(id: AuthId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for AuthId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.token {
            None => f.pad(self.user.as_str()),
            Some(token) => f.pad(&format!("{}!{token}", self.user)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_tokens_read_back() {
        for text in ["root@pam", "bkup@pbs!tok1", "jane.doe+x@example.org", "a@bb!_t"] {
            assert_eq!(text.parse::<AuthId>().unwrap().to_string(), text);
        }
        let id: AuthId = "bkup@pbs!tok1".parse().unwrap();
        assert_eq!(
            (id.user().as_str(), id.user().realm(), id.token()),
            ("bkup@pbs", "pbs", Some("tok1"))
        );
    }

    #[test]
    fn what_could_hurt_elsewhere_is_refused() {
        for text in [
            "",
            "root",
            "@pbs",
            "root@",
            "a b@pbs",
            "a/b@pbs",
            "a:b@pbs",
            "a\n@pbs",
            "a@p/s",
            "a@pbs!",
            "a@pbs!../x",
            "a@pbs!a!b",
            "ä@pbs",
            "a@b@pbs",
        ] {
            assert!(text.parse::<AuthId>().is_err(), "{text:?}");
        }
        assert!(format!("{}@pbs", "a".repeat(61)).parse::<AuthId>().is_err());
    }

    #[test]
    fn a_user_owns_what_its_tokens_own_and_not_the_other_way_round() {
        let id = |text: &str| text.parse::<AuthId>().unwrap();
        assert!(id("a@pbs").owns_as(&id("a@pbs!t")));
        assert!(id("a@pbs!t").owns_as(&id("a@pbs!t")));
        assert!(!id("a@pbs!t").owns_as(&id("a@pbs")));
        assert!(!id("a@pbs!t").owns_as(&id("a@pbs!u")));
        assert!(!id("b@pbs").owns_as(&id("a@pbs")));
    }
}
