//! Names of repositories and data keys.

use std::{fmt, str::FromStr};

use crate::entropy::{Entropy, EntropyError};

/// A text that should name a repository or a key does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not {what}: expected {digits} hexadecimal digits")]
pub struct IdError {
    what: &'static str,
    digits: usize,
}

impl IdError {
    /// The same of another kind of id.
    pub(crate) fn of(self, what: &'static str) -> Self {
        Self { what, ..self }
    }
}

/// The identity of a repository: 16 random bytes drawn when it is made, never changed. Printed as 32
/// hexadecimal digits. Everything sealed is bound to it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepositoryId(pub [u8; 16]);

impl RepositoryId {
    /// Draws a new identity.
    ///
    /// # Errors
    /// When `entropy` fails.
    pub fn generate(entropy: &mut dyn Entropy) -> Result<Self, EntropyError> {
        let mut bytes = [0; 16];
        entropy.fill(&mut bytes)?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for RepositoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for RepositoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RepositoryId({self})")
    }
}

impl FromStr for RepositoryId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let mut bytes = [0; 16];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| IdError {
            what: "a repository id",
            digits: 32,
        })?;
        Ok(Self(bytes))
    }
}

/// The number of a data key within its repository, printed as 8 hexadecimal digits.
///
/// Random and not counted, because two administrators may rotate at the same time without knowing of each
/// other and the key sets of both are then united. Zero is never drawn, so formats may use it for "none".
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub u32);

impl KeyId {
    /// Draws a number other than zero.
    ///
    /// # Errors
    /// When `entropy` fails.
    pub fn generate(entropy: &mut dyn Entropy) -> Result<Self, EntropyError> {
        loop {
            let mut bytes = [0; 4];
            entropy.fill(&mut bytes)?;
            match u32::from_le_bytes(bytes) {
                0 => continue,
                number => return Ok(Self(number)),
            }
        }
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

impl FromStr for KeyId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let mut bytes = [0; 4];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| IdError {
            what: "a key id",
            digits: 8,
        })?;
        Ok(Self(u32::from_be_bytes(bytes)))
    }
}
