//! How repositories are kept, as their own descriptors say. No key is needed to read them.

use jiff::Timestamp;
use relight_repo::keyring;
use relight_repo::settings::Descriptor;
use serde::Serialize;

use crate::config::RepositoryConfig;
use crate::repositories::storage;

/// A repository when the report was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RepositoryStanding {
    /// Its name in the configuration.
    pub name: String,
    /// Where it is.
    pub location: String,
    /// Why it could not be looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// What its descriptor says.
    #[serde(flatten)]
    pub found: Option<Found>,
}

/// What its descriptor and its keyring say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Found {
    /// Its identity.
    pub id: String,
    /// Version of its format.
    pub format: u32,
    /// When it was made.
    pub created: Timestamp,
    /// How everything in it is sealed.
    pub encryption: &'static str,
    /// Kinds of the keys that open it, such as `passphrase`, `key-file`, `recovery`.
    pub keys: Vec<String>,
    /// Whether its storage refuses to delete what is kept.
    pub object_lock: bool,
    /// Parity beside each pack, in percent.
    pub parity_percent: u8,
}

/// Format 1 knows no other (docs/format.md).
const SEALED: &str = "AES-256-GCM";

/// Looks at the repositories of a configuration. One that cannot be reached is told as such.
pub fn standing(repositories: &[RepositoryConfig]) -> Vec<RepositoryStanding> {
    let look = |config: &RepositoryConfig| {
        let found = found(config);
        RepositoryStanding {
            name: config.name.clone(),
            location: config.location.clone(),
            failure: found.as_ref().err().cloned(),
            found: found.ok(),
        }
    };
    repositories.iter().map(look).collect()
}

fn found(config: &RepositoryConfig) -> Result<Found, String> {
    let storage = storage(&config.location)?;
    let descriptor = Descriptor::load(&*storage).map_err(|error| error.to_string())?;
    let keyring = keyring::wraps(&*storage).map_err(|error| error.to_string())?;
    let mut keys: Vec<String> = keyring.wraps().map(|wrap| wrap.kind.clone()).collect();
    keys.sort_unstable();
    Ok(Found {
        id: descriptor.id,
        format: descriptor.format,
        created: descriptor.created,
        encryption: SEALED,
        keys,
        object_lock: descriptor.settings.object_lock,
        parity_percent: descriptor.settings.parity_percent,
    })
}
