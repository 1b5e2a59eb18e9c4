//! What every command needs: which repository, which key, how to talk.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use relight_keys::{Opened, Provider};
use relight_repo::storage::Storage;
use relight_repo::storage::local::LocalStorage;
use relight_repo::{OpenOptions, Repository, keyring};

use crate::credentials::KeyOptions;
use crate::failure::{Failure, Result};
use crate::s3::S3Options;

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// The repository: a directory or s3://BUCKET/PREFIX
    #[arg(
        long = "repo",
        short = 'r',
        global = true,
        env = "RELIGHT_REPOSITORY",
        value_name = "REPO"
    )]
    pub repository: Option<String>,
    #[command(flatten)]
    pub keys: KeyOptions,
    #[command(flatten)]
    pub s3: S3Options,
    /// Folder for caches, which may be deleted at any time [default: ~/.cache/relight]
    #[arg(long, global = true, env = "RELIGHT_CACHE_DIR", value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// No progress and no remarks
    #[arg(long, short, global = true)]
    pub quiet: bool,
}

impl Global {
    /// The repository's location, as given.
    pub fn location(&self) -> Result<&str> {
        let missing = || Failure::Usage("name the repository with --repo or RELIGHT_REPOSITORY".into());
        self.repository
            .as_deref()
            .filter(|location| !location.is_empty())
            .ok_or_else(missing)
    }

    /// The storage of the repository.
    pub fn storage(&self) -> Result<Arc<dyn Storage>> {
        self.storage_at(self.location()?, false)
    }

    /// Opens (or makes) the storage at a location.
    pub fn storage_at(&self, location: &str, create: bool) -> Result<Arc<dyn Storage>> {
        if location.starts_with("s3://") {
            return self.s3.open(location);
        }
        if location.contains("://") {
            return Err(Failure::Usage(format!(
                "{location}: not a known kind of storage; name a directory or s3://BUCKET/PREFIX"
            )));
        }
        let path = Path::new(location);
        Ok(Arc::new(if create {
            LocalStorage::create(path)?
        } else {
            LocalStorage::open(path)?
        }))
    }

    /// Opens the repository.
    pub fn open(&self) -> Result<Arc<Repository>> {
        let (storage, opened) = self.unlock()?;
        self.open_with(storage, opened.into_keys())
    }

    /// Opens it although data keys may be missing: what they do not seal can still be read.
    pub fn open_to_read(&self) -> Result<Arc<Repository>> {
        let (storage, opened) = self.unlock()?;
        let mut options = self.open_options()?;
        options.lost_keys = true;
        let repository = Repository::open(storage, opened.into_keys(), options)?;
        let mut lost: Vec<String> = repository
            .index()
            .locked()
            .into_iter()
            .map(|(_, key)| key)
            .collect();
        lost.sort();
        lost.dedup();
        if !lost.is_empty() {
            tracing::warn!(
                "the keyring lacks data key {}: what is sealed under it cannot be read; `relight key uses` and `relight \
                 verify` tell what that is",
                lost.join(", ")
            );
        }
        Ok(Arc::new(repository))
    }

    /// Its storage and keys.
    pub fn unlock(&self) -> Result<(Arc<dyn Storage>, Opened)> {
        unlock(self.storage()?, || self.keys.provider())
    }

    /// Opens another repository, with keys of its own.
    pub fn open_other(
        &self,
        location: &str,
        key: impl FnOnce() -> Result<Box<dyn Provider>>,
    ) -> Result<Arc<Repository>> {
        let (storage, opened) = unlock(self.storage_at(location, false)?, key)?;
        self.open_with(storage, opened.into_keys())
    }

    /// Opens it with keys that were unlocked already.
    pub fn open_with(
        &self,
        storage: Arc<dyn Storage>,
        keys: relight_keys::KeySet,
    ) -> Result<Arc<Repository>> {
        Ok(Arc::new(Repository::open(storage, keys, self.open_options()?)?))
    }

    /// How repositories are opened.
    pub fn open_options(&self) -> Result<OpenOptions> {
        Ok(OpenOptions::new(&self.cache()?))
    }

    /// Folder for caches.
    pub fn cache(&self) -> Result<PathBuf> {
        if let Some(directory) = &self.cache_dir {
            return Ok(directory.clone());
        }
        let from = |name: &str| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let base = from("XDG_CACHE_HOME").or_else(|| from("HOME").map(|home| home.join(".cache")));
        match base {
            Some(base) => Ok(base.join("relight")),
            None if rustix::process::geteuid().is_root() => Ok("/var/cache/relight".into()),
            None => Err(Failure::Usage(
                "neither HOME nor RELIGHT_CACHE_DIR says where caches may lie".into(),
            )),
        }
    }
}

fn unlock(
    storage: Arc<dyn Storage>,
    key: impl FnOnce() -> Result<Box<dyn Provider>>,
) -> Result<(Arc<dyn Storage>, Opened)> {
    if !keyring::is_repository(&*storage)? {
        // Before a passphrase is asked for.
        return Err(relight_repo::RepoError::NotARepository {
            location: storage.location(),
        }
        .into());
    }
    let opened = keyring::unlock(&*storage, &*key()?)?;
    Ok((storage, opened))
}
