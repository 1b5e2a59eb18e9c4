//! Settings of a connection, put together from all places that they may come from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use super::environment::Environment;
use super::{conninfo, passfile, service, url};
use crate::error::{PostgresError, Result};

/// Where sockets are looked for if no host is named.
const SOCKET_DIRECTORIES: [&str; 2] = ["/var/run/postgresql", "/tmp"];
/// The port if none is named.
const PORT: u16 = 5432;
/// How long a connection may take to come about, if nothing else is said.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Keywords that are taken note of, and the variable of the environment that stands for each.
const KEYWORDS: &[(&str, &str)] = &[
    ("application_name", "PGAPPNAME"),
    ("channel_binding", "PGCHANNELBINDING"),
    ("connect_timeout", "PGCONNECT_TIMEOUT"),
    ("dbname", "PGDATABASE"),
    ("host", "PGHOST"),
    ("hostaddr", "PGHOSTADDR"),
    ("options", "PGOPTIONS"),
    ("passfile", "PGPASSFILE"),
    ("password", "PGPASSWORD"),
    ("port", "PGPORT"),
    ("service", "PGSERVICE"),
    ("sslcert", "PGSSLCERT"),
    ("sslkey", "PGSSLKEY"),
    ("sslmode", "PGSSLMODE"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("target_session_attrs", "PGTARGETSESSIONATTRS"),
    ("user", "PGUSER"),
];

/// Keywords of libpq that are accepted and change nothing here.
const WITHOUT_EFFECT: &[&str] = &[
    "client_encoding",
    "fallback_application_name",
    "gssencmode",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "krbsrvname",
    "load_balance_hosts",
    "replication",
    "requirepeer",
    "sslcompression",
    "sslsni",
    "tcp_user_timeout",
];

/// Whether and how a connection is encrypted and the server's certificate is checked (libpq, "SSL Mode Descriptions").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslMode {
    /// Not encrypted.
    Disable,
    /// Encrypted only if the server insists.
    Allow,
    /// Encrypted if the server can.
    Prefer,
    /// Encrypted; the certificate is only checked if there is a file of authorities.
    Require,
    /// Encrypted, with a certificate that a trusted authority signed.
    VerifyCa,
    /// Moreover, the certificate names the host.
    VerifyFull,
}

/// Which of several servers will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetSession {
    /// The first that answers.
    Any,
    /// One that is not in recovery.
    Primary,
    /// One that is in recovery.
    Standby,
    /// One that is in recovery, or else any.
    PreferStandby,
}

/// Whether a log-in is bound to the TLS connection it is made over, so that nobody in between can pass it on (libpq,
/// `channel_binding`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelBinding {
    /// No.
    Disable,
    /// If both sides can.
    Prefer,
    /// Always: no other log-in will do.
    Require,
}

/// One place where a server may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A directory that holds its Unix socket.
    Socket(PathBuf),
    /// A host, by the name that its certificate should have, and the address to connect to if that was given.
    Tcp {
        /// Name.
        name: String,
        /// Address.
        address: Option<String>,
    },
}

/// How a cluster is reached.
#[derive(Clone)]
pub struct Settings {
    /// Where it may be, with ports; tried in this order.
    pub hosts: Vec<(Host, u16)>,
    /// The role to log in as.
    pub user: String,
    /// The database, for other than replication connections.
    pub database: String,
    /// How it is encrypted.
    pub ssl_mode: SslMode,
    /// File of authorities that the server's certificate is checked against; `system` for those of this host.
    pub ssl_root: Option<PathBuf>,
    /// Certificate and key that this client shows.
    pub ssl_client: Option<(PathBuf, PathBuf)>,
    /// Whether the log-in is bound to the connection.
    pub channel_binding: ChannelBinding,
    /// Which server will do.
    pub target: TargetSession,
    /// How long a connection may take to come about.
    pub connect_timeout: Duration,
    /// Name that the server shows for the connection.
    pub application: String,
    /// Command-line options for the server's session.
    pub options: Option<String>,
    password: Option<Zeroizing<String>>,
    passfile: Option<PathBuf>,
}

