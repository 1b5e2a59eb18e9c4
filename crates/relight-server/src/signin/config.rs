//! `[signin]` and `[realm.NAME]`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use relight_model::TimeSpan;
use serde::Deserialize;
use zeroize::Zeroizing;

/// Longest secret of a service in bytes.
const MAX_SECRET: u64 = 4096;

/// `[signin]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct SignInConfig {
    /// Whether the server's own users need a second factor beside their password.
    pub totp: SecondFactorRule,
    /// Where browsers reach the server, such as `https://backup.example.org:8007`: providers of identities send them back there.
    pub url: Option<String>,
}

/// Whether a second factor is needed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SecondFactorRule {
    /// Whoever wants one has one.
    #[default]
    Optional,
    /// Nobody logs in without one.
    Required,
}

/// `[realm.NAME]`: whose users the server does not keep itself. They are `name@NAME`.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum RealmConfig {
    /// A directory by LDAP (RFC 4511).
    Ldap(DirectoryConfig),
    /// An Active Directory.
    Ad(DirectoryConfig),
    /// A provider of OpenID Connect.
    Openid(ProviderConfig),
}

/// Where a secret is, that is never in the file itself.
#[derive(Debug, Clone, Default)]
pub struct SecretSource {
    /// A file whose first line it is.
    pub file: Option<PathBuf>,
    /// A variable of the environment.
    pub env: Option<String>,
    /// A credential that the service manager hands over (`LoadCredential=` of systemd).
    pub credential: Option<String>,
}

/// A directory.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DirectoryConfig {
    /// `ldaps://HOST[:PORT]` or `ldap://HOST[:PORT]`, which begins in the clear and turns to TLS before anything is said
    /// (StartTLS). The first that answers is asked.
    pub servers: Vec<String>,
    /// Goes on without TLS on `ldap://`: passwords can be read by whoever is in between.
    #[serde(default)]
    pub danger_plain: bool,
    /// Certificates of authorities (PEM) to trust in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// Under which users are looked for.
    pub base: String,
    /// Who looks for them.
    pub bind_dn: String,
    /// File with the password of that one.
    pub bind_password_file: Option<PathBuf>,
    /// Variable of the environment with it.
    pub bind_password_env: Option<String>,
    /// Credential of the service manager with it.
    pub bind_password_credential: Option<String>,
    /// The attribute that is the name. Usual: `uid`, and `sAMAccountName` for `ad`.
    pub user_attribute: Option<String>,
    /// What else users are, as a filter (RFC 4515).
    pub user_filter: Option<String>,
    /// Groups by the name they have here (`@name@realm` in rules): their distinguished names.
    #[serde(default)]
    pub groups: BTreeMap<String, String>,
    /// Whose members may log in, of those groups. None: of all of them. `*`: everybody.
    pub allow: Option<Vec<String>>,
    /// How often users who have logged in are looked up again.
    #[serde(default = "ten_minutes")]
    pub recheck: TimeSpan,
    /// How long one answer of a server may take.
    #[serde(default = "ten_seconds")]
    pub timeout: TimeSpan,
    /// Whether users need a second factor beside their password.
    #[serde(default)]
    pub totp: SecondFactorRule,
    /// What people are shown.
    pub title: Option<String>,
}

/// A provider of OpenID Connect.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ProviderConfig {
    /// Its identity: `https://…`; what it can do is at `/.well-known/openid-configuration` under it.
    pub issuer: String,
    /// As what the server is known there.
    pub client_id: String,
    /// File with the secret that goes with it; without one, the server is a public client.
    pub client_secret_file: Option<PathBuf>,
    /// Variable of the environment with it.
    pub client_secret_env: Option<String>,
    /// Credential of the service manager with it.
    pub client_secret_credential: Option<String>,
    /// Certificates of authorities (PEM) to trust in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// What is asked for beside `openid`.
    #[serde(default = "usual_scopes")]
    pub scopes: Vec<String>,
    /// The claim that is the name. It must be one that people cannot choose themselves.
    #[serde(default = "usual_user_claim")]
    pub user_claim: String,
    /// What follows the `@` in the claim, and is left out: for claims such as `email`. Others are refused.
    pub domain: Option<String>,
    /// The claim that lists groups.
    #[serde(default = "usual_groups_claim")]
    pub groups_claim: String,
    /// Groups by the name they have here: what the claim says.
    #[serde(default)]
    pub groups: BTreeMap<String, String>,
    /// Whose members may log in, of those groups. None: of all of them. `*`: everybody.
    pub allow: Option<Vec<String>>,
    /// How long the provider may take to answer.
    #[serde(default = "ten_seconds")]
    pub timeout: TimeSpan,
    /// What the button says.
    pub title: Option<String>,
}

