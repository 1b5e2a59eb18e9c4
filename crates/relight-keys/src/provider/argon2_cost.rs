//! What deriving a key from a passphrase costs.

use argon2::{Algorithm, Argon2, Params, Version};

use super::ProviderError;
use crate::secret::Secret;

/// Cost of Argon2id (RFC 9106).
///
/// Fields in alphabetical order, so that a keyring's bytes are the same whether or not `serde_json` keeps the order
/// of insertion (a feature that any crate in a build can turn on).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Argon2Cost {
    /// Lanes; they are computed one after the other.
    pub lanes: u32,
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
}

/// What is accepted from a keyring. It is read before it can be authenticated, so whoever can write to the storage
/// could otherwise make every client allocate and compute without bounds.
const LIMITS: &str = "at most 2 GiB, 64 passes, 16 lanes and 8 GiB written in all; at least 8 KiB a lane";

/// What is accepted for a new wrap: the least that OWASP's password storage cheat sheet recommends.
const CREATION_LIMITS: &str = "a new passphrase needs at least 19 MiB and 2 passes";

impl Default for Argon2Cost {
    /// 128 MiB and 3 passes: twice the memory of RFC 9106's second recommended option, about a third of a second,
    /// and still fine on a machine with 512 MiB.
    fn default() -> Self {
        Self {
            memory_kib: 128 * 1024,
            passes: 3,
            lanes: 1,
        }
    }
}

impl Argon2Cost {
    fn refuse(self, limits: &'static str) -> ProviderError {
        ProviderError::Cost {
            memory_kib: self.memory_kib,
            passes: self.passes,
            lanes: self.lanes,
            limits,
        }
    }

    /// Whether the cost is bounded.
    pub(super) fn check(self) -> Result<(), ProviderError> {
        let fits = (1..=16).contains(&self.lanes)
            && (1..=64).contains(&self.passes)
            && self.memory_kib >= 8 * self.lanes
            && self.memory_kib <= 2 * 1024 * 1024
            && u64::from(self.memory_kib) * u64::from(self.passes) <= 8 * 1024 * 1024;
        fits.then_some(()).ok_or_else(|| self.refuse(LIMITS))
    }

    /// Whether the cost is bounded and enough for a new wrap.
    pub(super) fn check_new(self) -> Result<(), ProviderError> {
        self.check()?;
        let enough = self.memory_kib >= 19 * 1024 && self.passes >= 2;
        enough.then_some(()).ok_or_else(|| self.refuse(CREATION_LIMITS))
    }

    /// Argon2id of a passphrase.
    pub(super) fn derive(self, passphrase: &[u8], salt: &[u8; 16]) -> Result<Secret, ProviderError> {
        self.check()?;
        let parameters = Params::new(self.memory_kib, self.passes, self.lanes, Some(32))
            .map_err(|_| self.refuse(LIMITS))?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters);
        Secret::filled_by(|out| argon2.hash_password_into(passphrase, salt, out)).map_err(|error| match error
        {
            argon2::Error::OutOfMemory => ProviderError::Memory {
                memory_kib: self.memory_kib,
            },
            _ => self.refuse(LIMITS),
        })
    }
}
