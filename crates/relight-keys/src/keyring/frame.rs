//! The bytes of a keyring, and what can be read of them without a secret.

use serde::{Deserialize, Serialize};

use super::{
    body,
    error::KeyringError,
    limits,
    name::KeyringName,
    wrap::{Wrap, WrapInfo},
};
use crate::{ids::RepositoryId, key_set::KeySet, secret::Secret};

const MAGIC: &[u8; 8] = b"RLKEYRNG";
const VERSION: u8 = 1;
const HEADER: usize = 16;

/// The public part as written.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Public {
    #[serde(with = "crate::hex_array")]
    repository: [u8; 16],
    generation: u32,
    #[serde(with = "crate::hex_array")]
    id: [u8; 4],
    created: i64,
    wraps: Vec<Wrap>,
}

/// A keyring parsed but not opened: who can open it can be told without any secret.
///
/// What it says is authenticated only when it is opened.
#[derive(Debug, Clone)]
pub struct Keyring {
    pub(super) repository: RepositoryId,
    pub(super) name: KeyringName,
    pub(super) created: i64,
    pub(super) wraps: Vec<Wrap>,
    front: Vec<u8>,
    body: Vec<u8>,
}

impl Keyring {
    /// Reads a keyring object.
    ///
    /// # Errors
    /// When it is none, of a later version, or damaged in a way that shows without a key.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeyringError> {
        let damaged = |why: &str| KeyringError::Damaged(why.to_owned());
        if bytes.get(..8).is_none_or(|magic| magic != MAGIC) {
            return Err(KeyringError::NotKeyring);
        }
        if bytes.len() > limits::OBJECT {
            return Err(damaged("it is longer than 1 MiB"));
        }
        let header = bytes
            .first_chunk::<HEADER>()
            .ok_or_else(|| damaged("it is cut short"))?;
        if header[8] != VERSION {
            return Err(KeyringError::Version(header[8]));
        }
        if header[9..12] != [0; 3] {
            return Err(damaged("reserved bytes are not zero"));
        }
        let (public, rest) = sized(&bytes[12..]).ok_or_else(|| damaged("its public part is cut short"))?;
        let (body, rest) = sized(rest).ok_or_else(|| damaged("its body is cut short"))?;
        if !rest.is_empty() {
            return Err(damaged("there are bytes behind its end"));
        }
        let public: Public = serde_json::from_slice(public)
            .map_err(|error| KeyringError::Damaged(format!("its public part is not understood: {error}")))?;
        if public.wraps.is_empty() {
            return Err(damaged("it has no wraps"));
        }
        if public.wraps.len() > limits::WRAPS {
            return Err(KeyringError::TooMany {
                what: "wraps",
                maximum: limits::WRAPS,
            });
        }
        if !(1..=KeyringName::LAST_GENERATION).contains(&public.generation) {
            return Err(damaged("its generation is out of range"));
        }
        for (index, wrap) in public.wraps.iter().enumerate() {
            wrap.check()
                .map_err(|error| KeyringError::Damaged(error.to_string()))?;
            if public.wraps[..index]
                .iter()
                .any(|other| other.info.id == wrap.info.id)
            {
                return Err(damaged("one wrap id comes twice"));
            }
        }
        Ok(Self {
            repository: RepositoryId(public.repository),
            name: KeyringName::new(public.generation, public.id),
            created: public.created,
            wraps: public.wraps,
            front: bytes[..bytes.len() - body.len()].to_vec(),
            body: body.to_vec(),
        })
    }

    /// Writes a keyring whose wraps are sealed already.
    pub(super) fn encode(
        name: KeyringName,
        created: i64,
        wraps: &[Wrap],
        keys: &KeySet,
        keyring_key: &Secret,
    ) -> Result<Vec<u8>, KeyringError> {
        let public = Public {
            repository: keys.repository().0,
            generation: name.generation(),
            id: name.id(),
            created,
            wraps: wraps.to_vec(),
        };
        let public = serde_json::to_vec_pretty(&public)
            .map_err(|error| KeyringError::SelfCheck(format!("encoding failed: {error}")))?;
        let too_long = |_| KeyringError::TooMany {
            what: "bytes",
            maximum: limits::OBJECT,
        };
        let body_length = u32::try_from(body::sealed_length(keys)).map_err(too_long)?;

        let mut bytes = Vec::with_capacity(HEADER + public.len() + 4 + body_length as usize);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&[VERSION, 0, 0, 0]);
        bytes.extend_from_slice(&u32::try_from(public.len()).map_err(too_long)?.to_le_bytes());
        bytes.extend_from_slice(&public);
        bytes.extend_from_slice(&body_length.to_le_bytes());
        let body = body::seal(keys, keyring_key, &bytes);
        bytes.extend_from_slice(&body);
        Ok(bytes)
    }

    pub(super) fn open_body(&self, keyring_key: &Secret) -> Result<KeySet, KeyringError> {
        body::open(self.repository, keyring_key, &self.front, &self.body)
    }

    /// The repository it belongs to.
    pub fn repository(&self) -> RepositoryId {
        self.repository
    }

    /// The name it must have in storage.
    pub fn name(&self) -> KeyringName {
        self.name
    }

    /// When it was made, in seconds since 1970 (UTC), by the clock of the machine that made it.
    pub fn created(&self) -> i64 {
        self.created
    }

    /// Who can open it.
    pub fn wraps(&self) -> impl ExactSizeIterator<Item = &WrapInfo> {
        self.wraps.iter().map(|wrap| &wrap.info)
    }
}

/// A length (u32) and as many bytes, and the rest.
fn sized(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)
}
