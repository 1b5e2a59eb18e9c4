//! The configuration: one TOML file. What it does not know it refuses, with the line.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use relight_model::{ByteSize, TimeSpan, plan};
use relight_pbs::access::{Action, AuthId};
use serde::Deserialize;
use toml::de::{DeTable, DeValue};

use crate::error::{Result, ServerError};
use crate::signin::{self, RealmConfig, SignIn, SignInConfig};

/// Where the configuration lies unless another place is named.
pub const DEFAULT_PATH: &str = "/etc/relight/relight.toml";

/// The whole file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The server itself.
    #[serde(default)]
    pub server: ServerConfig,
    /// What it serves, each as one datastore.
    #[serde(default, rename = "repository")]
    pub repositories: Vec<RepositoryConfig>,
    /// Where the server may restore to.
    #[serde(default)]
    pub restore: RestoreConfig,
    /// How mail is sent.
    pub mail: Option<MailConfig>,
    /// What needs a second person.
    #[serde(default)]
    pub approvals: ApprovalsConfig,
    /// How people prove who they are.
    #[serde(default, rename = "signin")]
    pub sign_in: SignInConfig,
    /// Whose users the server does not keep itself, by the realm in their names.
    #[serde(default, rename = "realm")]
    pub realms: BTreeMap<String, RealmConfig>,
    /// Where it was read from.
    #[serde(skip)]
    pub path: PathBuf,
}

/// `[server]`
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct ServerConfig {
    /// Addresses to listen on, such as `[::]:8007` or `192.0.2.10:8007`.
    pub listen: Vec<String>,
    /// Chain of certificates (PEM). None: one that the server makes and signs itself.
    pub certificate: Option<PathBuf>,
    /// Private key of the first of them (PEM).
    pub key: Option<PathBuf>,
    /// Names and addresses for the certificate that the server makes, beside those of this host.
    pub names: Vec<String>,
    /// Folder for users, tokens, rules, records, tasks.
    pub state: PathBuf,
    /// Folder for caches, which may be deleted at any time.
    pub cache: PathBuf,
    /// Name of this host in the names of tasks. None: as the system says.
    pub node: Option<String>,
    /// Connections at a time.
    pub max_connections: usize,
    /// Connections from one address at a time.
    pub max_connections_per_address: usize,
    /// How long running sessions and tasks may go on when the server is told to stop.
    pub grace: TimeSpan,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: vec!["[::]:8007".into()],
            certificate: None,
            key: None,
            names: Vec::new(),
            state: "/var/lib/relight".into(),
            cache: "/var/cache/relight".into(),
            node: None,
            max_connections: 1024,
            max_connections_per_address: 256,
            grace: TimeSpan(Duration::from_secs(60)),
        }
    }
}

/// `[approvals]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct ApprovalsConfig {
    /// What may be done only after a second person has approved it. Nothing, unless it is named here: a lab of one person could
    /// do nothing of it.
    pub required: BTreeSet<Action>,
    /// How long a request waits for a decision, and how long an approval can be used.
    pub valid: TimeSpan,
    /// How long breaking the glass may last at most.
    pub break_glass: TimeSpan,
}

impl Default for ApprovalsConfig {
    fn default() -> Self {
        Self {
            required: BTreeSet::new(),
            valid: TimeSpan(Duration::from_secs(24 * 3600)),
            break_glass: TimeSpan(Duration::from_secs(4 * 3600)),
        }
    }
}

/// `[restore]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct RestoreConfig {
    /// Folders below which whoever may read a workload's snapshots may have them restored. None: nowhere.
    pub roots: Vec<PathBuf>,
}

/// `[mail]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MailConfig {
    /// The server that takes mail: `mail.example.org` or `mail.example.org:587`.
    pub server: String,
    /// Who sends it: an address, or `Name <address>`.
    pub from: String,
    /// How the connection is protected.
    #[serde(default)]
    pub tls: MailTls,
    /// Who logs in there.
    pub user: Option<String>,
    /// File whose first line is the password.
    pub password_file: Option<PathBuf>,
}

/// How a connection to a mail server is protected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MailTls {
    /// Begun in the clear, and protected before anything is said (RFC 3207); refused if the server cannot.
    #[default]
    Starttls,
    /// From the first byte (RFC 8314).
    Tls,
    /// Not at all: for a server on this host.
    None,
}

