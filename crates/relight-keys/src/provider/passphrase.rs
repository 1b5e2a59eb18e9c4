//! A passphrase, stretched by Argon2id.

use std::{fmt, fs::File, io::Read, path::Path};

use serde_json::Value;
use zeroize::Zeroizing;

use super::{Argon2Cost, Provider, ProviderError, parse};
use crate::{entropy::Entropy, secret::Secret};

pub(super) const KIND: &str = "passphrase";

/// The least length of a passphrase that a new wrap is made under, in bytes. What exists opens whatever its
/// length.
pub const MINIMUM_PASSPHRASE_LENGTH: usize = 12;

/// More than anyone types; bounds what is read from a file.
const MAXIMUM_LENGTH: usize = 4096;

/// A passphrase: bytes as they were given, without any normalisation of Unicode.
pub struct Passphrase {
    bytes: Zeroizing<Vec<u8>>,
    cost: Argon2Cost,
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    argon2id: Argon2Cost,
    #[serde(with = "crate::hex_array")]
    salt: [u8; 16],
}

impl Passphrase {
    /// Takes a passphrase as typed at a prompt, without the end of line. The caller wipes its own copy.
    ///
    /// # Errors
    /// When it is empty or longer than 4096 bytes.
    pub fn new(bytes: &[u8]) -> Result<Self, ProviderError> {
        match bytes.len() {
            0 => Err(ProviderError::PassphraseEmpty),
            1..=MAXIMUM_LENGTH => Ok(Self {
                bytes: Zeroizing::new(bytes.to_vec()),
                cost: Argon2Cost::default(),
            }),
            _ => Err(ProviderError::PassphraseTooLong {
                maximum: MAXIMUM_LENGTH,
            }),
        }
    }

    /// The passphrase in the contents of a file: its first line, without the end of line (LF or CR LF).
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn from_first_line(contents: &[u8]) -> Result<Self, ProviderError> {
        let line = contents.split(|byte| *byte == b'\n').next().unwrap_or_default();
        Self::new(line.strip_suffix(b"\r").unwrap_or(line))
    }

    /// Reads a passphrase file: its first line.
    ///
    /// # Errors
    /// When the file cannot be read; else as [`new`](Self::new).
    pub fn read_file(path: &Path) -> Result<Self, ProviderError> {
        let failed = |source| ProviderError::File {
            path: path.to_owned(),
            source,
        };
        // Made as large as it can become, so that reading never reallocates and leaves a copy behind.
        let mut contents = Zeroizing::new(Vec::with_capacity(MAXIMUM_LENGTH + 3));
        let file = File::open(path).map_err(failed)?;
        file.take(MAXIMUM_LENGTH as u64 + 2)
            .read_to_end(&mut contents)
            .map_err(failed)?;
        Self::from_first_line(&contents)
    }

    /// Sets what a new wrap will cost to open; existing wraps keep theirs.
    ///
    /// # Errors
    /// Below 19 MiB or 2 passes (weaker than recommended), or beyond what readers accept.
    pub fn with_cost(mut self, cost: Argon2Cost) -> Result<Self, ProviderError> {
        cost.check_new()?;
        self.cost = cost;
        Ok(self)
    }

    /// Whether a new wrap may be made under this passphrase. Every way of making one checks this itself; a
    /// prompt may want to know earlier.
    ///
    /// # Errors
    /// When it is shorter than [`MINIMUM_PASSPHRASE_LENGTH`].
    pub fn check_new(&self) -> Result<(), ProviderError> {
        match self.bytes.len() {
            length @ 0..MINIMUM_PASSPHRASE_LENGTH => Err(ProviderError::PassphraseTooShort {
                length,
                minimum: MINIMUM_PASSPHRASE_LENGTH,
            }),
            _ => Ok(()),
        }
    }
}

impl Provider for Passphrase {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn name(&self) -> String {
        "passphrase".to_owned()
    }

    fn enroll(&self, entropy: &mut dyn Entropy) -> Result<Value, ProviderError> {
        self.check_new()?;
        self.cost.check_new()?;
        let mut salt = [0; 16];
        entropy.fill(&mut salt)?;
        serde_json::to_value(Parameters {
            argon2id: self.cost,
            salt,
        })
        .map_err(|error| ProviderError::Parameters {
            kind: KIND,
            reason: error.to_string(),
        })
    }

    fn unlock(&self, parameters: &Value) -> Result<Option<Secret>, ProviderError> {
        let Parameters { argon2id, salt } = parse(KIND, parameters)?;
        argon2id.derive(&self.bytes, &salt).map(Some)
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(…)")
    }
}
