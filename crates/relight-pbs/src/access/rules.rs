//! Rules: who has which role at which path, and what follows from them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Grantee, HeldRole, Privileges};
use crate::formats::ids::Group;

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
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// Where.
    pub path: AclPath,
    /// Who.
    pub who: Grantee,
    /// What.
    pub role: HeldRole,
    /// Whether it holds for everything under the path, too.
    pub propagate: bool,
}

/// Where what is granted in a single group of a namespace is. Rules are never there: a part with `:` is no part of their paths.
pub fn group_path(place: &str, group: &Group) -> String {
    format!("{place}/{}:{}", group.backup_type, group.backup_id)
}

/// A path without the part that names a group.
pub fn place_of(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some((place, last)) if last.contains(':') => place,
        _ => path,
    }
}

/// What follows from rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Granted {
    /// What may be done.
    pub privileges: Privileges,
    /// Nothing may be done, whatever is granted otherwise.
    pub denied: bool,
}

/// What somebody may do at a path by the rules about those that `is` tells: a user and its groups, or a token. (For a token, the
/// rules of its user are asked for by themselves: both must allow.)
///
/// Rules of a deeper path replace those above it: `NoAccess` on a namespace takes away what `/` gave. Several roles at
/// one path add up, but `NoAccess` among them wins.
pub fn granted<'a>(
    rules: impl IntoIterator<Item = &'a Rule>,
    is: impl Fn(&Grantee) -> bool,
    path: &str,
) -> Granted {
    let parts = |path: &'a str| path.split('/').filter(|part| !part.is_empty());
    let wanted: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let (mut best, mut found) = (None, Granted::default());
    for rule in rules.into_iter().filter(|rule| is(&rule.who)) {
        let depth = parts(rule.path.as_str()).count();
        let holds = depth <= wanted.len() && parts(rule.path.as_str()).eq(wanted[..depth].iter().copied());
        if !holds || (depth < wanted.len() && !rule.propagate) || best.is_some_and(|best| best > depth) {
            continue;
        }
        if best != Some(depth) {
            found = Granted::default();
        }
        best = Some(depth);
        found.privileges |= rule.role.privileges();
        found.denied |= rule.role.is_no_access();
    }
    if found.denied {
        found.privileges = Privileges::NONE;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::{AuthId, Role};
    use super::*;

    fn rule(path: &str, who: &str, role: Role, propagate: bool) -> Rule {
        Rule {
            path: path.parse().unwrap(),
            who: who.parse().unwrap(),
            role: role.into(),
            propagate,
        }
    }

    fn of(rules: &[Rule], who: &str, path: &str) -> Privileges {
        let who = Grantee::Auth(who.parse::<AuthId>().unwrap());
        granted(rules, |one| *one == who, path).privileges
    }

    #[test]
    fn a_group_and_a_user_at_one_path_add_up_and_no_access_of_either_wins() {
        let mut rules = vec![
            rule("/datastore", "@ops@lab", Role::DatastoreAudit, true),
            rule("/datastore", "a@pbs", Role::DatastoreBackup, true),
        ];
        let (group, user): (Grantee, Grantee) = ("@ops@lab".parse().unwrap(), "a@pbs".parse().unwrap());
        let of = |rules: &[Rule]| granted(rules, |one| *one == group || *one == user, "/datastore/main");
        let both = Privileges::DATASTORE_AUDIT | Privileges::DATASTORE_BACKUP;
        assert_eq!(of(&rules).privileges, both);
        rules.push(rule("/datastore", "@ops@lab", Role::NoAccess, true));
        let none = of(&rules);
        assert!(none.denied && none.privileges.is_empty());
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
        let at = |path: &str| of(&rules, "a@pbs", path);
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
        assert_eq!(of(&rules, "c@pbs", "/"), Privileges::NONE);
        assert_eq!(of(&rules, "b@pbs!t", "/datastore/main"), Privileges::NONE);
    }

    #[test]
    fn a_rule_without_propagation_holds_at_its_path_only() {
        let rules = [
            rule("/datastore/main", "a@pbs", Role::DatastoreBackup, true),
            rule("/datastore/main", "a@pbs", Role::DatastoreAudit, true),
            rule("/datastore/main/lab", "a@pbs", Role::DatastoreReader, false),
        ];
        let at = |path: &str| of(&rules, "a@pbs", path);
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
