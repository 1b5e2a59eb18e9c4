//! Opens the repositories that the configuration names.

use std::path::Path;
use std::sync::Arc;

use relight_keys::{KeyFile, Passphrase, Provider};
use relight_repo::storage::Storage;
use relight_repo::storage::local::LocalStorage;
use relight_repo::storage::s3::{S3Config, S3Storage};
use relight_repo::{OpenOptions, Repository, keyring};

use crate::config::RepositoryConfig;
use crate::error::{Result, ServerError};

/// Opens one.
pub(crate) fn open(config: &RepositoryConfig, cache: &Path) -> Result<Arc<Repository>> {
    try_open(config, cache)
        .map(Arc::new)
        .map_err(|why| ServerError::Repository {
            name: config.name.clone(),
            why,
        })
}

fn try_open(config: &RepositoryConfig, cache: &Path) -> Result<Repository, String> {
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let storage = storage(&config.location)?;
    if !keyring::is_repository(&*storage).map_err(|error| words(&error))? {
        return Err(format!(
            "{} holds no Relight repository; `relight init` makes one",
            storage.location()
        ));
    }
    let provider: Box<dyn Provider> = match (&config.password_file, &config.key_file) {
        (Some(path), _) => Box::new(Passphrase::read_file(path).map_err(|error| words(&error))?),
        (None, Some(path)) => Box::new(KeyFile::read(path).map_err(|error| words(&error))?),
        (None, None) => return Err("no key is configured".into()),
    };
    let opened = keyring::unlock(&*storage, &*provider).map_err(|error| words(&error))?;
    Repository::open(storage, opened.into_keys(), OpenOptions::new(cache)).map_err(|error| words(&error))
}

fn storage(location: &str) -> Result<Arc<dyn Storage>, String> {
    if location.starts_with("s3://") {
        let environment = |name: &str| std::env::var(name).ok();
        let config = S3Config::parse(location).map_err(|error| error.to_string())?;
        let storage = S3Storage::with_environment(config.with_environment(&environment), &environment);
        return Ok(Arc::new(storage.map_err(|error| error.to_string())?));
    }
    if location.contains("://") {
        return Err(format!(
            "{location}: not a known kind of storage; name a directory or s3://BUCKET/PREFIX"
        ));
    }
    Ok(Arc::new(
        LocalStorage::open(Path::new(location)).map_err(|error| error.to_string())?,
    ))
}
