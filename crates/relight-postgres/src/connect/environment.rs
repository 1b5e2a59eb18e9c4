//! The variables of the environment and the home directory, which settings may come from.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// Where settings come from besides the connection string.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// Variables that begin with `PG`.
    pub variables: BTreeMap<String, String>,
    /// The home directory.
    pub home: Option<PathBuf>,
    /// Name of the user that this process runs as.
    pub user: Option<String>,
}

impl Environment {
    /// That of this process.
    pub fn of_process() -> Self {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, value)| name.starts_with("PG") && !value.is_empty())
            .collect();
        let uid = rustix::process::geteuid().as_raw();
        Self {
            variables,
            home: std::env::var_os("HOME")
                .filter(|home| !home.is_empty())
                .map(PathBuf::from),
            user: user_name(uid),
        }
    }

    /// A variable that is set and not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }
}

/// The name of a user, from `/etc/passwd` or else `USER`.
fn user_name(uid: u32) -> Option<String> {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        (number.parse() == Ok(uid)).then(|| name.to_string())
    });
    named.or_else(|| std::env::var("USER").ok().filter(|name| !name.is_empty()))
}
