//! Which bucket, and how it is spoken to.

use std::path::PathBuf;
use std::time::Duration;

use super::credentials::Environment;

/// A location or configuration that cannot be used. Says what to change; never repeats what may be a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Not of the form `s3://bucket/prefix?option=value`.
    #[error("the S3 location cannot be used: {0}; expected s3://BUCKET[/PREFIX][?OPTION=VALUE&...]")]
    Location(String),
    /// An option has a value it cannot have.
    #[error("S3 option {option}: {reason}")]
    Option {
        /// Its name.
        option: String,
        /// What is wrong.
        reason: String,
    },
    /// No credentials were found.
    #[error(
        "no S3 credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a file with \
         credentials-file=PATH, or put them in ~/.aws/credentials"
    )]
    NoCredentials,
    /// A credentials file cannot be read.
    #[error("S3 credentials file {}: {reason}", .path.display())]
    CredentialsFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file with additional certificate authorities cannot be read.
    #[error("certificate authority file {}: {reason}; it must hold certificates in PEM form", .path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// Where the bucket's name goes in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Addressing {
    /// In the host name at AWS, in the path at any other endpoint.
    #[default]
    Auto,
    /// `https://endpoint/bucket/key`.
    Path,
    /// `https://bucket.endpoint/key`.
    VirtualHost,
}

/// Object lock mode of what is put under retention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LockMode {
    /// Nobody can delete before the time, the owner of the account included.
    #[default]
    Compliance,
    /// Who holds a special permission can.
    Governance,
}

impl LockMode {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Compliance => "COMPLIANCE",
            Self::Governance => "GOVERNANCE",
        }
    }
}

/// How `put_new` decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Conditions {
    /// Find out with a probe object before the first `put_new`.
    #[default]
    Probe,
    /// By `If-None-Match`, without a probe.
    Trust,
    /// By claims ([`super::super::claim`]), without a probe.
    Claims,
}

/// How hard to try. Only what is safe to repeat is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// Tries of one request, the first included.
    pub attempts: u32,
    /// The wait before the second; it doubles from then on, and half of it is left to chance.
    pub first_wait: Duration,
    /// The longest wait that doubling leads to.
    pub longest_wait: Duration,
    /// No try is begun when this has passed since the first.
    pub budget: Duration,
    /// Time for connecting, and for the server to show a sign of life.
    pub timeout: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            attempts: 10,
            first_wait: Duration::from_millis(100),
            longest_wait: Duration::from_secs(10),
            // With the timeouts of one try (five minutes) less than the eight that `claim` leaves a write.
            budget: Duration::from_secs(120),
            timeout: Duration::from_secs(60),
        }
    }
}

/// A bucket (or a prefix in one) and how it is spoken to. Holds nothing secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Config {
    /// The bucket. It must exist.
    pub bucket: String,
    /// All keys lie under this; empty, or path parts joined by `/`, without one at either end.
    pub prefix: String,
    /// `https://host[:port]`, or `http://…` for an endpoint without TLS; none is AWS.
    pub endpoint: Option<String>,
    /// The region to sign for; needed at AWS, elsewhere `us-east-1` by default.
    pub region: Option<String>,
    /// Path-style or virtual-host requests.
    pub addressing: Addressing,
    /// Certificate authorities in PEM form, trusted besides those of the system.
    pub ca_file: Option<PathBuf>,
    /// A credentials file in the format of the AWS tools, used instead of the environment.
    pub credentials_file: Option<PathBuf>,
    /// The profile in the credentials file.
    pub profile: Option<String>,
    /// The mode of object locks.
    pub lock_mode: LockMode,
    /// How `put_new` decides.
    pub conditions: Conditions,
    /// Objects larger than this are written in parts, in bytes.
    pub multipart_above: u64,
    /// Length of a part in bytes (at least 5 MiB for most servers).
    pub part_size: u64,
    /// Parts of one object under way at once.
    pub parallel_parts: usize,
    /// Tier for thawing: `Bulk`, `Standard`, `Expedited`.
    pub thaw_tier: String,
    /// How hard to try.
    pub retries: Retries,
}

