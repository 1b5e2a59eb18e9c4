//! Making keyrings: the first, and from one the next.

use super::{
    error::KeyringError,
    frame::Keyring,
    limits,
    name::KeyringName,
    open::{Opened, open, open_with},
    wrap::{Wrap, WrapId, WrapInfo, WrapKeys, check_label},
};
use crate::{
    entropy::Entropy,
    ids::{KeyId, RepositoryId},
    key_set::KeySet,
    provider::Provider,
    secret::Secret,
};

/// A keyring that was made and has passed its check: it was opened again through its wraps, and held what it should.
///
/// Write [`bytes`](Self::bytes) under [`name`](Self::name) (only if nothing is there), read it back, hand that to
/// [`verify_written`](Self::verify_written), and only then delete what it [supersedes](Self::supersedes).
#[derive(Debug)]
pub struct NewKeyring {
    name: KeyringName,
    bytes: Vec<u8>,
    keys: KeySet,
    supersedes: Vec<KeyringName>,
}

impl NewKeyring {
    /// Its name in storage.
    pub fn name(&self) -> KeyringName {
        self.name
    }

    /// Its contents.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The keys in it.
    pub fn keys(&self) -> &KeySet {
        &self.keys
    }

    /// The keys alone.
    pub fn into_keys(self) -> KeySet {
        self.keys
    }

    /// The keyrings whose keys are all in this one. Exactly these may be deleted, and should be, as providers removed
    /// since can open them. Others that may lie beside them hold keys that are not in here.
    pub fn supersedes(&self) -> &[KeyringName] {
        &self.supersedes
    }

    /// Whether storage gave back what was written. The bytes were opened and compared when they were made, so that equal
    /// bytes are proof.
    ///
    /// # Errors
    /// When they differ: keep what was there before, delete the new object.
    pub fn verify_written(&self, read_back: &[u8]) -> Result<(), KeyringError> {
        (read_back == self.bytes)
            .then_some(())
            .ok_or(KeyringError::ReadBack(self.name))
    }
}

/// Makes the keys of a new repository and its first keyring, which `provider` opens. `now` is in seconds since 1970
/// (UTC).
///
/// Only for the initialisation of a repository that does not exist: never because a keyring was not found.
///
/// # Errors
/// When the provider is not good enough to protect a repository, the label is not acceptable, random bytes cannot be
/// had, or the new keyring fails its check.
pub fn create(
    repository: RepositoryId,
    provider: &dyn Provider,
    label: &str,
    now: i64,
    entropy: &mut dyn Entropy,
) -> Result<NewKeyring, KeyringError> {
    let mut change = Change {
        keys: KeySet::generate(repository, now, entropy)?,
        wraps: Vec::new(),
        generation: 1,
        openers: Vec::new(),
        unlocked: None,
        sources: Vec::new(),
    };
    change.add_wrap(provider, label, now, entropy)?;
    change.finish(now, entropy)
}

impl Opened {
    /// Begins a change. Nothing takes effect before [`Change::finish`] and the writing of what it gives.
    ///
    /// # Errors
    /// When the last generation is reached.
    pub fn change<'a>(&self) -> Result<Change<'a>, KeyringError> {
        let generation = self.name.generation() + 1;
        if generation > KeyringName::LAST_GENERATION {
            return Err(KeyringError::LastGeneration(self.name.generation()));
        }
        Ok(Change {
            keys: self.keys.clone(),
            wraps: self.wraps.clone(),
            generation,
            openers: Vec::new(),
            unlocked: Some(self.unlocked.clone()),
            sources: self.sources.clone(),
        })
    }
}

/// The next generation of a keyring in the making. Several changes may go into one generation, such as replacing a
/// wrap (add the new, remove the old) and rotating.
pub struct Change<'a> {
    keys: KeySet,
    pub(super) wraps: Vec<Wrap>,
    generation: u32,
    /// Providers of the wraps added, for the check.
    openers: Vec<(WrapId, &'a dyn Provider)>,
    /// What opened the keyring that is changed, for the check.
    unlocked: Option<WrapKeys>,
    sources: Vec<KeyringName>,
}