/// Shows everything but the password.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("hosts", &self.hosts)
            .field("user", &self.user)
            .field("database", &self.database)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// From a URL or a connection string, which may be empty, and from where else this process finds settings.
    ///
    /// # Errors
    /// [`PostgresError::Settings`], if it cannot be understood or holds a password, which others could see in the list of
    /// processes or in the configuration.
    pub fn new(text: &str) -> Result<Self> {
        Self::with(text, &Environment::of_process())
    }

    /// The same with another environment.
    pub fn with(text: &str, environment: &Environment) -> Result<Self> {
        let given = match url::strip_scheme(text) {
            Some(rest) => url::parse(rest)?,
            None => conninfo::parse(text)?,
        };
        if given
            .iter()
            .any(|(key, _)| key == "password" || key == "sslpassword")
        {
            return Err(PostgresError::Settings(
                "the connection settings hold a password, which does not belong there: put it in ~/.pgpass, in a service \
                 file or in PGPASSWORD"
                    .into(),
            ));
        }
        let mut values = BTreeMap::new();
        take(&mut values, given, "the connection settings")?;
        let service = values
            .get("service")
            .cloned()
            .or_else(|| environment.get("PGSERVICE").map(String::from));
        if let Some(name) = service {
            let what = format!("service {name:?}");
            take(&mut values, service::load(&name, environment)?, &what)?;
        }
        for (key, variable) in KEYWORDS {
            if let Some(value) = environment.get(variable) {
                values
                    .entry((*key).to_string())
                    .or_insert_with(|| value.to_string());
            }
        }
        values.retain(|_, value| !value.is_empty());
        Self::of_values(values, environment)
    }

    fn of_values(mut values: BTreeMap<String, String>, environment: &Environment) -> Result<Self> {
        let home = |name: &str| Some(environment.home.as_ref()?.join(".postgresql").join(name));
        let hosts = hosts(&mut values)?;
        let Some(user) = values.remove("user").or_else(|| environment.user.clone()) else {
            return Err(PostgresError::Settings(
                "no user is named: add user= or PGUSER".into(),
            ));
        };
        let connect_timeout = match values.remove("connect_timeout") {
            Some(text) => match text.parse::<u64>() {
                Ok(0) => Duration::from_secs(365 * 86_400),
                Ok(seconds) => Duration::from_secs(seconds.max(2)),
                Err(_) => return Err(wrong("connect_timeout", &text, "a number of seconds")),
            },
            None => CONNECT_TIMEOUT,
        };
        let ssl_root = match values.remove("sslrootcert") {
            Some(path) => Some(PathBuf::from(path)),
            None => home("root.crt").filter(|path| path.exists()),
        };
        let mut ssl_mode = match values.remove("sslmode") {
            Some(text) => ssl_mode(&text)?,
            None => SslMode::Prefer,
        };
        if ssl_root.as_deref() == Some(Path::new("system")) {
            ssl_mode = SslMode::VerifyFull;
        }
        let certificate = values.remove("sslcert").map(PathBuf::from);
        let key = values.remove("sslkey").map(PathBuf::from);
        let ssl_client = match (certificate, key) {
            (None, None) => match (home("postgresql.crt"), home("postgresql.key")) {
                (Some(certificate), Some(key)) if certificate.exists() => Some((certificate, key)),
                _ => None,
            },
            (certificate, key) => certificate
                .or_else(|| home("postgresql.crt"))
                .zip(key.or_else(|| home("postgresql.key"))),
        };
        let channel_binding = match values.remove("channel_binding").as_deref() {
            None | Some("prefer") => ChannelBinding::Prefer,
            Some("disable") => ChannelBinding::Disable,
            Some("require") => ChannelBinding::Require,
            Some(other) => {
                return Err(PostgresError::Settings(format!(
                    "channel_binding={other}: there are disable, prefer and require"
                )));
            }
        };
        let target = match values.remove("target_session_attrs") {
            Some(text) => target(&text)?,
            None => TargetSession::Any,
        };
        let passfile = match values.remove("passfile") {
            Some(path) => Some(PathBuf::from(path)),
            None => environment.home.as_ref().map(|home| home.join(".pgpass")),
        };
        Ok(Self {
            hosts,
            database: values.remove("dbname").unwrap_or_else(|| user.clone()),
            user,
            ssl_mode,
            ssl_root,
            ssl_client,
            channel_binding,
            target,
            connect_timeout,
            application: values
                .remove("application_name")
                .unwrap_or_else(|| "relight".into()),
            options: values.remove("options"),
            password: values.remove("password").map(Zeroizing::new),
            passfile,
        })
    }

    /// The same cluster, another database.
    pub fn in_database(&self, database: &str) -> Self {
        Self {
            database: database.to_string(),
            ..self.clone()
        }
    }

    /// The same cluster, but only the server at one of its places.
    pub(crate) fn at(&self, host: &Host, port: u16) -> Self {
        Self {
            hosts: vec![(host.clone(), port)],
            target: TargetSession::Any,
            ..self.clone()
        }
    }

    /// The password for a server, from wherever one is found.
    pub(crate) fn password(&self, host: &Host, port: u16, database: &str) -> Option<Zeroizing<String>> {
        if self.password.is_some() {
            return self.password.clone();
        }
        let name = match host {
            Host::Socket(directory)
                if SOCKET_DIRECTORIES
                    .iter()
                    .any(|known| directory == Path::new(known)) =>
            {
                "localhost".to_string()
            }
            Host::Socket(directory) => directory.display().to_string(),
            Host::Tcp { name, .. } => name.clone(),
        };
        passfile::password(self.passfile.as_deref()?, &name, port, database, &self.user)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(directory) => write!(f, "{}", directory.display()),
            Self::Tcp { name, .. } if name.contains(':') => write!(f, "[{name}]"),
            Self::Tcp { name, .. } => f.write_str(name),
        }
    }
}