impl S3Config {
    /// A bucket with everything else by default.
    pub fn new(bucket: &str, prefix: &str) -> Self {
        Self {
            bucket: bucket.into(),
            prefix: prefix.trim_matches('/').into(),
            endpoint: None,
            region: None,
            addressing: Addressing::Auto,
            ca_file: None,
            credentials_file: None,
            profile: None,
            lock_mode: LockMode::Compliance,
            conditions: Conditions::Probe,
            multipart_above: 64 << 20,
            part_size: 16 << 20,
            parallel_parts: 4,
            thaw_tier: "Standard".into(),
            retries: Retries::default(),
        }
    }

    /// Reads `s3://bucket/prefix`, with options after a `?`, joined by `&` and percent-encoded where needed:
    ///
    /// | option | value |
    /// | --- | --- |
    /// | `endpoint` | URL of the server |
    /// | `region` | region to sign for |
    /// | `addressing` | `path` or `virtual` |
    /// | `ca` | PEM file of certificate authorities to trust besides the system's |
    /// | `credentials-file` | file in the format of `~/.aws/credentials` |
    /// | `profile` | the profile in it |
    /// | `lock` | `compliance` or `governance` |
    /// | `conditions` | `probe`, `trust` or `claims` |
    /// | `multipart-above`, `part-size` | bytes |
    /// | `parallel-parts` | 1 to 64 |
    /// | `thaw-tier` | `Bulk`, `Standard` or `Expedited` |
    ///
    /// # Errors
    ///
    /// [`ConfigError::Location`], [`ConfigError::Option`]. Credentials in the location are refused.
    pub fn parse(location: &str) -> Result<Self, ConfigError> {
        let wrong = |reason: &str| ConfigError::Location(reason.into());
        let rest = location
            .strip_prefix("s3://")
            .ok_or_else(|| wrong("it does not begin with s3://"))?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
        if bucket.contains(['@', ':']) {
            return Err(wrong(
                "it seems to hold credentials, which must come from the environment or a file",
            ));
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if bucket.is_empty() || bucket.len() > 255 || !bucket.bytes().all(allowed) {
            return Err(wrong(
                "the bucket's name is empty or has characters that a bucket cannot have",
            ));
        }
        let prefix = prefix.trim_matches('/');
        if prefix.split('/').any(|part| matches!(part, "." | "..")) || prefix.contains("//") {
            return Err(wrong("the prefix has an empty part, or one that is . or .."));
        }
        if prefix.len() > 512 || prefix.chars().any(char::is_control) {
            return Err(wrong("the prefix is too long or has control characters"));
        }
        let mut config = Self::new(bucket, prefix);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (option, value) = pair.split_once('=').unwrap_or((pair, ""));
            config.set(option, &decode(option, value)?)?;
        }
        Ok(config)
    }

    fn set(&mut self, option: &str, value: &str) -> Result<(), ConfigError> {
        let wrong = |reason: &str| {
            Err(ConfigError::Option {
                option: option.into(),
                reason: reason.into(),
            })
        };
        if value.is_empty() {
            return wrong("it has no value");
        }
        let bytes = |least: u64| match value.parse::<u64>() {
            Ok(bytes) if (least..=5 << 30).contains(&bytes) => Ok(bytes),
            _ => Err(ConfigError::Option {
                option: option.into(),
                reason: format!("must be a number of bytes from {least} to 5368709120"),
            }),
        };
        match option {
            "endpoint" => self.endpoint = Some(value.into()),
            "region" => self.region = Some(value.into()),
            "addressing" => {
                self.addressing = match value {
                    "path" => Addressing::Path,
                    "virtual" => Addressing::VirtualHost,
                    _ => return wrong("must be path or virtual"),
                };
            }
            "ca" => self.ca_file = Some(value.into()),
            "credentials-file" => self.credentials_file = Some(value.into()),
            "profile" => self.profile = Some(value.into()),
            "lock" => {
                self.lock_mode = match value {
                    "compliance" => LockMode::Compliance,
                    "governance" => LockMode::Governance,
                    _ => return wrong("must be compliance or governance"),
                };
            }
            "conditions" => {
                self.conditions = match value {
                    "probe" => Conditions::Probe,
                    "trust" => Conditions::Trust,
                    "claims" => Conditions::Claims,
                    _ => return wrong("must be probe, trust or claims"),
                };
            }
            "multipart-above" => self.multipart_above = bytes(0)?,
            "part-size" => self.part_size = bytes(5 << 20)?,
            "parallel-parts" => match value.parse() {
                Ok(parts @ 1..=64) => self.parallel_parts = parts,
                _ => return wrong("must be a number from 1 to 64"),
            },
            "thaw-tier" => match value {
                "Bulk" | "Standard" | "Expedited" => self.thaw_tier = value.into(),
                _ => return wrong("must be Bulk, Standard or Expedited"),
            },
            _ if option.contains("key") || option.contains("secret") || option.contains("token") => {
                return wrong("credentials must come from the environment or a file, not from the location");
            }
            _ => return wrong("there is no such option"),
        }
        Ok(())
    }

