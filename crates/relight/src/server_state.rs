//! The server's configuration and state, as the commands of the operator use them: on the server's host, whether it runs or not.

use std::path::{Path, PathBuf};

use clap::Args;
use jiff::Timestamp;
use relight_server::ServerError;
use relight_server::config::{Config, DEFAULT_PATH};
use relight_server::state::{Record, State};

use crate::failure::{Failure, Result};

/// Where the configuration is.
#[derive(Debug, Clone, Args)]
pub struct ConfigOptions {
    /// Configuration of the server [default: /etc/relight/relight.toml]
    #[arg(long, env = "RELIGHT_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ConfigOptions {
    /// Its path.
    pub fn path(&self) -> &Path {
        self.config.as_deref().unwrap_or(Path::new(DEFAULT_PATH))
    }

    /// Whether one was named.
    pub fn is_named(&self) -> bool {
        self.config.is_some()
    }

    /// Reads it.
    pub fn load(&self) -> Result<Config> {
        let path = self.path();
        match Config::load(path) {
            Err(ServerError::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                Err(self.missing())
            }
            other => Ok(other?),
        }
    }

    /// That there is none.
    pub fn missing(&self) -> Failure {
        Failure::Usage(format!(
            "there is no configuration of the server in {}; docs/serve.md tells how to write one",
            self.path().display()
        ))
    }

    /// Opens the state.
    pub fn state(&self) -> Result<State> {
        Ok(State::open(&self.load()?.server.state)?)
    }
}

/// Who gives commands here.
pub fn operator() -> String {
    format!("command line, uid {}", rustix::process::getuid().as_raw())
}

/// Records that an operator changed something here.
pub fn record(state: &State, what: String) -> Result<()> {
    Ok(state.add_records(&[Record {
        time: Timestamp::now(),
        who: Some(operator()),
        peer: None,
        what,
        parameters: String::new(),
        status: 200,
        message: String::new(),
    }])?)
}

/// A day or a time when something ends, in seconds since 1970; a day ends where this host is.
pub fn parse_end(text: &str) -> Result<i64, String> {
    if text == "never" {
        return Ok(0);
    }
    let at = match text.parse::<jiff::civil::Date>() {
        Ok(day) if !text.contains(['T', ' ']) => {
            let next = day.tomorrow().map_err(|error| error.to_string())?;
            next.to_zoned(jiff::tz::TimeZone::system())
                .map_err(|error| error.to_string())?
                .timestamp()
        }
        _ => text.parse::<Timestamp>().map_err(|_| {
            "write a day such as 2027-12-31, a time such as 2027-12-31T12:00:00Z, or never".to_string()
        })?,
    };
    Ok(at.as_second())
}

/// An end, for a list.
pub fn shown_end(end: Option<i64>) -> String {
    match end
        .filter(|end| *end != 0)
        .and_then(|end| Timestamp::from_second(end).ok())
    {
        Some(end) => crate::shown::local(end),
        None => "never".into(),
    }
}
