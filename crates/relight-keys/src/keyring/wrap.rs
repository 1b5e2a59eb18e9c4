//! Wraps: the access of one provider. See the keyring module for the design.

use std::{fmt, str::FromStr};

use aws_lc_rs::{
    aead::{Aad, LessSafeKey, Nonce},
    agreement::{PrivateKey, UnparsedPublicKey, X25519, agree},
    hmac,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{error::KeyringError, limits, name::KeyringName};
use crate::{
    derive,
    entropy::{Entropy, EntropyError},
    ids::RepositoryId,
    secret::Secret,
};

/// The identity of a wrap, printed as 8 hexadecimal digits. It stays the same in all generations.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WrapId(#[serde(with = "crate::hex_array")] [u8; 4]);

impl WrapId {
    pub(super) fn generate(entropy: &mut dyn Entropy) -> Result<Self, EntropyError> {
        let mut bytes = [0; 4];
        entropy.fill(&mut bytes)?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for WrapId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for WrapId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WrapId({self})")
    }
}

impl FromStr for WrapId {
    type Err = crate::ids::IdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<crate::ids::KeyId>()
            .map(|number| Self(number.0.to_be_bytes()))
            .map_err(|error| error.of("a wrap id"))
    }
}

/// What everybody may know about a wrap, and does: labels are readable to whoever can read the storage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrapInfo {
    /// Its identity.
    pub id: WrapId,
    /// Kind of its provider, one of [`KINDS`](crate::KINDS) or one of a later version.
    pub kind: String,
    /// What the operator calls it.
    pub label: String,
    /// When it was made, in seconds since 1970 (UTC), by the clock of the machine that made it.
    pub created: i64,
    /// What its provider keeps with it in clear (cost, salt, fingerprint).
    pub parameters: Value,
}

/// A wrap as stored: the same in all generations but for `sealed`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wrap {
    pub(super) info: WrapInfo,
    #[serde(with = "crate::hex_array")]
    pub(super) public_key: [u8; 32],
    #[serde(with = "crate::hex_array")]
    trust: [u8; 32],
    sealed: SealedKey,
}

/// A keyring key sealed to a wrap's public key.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SealedKey {
    #[serde(with = "crate::hex_array")]
    ephemeral: [u8; 32],
    #[serde(with = "crate::hex_array")]
    key: [u8; 32],
    #[serde(with = "crate::hex_array")]
    tag: [u8; 16],
}

/// What opens one wrap, made from its provider's secret.
#[derive(Clone)]
pub(super) struct WrapKeys {
    pub(super) id: WrapId,
    private: Secret,
    trust: Secret,
}

impl WrapKeys {
    pub(super) fn new(provider: &Secret, repository: RepositoryId, id: WrapId) -> Self {
        let derived = |label: &[u8]| derive::secret(provider.expose(), &repository.0, &[label, &id.0]);
        Self {
            id,
            private: derived(b"relight wrap x25519 v1"),
            trust: derived(b"relight wrap trust v1"),
        }
    }

    pub(super) fn public_key(&self) -> Result<[u8; 32], KeyringError> {
        public_key(&private_key(&self.private)?)
    }

    /// HMAC over what the wrap stands for: this repository secret, for this wrap of this repository.
    fn trust_key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.trust.expose())
    }
}

fn trust_message(
    repository: RepositoryId,
    id: WrapId,
    repository_secret: &Secret,
) -> zeroize::Zeroizing<Vec<u8>> {
    let mut message = zeroize::Zeroizing::new(Vec::with_capacity(64));
    message.extend_from_slice(&repository.0);
    message.extend_from_slice(&id.0);
    message.extend_from_slice(repository_secret.expose());
    message
}

impl fmt::Debug for WrapKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WrapKeys({})", self.id)
    }
}

impl Wrap {
    /// A new wrap, not sealed to yet.
    pub(super) fn new(
        info: WrapInfo,
        keys: &WrapKeys,
        repository: RepositoryId,
        repository_secret: &Secret,
    ) -> Result<Self, KeyringError> {
        let tag = hmac::sign(
            &keys.trust_key(),
            &trust_message(repository, info.id, repository_secret),
        );
        let mut trust = [0; 32];
        trust.copy_from_slice(tag.as_ref());
        let sealed = SealedKey {
            ephemeral: [0; 32],
            key: [0; 32],
            tag: [0; 16],
        };
        Ok(Self {
            info,
            public_key: keys.public_key()?,
            trust,
            sealed,
        })
    }