    /// Fills what was not set from the variables of the AWS tools: `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL`,
    /// `AWS_REGION` or `AWS_DEFAULT_REGION`, `AWS_CA_BUNDLE`.
    pub fn with_environment(mut self, environment: Environment<'_>) -> Self {
        let first = |names: &[&str]| {
            names
                .iter()
                .find_map(|name| environment(name).filter(|value| !value.is_empty()))
        };
        self.endpoint = self
            .endpoint
            .or_else(|| first(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]));
        self.region = self
            .region
            .or_else(|| first(&["AWS_REGION", "AWS_DEFAULT_REGION"]));
        self.ca_file = self
            .ca_file
            .or_else(|| first(&["AWS_CA_BUNDLE"]).map(PathBuf::from));
        self
    }
}

/// Where requests go: scheme, host, and the path before the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub tls: bool,
    /// Host with port, as in the `Host` header.
    pub host: String,
    /// `/` or `/bucket/`.
    pub base: String,
    pub region: String,
}

impl Endpoint {
    pub fn of(config: &S3Config) -> Result<Self, ConfigError> {
        let (tls, host, region) = match &config.endpoint {
            None => {
                let region = config.region.clone().ok_or_else(|| ConfigError::Option {
                    option: "region".into(),
                    reason: "not set; AWS needs it (region=... or AWS_REGION), or set endpoint=URL".into(),
                })?;
                let china = if region.starts_with("cn-") { ".cn" } else { "" };
                (true, format!("s3.{region}.amazonaws.com{china}"), region)
            }
            Some(url) => {
                let wrong = |reason: &str| ConfigError::Option {
                    option: "endpoint".into(),
                    reason: reason.into(),
                };
                let (tls, host) = match url.split_once("://") {
                    Some(("https", host)) => (true, host),
                    Some(("http", host)) => (false, host),
                    _ => {
                        return Err(wrong(
                            "must begin with https:// (or http:// for a server without TLS)",
                        ));
                    }
                };
                let host = host.trim_end_matches('/');
                if host.contains('@') {
                    return Err(wrong(
                        "credentials must come from the environment or a file, not from the URL",
                    ));
                }
                if host.is_empty() || host.contains(['/', '?', '#', ' ']) {
                    return Err(wrong("must be https://HOST or https://HOST:PORT, without a path"));
                }
                // As HTTP clients write the host, so that it is what is signed.
                let default_port = if tls { ":443" } else { ":80" };
                let host = host
                    .strip_suffix(default_port)
                    .unwrap_or(host)
                    .to_ascii_lowercase();
                (tls, host, config.region.clone().unwrap_or("us-east-1".into()))
            }
        };
        let virtual_host = match config.addressing {
            Addressing::Path => false,
            Addressing::VirtualHost => true,
            // A wildcard certificate does not cover a bucket with a dot.
            Addressing::Auto => config.endpoint.is_none() && !config.bucket.contains('.'),
        };
        Ok(if virtual_host {
            Self {
                tls,
                host: format!("{}.{host}", config.bucket),
                base: "/".into(),
                region,
            }
        } else {
            Self {
                tls,
                host,
                base: format!("/{}/", config.bucket),
                region,
            }
        })
    }

