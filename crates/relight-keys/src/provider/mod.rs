//! Providers: what an operator holds that unlocks a keyring.
//!
//! A provider turns something held outside the repository into one 256-bit secret for each wrap. Everything
//! after that (key pair, trust tag, sealing) is the same for all and lies in the keyring. A further kind, such as a
//! key management service or a PKCS#11 token, is one module that implements [`Provider`] and one line in
//! [`KINDS`]: it would keep a random secret encrypted by the service in its parameters and ask the service to
//! decrypt it in [`Provider::unlock`].

mod argon2_cost;
mod error;
mod key_file;
mod passphrase;
mod qr;
mod recovery_code;
mod recovery_key;
mod recovery_page;

use serde_json::Value;

use crate::{
    entropy::{Entropy, EntropyError},
    secret::Secret,
};

pub use argon2_cost::Argon2Cost;
pub use error::ProviderError;
pub use key_file::KeyFile;
pub use passphrase::{MINIMUM_PASSPHRASE_LENGTH, Passphrase};
pub use qr::Background;
pub use recovery_code::RecoveryCodeError;
pub use recovery_key::RecoveryKey;
pub use recovery_page::RecoveryPage;

/// Something that can unlock wraps of its kind.
pub trait Provider: Send + Sync {
    /// The kind's name in the keyring; one of [`KINDS`].
    fn kind(&self) -> &'static str;

    /// What messages call this very provider, such as `key file 1a2b3c4d`. Never anything secret.
    fn name(&self) -> String;

    /// Prepares a new wrap: checks that this provider may protect one at all, and returns the parameters that
    /// are stored with it in clear.
    ///
    /// # Errors
    /// When the provider is too weak to create wraps with, or random bytes cannot be had.
    fn enroll(&self, entropy: &mut dyn Entropy) -> Result<Value, ProviderError>;

    /// The secret of a wrap, from the parameters made at its enrolment; `None` when these tell that the wrap
    /// belongs to another provider of the kind. The same provider and parameters always give the same secret.
    /// A wrong passphrase gives a secret too, a wrong one; the keyring notices.
    ///
    /// # Errors
    /// When the parameters are beyond the limits or cannot be understood.
    fn unlock(&self, parameters: &Value) -> Result<Option<Secret>, ProviderError>;
}

/// A kind of provider this version knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// Name in the keyring and on the command line.
    pub name: &'static str,
    /// What it is to an operator.
    pub description: &'static str,
}

/// All kinds this version can open and create.
pub const KINDS: &[Kind] = &[
    Kind {
        name: passphrase::KIND,
        description: "a passphrase that people or a file keep",
    },
    Kind {
        name: key_file::KIND,
        description: "a file with a random key",
    },
    Kind {
        name: recovery_key::KIND,
        description: "a printed key for the safe",
    },
];

/// Parameters of kinds whose secret is a random key: a fingerprint that tells keys apart.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Fingerprint {
    #[serde(with = "crate::hex_array")]
    fingerprint: [u8; 4],
}

impl Fingerprint {
    /// The first four bytes of SHA-256 over a label and the key: of keys with 128 bits of entropy and more this
    /// gives nothing away.
    fn of(label: &str, key: &[u8]) -> Self {
        let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        context.update(label.as_bytes());
        context.update(key);
        let mut fingerprint = [0; 4];
        fingerprint.copy_from_slice(&context.finish().as_ref()[..4]);
        Self { fingerprint }
    }

    fn to_value(&self) -> Value {
        serde_json::json!({ "fingerprint": hex::encode(self.fingerprint) })
    }

    fn matches(&self, kind: &'static str, parameters: &Value) -> Result<bool, ProviderError> {
        let other: Fingerprint = parse(kind, parameters)?;
        Ok(other.fingerprint == self.fingerprint)
    }
}

/// Reads a provider's parameters.
fn parse<T: serde::de::DeserializeOwned>(kind: &'static str, parameters: &Value) -> Result<T, ProviderError> {
    T::deserialize(parameters).map_err(|error| ProviderError::Parameters {
        kind,
        reason: error.to_string(),
    })
}

impl From<EntropyError> for ProviderError {
    fn from(_: EntropyError) -> Self {
        Self::Entropy
    }
}