    /// Checks what can be checked without a secret.
    pub(super) fn check(&self) -> Result<(), KeyringError> {
        check_label(&self.info.label)?;
        check_label(&self.info.kind)?;
        if self.info.parameters.to_string().len() > limits::PARAMETERS {
            return Err(KeyringError::TooMany {
                what: "bytes of parameters a wrap",
                maximum: limits::PARAMETERS,
            });
        }
        Ok(())
    }

    /// Seals the key of a keyring to this wrap.
    pub(super) fn seal(
        &mut self,
        repository: RepositoryId,
        keyring: KeyringName,
        keyring_key: &Secret,
        entropy: &mut dyn Entropy,
    ) -> Result<(), KeyringError> {
        let private = private_key(&Secret::generate(entropy)?)?;
        let ephemeral = public_key(&private)?;
        let cipher = self.cipher(&private, &self.public_key, &ephemeral, repository, keyring)?;
        let mut key = zeroize::Zeroizing::new(*keyring_key.expose());
        let tag = cipher
            .seal_in_place_separate_tag(zero_nonce(), Aad::empty(), &mut key[..])
            .map_err(|_| failed("sealing"))?;
        self.sealed = SealedKey {
            ephemeral,
            key: *key,
            tag: [0; 16],
        };
        self.sealed.tag.copy_from_slice(tag.as_ref());
        // The recipient's secret is not at hand, so what was sealed is opened again from the ephemeral side.
        let cipher = self.cipher(&private, &self.public_key, &ephemeral, repository, keyring)?;
        if self.unseal(&cipher)? != *keyring_key {
            return Err(failed("sealing"));
        }
        Ok(())
    }

    /// The keyring key, by the keys of this wrap.
    pub(super) fn open(
        &self,
        keys: &WrapKeys,
        repository: RepositoryId,
        keyring: KeyringName,
    ) -> Result<Secret, KeyringError> {
        let ephemeral = &self.sealed.ephemeral;
        let cipher = self.cipher(
            &private_key(&keys.private)?,
            ephemeral,
            ephemeral,
            repository,
            keyring,
        )?;
        self.unseal(&cipher)
    }

    /// Whether the provider's own tag vouches for this repository secret.
    pub(super) fn trusts(
        &self,
        keys: &WrapKeys,
        repository: RepositoryId,
        repository_secret: &Secret,
    ) -> bool {
        let message = trust_message(repository, self.info.id, repository_secret);
        hmac::verify(&keys.trust_key(), &message, &self.trust).is_ok()
    }

    fn unseal(&self, cipher: &LessSafeKey) -> Result<Secret, KeyringError> {
        Secret::filled_by(|out| {
            cipher.open_separate_gather(
                zero_nonce(),
                Aad::empty(),
                &self.sealed.key,
                &self.sealed.tag,
                out,
            )
        })
        .map_err(|_| KeyringError::Damaged(format!("wrap {} does not open", self.info.id)))
    }

    fn cipher(
        &self,
        private: &PrivateKey,
        peer: &[u8; 32],
        ephemeral: &[u8; 32],
        repository: RepositoryId,
        keyring: KeyringName,
    ) -> Result<LessSafeKey, KeyringError> {
        let damaged = KeyringError::Damaged(format!("wrap {} has an unusable public key", self.info.id));
        let salt = [*ephemeral, self.public_key].concat();
        agree(
            private,
            UnparsedPublicKey::new(&X25519, peer),
            damaged,
            |shared| {
                Ok(derive::cipher(
                    shared,
                    &salt,
                    &[
                        b"relight wrap v1",
                        &repository.0,
                        &keyring.generation().to_le_bytes(),
                        &keyring.id(),
                        &self.info.id.0,
                    ],
                ))
            },
        )
    }
}

/// A label is shown in lists and messages.
pub(super) fn check_label(label: &str) -> Result<(), KeyringError> {
    let fits = (1..=limits::LABEL).contains(&label.len()) && !label.chars().any(char::is_control);
    fits.then_some(()).ok_or(KeyringError::Label)
}

fn private_key(secret: &Secret) -> Result<PrivateKey, KeyringError> {
    PrivateKey::from_private_key(&X25519, secret.expose()).map_err(|_| failed("X25519"))
}

fn public_key(private: &PrivateKey) -> Result<[u8; 32], KeyringError> {
    let public = private.compute_public_key().map_err(|_| failed("X25519"))?;
    public.as_ref().try_into().map_err(|_| failed("X25519"))
}

fn failed(what: &str) -> KeyringError {
    KeyringError::SelfCheck(format!("{what} failed"))
}

/// Safe because the key follows from a key pair drawn for this one message.
fn zero_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}