/// Takes over what is not known yet.
fn take(values: &mut BTreeMap<String, String>, given: Vec<(String, String)>, what: &str) -> Result<()> {
    let mut seen = BTreeMap::new();
    for (key, value) in given {
        if KEYWORDS.iter().any(|(known, _)| *known == key) {
            // Within one place the last counts.
            seen.insert(key, value);
        } else if !WITHOUT_EFFECT.contains(&key.as_str()) {
            return Err(PostgresError::Settings(format!(
                "{what}: {key:?} is no connection parameter that is known here"
            )));
        }
    }
    for (key, value) in seen {
        values.entry(key).or_insert(value);
    }
    Ok(())
}

fn hosts(values: &mut BTreeMap<String, String>) -> Result<Vec<(Host, u16)>> {
    let list = |text: Option<String>| -> Vec<String> {
        text.map(|text| text.split(',').map(|part| part.trim().to_string()).collect())
            .unwrap_or_default()
    };
    let (names, addresses) = (list(values.remove("host")), list(values.remove("hostaddr")));
    let ports = list(values.remove("port"));
    let count = names.len().max(addresses.len()).max(1);
    if !names.is_empty() && !addresses.is_empty() && names.len() != addresses.len() {
        return Err(PostgresError::Settings(
            "host and hostaddr name different numbers of servers".into(),
        ));
    }
    if ports.len() > 1 && ports.len() != count {
        return Err(PostgresError::Settings(format!(
            "{} ports are given for {count} servers",
            ports.len()
        )));
    }
    let mut hosts = Vec::new();
    for number in 0..count {
        let port = match ports
            .get(number)
            .or(ports.first())
            .filter(|port| !port.is_empty())
        {
            Some(text) => match text.parse::<u16>() {
                Ok(port) if port > 0 => port,
                _ => return Err(wrong("port", text, "a number from 1 to 65535")),
            },
            None => PORT,
        };
        let name = names.get(number).filter(|name| !name.is_empty());
        let address = addresses.get(number).filter(|address| !address.is_empty());
        let host = match (name, address) {
            (Some(directory), None) if directory.starts_with('/') => Host::Socket(directory.into()),
            (Some(name), address) => Host::Tcp {
                name: name.clone(),
                address: address.cloned(),
            },
            (None, Some(address)) => Host::Tcp {
                name: address.clone(),
                address: Some(address.clone()),
            },
            (None, None) => default_host(port),
        };
        hosts.push((host, port));
    }
    Ok(hosts)
}

