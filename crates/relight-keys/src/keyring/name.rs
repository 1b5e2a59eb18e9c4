//! Names of keyring objects.

use std::{fmt, str::FromStr};

/// The name of a keyring object: `keyring/<generation, 8 decimal digits>-<id, 8 hexadecimal digits>`.
///
/// The id is random, so that keyrings written at the same time never collide. Names sort by generation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyringName {
    generation: u32,
    id: [u8; 4],
}

/// Not the name of a keyring object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a keyring (expected keyring/<8 digits>-<8 hexadecimal digits>)")]
pub struct KeyringNameError;

impl KeyringName {
    /// What all names begin with; list this prefix to find all keyrings.
    pub const PREFIX: &'static str = "keyring/";

    pub(super) const LAST_GENERATION: u32 = 99_999_999;

    pub(super) fn new(generation: u32, id: [u8; 4]) -> Self {
        Self { generation, id }
    }

    /// Counts the changes; 1 is the first keyring.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    pub(super) fn id(&self) -> [u8; 4] {
        self.id
    }
}

impl fmt::Display for KeyringName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}{:08}-{}",
            Self::PREFIX,
            self.generation,
            hex::encode(self.id)
        )
    }
}

impl fmt::Debug for KeyringName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyringName({self})")
    }
}

impl FromStr for KeyringName {
    type Err = KeyringNameError;

    fn from_str(text: &str) -> Result<Self, KeyringNameError> {
        let (generation, id) = text
            .strip_prefix(Self::PREFIX)
            .and_then(|rest| rest.split_once('-'))
            .filter(|(generation, _)| {
                generation.len() == 8 && generation.bytes().all(|byte| byte.is_ascii_digit())
            })
            .ok_or(KeyringNameError)?;
        let generation = generation.parse().map_err(|_| KeyringNameError)?;
        let mut bytes = [0; 4];
        hex::decode_to_slice(id, &mut bytes).map_err(|_| KeyringNameError)?;
        let name = Self {
            generation,
            id: bytes,
        };
        // One spelling only: capitals would name another object.
        (generation > 0 && name.to_string() == text)
            .then_some(name)
            .ok_or(KeyringNameError)
    }
}