    pub fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }
}

fn decode(option: &str, value: &str) -> Result<String, ConfigError> {
    let wrong = || ConfigError::Option {
        option: option.into(),
        reason: "is not percent-encoded right".into(),
    };
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first == b'%' {
            let digits = rest.get(..2).ok_or_else(wrong)?;
            let mut byte = [0];
            hex::decode_to_slice(digits, &mut byte).map_err(|_| wrong())?;
            bytes.push(byte[0]);
            rest = &rest[2..];
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(location: &str) -> S3Config {
        S3Config::parse(location).unwrap()
    }

    #[test]
    fn locations_are_read() {
        let plain = parse("s3://bucket");
        assert_eq!((plain.bucket.as_str(), plain.prefix.as_str()), ("bucket", ""));
        let full = parse(
            "s3://b.ck-t/Lab A/x/?endpoint=http%3A%2F%2F127.0.0.1:9000/&region=eu&ca=/etc/ca.pem&lock=governance\
             &addressing=virtual&part-size=5242880&conditions=claims&credentials-file=/run/key&profile=lab",
        );
        assert_eq!(full.prefix, "Lab A/x");
        assert_eq!(full.lock_mode, LockMode::Governance);
        assert_eq!((full.part_size, full.conditions), (5 << 20, Conditions::Claims));
        let endpoint = Endpoint::of(&full).unwrap();
        assert_eq!(
            (endpoint.tls, endpoint.host.as_str()),
            (false, "b.ck-t.127.0.0.1:9000")
        );
        assert_eq!((endpoint.base.as_str(), endpoint.region.as_str()), ("/", "eu"));
    }

    #[test]
    fn bad_locations_are_refused_without_repeating_secrets() {
        for location in [
            "bucket/x",
            "s3://",
            "s3:///x",
            "s3://KEY:hunter2@bucket/x",
            "s3://bucket/a/../b",
            "s3://bucket/a//b",
            "s3://bucket?secret-key=hunter2",
            "s3://bucket?aws_session_token=hunter2",
            "s3://bucket?color=blue",
            "s3://bucket?region=",
            "s3://bucket?part-size=5",
            "s3://bucket?endpoint=%zz",
        ] {
            let error = S3Config::parse(location).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        for endpoint in [
            "https://KEY:hunter2@host",
            "host:9000",
            "ftp://host",
            "https://host/path",
            "https://",
        ] {
            let mut config = S3Config::new("bucket", "");
            config.endpoint = Some(endpoint.into());
            let error = Endpoint::of(&config).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn aws_is_spoken_to_in_its_ways() {
        let mut config = S3Config::new("bucket", "");
        assert!(Endpoint::of(&config).unwrap_err().to_string().contains("region"));
        config.region = Some("eu-central-1".into());
        let endpoint = Endpoint::of(&config).unwrap();
        assert_eq!(
            (endpoint.host.as_str(), endpoint.base.as_str()),
            ("bucket.s3.eu-central-1.amazonaws.com", "/")
        );
        config.bucket = "with.dot".into();
        let endpoint = Endpoint::of(&config).unwrap();
        assert_eq!(endpoint.base, "/with.dot/");
        config.endpoint = Some("https://S3.example:443/".into());
        let endpoint = Endpoint::of(&config).unwrap();
        assert_eq!(
            (endpoint.scheme(), endpoint.host.as_str()),
            ("https", "s3.example")
        );
    }

    #[test]
    fn the_environment_fills_what_is_not_set() {
        let environment = |name: &str| match name {
            "AWS_ENDPOINT_URL" => Some("https://other".to_string()),
            "AWS_REGION" => Some("env".to_string()),
            "AWS_CA_BUNDLE" => Some(String::new()),
            _ => None,
        };
        let config = parse("s3://bucket?region=own").with_environment(&environment);
        assert_eq!(config.endpoint.as_deref(), Some("https://other"));
        assert_eq!(config.region.as_deref(), Some("own"));
        assert_eq!(config.ca_file, None);
    }
}