/// The server of this host: by its socket, or else over loopback.
fn default_host(port: u16) -> Host {
    let directories = SOCKET_DIRECTORIES.map(Path::new);
    let found = directories
        .iter()
        .find(|directory| directory.join(format!(".s.PGSQL.{port}")).exists());
    match found {
        Some(directory) => Host::Socket(directory.to_path_buf()),
        None => Host::Tcp {
            name: "localhost".into(),
            address: None,
        },
    }
}

fn ssl_mode(text: &str) -> Result<SslMode> {
    Ok(match text {
        "disable" => SslMode::Disable,
        "allow" => SslMode::Allow,
        "prefer" => SslMode::Prefer,
        "require" => SslMode::Require,
        "verify-ca" => SslMode::VerifyCa,
        "verify-full" => SslMode::VerifyFull,
        _ => {
            let known = "disable, allow, prefer, require, verify-ca or verify-full";
            return Err(wrong("sslmode", text, known));
        }
    })
}

fn target(text: &str) -> Result<TargetSession> {
    Ok(match text {
        "any" => TargetSession::Any,
        "primary" | "read-write" => TargetSession::Primary,
        "standby" | "read-only" => TargetSession::Standby,
        "prefer-standby" => TargetSession::PreferStandby,
        _ => {
            let known = "any, primary, read-write, standby, read-only or prefer-standby";
            return Err(wrong("target_session_attrs", text, known));
        }
    })
}

fn wrong(key: &str, value: &str, known: &str) -> PostgresError {
    PostgresError::Settings(format!("{key}={value}: it has to be {known}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment {
            variables: variables
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .collect(),
            home: None,
            user: Some("me".into()),
        }
    }

    fn tcp(name: &str) -> Host {
        Host::Tcp {
            name: name.into(),
            address: None,
        }
    }

    #[test]
    fn what_is_given_comes_before_the_environment() {
        let environment = environment(&[("PGHOST", "h1"), ("PGPORT", "7"), ("PGUSER", "u1")]);
        let settings = Settings::with("postgresql://h2/d", &environment).unwrap();
        assert_eq!(settings.hosts, [(tcp("h2"), 7)]);
        assert_eq!((settings.user.as_str(), settings.database.as_str()), ("u1", "d"));
        assert_eq!(settings.ssl_mode, SslMode::Prefer);
    }

    #[test]
    fn a_service_comes_between_what_is_given_and_the_environment() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "[s]\nhost=h2\nport=8\npassword=secret\n").unwrap();
        let path = file.path().display().to_string();
        let environment = environment(&[("PGHOST", "h1"), ("PGSERVICEFILE", &path), ("PGUSER", "u")]);
        let settings = Settings::with("service=s port=9", &environment).unwrap();
        assert_eq!(settings.hosts, [(tcp("h2"), 9)]);
        let password = settings.password(&tcp("h2"), 9, "d").unwrap();
        assert_eq!(password.as_str(), "secret");
        assert!(!format!("{settings:?}").contains("secret"));
    }

    #[test]
    fn several_servers_and_sockets() {
        let none = environment(&[]);
        let settings = Settings::with("host=a,/run/x,c port=1,2,3", &none).unwrap();
        let socket = Host::Socket("/run/x".into());
        assert_eq!(settings.hosts, [(tcp("a"), 1), (socket, 2), (tcp("c"), 3)]);
        let settings = Settings::with("postgresql://a,b/x?target_session_attrs=primary", &none).unwrap();
        assert_eq!(settings.hosts, [(tcp("a"), 5432), (tcp("b"), 5432)]);
        assert_eq!(settings.target, TargetSession::Primary);
        assert_eq!(settings.database, "x");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let none = environment(&[]);
        for wrong in [
            "postgresql://u:secret@h/d",
            "password=secret",
            "port=0",
            "port=70000",
            "host=a,b port=1,2,3",
            "sslmode=maybe",
            "hots=a",
            "connect_timeout=soon",
            "target_session_attrs=best",
            "channel_binding=sometimes",
        ] {
            let error = Settings::with(wrong, &none).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
