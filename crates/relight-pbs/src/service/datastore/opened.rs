//! The repository of a datastore, opened again when its keyring has changed.
//!
//! A server runs for months, and `relight key rotate` may be run beside it at any time: what others seal from then on it
//! could not read, and it would go on sealing under the old key itself. So the names of the keyrings, each of which is a
//! generation, are listed whenever snapshots are. Who has begun something goes on with the keys it began with: a session
//! has announced itself under its key, and that is what keeps the key from being retired.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use relight_repo::read::{ChunkReader, Form};
use relight_repo::{Repository, keyring};

use super::error::Result;

/// When the keyring could not be opened, it is tried again after this time.
const RETRY: Duration = Duration::from_secs(60);

/// Opens a repository again, with its keyring as it is then.
pub struct Reopen {
    /// The names of the keyrings ([`keyring::names`]), listed *before* the repository was opened.
    pub keyrings: Vec<String>,
    /// Opens it. What is wrong is told to the operator as it is.
    pub open: Box<dyn Fn() -> std::result::Result<Repository, String> + Send + Sync>,
}

/// A repository and what reads from it.
pub(super) struct Open {
    pub repository: Arc<Repository>,
    pub reader: Arc<ChunkReader>,
    /// Gives chunks as they are stored, without expanding them.
    pub sealed: Arc<ChunkReader>,
}

impl Open {
    fn new(repository: Arc<Repository>) -> Result<Arc<Self>> {
        Ok(Arc::new(Self {
            reader: Arc::new(ChunkReader::new(repository.clone())?),
            sealed: Arc::new(ChunkReader::in_form(repository.clone(), Form::Sealed)?),
            repository,
        }))
    }
}

struct Followed {
    reopen: Reopen,
    failed: Option<Instant>,
}

/// What is open, and how it is opened again.
pub(super) struct Opened {
    now: RwLock<Arc<Open>>,
    followed: Option<Mutex<Followed>>,
}

impl Opened {
    pub fn new(repository: Arc<Repository>, reopen: Option<Reopen>) -> Result<Self> {
        Ok(Self {
            now: RwLock::new(Open::new(repository)?),
            followed: reopen.map(|reopen| Mutex::new(Followed { reopen, failed: None })),
        })
    }

    pub fn now(&self) -> Arc<Open> {
        self.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The names of the keyrings there are, if anybody wants to know.
    pub fn keyrings(&self) -> relight_repo::Result<Option<Vec<String>>> {
        let open = self.now();
        self.followed
            .as_ref()
            .map(|_| keyring::names(open.repository.storage()))
            .transpose()
    }

    /// Opens the repository again if these are not the keyrings it was opened with. True if it was.
    pub fn follow(&self, keyrings: Option<Vec<String>>) -> bool {
        let (Some(followed), Some(keyrings)) = (&self.followed, keyrings) else {
            return false;
        };
        let mut followed = followed.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = followed.failed.is_some_and(|since| since.elapsed() < RETRY);
        // While one generation replaces another there may be none for a moment.
        if keyrings == followed.reopen.keyrings || keyrings.is_empty() || wait {
            return false;
        }
        let again = (followed.reopen.open)()
            .and_then(|repository| Open::new(Arc::new(repository)).map_err(|error| error.to_string()));
        match again {
            Ok(open) => {
                let location = open.repository.storage().location();
                tracing::info!(location, "the keyring has changed: opened again");
                *self.now.write().unwrap_or_else(PoisonError::into_inner) = open;
                followed.reopen.keyrings = keyrings;
                followed.failed = None;
                true
            }
            Err(error) => {
                tracing::error!(
                    error,
                    "the keyring has changed and cannot be opened with the configured key: what others seal under a new data \
                     key cannot be read"
                );
                followed.failed = Some(Instant::now());
                false
            }
        }
    }
}
