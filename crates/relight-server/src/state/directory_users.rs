//! Users that a directory or a provider of identities vouches for: who they are there, and their groups.

use relight_pbs::access::{GroupId, UserId};
use rusqlite::{OptionalExtension, params};

use super::roles::put_groups;
use super::second_factor::end_sessions;
use super::{Change, State, refused};
use crate::error::Result;
use crate::signin::Person;

/// What is known of somebody from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elsewhere {
    /// Whether the directory does not let it in any more.
    pub gone: bool,
}

/// The groups of a user, as rules name them.
fn groups_of(user: &UserId, person: &Person) -> Result<Vec<GroupId>, Change> {
    let group = |name: &String| GroupId::new(name, user.realm());
    let groups = person.groups.iter().map(group).collect::<Result<_, _>>();
    groups.map_err(|error| Change::Refused(error.to_string()))
}

impl State {
    /// Takes in somebody who has just proven who it is: a user is made at the first time, without any rules but those of its
    /// groups. Gives whether it was made. `now` in seconds since 1970.
    ///
    /// # Errors
    /// Its name belongs to somebody else: to another account that had it before.
    pub fn admit(&self, user: &UserId, person: &Person, now: i64) -> Result<bool> {
        self.change(|connection| {
            let known: Option<String> = connection
                .query_row("SELECT subject FROM directory_users WHERE user = ?", [user.as_str()], |row| row.get(0))
                .optional()?;
            if known.is_some_and(|known| known != person.subject) {
                return refused(format!(
                    "{user} is another account there than the one that had the name before: if that one is to have nothing \
                     here any more, remove the user first (relight user remove {user})"
                ));
            }
            let made = connection.execute(
                "INSERT OR IGNORE INTO users (id, enabled, expires, comment, password, epoch) VALUES (?, 1, NULL, NULL, NULL, ?)",
                params![user.as_str(), jiff::Timestamp::now().as_millisecond()],
            )?;
            connection.execute(
                "INSERT INTO directory_users (user, subject, checked, gone) VALUES (?1, ?2, ?3, NULL) \
                 ON CONFLICT (user) DO UPDATE SET checked = ?3, gone = NULL",
                params![user.as_str(), person.subject, now],
            )?;
            put_groups(connection, user, &groups_of(user, person)?)?;
            Ok(made > 0)
        })
    }

    /// Writes down what a directory says of a user now: none if it lets it in no more, which ends its sessions and keeps its
    /// tokens out. Gives whether something has changed.
    ///
    /// # Errors
    /// The database cannot be read or written.
    pub fn looked_up(&self, user: &UserId, person: Option<&Person>, now: i64) -> Result<bool> {
        self.change(|connection| {
            let select = "SELECT subject FROM directory_users WHERE user = ? AND gone IS NULL";
            let known: Option<String> = connection
                .query_row(select, [user.as_str()], |row| row.get(0))
                .optional()?;
            let Some(subject) = known else { return Ok(false) };
            // An account that was made again under the same name is another one.
            let Some(person) = person.filter(|person| person.subject == subject) else {
                connection.execute(
                    "UPDATE directory_users SET gone = ? WHERE user = ?",
                    params![now, user.as_str()],
                )?;
                end_sessions(connection, user)?;
                return Ok(true);
            };
            connection.execute(
                "UPDATE directory_users SET checked = ? WHERE user = ?",
                params![now, user.as_str()],
            )?;
            Ok(put_groups(connection, user, &groups_of(user, person)?)?)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(subject: &str, groups: &[&str]) -> Person {
        Person {
            name: "jane".into(),
            subject: subject.into(),
            groups: groups.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn a_name_that_is_given_to_somebody_else_is_not_the_same_user() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        let user: UserId = "jane@corp".parse().unwrap();
        let groups = || state.known().unwrap().groups_of(&user).to_vec();
        let is_active = || state.known().unwrap().user(&user).unwrap().is_active(10);
        assert!(state.admit(&user, &person("1", &["ops", "audit"]), 1).unwrap());
        assert!(!state.admit(&user, &person("1", &["ops"]), 2).unwrap());
        assert_eq!(groups(), ["@ops@corp".parse().unwrap()]);
        assert!(state.admit(&user, &person("2", &["ops"]), 3).is_err());
        assert!(!state.looked_up(&user, Some(&person("1", &["ops"])), 4).unwrap());
        assert!(state.looked_up(&user, Some(&person("1", &[])), 5).unwrap());
        assert!(groups().is_empty() && is_active());
        let epoch = state.known().unwrap().user(&user).unwrap().epoch;
        assert!(state.looked_up(&user, Some(&person("2", &["ops"])), 6).unwrap());
        assert!(!is_active());
        assert_eq!(state.known().unwrap().user(&user).unwrap().epoch, epoch + 1);
        // It stays out until it proves itself again.
        assert!(!state.looked_up(&user, Some(&person("1", &["ops"])), 7).unwrap());
        assert!(!is_active());
        state.admit(&user, &person("1", &["ops"]), 8).unwrap();
        assert!(is_active());
    }
}
