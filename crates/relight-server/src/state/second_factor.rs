//! Second factors: what apps for one-time passwords share with the server, and recovery codes.
//!
//! The secret itself has to be kept, since codes are computed from it: it is as safe as the state folder is. Of recovery codes
//! only hashes are kept.

use aws_lc_rs::digest;
use relight_pbs::access::UserId;
use rusqlite::{Connection, OptionalExtension, params};
use zeroize::Zeroizing;

use super::users::must_be;
use super::{Change, State, random, refused};
use crate::error::Result;
use crate::signin::TotpSecret;
use crate::signin::totp::{base32, is_code};

/// Recovery codes of a user.
const CODES: usize = 10;
/// Wrong codes in a row before one has to wait: a minute at first, twice as long after each further one.
const FREE: u32 = 5;
/// The longest wait in seconds: with three codes of a million good at a time, guessing all day finds one in some 14,000.
const LONGEST: i64 = 3600;

/// What is known of somebody's second factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecondFactor {
    /// Since when, in seconds since 1970.
    pub since: i64,
    /// Recovery codes that are left.
    pub codes: u32,
}

/// What became of a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tried {
    /// It was good, and never is again. Whether it was a recovery code.
    Good {
        /// Whether it was a recovery code.
        recovery: bool,
    },
    /// It was wrong.
    Wrong,
    /// Not looked at: too many were wrong; for so many seconds.
    Wait(u64),
}

/// Recovery codes that were made just now, to be shown once.
pub type RecoveryCodes = Zeroizing<Vec<String>>;

struct Row {
    secret: TotpSecret,
    used: i64,
    wrong: u32,
    last_wrong: i64,
}

fn row(connection: &Connection, user: &UserId, confirmed: bool) -> rusqlite::Result<Option<Row>> {
    let select =
        "SELECT secret, used, wrong, last_wrong FROM totp WHERE user = ? AND (since IS NOT NULL) = ?";
    let read = |row: &rusqlite::Row<'_>| {
        Ok(Row {
            secret: TotpSecret::from_bytes(row.get(0)?),
            used: row.get(1)?,
            wrong: row.get(2)?,
            last_wrong: row.get(3)?,
        })
    };
    connection
        .query_row(select, params![user.as_str(), confirmed], read)
        .optional()
}

impl Row {
    /// How long no code is looked at.
    fn wait(&self, now: i64) -> Option<u64> {
        let beyond = self.wrong.checked_sub(FREE)?;
        let wait = 60_i64.checked_shl(beyond.min(10)).unwrap_or(LONGEST).min(LONGEST);
        // A clock that was set back must not lock anybody out for longer.
        let passed = now.saturating_sub(self.last_wrong).max(0);
        u64::try_from(wait - passed).ok().filter(|left| *left > 0)
    }
}

/// Random enough (80 bits) that a plain hash tells nothing.
fn hash(user: &UserId, code: &str) -> Vec<u8> {
    let text = format!("{user}\0{code}");
    digest::digest(&digest::SHA256, text.as_bytes()).as_ref().to_vec()
}

/// A code as it was made: people leave out dashes, and write small letters.
fn normal(code: &str) -> String {
    let kept = code.chars().filter(|c| !c.is_whitespace() && *c != '-').take(64);
    kept.collect::<String>().to_ascii_uppercase()
}

fn new_codes(connection: &Connection, user: &UserId) -> Result<RecoveryCodes, Change> {
    connection.execute("DELETE FROM recovery_codes WHERE user = ?", [user.as_str()])?;
    let mut codes = Zeroizing::new(Vec::with_capacity(CODES));
    for _ in 0..CODES {
        let bytes: Zeroizing<[u8; 10]> = Zeroizing::new(random().map_err(Change::Server)?);
        let code = Zeroizing::new(base32(&*bytes));
        connection.execute(
            "INSERT INTO recovery_codes (user, hash) VALUES (?, ?)",
            params![user.as_str(), hash(user, &code)],
        )?;
        let parts = [&code[..4], &code[4..8], &code[8..12], &code[12..]];
        codes.push(parts.join("-").to_ascii_lowercase());
    }
    Ok(codes)
}

