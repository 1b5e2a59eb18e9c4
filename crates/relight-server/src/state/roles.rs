//! The server's own roles, and who is in which group of a directory.

use std::collections::BTreeMap;

use relight_model::plan::Verb;
use relight_pbs::access::{GroupId, HeldRole, Role, UserId};
use rusqlite::{Connection, params};

use super::{Known, State, refused, rules, users};
use crate::error::Result;
use crate::roles::privileges_of;

/// A role that this server made for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnRole {
    /// Its name.
    pub name: String,
    /// What it allows.
    pub may: Vec<Verb>,
}

pub(super) fn all(connection: &Connection) -> rusqlite::Result<Vec<OwnRole>> {
    let mut statement = connection.prepare_cached("SELECT name, may FROM roles ORDER BY name")?;
    let rows = statement.query_map([], |row| {
        let may: String = row.get(1)?;
        Ok(OwnRole {
            name: row.get(0)?,
            // A word of a later version allows nothing here.
            may: may.split(',').filter_map(|word| word.parse().ok()).collect(),
        })
    })?;
    rows.collect()
}

pub(super) fn groups(connection: &Connection) -> rusqlite::Result<BTreeMap<UserId, Vec<GroupId>>> {
    let mut statement =
        connection.prepare_cached("SELECT user, name FROM user_groups ORDER BY user, name")?;
    let mut groups: BTreeMap<UserId, Vec<GroupId>> = BTreeMap::new();
    let rows = statement.query_map([], |row| {
        Ok((
            rules::parsed::<UserId>(row, 0)?,
            rules::parsed::<GroupId>(row, 1)?,
        ))
    })?;
    for row in rows {
        let (user, group) = row?;
        groups.entry(user).or_default().push(group);
    }
    Ok(groups)
}

/// The role of a name; one that is not there any more allows nothing.
pub(super) fn held(own: &[OwnRole], name: &str) -> HeldRole {
    match name.parse::<Role>() {
        Ok(role) => role.into(),
        Err(_) => {
            let found = own.iter().find(|role| role.name == name);
            HeldRole::own(
                name,
                found.map(|role| privileges_of(&role.may)).unwrap_or_default(),
            )
        }
    }
}

impl Known {
    /// A role by its name.
    pub fn role(&self, name: &str) -> Option<HeldRole> {
        let own = self.roles.iter().any(|role| role.name == name);
        (own || name.parse::<Role>().is_ok()).then(|| held(&self.roles, name))
    }

    /// The groups that a user was in when its directory was asked last.
    pub fn groups_of(&self, user: &UserId) -> &[GroupId] {
        self.groups.get(user).map_or(&[], Vec::as_slice)
    }
}

/// Notes which groups a user is in. Gives whether they are others than before.
pub(super) fn put_groups(
    connection: &Connection,
    user: &UserId,
    groups: &[GroupId],
) -> rusqlite::Result<bool> {
    let mut before =
        connection.prepare_cached("SELECT name FROM user_groups WHERE user = ? ORDER BY name")?;
    let before: Vec<String> = before
        .query_map([user.as_str()], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let mut now: Vec<&str> = groups.iter().map(GroupId::as_str).collect();
    now.sort_unstable();
    now.dedup();
    if before == now {
        return Ok(false);
    }
    connection.execute("DELETE FROM user_groups WHERE user = ?", [user.as_str()])?;
    let mut insert = connection.prepare_cached("INSERT INTO user_groups (user, name) VALUES (?, ?)")?;
    for group in now {
        insert.execute([user.as_str(), group])?;
    }
    Ok(true)
}

impl State {
    /// Makes a role, or changes what it allows.
    ///
    /// # Errors
    /// The name is none, or that of a role that is always there.
    pub fn set_role(&self, name: &str, may: &[Verb]) -> Result<()> {
        self.change(|connection| {
            let safe = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
            let begins = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
            if !begins || name.len() > 64 || !name.bytes().all(safe) {
                return refused(format!(
                    "{name:?} is no name for a role: use up to 64 letters, digits, '.', '_' and '-'"
                ));
            }
            if Role::ALL
                .iter()
                .any(|role| role.name().eq_ignore_ascii_case(name))
            {
                return refused(format!("there is a role {name} always; take another name"));
            }
            if may.is_empty() {
                return refused("a role that allows nothing is NoAccess; say what this one may");
            }
            let words: Vec<&str> = may.iter().map(|verb| verb.name()).collect();
            connection.execute(
                "INSERT INTO roles (name, may) VALUES (?, ?) ON CONFLICT DO UPDATE SET may = excluded.may",
                params![name, words.join(",")],
            )?;
            Ok(())
        })
    }

    /// Removes a role of the server's own.
    ///
    /// # Errors
    /// There is none, or somebody has it.
    pub fn remove_role(&self, name: &str) -> Result<()> {
        self.change(|connection| {
            let select = "SELECT count(*) FROM rules WHERE role = ?";
            let held: i64 = connection.query_row(select, [name], |row| row.get(0))?;
            if held > 0 {
                return refused(format!(
                    "{held} rules give the role {name}; take it away first (relight acl list)"
                ));
            }
            if connection.execute("DELETE FROM roles WHERE name = ?", [name])? == 0 {
                return refused(format!("there is no role {name} of this server's own"));
            }
            Ok(())
        })
    }

    /// Notes which groups a user is in, as its directory says; they hold until it is asked again.
    ///
    /// # Errors
    /// There is no such user.
    pub fn set_groups(&self, user: &UserId, groups: &[GroupId]) -> Result<()> {
        self.change(|connection| {
            users::must_be(connection, user)?;
            put_groups(connection, user, groups)?;
            Ok(())
        })
    }
}
