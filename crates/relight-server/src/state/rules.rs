//! Rules: who has which role where.

use std::str::FromStr;

use relight_pbs::access::{AclPath, Grantee, Role, Rule};
use rusqlite::types::Type;
use rusqlite::{Connection, Row, params};

use super::{OwnRole, State, refused, roles, tokens, users};
use crate::error::Result;

/// A column that was checked before it was written.
pub(super) fn parsed<T: FromStr>(row: &Row<'_>, column: usize) -> rusqlite::Result<T>
where
    T::Err: std::fmt::Display,
{
    let text: String = row.get(column)?;
    text.parse().map_err(|error: T::Err| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error.to_string().into())
    })
}

pub(super) fn all(connection: &Connection, own: &[OwnRole]) -> rusqlite::Result<Vec<Rule>> {
    let mut statement =
        connection.prepare_cached("SELECT path, who, role, propagate FROM rules ORDER BY path, who, role")?;
    let rows = statement.query_map([], |row| {
        Ok(Rule {
            path: parsed(row, 0)?,
            who: parsed(row, 1)?,
            role: roles::held(own, &row.get::<_, String>(2)?),
            propagate: row.get(3)?,
        })
    })?;
    rows.collect()
}

impl State {
    /// Adds a rule, or changes whether it holds below its path.
    ///
    /// # Errors
    /// There is no such user or token, or no such role.
    pub fn set_rule(&self, rule: &Rule) -> Result<()> {
        self.change(|connection| {
            let known = match &rule.who {
                Grantee::Auth(who) if who.token().is_some() => tokens::find(connection, who)?,
                Grantee::Auth(who) => users::find(connection, who.user())?,
                // Of groups only the directory knows.
                Grantee::Group(_) => true,
            };
            if !known {
                return refused(format!("there is no user or token {}", rule.who));
            }
            let own = roles::all(connection)?;
            let is_own = own.iter().any(|role| role.name == rule.role.name());
            if !is_own && rule.role.name().parse::<Role>().is_err() {
                return refused(format!(
                    "there is no role {}; `relight role list` lists them",
                    rule.role
                ));
            }
            connection.execute(
                "INSERT INTO rules (path, who, role, propagate) VALUES (?, ?, ?, ?)
                 ON CONFLICT DO UPDATE SET propagate = excluded.propagate",
                params![
                    rule.path.as_str(),
                    rule.who.to_string(),
                    rule.role.name(),
                    rule.propagate
                ],
            )?;
            Ok(())
        })
    }

    /// Removes a rule; with no role, all of somebody's at a path.
    ///
    /// # Errors
    /// There is none.
    pub fn remove_rule(&self, path: &AclPath, who: &Grantee, role: Option<&str>) -> Result<()> {
        self.change(|connection| {
            let removed = connection.execute(
                "DELETE FROM rules WHERE path = ?1 AND who = ?2 AND (?3 IS NULL OR role = ?3)",
                params![path.as_str(), who.to_string(), role],
            )?;
            if removed == 0 {
                let role = role.map_or_else(String::new, |role| format!(" the role {role}"));
                return refused(format!("no rule gives {who}{role} at {path}"));
            }
            Ok(())
        })
    }
}
