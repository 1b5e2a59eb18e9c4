//! Rules: who has which role at which path, and what follows from them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{AuthId, Privileges, Role};

/// Longest path in bytes: a datastore and seven namespaces, and room.
const MAX_PATH: usize = 512;

/// Why a text is no path of a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no path: write / or /datastore/NAME[/NAMESPACE…], /system, /access or /remote")]
pub struct AclPathError(String);

/// Where a rule holds: `/`, `/datastore/main/lab/berlin`. Stored without a slash at the end and without empty parts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AclPath(String);

/// What paths begin with. A rule at another path would never hold, and is most likely a slip.
const FIRST: &[&str] = &["access", "datastore", "remote", "system"];

impl AclPath {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AclPath {
    type Err = AclPathError;

    fn from_str(text: &str) -> Result<Self, AclPathError> {
        let refused = || AclPathError(text.chars().take(80).collect());
        let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty()).collect();
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-@!+".contains(&b);
        let safe = |part: &&str| part.bytes().all(allowed) && !part.starts_with(['.', '-']);
        if !text.starts_with('/') || text.len() > MAX_PATH || !parts.iter().all(safe) {
            return Err(refused());
        }
        match parts.first() {
            Some(first) if !FIRST.contains(first) => Err(refused()),
            _ => Ok(Self(format!("/{}", parts.join("/")))),
        }
    }
}

impl TryFrom<String> for AclPath {
    type Error = AclPathError;

    fn try_from(text: String) -> Result<Self, AclPathError> {
        text.parse()
    }
}

impl From<AclPath> for String {
    fn from(path: AclPath) -> Self {
        path.0
    }
}

impl fmt::Display for AclPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Somebody has a role at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Where.
    pub path: AclPath,
    /// Who.
    pub who: AuthId,
    /// What.
    pub role: Role,
    /// Whether it holds for everything under the path, too.
    pub propagate: bool,
}

/// What somebody may do at a path by the rules that name exactly this user or this token (for a token, the rules of its user
/// are asked for by themselves: both must allow).
///
/// Rules of a deeper path replace those above it: `NoAccess` on a namespace takes away what `/` gave. Several roles at
/// one path add up, but `NoAccess` among them wins.
pub fn granted<'a>(rules: impl IntoIterator<Item = &'a Rule>, who: &AuthId, path: &str) -> Privileges {
    let parts = |path: &'a str| path.split('/').filter(|part| !part.is_empty());
    let wanted: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let mut best: Option<(usize, Vec<Role>)> = None;
    for rule in rules.into_iter().filter(|rule| rule.who == *who) {
        let depth = parts(rule.path.as_str()).count();
        let holds = depth <= wanted.len() && parts(rule.path.as_str()).eq(wanted[..depth].iter().copied());
        if !holds || (depth < wanted.len() && !rule.propagate) {
            continue;
        }
        match &mut best {
            Some((known, _)) if *known > depth => {}
            Some((known, roles)) if *known == depth => roles.push(rule.role),
            _ => best = Some((depth, vec![rule.role])),
        }
    }
    let roles = best.map(|(_, roles)| roles).unwrap_or_default();
    if roles.contains(&Role::NoAccess) {
        return Privileges::NONE;
    }
    roles
        .iter()
        .fold(Privileges::NONE, |sum, role| sum | role.privileges())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(path: &str, who: &str, role: Role, propagate: bool) -> Rule {
        Rule {
            path: path.parse().unwrap(),
            who: who.parse().unwrap(),
            role,
            propagate,
        }
    }

    #[test]
    fn deeper_rules_replace_those_above() {
        let rules = [
            rule("/", "a@pbs", Role::Admin, true),
            rule("/datastore/main", "a@pbs", Role::DatastoreReader, true),
            rule("/datastore/main/secret", "a@pbs", Role::NoAccess, true),
            rule(
                "/datastore/main/secret/open",
                "a@pbs",
                Role::DatastoreBackup,
                true,
            ),
            rule("/datastore/main", "b@pbs", Role::Admin, true),
        ];
        let at = |path: &str| granted(&rules, &"a@pbs".parse().unwrap(), path);
        assert_eq!(at("/"), Privileges::ALL);
        assert_eq!(at("/datastore/other"), Privileges::ALL);
        assert_eq!(at("/datastore/main"), Role::DatastoreReader.privileges());
        assert_eq!(at("/datastore/main/lab"), Role::DatastoreReader.privileges());
        assert_eq!(
            at("/datastore/mainly"),
            Privileges::ALL,
            "a prefix of a name is not its path"
        );
        assert_eq!(at("/datastore/main/secret/x"), Privileges::NONE);
        assert_eq!(at("/datastore/main/secret/open"), Privileges::DATASTORE_BACKUP);
        assert_eq!(granted(&rules, &"c@pbs".parse().unwrap(), "/"), Privileges::NONE);
        assert_eq!(
            granted(&rules, &"b@pbs!t".parse().unwrap(), "/datastore/main"),
            Privileges::NONE
        );
    }

    #[test]
    fn a_rule_without_propagation_holds_at_its_path_only() {
        let rules = [
            rule("/datastore/main", "a@pbs", Role::DatastoreBackup, true),
            rule("/datastore/main", "a@pbs", Role::DatastoreAudit, true),
            rule("/datastore/main/lab", "a@pbs", Role::DatastoreReader, false),
        ];
        let at = |path: &str| granted(&rules, &"a@pbs".parse().unwrap(), path);
        assert_eq!(
            at("/datastore/main"),
            Privileges::DATASTORE_BACKUP | Privileges::DATASTORE_AUDIT
        );
        assert_eq!(at("/datastore/main/lab"), Role::DatastoreReader.privileges());
        // Under it, what was above holds again.
        assert_eq!(at("/datastore/main/lab/x"), at("/datastore/main"));
    }

    #[test]
    fn paths_are_normal_and_known() {
        assert_eq!(
            "//datastore//main/".parse::<AclPath>().unwrap().as_str(),
            "/datastore/main"
        );
        assert_eq!("/".parse::<AclPath>().unwrap().as_str(), "/");
        for text in [
            "",
            "datastore",
            "/data",
            "/datastore/..",
            "/datastore/a b",
            "/datastore/ä",
        ] {
            assert!(text.parse::<AclPath>().is_err(), "{text:?}");
        }
    }
}
