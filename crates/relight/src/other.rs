//! Keys of a second repository, that something is copied to or fetched from.

use std::path::PathBuf;

use clap::Args;
use relight_keys::Provider;

use crate::credentials::KeyOptions;
use crate::failure::Result;

/// Which key opens the repository that is copied to.
#[derive(Debug, Clone, Default, Args)]
pub struct ToKeys {
    /// File whose first line is the passphrase of the other repository; without any key a prompt asks for it
    #[arg(
        long,
        env = "RELIGHT_TO_PASSWORD_FILE",
        value_name = "FILE",
        help_heading = "Keys"
    )]
    to_password_file: Option<PathBuf>,
    /// Key file of the other repository
    #[arg(long, env = "RELIGHT_TO_KEY_FILE", value_name = "FILE", help_heading = "Keys")]
    to_key_file: Option<PathBuf>,
}

impl ToKeys {
    /// The key.
    pub fn provider(&self) -> Result<Box<dyn Provider>> {
        provider(&self.to_password_file, &self.to_key_file)
    }
}

/// Which key opens the repositories that are fetched from.
#[derive(Debug, Clone, Default, Args)]
pub struct FromKeys {
    /// File whose first line is the passphrase of the other repositories; without any key a prompt asks for it
    #[arg(
        long,
        env = "RELIGHT_FROM_PASSWORD_FILE",
        value_name = "FILE",
        help_heading = "Keys"
    )]
    from_password_file: Option<PathBuf>,
    /// Key file of the other repositories
    #[arg(
        long,
        env = "RELIGHT_FROM_KEY_FILE",
        value_name = "FILE",
        help_heading = "Keys"
    )]
    from_key_file: Option<PathBuf>,
}

impl FromKeys {
    /// The key.
    pub fn provider(&self) -> Result<Box<dyn Provider>> {
        provider(&self.from_password_file, &self.from_key_file)
    }
}

fn provider(password_file: &Option<PathBuf>, key_file: &Option<PathBuf>) -> Result<Box<dyn Provider>> {
    let (password_file, key_file) = (password_file.clone(), key_file.clone());
    KeyOptions {
        password_file,
        key_file,
        recovery_key_file: None,
    }
    .provider()
}
