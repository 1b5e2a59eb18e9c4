//! Who can be given something: users, tokens, groups of users.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{AuthId, AuthIdError, UserId};

/// Longest `@group@realm` in bytes.
const MAX_GROUP: usize = 160;

/// A group of the users of a directory: `@admins@example`. Who is in it, the directory tells.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GroupId(String);

impl GroupId {
    /// The group of a realm.
    ///
    /// # Errors
    /// The name is empty or too long, or has `@` or control characters.
    pub fn new(name: &str, realm: &str) -> Result<Self, AuthIdError> {
        format!("@{name}@{realm}").parse()
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part after the last `@`.
    pub fn realm(&self) -> &str {
        self.0.rsplit_once('@').map_or("", |(_, realm)| realm)
    }
}

impl FromStr for GroupId {
    type Err = AuthIdError;

    fn from_str(text: &str) -> Result<Self, AuthIdError> {
        let refused = || AuthIdError::group(text);
        let rest = text.strip_prefix('@').ok_or_else(refused)?;
        let (name, realm) = rest.rsplit_once('@').ok_or_else(refused)?;
        let trimmed = name.trim() == name && !name.is_empty();
        let bad = |c: char| c.is_control() || matches!(c, '@' | '!');
        if text.len() > MAX_GROUP || !trimmed || name.contains(bad) {
            return Err(refused());
        }
        // The rules for realms are those of users.
        format!("x@{realm}").parse::<UserId>().map_err(|_| refused())?;
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for GroupId {
    type Error = AuthIdError;

    fn try_from(text: String) -> Result<Self, AuthIdError> {
        text.parse()
    }
}

impl From<GroupId> for String {
    fn from(group: GroupId) -> Self {
        group.0
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Whom a rule is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Grantee {
    /// A user or a token.
    Auth(AuthId),
    /// All users of a group; none of their tokens.
    Group(GroupId),
}

impl Grantee {
    /// The user or token, if it is one.
    pub fn auth(&self) -> Option<&AuthId> {
        match self {
            Self::Auth(id) => Some(id),
            Self::Group(_) => None,
        }
    }
}

impl From<AuthId> for Grantee {
    fn from(id: AuthId) -> Self {
        Self::Auth(id)
    }
}

impl FromStr for Grantee {
    type Err = AuthIdError;

    fn from_str(text: &str) -> Result<Self, AuthIdError> {
        if text.starts_with('@') {
            text.parse().map(Self::Group)
        } else {
            text.parse().map(Self::Auth)
        }
    }
}

impl TryFrom<String> for Grantee {
    type Error = AuthIdError;

    fn try_from(text: String) -> Result<Self, AuthIdError> {
        text.parse()
    }
}

impl From<Grantee> for String {
    fn from(who: Grantee) -> Self {
        who.to_string()
    }
}

impl fmt::Display for Grantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auth(id) => id.fmt(f),
            Self::Group(group) => group.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_users_and_tokens_read_back_and_are_told_apart() {
        for text in ["jane@pbs", "jane@pbs!t", "@admins@lab", "@Domain Admins@ad.lab"] {
            let who: Grantee = text.parse().unwrap();
            assert_eq!(who.to_string(), text);
            assert_eq!(matches!(who, Grantee::Group(_)), text.starts_with('@'));
        }
        for text in [
            "@", "@x", "@@lab", "@x@", "@a@b@lab", "@ x@lab", "@x\n@lab", "@x!y@lab", "@x@l b",
        ] {
            assert!(text.parse::<Grantee>().is_err(), "{text:?}");
        }
    }
}