fn ten_minutes() -> TimeSpan {
    TimeSpan(Duration::from_secs(600))
}

fn ten_seconds() -> TimeSpan {
    TimeSpan(Duration::from_secs(10))
}

fn usual_scopes() -> Vec<String> {
    vec!["profile".into()]
}

fn usual_user_claim() -> String {
    "preferred_username".into()
}

fn usual_groups_claim() -> String {
    "groups".into()
}

impl SecretSource {
    fn count(&self) -> usize {
        usize::from(self.file.is_some())
            + usize::from(self.env.is_some())
            + usize::from(self.credential.is_some())
    }

    /// Reads it, each time: it may have been changed.
    ///
    /// # Errors
    /// It is not there, in words for the operator.
    pub fn read(&self) -> Result<Option<Zeroizing<String>>, String> {
        if let Some(name) = &self.env {
            let value = std::env::var(name).map_err(|_| format!("the variable {name} is not set"))?;
            return Ok(Some(Zeroizing::new(value)));
        }
        let path = match (&self.file, &self.credential) {
            (Some(file), _) => file.clone(),
            (None, Some(name)) => {
                let folder = std::env::var_os("CREDENTIALS_DIRECTORY");
                let folder = folder.ok_or(
                    "there is no CREDENTIALS_DIRECTORY: the service manager hands no credentials over",
                )?;
                Path::new(&folder).join(name)
            }
            (None, None) => return Ok(None),
        };
        let failed = |error: std::io::Error| format!("{}: {error}", path.display());
        let mut text = Zeroizing::new(String::new());
        let file = std::fs::File::open(&path).map_err(failed)?;
        std::io::Read::read_to_string(&mut std::io::Read::take(file, MAX_SECRET), &mut text)
            .map_err(failed)?;
        let line = text.lines().next().unwrap_or_default();
        if line.is_empty() {
            return Err(format!("{} is empty", path.display()));
        }
        Ok(Some(Zeroizing::new(line.to_owned())))
    }
}

impl DirectoryConfig {
    /// Where the password of who looks is.
    pub fn bind_password(&self) -> SecretSource {
        SecretSource {
            file: self.bind_password_file.clone(),
            env: self.bind_password_env.clone(),
            credential: self.bind_password_credential.clone(),
        }
    }

    fn check(&self) -> Result<(), String> {
        if self.servers.is_empty() {
            return Err("servers names none".into());
        }
        for server in &self.servers {
            let host = server
                .strip_prefix("ldaps://")
                .or_else(|| server.strip_prefix("ldap://"));
            if host.is_none_or(|host| host.is_empty() || host.contains(['/', '@', '?', '#', ' '])) {
                return Err(format!(
                    "{server:?} is no server: write ldaps://HOST or ldap://HOST"
                ));
            }
        }
        if self.base.is_empty() || self.bind_dn.is_empty() {
            return Err("base and bind-dn are needed: who looks for users, and where".into());
        }
        if self.bind_password().count() != 1 {
            return Err(
                "needs one of bind-password-file, bind-password-env and bind-password-credential".into(),
            );
        }
        let is_attribute = |name: &String| {
            !name.is_empty()
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-.;".contains(&byte))
        };
        if self
            .user_attribute
            .as_ref()
            .is_some_and(|name| !is_attribute(name))
        {
            return Err("user-attribute is no name of an attribute".into());
        }
        if let Some(filter) = &self.user_filter
            && ldap3::parse_filter(filter).is_err()
        {
            return Err(format!(
                "user-filter: {filter:?} is no filter: write such as (objectClass=person)"
            ));
        }
        check_spans(self.timeout, Some(self.recheck))?;
        check_allowed(&self.groups, self.allow.as_deref())
    }
}

impl ProviderConfig {
    /// Where the secret of the client is.
    pub fn client_secret(&self) -> SecretSource {
        SecretSource {
            file: self.client_secret_file.clone(),
            env: self.client_secret_env.clone(),
            credential: self.client_secret_credential.clone(),
        }
    }