impl MailConfig {
    /// Host and port; the usual port if none is named.
    pub fn host_and_port(&self) -> (&str, u16) {
        let usual = match self.tls {
            MailTls::Starttls => 587,
            MailTls::Tls => 465,
            MailTls::None => 25,
        };
        let named = self.server.rsplit_once(':');
        let named = named.and_then(|(host, port)| Some((host, port.parse().ok()?)));
        let (host, port) = named.unwrap_or((&self.server, usual));
        (host.trim_start_matches('[').trim_end_matches(']'), port)
    }
}

/// `[[repository]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RepositoryConfig {
    /// Its name as a datastore.
    pub name: String,
    /// A directory or `s3://BUCKET/PREFIX?…`.
    pub location: String,
    /// File whose first line is the passphrase.
    pub password_file: Option<PathBuf>,
    /// Key file.
    pub key_file: Option<PathBuf>,
    /// What people are shown beside the name.
    pub comment: Option<String>,
    /// Who owns groups that no client of the server made, but `relight backup`.
    /// None: `root@pam`, the name of the original's administrator.
    pub owner: Option<AuthId>,
    /// How large it may become, where the storage does not tell: clients show how full it is.
    pub capacity: Option<ByteSize>,
}

/// The document without what the plan reads of it: one file holds both.
fn without_plan(mut document: toml::Spanned<DeTable<'_>>) -> toml::Spanned<DeTable<'_>> {
    let tables = document.get_mut();
    for name in plan::PLAN_TABLES {
        tables.remove(*name);
    }
    if let Some(DeValue::Array(repositories)) = tables.get_mut("repository").map(toml::Spanned::get_mut) {
        for repository in repositories.iter_mut() {
            if let DeValue::Table(words) = repository.get_mut() {
                for word in plan::PLAN_REPOSITORY_WORDS {
                    words.remove(*word);
                }
            }
        }
    }
    document
}

impl Config {
    /// Reads the file.
    ///
    /// # Errors
    /// It cannot be read, or says something that makes no sense.
    pub fn load(path: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).map_err(ServerError::file("read the configuration", path))?;
        Self::parse(path, &text)
    }

    /// Reads what is in the file. Relative paths in it begin at the file's folder.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(path: &Path, text: &str) -> Result<Self> {
        let refused = |why: String| ServerError::Config {
            path: path.to_path_buf(),
            why,
        };
        let document = DeTable::parse(text).map(without_plan);
        let config = document.and_then(|document| Self::deserialize(toml::Deserializer::from(document)));
        let mut config = config.map_err(|error| {
            let line = error
                .span()
                .map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            let line = line.map_or_else(String::new, |line| format!("line {line}: "));
            refused(format!("{line}{}", error.message()))
        })?;
        config.check().map_err(refused)?;
        config.path = path.to_path_buf();
        if let Some(folder) = path.parent() {
            config.rebase(folder);
        }
        Ok(config)
    }

    /// What it says of log-ins.
    ///
    /// # Errors
    /// A file that it names cannot be read.
    pub fn sign_in(&self) -> Result<SignIn> {
        SignIn::new(&self.sign_in, &self.realms)
    }

    fn check(&self) -> Result<(), String> {
        let server = &self.server;
        if server.listen.is_empty() {
            return Err("server.listen names no address".into());
        }
        if server.certificate.is_some() != server.key.is_some() {
            return Err("server.certificate and server.key go together: name both or none".into());
        }
        if server.max_connections == 0 || server.max_connections_per_address == 0 {
            return Err("with max-connections = 0 nobody can connect".into());
        }
        for (word, span) in [
            ("valid", self.approvals.valid),
            ("break-glass", self.approvals.break_glass),
        ] {
            if !(60..=30 * 24 * 3600).contains(&span.0.as_secs()) {
                return Err(format!("approvals.{word}: {span}: say one minute to 30 days"));
            }
        }
        if let Some(mail) = &self.mail {
            if mail.user.is_some() != mail.password_file.is_some() {
                return Err("mail.user and mail.password-file go together: name both or none".into());
            }
            if mail.user.is_some() && mail.tls == MailTls::None {
                return Err(
                    "mail: a password is not sent without TLS: say tls = \"starttls\" or \"tls\"".into(),
                );
            }
            let from = mail.from.parse::<lettre::message::Mailbox>();
            from.map_err(|error| format!("mail.from: {:?}: {error}", mail.from))?;
            let (host, _) = mail.host_and_port();
            if host.is_empty() || host.contains(char::is_whitespace) {
                return Err(format!(
                    "mail.server: {:?} is no server: write HOST or HOST:PORT",
                    mail.server
                ));
            }
        }
        signin::config::check(&self.sign_in, &self.realms)?;
        if let Some(root) = self.restore.roots.iter().find(|root| !root.is_absolute()) {
            return Err(format!("restore.roots: {} does not begin with /", root.display()));
        }
        let mut names = BTreeSet::new();
        for repository in &self.repositories {
            let RepositoryConfig { name, location, .. } = repository;
            // The same characters as in paths of rules and in requests.
            let safe = name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
            let begins = name
                .bytes()
                .next()
                .is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
            if !safe || !begins || !(3..=32).contains(&name.len()) {
                return Err(format!(
                    "{name:?} is no name for a repository: use 3 to 32 letters, digits, '.', '_' and '-', and begin with a \
                     letter, a digit or '_'"
                ));
            }
            if !names.insert(name) {
                return Err(format!("the repository {name:?} is there twice"));
            }
            if location.is_empty() {
                return Err(format!("the repository {name:?} has no location"));
            }
            if repository.password_file.is_some() == repository.key_file.is_some() {
                return Err(format!(
                    "the repository {name:?} needs a key: name one of password-file and key-file"
                ));
            }
        }
        Ok(())
    }

    fn rebase(&mut self, folder: &Path) {
        let server = &mut self.server;
        let mut paths = vec![&mut server.state, &mut server.cache];
        paths.extend(&mut server.certificate);
        paths.extend(&mut server.key);
        if let Some(mail) = &mut self.mail {
            paths.extend(&mut mail.password_file);
        }
        for repository in &mut self.repositories {
            paths.extend(&mut repository.password_file);
            paths.extend(&mut repository.key_file);
            if !repository.location.contains("://") {
                let path = folder.join(&repository.location);
                repository.location = path.to_string_lossy().into_owned();
            }
        }
        for path in paths {
            *path = folder.join(&*path);
        }
        signin::config::rebase(&mut self.realms, folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(Path::new("/etc/relight/relight.toml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_not_said_has_good_values() {
        let config = parse(
            "[[repository]]\nname = 'main'\nlocation = '/srv/backup'\npassword-file = 'main.password'\n\
             [[repository]]\nname = 'cloud'\nlocation = 's3://bucket/prefix?region=eu'\nkey-file = '/k'\n",
        )
        .unwrap();
        assert_eq!(config.server.listen, ["[::]:8007"]);
        assert_eq!(config.server.state, Path::new("/var/lib/relight"));
        assert_eq!(
            config.repositories[0].password_file.as_deref(),
            Some(Path::new("/etc/relight/main.password"))
        );
        assert_eq!(config.repositories[1].location, "s3://bucket/prefix?region=eu");
        assert!(parse("").unwrap().repositories.is_empty());
    }

    #[test]
    fn the_same_file_holds_the_plan() {
        let text = include_str!("../../../dist/plan.toml");
        assert_eq!(parse(text).unwrap().repositories.len(), 2);
        plan::Plan::parse(text).unwrap();
        let own = include_str!("../../../dist/relight.toml");
        parse(own).unwrap();
        plan::Plan::parse(own).unwrap();
        // The lines of what is refused stay those of the file.
        let error = parse("[policy.x]\nschedule = 'daily'\n[sever]\n").unwrap_err();
        assert!(error.contains("line 3: unknown field `sever`"), "{error}");
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_line_or_name() {
        let repository = "[[repository]]\nname = 'main'\nlocation = '/x'\n";
        for (text, says) in [
            (
                "[server]\n\nlisten-on = 'x'\n",
                "line 3: unknown field `listen-on`",
            ),
            ("[sever]\n", "line 1: unknown field `sever`"),
            ("[server]\nlisten = 8007\n", "line 2: "),
            ("[server]\ngrace = 'soon'\n", "line 2: "),
            ("[server]\nlisten = []\n", "names no address"),
            ("[server]\ncertificate = 'x'\n", "go together"),
            (repository, "needs a key"),
            (
                &format!("{repository}key-file = 'a'\npassword-file = 'b'\n"),
                "needs a key",
            ),
            (
                &format!("{repository}key-file = 'a'\n{repository}key-file = 'a'\n"),
                "is there twice",
            ),
            (
                "[[repository]]\nname = '../x'\nlocation = '/x'\nkey-file = 'a'\n",
                "is no name",
            ),
            (
                "[[repository]]\nlocation = '/x'\n",
                "line 1: missing field `name`",
            ),
            ("[server\n", "line 1: "),
        ] {
            let error = parse(text).unwrap_err();
            assert!(
                error.contains(says) && error.starts_with("/etc/relight/relight.toml: "),
                "{text}: {error}"
            );
        }
    }
}