impl<'a> Change<'a> {
    /// Gives a provider access. `now` is in seconds since 1970 (UTC).
    ///
    /// # Errors
    /// When the provider is not good enough (a short passphrase), the label is not acceptable, there are too many wraps,
    /// or random bytes cannot be had.
    pub fn add_wrap(
        &mut self,
        provider: &'a dyn Provider,
        label: &str,
        now: i64,
        entropy: &mut dyn Entropy,
    ) -> Result<WrapId, KeyringError> {
        check_label(label)?;
        if self.wraps.len() >= limits::WRAPS {
            return Err(KeyringError::TooMany {
                what: "wraps",
                maximum: limits::WRAPS,
            });
        }
        let parameters = provider.enroll(entropy)?;
        let mut id = WrapId::generate(entropy)?;
        while self.wraps.iter().any(|wrap| wrap.info.id == id) {
            id = WrapId::generate(entropy)?;
        }
        let secret = provider.unlock(&parameters)?.ok_or_else(|| {
            KeyringError::SelfCheck("a provider does not know its own parameters".to_owned())
        })?;
        let repository = self.keys.repository();
        let keys = WrapKeys::new(&secret, repository, id);
        let info = WrapInfo {
            id,
            kind: provider.kind().to_owned(),
            label: label.to_owned(),
            created: now,
            parameters,
        };
        let wrap = Wrap::new(info, &keys, repository, self.keys.repository_secret())?;
        wrap.check()?;
        self.wraps.push(wrap);
        self.openers.push((id, provider));
        Ok(id)
    }

    /// Takes access from a provider: it opens no generation from this one on. It may have kept the data keys, so
    /// [`rotate`](Self::rotate) as well unless it is trusted; see the keyring module for what that does not do.
    ///
    /// # Errors
    /// When there is no such wrap, or it is the last.
    pub fn remove_wrap(&mut self, id: WrapId) -> Result<(), KeyringError> {
        let index = self
            .wraps
            .iter()
            .position(|wrap| wrap.info.id == id)
            .ok_or(KeyringError::UnknownWrap(id))?;
        if self.wraps.len() == 1 {
            return Err(KeyringError::LastWrap(id));
        }
        self.wraps.remove(index);
        self.openers.retain(|(opener, _)| *opener != id);
        Ok(())
    }

    /// Makes a new data key the current one and returns its number. What is sealed under the old ones stays readable.
    /// `now` is in seconds since 1970 (UTC).
    ///
    /// # Errors
    /// When there are too many data keys, or random bytes cannot be had.
    pub fn rotate(&mut self, now: i64, entropy: &mut dyn Entropy) -> Result<KeyId, KeyringError> {
        if self.keys.entries().len() >= limits::KEYS {
            return Err(KeyringError::TooMany {
                what: "data keys",
                maximum: limits::KEYS,
            });
        }
        Ok(self.keys.rotate(now, entropy)?)
    }

    /// Drops a data key that nothing is sealed under any more (which the caller has made sure of, over all
    /// objects, and no retention or legal hold stands against). What is, can never be read again.
    ///
    /// # Errors
    /// When there is no such key, or it is the current one.
    pub fn retire(&mut self, id: KeyId) -> Result<(), KeyringError> {
        Ok(self.keys.retire(id)?)
    }

    /// Seals the new generation under a new keyring key, opens it again through the wraps whose secrets are at hand,
    /// and compares. `now` is in seconds since 1970 (UTC).
    ///
    /// # Errors
    /// When random bytes cannot be had, or the check fails.
    pub fn finish(mut self, now: i64, entropy: &mut dyn Entropy) -> Result<NewKeyring, KeyringError> {
        let repository = self.keys.repository();
        let mut id = [0; 4];
        entropy.fill(&mut id)?;
        let name = KeyringName::new(self.generation, id);
        let keyring_key = Secret::generate(entropy)?;
        for wrap in &mut self.wraps {
            wrap.seal(repository, name, &keyring_key, entropy)?;
        }
        let bytes = Keyring::encode(name, now, &self.wraps, &self.keys, &keyring_key)?;
        self.check(&bytes, &keyring_key)?;
        Ok(NewKeyring {
            name,
            bytes,
            keys: self.keys,
            supersedes: self.sources,
        })
    }

    /// Opens what was made, through every way in that is at hand.
    fn check(&self, bytes: &[u8], keyring_key: &Secret) -> Result<(), KeyringError> {
        let failed = |error: KeyringError| KeyringError::SelfCheck(error.to_string());
        let same = |keys: KeySet| match keys == self.keys {
            true => Ok(()),
            false => Err(KeyringError::SelfCheck(
                "it holds other keys than it should".to_owned(),
            )),
        };
        let keyring = Keyring::parse(bytes).map_err(failed)?;
        same(keyring.open_body(keyring_key).map_err(failed)?)?;
        if let Some(unlocked) = &self.unlocked
            && self.wraps.iter().any(|wrap| wrap.info.id == unlocked.id)
        {
            same(open_with(&keyring, unlocked).map_err(failed)?)?;
        }
        // From the provider on, so that a fault in deriving its secret shows now and not when it is needed.
        for (_, provider) in &self.openers {
            same(open(bytes, *provider).map_err(failed)?.keys)?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Change<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Change")
            .field("generation", &self.generation)
            .field("keys", &self.keys)
            .field("wraps", &self.wraps)
            .finish_non_exhaustive()
    }
}
