//! PostgreSQL's own programs as clients of a server: no password is in their arguments.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use crate::connect::{ChannelBinding, Host, Settings, SslMode};
use crate::error::{PostgresError, Result};

/// So many characters of what a program complains about are kept.
const SHOWN: u64 = 4096;

/// The programs of one version.
#[derive(Debug, Clone)]
pub(super) struct Clients {
    folder: PathBuf,
}

impl Clients {
    /// Those that can dump and load servers of a major version: of that version or a newer one.
    ///
    /// # Errors
    /// There are none on this host.
    pub fn find(major: u32, given: Option<&Path>) -> Result<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let places: Vec<PathBuf> = match given {
            Some(folder) => vec![folder.to_path_buf()],
            None => (major..=major + 5)
                .flat_map(|version| {
                    [
                        format!("/usr/lib/postgresql/{version}/bin"),
                        format!("/usr/pgsql-{version}/bin"),
                        format!("/opt/postgresql/{version}/bin"),
                    ]
                })
                .map(PathBuf::from)
                .chain(std::env::split_paths(&path))
                .collect(),
        };
        let found = places.into_iter().find(|folder| {
            let clients = Self {
                folder: folder.clone(),
            };
            clients.major().is_some_and(|found| found >= major)
        });
        found.map(|folder| Self { folder }).ok_or_else(|| {
            PostgresError::Refused(format!(
                "pg_dump of PostgreSQL {major} or later is not on this host: install the clients of that version \
                 (Debian: postgresql-client-{major}), or name their folder with bin"
            ))
        })
    }

    fn major(&self) -> Option<u32> {
        let output = self.command("pg_dump").arg("--version").output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        let version = text.trim().strip_prefix("pg_dump (PostgreSQL) ")?;
        let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    }

    /// A program. It gets nothing of this process' environment that could be a secret.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.folder.join(program));
        command
            .env_clear()
            .env("LC_ALL", "C.UTF-8")
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .current_dir("/")
            .stdin(Stdio::null());
        command
    }

    /// A program that talks to a server. The password is in its environment, which only its user can see.
    pub fn talking(&self, program: &str, settings: &Settings) -> Command {
        let mut command = self.command(program);
        command
            .arg("--no-password")
            .arg(format!("--dbname={}", string(settings)));
        if let Some((host, port)) = settings.hosts.first()
            && let Some(password) = settings.password(host, *port, &settings.database)
        {
            command.env("PGPASSWORD", password.as_str());
        }
        command
    }

    /// A program, for messages.
    pub fn path(&self, program: &str) -> PathBuf {
        self.folder.join(program)
    }
}

/// A connection string without a password (libpq, "Connection Strings").
fn string(settings: &Settings) -> String {
    let mut words: Vec<(&str, String)> = Vec::new();
    if let Some((host, port)) = settings.hosts.first() {
        match host {
            Host::Socket(folder) => words.push(("host", folder.display().to_string())),
            Host::Tcp { name, address } => {
                words.push(("host", name.clone()));
                words.extend(address.clone().map(|address| ("hostaddr", address)));
            }
        }
        words.push(("port", port.to_string()));
    }
    words.push(("user", settings.user.clone()));
    words.push(("dbname", settings.database.clone()));
    words.push(("application_name", settings.application.clone()));
    words.push(("connect_timeout", settings.connect_timeout.as_secs().to_string()));
    let mode = match settings.ssl_mode {
        SslMode::Disable => "disable",
        SslMode::Allow => "allow",
        SslMode::Prefer => "prefer",
        SslMode::Require => "require",
        SslMode::VerifyCa => "verify-ca",
        SslMode::VerifyFull => "verify-full",
    };
    words.push(("sslmode", mode.into()));
    let binding = match settings.channel_binding {
        ChannelBinding::Disable => "disable",
        ChannelBinding::Prefer => "prefer",
        ChannelBinding::Require => "require",
    };
    words.push(("channel_binding", binding.into()));
    let root = settings.ssl_root.as_ref().map(|path| path.display().to_string());
    words.extend(root.map(|root| ("sslrootcert", root)));
    if let Some((certificate, key)) = &settings.ssl_client {
        words.push(("sslcert", certificate.display().to_string()));
        words.push(("sslkey", key.display().to_string()));
    }
    words.extend(settings.options.clone().map(|options| ("options", options)));
    let quoted = words
        .iter()
        .map(|(word, value)| format!("{word}='{}'", value.replace('\\', "\\\\").replace('\'', "\\'")));
    quoted.collect::<Vec<_>>().join(" ")
}

/// A program that runs. It is killed if it is dropped before its end.
pub(super) struct Running {
    child: Child,
    program: PathBuf,
    complaints: Option<JoinHandle<String>>,
}

impl Running {
    /// Starts it.
    pub fn start(mut command: Command, program: PathBuf) -> Result<Self> {
        let mut child = command
            .stderr(Stdio::piped())
            .spawn()
            .map_err(PostgresError::io("run", &program))?;
        let complaints = child.stderr.take().map(|mut stderr| {
            std::thread::spawn(move || {
                let mut text = Vec::new();
                let _ = stderr.by_ref().take(SHOWN).read_to_end(&mut text);
                // What follows is read as well, so that it does not wait for somebody to do so.
                let _ = std::io::copy(&mut stderr, &mut std::io::sink());
                String::from_utf8_lossy(&text).trim().to_string()
            })
        });
        Ok(Self {
            child,
            program,
            complaints,
        })
    }

    /// The process.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It ended badly; with what it said.
    pub fn finish(mut self) -> Result<()> {
        let status = self
            .child
            .wait()
            .map_err(PostgresError::io("wait for", &self.program))?;
        let said = self.complaints.take().and_then(|thread| thread.join().ok());
        if status.success() {
            return Ok(());
        }
        Err(PostgresError::Refused(format!(
            "{} failed: {}",
            self.program.display(),
            said.unwrap_or_default()
        )))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
