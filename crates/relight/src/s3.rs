//! Repositories in S3 buckets: how the bucket is spoken to. Access keys come from the environment or a file.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use relight_repo::storage::Storage;
use relight_repo::storage::s3::{Addressing, S3Config, S3Storage};

use crate::failure::{Failure, Result};

/// What the location leaves open. What it says (`s3://BUCKET/PREFIX?endpoint=…`) counts more; then come these, then the
/// variables of the AWS tools.
#[derive(Debug, Clone, Default, Args)]
pub struct S3Options {
    /// Server of s3:// repositories, such as https://s3.example.org [default: AWS]
    #[arg(
        long,
        global = true,
        env = "RELIGHT_S3_ENDPOINT",
        value_name = "URL",
        help_heading = "S3"
    )]
    s3_endpoint: Option<String>,
    /// Region to sign for
    #[arg(
        long,
        global = true,
        env = "RELIGHT_S3_REGION",
        value_name = "NAME",
        help_heading = "S3"
    )]
    s3_region: Option<String>,
    /// Where the bucket's name goes: into the path or the host name [default: host name at AWS, else path]
    #[arg(
        long,
        global = true,
        env = "RELIGHT_S3_ADDRESSING",
        value_enum,
        value_name = "HOW",
        help_heading = "S3"
    )]
    s3_addressing: Option<Place>,
    /// Certificate authorities (PEM) to trust besides those of the system
    #[arg(
        long,
        global = true,
        env = "RELIGHT_S3_CA_FILE",
        value_name = "FILE",
        help_heading = "S3"
    )]
    s3_ca_file: Option<PathBuf>,
    /// File with access keys in the format of ~/.aws/credentials
    #[arg(
        long,
        global = true,
        env = "RELIGHT_S3_CREDENTIALS_FILE",
        value_name = "FILE",
        help_heading = "S3"
    )]
    s3_credentials_file: Option<PathBuf>,
    /// Profile in that file
    #[arg(
        long,
        global = true,
        env = "RELIGHT_S3_PROFILE",
        value_name = "NAME",
        help_heading = "S3"
    )]
    s3_profile: Option<String>,
}

/// Where the bucket's name goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Place {
    /// https://SERVER/BUCKET/KEY
    Path,
    /// https://BUCKET.SERVER/KEY
    Virtual,
}

impl S3Options {
    /// The storage at `s3://…`.
    pub fn open(&self, location: &str) -> Result<Arc<dyn Storage>> {
        let usage = |error: relight_repo::storage::s3::ConfigError| Failure::Usage(error.to_string());
        let environment = |name: &str| std::env::var(name).ok();
        let mut config = S3Config::parse(location).map_err(usage)?;
        config.endpoint = config.endpoint.or_else(|| self.s3_endpoint.clone());
        config.region = config.region.or_else(|| self.s3_region.clone());
        config.ca_file = config.ca_file.or_else(|| self.s3_ca_file.clone());
        config.credentials_file = config
            .credentials_file
            .or_else(|| self.s3_credentials_file.clone());
        config.profile = config.profile.or_else(|| self.s3_profile.clone());
        if let (Addressing::Auto, Some(place)) = (config.addressing, self.s3_addressing) {
            config.addressing = match place {
                Place::Path => Addressing::Path,
                Place::Virtual => Addressing::VirtualHost,
            };
        }
        let config = config.with_environment(&environment);
        Ok(Arc::new(
            S3Storage::with_environment(config, &environment).map_err(usage)?,
        ))
    }
}