impl State {
    /// The second factor of a user, if it has one.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn second_factor(&self, user: &UserId) -> Result<Option<SecondFactor>> {
        self.read(|connection| {
            let select = "SELECT since, (SELECT count(*) FROM recovery_codes WHERE recovery_codes.user = totp.user) \
                          FROM totp WHERE user = ? AND since IS NOT NULL";
            let read = |row: &rusqlite::Row<'_>| {
                Ok(SecondFactor {
                    since: row.get(0)?,
                    codes: row.get(1)?,
                })
            };
            connection.query_row(select, [user.as_str()], read).optional()
        })
    }

    /// Who has one.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn users_with_second_factor(&self) -> Result<Vec<UserId>> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached("SELECT user FROM totp WHERE since IS NOT NULL")?;
            let rows = statement.query_map([], |row| super::rules::parsed(row, 0))?;
            rows.collect()
        })
    }

    /// Makes a secret for a user's app. It counts when a first code has shown that the app has it.
    ///
    /// # Errors
    /// There is no such user, or it has a second factor already.
    pub fn begin_totp(&self, user: &UserId) -> Result<TotpSecret> {
        let secret = TotpSecret::generate()?;
        self.change(|connection| {
            must_be(connection, user)?;
            if row(connection, user, true)?.is_some() {
                return refused(format!("{user} has a second factor already: remove that one first"));
            }
            connection.execute(
                "INSERT OR REPLACE INTO totp (user, secret, since, used, wrong, last_wrong) VALUES (?, ?, NULL, 0, 0, 0)",
                params![user.as_str(), secret.bytes()],
            )?;
            Ok(())
        })?;
        Ok(secret)
    }

    /// Takes the first code of a new app: from now on log-ins need one, and those from before have ended. Gives the recovery
    /// codes. None: the code is wrong. `now` in seconds since 1970.
    ///
    /// # Errors
    /// Nothing was begun.
    pub fn confirm_totp(&self, user: &UserId, code: &str, now: i64) -> Result<Option<RecoveryCodes>> {
        self.change(|connection| {
            let Some(row) = row(connection, user, false)? else {
                return refused(format!("no second factor was begun for {user}"));
            };
            let Some(step) = row.secret.step_of(&normal(code), now, 0) else {
                return Ok(None);
            };
            connection.execute(
                "UPDATE totp SET since = ?, used = ? WHERE user = ?",
                params![now, step, user.as_str()],
            )?;
            end_sessions(connection, user)?;
            new_codes(connection, user).map(Some)
        })
    }

    /// Tries a code of the app, or a recovery code; a good one is used up. `now` in seconds since 1970.
    ///
    /// # Errors
    /// The database cannot be read or written.
    pub fn try_second_factor(&self, user: &UserId, code: &str, now: i64) -> Result<Tried> {
        let code = normal(code);
        // In one transaction: two requests with one code cannot both be good.
        self.change(|connection| {
            let Some(row) = row(connection, user, true)? else {
                return Ok(Tried::Wrong);
            };
            if !is_code(&code) {
                let used = connection.execute(
                    "DELETE FROM recovery_codes WHERE user = ? AND hash = ?",
                    params![user.as_str(), hash(user, &code)],
                )?;
                return Ok(if used > 0 {
                    Tried::Good { recovery: true }
                } else {
                    Tried::Wrong
                });
            }
            if let Some(left) = row.wait(now) {
                return Ok(Tried::Wait(left));
            }
            let found = row.secret.step_of(&code, now, row.used);
            match found {
                Some(step) => connection.execute(
                    "UPDATE totp SET used = ?, wrong = 0 WHERE user = ?",
                    params![step, user.as_str()],
                )?,
                None => connection.execute(
                    "UPDATE totp SET wrong = ?, last_wrong = ? WHERE user = ?",
                    params![row.wrong.saturating_add(1), now, user.as_str()],
                )?,
            };
            Ok(found.map_or(Tried::Wrong, |_| Tried::Good { recovery: false }))
        })
    }

    /// Makes new recovery codes; those from before are good no more.
    ///
    /// # Errors
    /// The user has no second factor.
    pub fn new_recovery_codes(&self, user: &UserId) -> Result<RecoveryCodes> {
        self.change(|connection| {
            if row(connection, user, true)?.is_none() {
                return refused(format!("{user} has no second factor"));
            }
            new_codes(connection, user)
        })
    }

    /// Takes a user's second factor away, and ends its sessions.
    ///
    /// # Errors
    /// It has none.
    pub fn remove_second_factor(&self, user: &UserId) -> Result<()> {
        self.change(|connection| {
            connection.execute("DELETE FROM recovery_codes WHERE user = ?", [user.as_str()])?;
            if connection.execute("DELETE FROM totp WHERE user = ?", [user.as_str()])? == 0 {
                return refused(format!("{user} has no second factor"));
            }
            end_sessions(connection, user)
        })
    }
}

