//! Access keys: from the usual environment variables or a credentials file of the AWS tools, never from a URL, and
//! never shown.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use aws_lc_rs::hmac::{self, HMAC_SHA256};
use zeroize::Zeroizing;

use super::config::ConfigError;

/// An access key with its secret. `Debug` shows neither the secret nor the token.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    access_key: String,
    secret: Zeroizing<String>,
    session_token: Option<Zeroizing<String>>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("access_key", &self.access_key)
            .finish_non_exhaustive()
    }
}

impl Credentials {
    /// Credentials that were got elsewhere. The session token is that of temporary ones.
    pub fn new(access_key: String, secret: String, session_token: Option<String>) -> Self {
        Self {
            access_key,
            secret: secret.into(),
            session_token: session_token.map(Zeroizing::new),
        }
    }

    pub(super) fn access_key(&self) -> &str {
        &self.access_key
    }

    pub(super) fn session_token(&self) -> Option<&str> {
        self.session_token.as_ref().map(|token| token.as_str())
    }

    /// The key that the chain of signing keys begins with.
    pub(super) fn signing_root(&self) -> hmac::Key {
        let secret = Zeroizing::new(["AWS4", self.secret.as_str()].concat());
        hmac::Key::new(HMAC_SHA256, secret.as_bytes())
    }
}

/// Where credentials come from, so that they can be read again when they were changed there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`.
    Environment,
    /// A profile of a file in the format of `~/.aws/credentials`.
    File {
        /// The file.
        path: PathBuf,
        /// The profile, usually `default`.
        profile: String,
    },
}

/// Reads the environment; passed in so that it can be tested.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Source {
    /// The source by the usual order: a file that was named in the configuration, the environment, the shared file
    /// (`AWS_SHARED_CREDENTIALS_FILE` or `~/.aws/credentials`).
    ///
    /// # Errors
    ///
    /// [`ConfigError::NoCredentials`] where there is none of them.
    pub fn find(
        file: Option<&Path>,
        profile: Option<&str>,
        environment: Environment<'_>,
    ) -> Result<Self, ConfigError> {
        let named = |name| environment(name).filter(|value| !value.is_empty());
        // A profile that was asked for is not outdone by keys that happen to be in the environment.
        if file.is_none() && profile.is_none() && named("AWS_ACCESS_KEY_ID").is_some() {
            return Ok(Self::Environment);
        }
        let shared = || match named("AWS_SHARED_CREDENTIALS_FILE") {
            Some(path) => Some(PathBuf::from(path)),
            None => named("HOME").map(|home| Path::new(&home).join(".aws/credentials")),
        };
        let path = match file {
            Some(path) => Some(path.to_path_buf()),
            None => shared().filter(|path| path.exists()),
        };
        let Some(path) = path else {
            return Err(ConfigError::NoCredentials);
        };
        let profile = profile
            .map(String::from)
            .or_else(|| named("AWS_PROFILE"))
            .unwrap_or("default".into());
        Ok(Self::File { path, profile })
    }

    /// Reads the credentials as they are now.
    ///
    /// # Errors
    ///
    /// [`ConfigError::NoCredentials`], [`ConfigError::CredentialsFile`].
    pub fn read(&self, environment: Environment<'_>) -> Result<Credentials, ConfigError> {
        match self {
            Self::Environment => {
                let named = |name| environment(name).filter(|value| !value.is_empty());
                let access_key = named("AWS_ACCESS_KEY_ID").ok_or(ConfigError::NoCredentials)?;
                let secret = named("AWS_SECRET_ACCESS_KEY").ok_or(ConfigError::NoCredentials)?;
                Ok(Credentials::new(access_key, secret, named("AWS_SESSION_TOKEN")))
            }
            Self::File { path, profile } => {
                let failed = |reason: String| ConfigError::CredentialsFile {
                    path: path.clone(),
                    reason,
                };
                let text =
                    Zeroizing::new(fs::read_to_string(path).map_err(|error| failed(error.to_string()))?);
                parse(&text, profile).map_err(failed)
            }
        }
    }
}

/// One profile of an INI file: `[name]`, then `key = value` lines; `#` and `;` begin comments.
pub(super) fn parse(text: &str, profile: &str) -> Result<Credentials, String> {
    let mut found = false;
    let mut inside = false;
    let [mut access_key, mut secret, mut token] = [const { None }; 3];
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.split(']').next()) {
            // The config file of the AWS tools writes `[profile name]`.
            let name = name.trim();
            inside = name == profile
                || name
                    .strip_prefix("profile ")
                    .is_some_and(|name| name.trim() == profile);
            found |= inside;
        } else if inside
            && !line.starts_with(['#', ';'])
            && let Some((name, value)) = line.split_once('=')
        {
            let value = Some(value.trim().to_string()).filter(|value| !value.is_empty());
            match name.trim().to_ascii_lowercase().as_str() {
                "aws_access_key_id" => access_key = value,
                "aws_secret_access_key" => secret = value,
                "aws_session_token" => token = value,
                _ => {}
            }
        }
    }
    match (access_key, secret) {
        (Some(access_key), Some(secret)) => Ok(Credentials::new(access_key, secret, token)),
        _ if !found => Err(format!("it has no profile [{profile}]")),
        _ => Err(format!(
            "profile [{profile}] lacks aws_access_key_id or aws_secret_access_key"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# comment\n[default]\naws_access_key_id = ONE\naws_secret_access_key=first=secret\n\
        [profile lab]\n  AWS_ACCESS_KEY_ID = TWO\n;aws_access_key_id = no\naws_secret_access_key = second\n\
        aws_session_token = token\n[half]\naws_access_key_id = THREE\n";

    #[test]
    fn profiles_are_told_apart() {
        let default = parse(FILE, "default").unwrap();
        assert_eq!(
            (default.access_key(), default.secret.as_str()),
            ("ONE", "first=secret")
        );
        assert_eq!(default.session_token(), None);
        let lab = parse(FILE, "lab").unwrap();
        assert_eq!((lab.access_key(), lab.secret.as_str()), ("TWO", "second"));
        assert_eq!(lab.session_token(), Some("token"));
        assert!(parse(FILE, "half").unwrap_err().contains("lacks"));
        assert!(parse(FILE, "none").unwrap_err().contains("no profile"));
    }

    #[test]
    fn nothing_secret_is_shown() {
        let lab = format!("{:?}", parse(FILE, "lab").unwrap());
        assert!(
            lab.contains("TWO") && !lab.contains("second") && !lab.contains("token"),
            "{lab}"
        );
    }

    #[test]
    fn the_usual_order_holds() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("credentials");
        fs::write(&path, FILE).unwrap();
        let keys = |name: &str| match name {
            "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => Some(name.to_string()),
            _ => None,
        };
        assert_eq!(Source::find(None, None, &keys).unwrap(), Source::Environment);
        let file = Source::find(Some(&path), Some("lab"), &keys).unwrap();
        assert_eq!(file.read(&keys).unwrap().access_key(), "TWO");
        let shared = |name: &str| (name == "AWS_SHARED_CREDENTIALS_FILE").then(|| path.display().to_string());
        let source = Source::find(None, None, &shared).unwrap();
        assert_eq!(source.read(&shared).unwrap().access_key(), "ONE");
        let none = |_: &str| None;
        assert!(matches!(
            Source::find(None, None, &none),
            Err(ConfigError::NoCredentials)
        ));
        let missing = Source::find(Some(Path::new("/none/such")), None, &none).unwrap();
        assert!(
            missing
                .read(&none)
                .unwrap_err()
                .to_string()
                .contains("/none/such")
        );
    }
}