    fn check(&self, url: Option<&str>) -> Result<(), String> {
        let is_loopback =
            self.issuer.starts_with("http://127.0.0.1:") || self.issuer.starts_with("http://localhost:");
        if !self.issuer.starts_with("https://") && !is_loopback {
            return Err(format!("issuer: {:?} does not begin with https://", self.issuer));
        }
        if url.is_none() {
            return Err("needs signin.url: where the provider sends browsers back to".into());
        }
        if self.client_secret().count() > 1 {
            return Err(
                "client-secret-file, client-secret-env and client-secret-credential: name one of them".into(),
            );
        }
        if self
            .scopes
            .iter()
            .any(|scope| scope.is_empty() || scope.contains(char::is_whitespace))
        {
            return Err("scopes are words".into());
        }
        check_spans(self.timeout, None)?;
        check_allowed(&self.groups, self.allow.as_deref())
    }
}

fn check_spans(timeout: TimeSpan, recheck: Option<TimeSpan>) -> Result<(), String> {
    if !(Duration::from_secs(1)..=Duration::from_secs(60)).contains(&timeout.0) {
        return Err("timeout is 1 s to 60 s".into());
    }
    if recheck.is_some_and(|recheck| recheck.0 < Duration::from_secs(1)) {
        return Err("recheck is 1 s at least".into());
    }
    Ok(())
}

fn check_allowed(groups: &BTreeMap<String, String>, allow: Option<&[String]>) -> Result<(), String> {
    for (name, place) in groups {
        let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if name.is_empty() || name.len() > 64 || !name.bytes().all(safe) || place.is_empty() {
            return Err(format!(
                "groups: {name:?} is no name: use letters, digits, '.', '_' and '-'"
            ));
        }
    }
    match allow {
        None if groups.is_empty() => {
            Err("names no groups: say who may log in, by groups, or allow = [\"*\"] for everybody".into())
        }
        Some([]) => Err("allow is empty: nobody could log in".into()),
        Some(allow) => match allow
            .iter()
            .find(|name| *name != "*" && !groups.contains_key(*name))
        {
            Some(name) => Err(format!("allow: there is no group {name:?} in groups")),
            None => Ok(()),
        },
        None => Ok(()),
    }
}

/// Whether a member of these groups may log in.
pub(super) fn is_allowed(groups: &[String], allow: Option<&[String]>) -> bool {
    match allow {
        None => !groups.is_empty(),
        Some(allow) => allow.iter().any(|name| name == "*" || groups.contains(name)),
    }
}

/// Checks all realms.
pub(crate) fn check(sign_in: &SignInConfig, realms: &BTreeMap<String, RealmConfig>) -> Result<(), String> {
    if let Some(url) = &sign_in.url {
        let rest = url.strip_prefix("https://").unwrap_or_default();
        if rest.is_empty() || rest.trim_end_matches('/').contains(['/', '?', '#', '@', ' ']) {
            return Err(format!(
                "signin.url: {url:?} is no address of this server: write https://HOST:PORT"
            ));
        }
    }
    for (name, realm) in realms {
        if ["pbs", "pam"].contains(&name.as_str())
            || format!("a@{name}")
                .parse::<relight_pbs::access::UserId>()
                .is_err()
        {
            return Err(format!(
                "realm.{name}: no name for a realm: use 2 to 32 letters, digits, '.', '_' and '-'; pbs and pam are taken"
            ));
        }
        let checked = match realm {
            RealmConfig::Ldap(directory) | RealmConfig::Ad(directory) => directory.check(),
            RealmConfig::Openid(provider) => provider.check(sign_in.url.as_deref()),
        };
        checked.map_err(|why| format!("realm.{name}: {why}"))?;
    }
    Ok(())
}

/// Lets relative paths begin at a folder.
pub(crate) fn rebase(realms: &mut BTreeMap<String, RealmConfig>, folder: &Path) {
    for realm in realms.values_mut() {
        let paths = match realm {
            RealmConfig::Ldap(one) | RealmConfig::Ad(one) => [&mut one.ca_file, &mut one.bind_password_file],
            RealmConfig::Openid(one) => [&mut one.ca_file, &mut one.client_secret_file],
        };
        for path in paths.into_iter().flatten() {
            *path = folder.join(&*path);
        }
    }
}
