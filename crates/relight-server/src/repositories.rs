//! Opens the repositories that the configuration names.

use std::path::Path;
use std::sync::Arc;

use relight_keys::{KeyFile, Passphrase, Provider};
use relight_pbs::service::datastore::{Datastore, DatastoreOptions, Reopen};
use relight_repo::storage::Storage;
use relight_repo::storage::local::LocalStorage;
use relight_repo::storage::s3::{S3Config, S3Storage};
use relight_repo::{OpenOptions, Repository, keyring};

use crate::config::{RepositoryConfig, ServerConfig};
use crate::error::{Result, ServerError};

/// A data pack of the server is full at this size in bytes.
const DATA_PACK: usize = 12 << 20;

/// Opens one, as a datastore.
pub(crate) fn datastore(config: &RepositoryConfig, server: &ServerConfig) -> Result<Arc<Datastore>> {
    let failed = |why: String| ServerError::Repository {
        name: config.name.clone(),
        why,
    };
    let storage = storage(&config.location).map_err(failed)?;
    // Before it is opened: a change after this is noticed.
    let keyrings = keyring::names(&*storage).map_err(|error| failed(error.to_string()))?;
    let repository = open(storage.clone(), config, &server.cache).map_err(failed)?;
    let again = {
        let (config, cache) = (config.clone(), server.cache.clone());
        move || open(storage.clone(), &config, &cache)
    };
    let reopen = Reopen {
        keyrings,
        open: Box::new(again),
    };
    let folder = server.state.join("datastores").join(&config.name);
    std::fs::create_dir_all(&folder).map_err(ServerError::file("make", &folder))?;
    let owner = match &config.owner {
        Some(owner) => owner.clone(),
        None => "root@pam"
            .parse()
            .map_err(|error| failed(format!("owner: {error}")))?,
    };
    let mut options = DatastoreOptions::new(owner);
    options.comment = config.comment.clone().unwrap_or_default();
    options.path = (!config.location.contains("://")).then(|| config.location.clone().into());
    options.capacity = config.capacity.map(|capacity| capacity.0);
    options.state = Some(folder);
    let datastore = Datastore::reopening(&config.name, Arc::new(repository), reopen, options);
    datastore.map_err(|error| failed(error.to_string()))
}

/// Opens one for a command of the operator, with the key that the configuration names.
///
/// # Errors
/// It is not there, or its key does not open it.
pub fn open_repository(config: &RepositoryConfig, server: &ServerConfig) -> Result<Arc<Repository>> {
    let opened = storage(&config.location).and_then(|storage| open(storage, config, &server.cache));
    opened.map(Arc::new).map_err(|why| ServerError::Repository {
        name: config.name.clone(),
        why,
    })
}

fn open(storage: Arc<dyn Storage>, config: &RepositoryConfig, cache: &Path) -> Result<Repository, String> {
    let words = |error: &dyn std::fmt::Display| error.to_string();
    if !keyring::is_repository(&*storage).map_err(|error| words(&error))? {
        return Err(format!(
            "{} holds no Relight repository; `relight init` makes one",
            storage.location()
        ));
    }
    let opened = keyring::unlock(&*storage, &*provider(config)?).map_err(|error| words(&error))?;
    let mut options = OpenOptions::new(cache);
    // Each session fills packs of its own: smaller ones keep the memory of several at once within bounds.
    options.data_pack = DATA_PACK;
    Repository::open(storage, opened.into_keys(), options).map_err(|error| words(&error))
}

/// The key that the configuration names for a repository.
pub(crate) fn provider(config: &RepositoryConfig) -> Result<Box<dyn Provider>, String> {
    let words = |error: relight_keys::ProviderError| error.to_string();
    Ok(match (&config.password_file, &config.key_file) {
        (Some(path), _) => Box::new(Passphrase::read_file(path).map_err(words)?),
        (None, Some(path)) => Box::new(KeyFile::read(path).map_err(words)?),
        (None, None) => return Err("no key is configured".into()),
    })
}

pub(crate) fn storage(location: &str) -> Result<Arc<dyn Storage>, String> {
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