/// Ends all tickets of a user.
pub(super) fn end_sessions(connection: &Connection, user: &UserId) -> Result<(), Change> {
    connection.execute("UPDATE users SET epoch = epoch + 1 WHERE id = ?", [user.as_str()])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::UserChange;

    const NOW: i64 = 1_795_381_225;

    fn with_factor() -> (tempfile::TempDir, State, UserId, TotpSecret, RecoveryCodes) {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        let user: UserId = "jane@pbs".parse().unwrap();
        state.add_user(&user, None, &UserChange::default()).unwrap();
        let secret = state.begin_totp(&user).unwrap();
        assert_eq!(state.second_factor(&user).unwrap(), None);
        assert!(state.confirm_totp(&user, "000000x", NOW).unwrap().is_none());
        let codes = state
            .confirm_totp(&user, &secret.code_at(NOW), NOW)
            .unwrap()
            .unwrap();
        (folder, state, user, secret, codes)
    }

    #[test]
    fn codes_are_good_once() {
        let (_folder, state, user, secret, codes) = with_factor();
        assert_eq!(
            state.second_factor(&user).unwrap(),
            Some(SecondFactor {
                since: NOW,
                codes: 10
            })
        );
        assert!(
            state.begin_totp(&user).is_err(),
            "a second factor is not exchanged by itself"
        );
        let attempt = |code: &str, now| state.try_second_factor(&user, code, now).unwrap();
        // The one that confirmed is used up.
        assert_eq!(attempt(&secret.code_at(NOW), NOW), Tried::Wrong);
        let next = secret.code_at(NOW + 30);
        let spaced = format!("{} {}", &next[..3], &next[3..]);
        assert_eq!(attempt(&spaced, NOW), Tried::Good { recovery: false });
        assert_eq!(attempt(&next, NOW), Tried::Wrong);
        assert_eq!(
            attempt(&codes[3].replace('-', "").to_uppercase(), NOW),
            Tried::Good { recovery: true }
        );
        assert_eq!(attempt(&codes[3], NOW), Tried::Wrong);
        assert_eq!(state.second_factor(&user).unwrap().unwrap().codes, 9);
        let new = state.new_recovery_codes(&user).unwrap();
        assert_eq!(attempt(&codes[4], NOW), Tried::Wrong);
        assert_eq!(attempt(&new[4], NOW), Tried::Good { recovery: true });
        state.remove_second_factor(&user).unwrap();
        assert_eq!(attempt(&new[5], NOW), Tried::Wrong);
        assert!(state.remove_second_factor(&user).is_err());
        // What a user had goes with it.
        state.begin_totp(&user).unwrap();
        state.remove_user(&user).unwrap();
        state.add_user(&user, None, &UserChange::default()).unwrap();
        assert!(state.confirm_totp(&user, "123456", NOW).is_err());
    }

    #[test]
    fn guessing_takes_longer_and_longer_and_recovery_codes_go_on_working() {
        let (_folder, state, user, secret, codes) = with_factor();
        let now = NOW + 3600;
        let wrong = |now| {
            let good = secret.step_of("000000", now, 0).is_some();
            state
                .try_second_factor(&user, if good { "111111" } else { "000000" }, now)
                .unwrap()
        };
        for _ in 0..FREE {
            assert_eq!(wrong(now), Tried::Wrong);
        }
        assert_eq!(wrong(now), Tried::Wait(60));
        // A good one is not looked at either.
        assert_eq!(
            state.try_second_factor(&user, &secret.code_at(now), now).unwrap(),
            Tried::Wait(60)
        );
        assert_eq!(wrong(now + 60), Tried::Wrong);
        assert_eq!(wrong(now + 61), Tried::Wait(119));
        assert_eq!(
            state.try_second_factor(&user, &codes[0], now + 61).unwrap(),
            Tried::Good { recovery: true }
        );
        let mut at = now + 60;
        for _ in 0..20 {
            at += LONGEST;
            assert_eq!(wrong(at), Tried::Wrong);
        }
        assert_eq!(wrong(at), Tried::Wait(3600));
        at += LONGEST;
        assert_eq!(
            state.try_second_factor(&user, &secret.code_at(at), at).unwrap(),
            Tried::Good { recovery: false }
        );
        assert_eq!(wrong(at), Tried::Wrong);
    }

    #[test]
    fn no_secret_is_in_the_database_but_that_of_the_app() {
        let (folder, state, _, _, codes) = with_factor();
        drop(state);
        let bytes = std::fs::read(folder.path().join("state.db")).unwrap();
        for code in codes.iter() {
            for text in [code.clone(), normal(code)] {
                assert!(!bytes.windows(text.len()).any(|part| part == text.as_bytes()));
            }
        }
    }
}
