//! The descriptor of a repository: the one object that is not sealed. It says that this is a repository, of which
//! format, and how its objects are to be kept. Nothing in it is secret.

use jiff::Timestamp;
use relight_keys::RepositoryId;
use serde::{Deserialize, Serialize};

use crate::error::{RepoError, Result};
use crate::pack::PackKind;
use crate::storage::{PutOptions, Storage};

/// The key of the descriptor. It is written first, and a storage without it is never written to nor collected.
pub const KEY: &str = "relight.json";
/// The format that this program writes.
pub const FORMAT: u32 = 1;

/// How the objects of a repository are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Storage class of data packs (`STANDARD_IA`, `GLACIER`); none is the storage's default. Everything else stays
    /// in the default class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_class: Option<String>,
    /// Reed-Solomon parity beside each pack, in percent of its size; 0 is none.
    pub parity_percent: u8,
    /// Lock objects in storage until the snapshots that need them may be forgotten (object lock).
    pub object_lock: bool,
}

/// The descriptor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// Says what this file is.
    pub what: String,
    /// Version of the repository's format.
    pub format: u32,
    /// Identity of the repository.
    pub id: String,
    /// When it was made.
    pub created: Timestamp,
    /// How its objects are kept.
    #[serde(default)]
    pub settings: Settings,
}

/// What [`Descriptor::what`] says.
const WHAT: &str = "Relight repository";

impl Descriptor {
    /// A new one.
    pub fn new(id: RepositoryId, created: Timestamp, settings: Settings) -> Self {
        Self {
            what: WHAT.into(),
            format: FORMAT,
            id: id.to_string(),
            created,
            settings,
        }
    }

    /// Reads the one in `storage`.
    pub fn load(storage: &dyn Storage) -> Result<Self> {
        let bytes = match storage.get(KEY) {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => {
                return Err(RepoError::NotARepository {
                    location: storage.location(),
                });
            }
            Err(error) => return Err(error.into()),
        };
        Self::decode(&bytes)
    }

    /// Reads the bytes of one.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let descriptor: Self = serde_json::from_slice(bytes)
            .map_err(|error| RepoError::damaged(KEY, format!("it is not a descriptor ({error})")))?;
        if descriptor.what != WHAT {
            return Err(RepoError::damaged(
                KEY,
                "it does not describe a Relight repository",
            ));
        }
        if descriptor.format > FORMAT {
            return Err(RepoError::TooNew {
                what: "the repository".into(),
                found: descriptor.format,
                known: FORMAT,
            });
        }
        Ok(descriptor)
    }

    /// Its bytes.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(self)
            .map_err(|error| RepoError::damaged(KEY, format!("it cannot be written ({error})")))?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// The identity of the repository.
    pub fn repository(&self) -> Result<RepositoryId> {
        self.id
            .parse()
            .map_err(|_| RepoError::damaged(KEY, "its identity is no identity"))
    }
}

impl Settings {
    /// How a pack is put.
    pub(crate) fn pack_options(&self, kind: PackKind) -> PutOptions {
        match kind {
            PackKind::Data => PutOptions {
                class: self.data_class.clone(),
                retain_until: None,
            },
            PackKind::Metadata => PutOptions::default(),
        }
    }
}
