//! Opening keyrings: one, or all that a repository has.

use serde_json::Value;

use super::{
    error::KeyringError,
    frame::Keyring,
    name::KeyringName,
    wrap::{Wrap, WrapId, WrapInfo, WrapKeys},
};
use crate::{
    ids::RepositoryId, key_set::KeySet, provider::Provider, provider::ProviderError, secret::Secret,
};

/// A keyring opened by one provider; or several, [united](unite).
#[derive(Debug)]
pub struct Opened {
    pub(super) name: KeyringName,
    pub(super) wraps: Vec<Wrap>,
    pub(super) keys: KeySet,
    pub(super) unlocked: WrapKeys,
    pub(super) sources: Vec<KeyringName>,
    skipped: Vec<(String, KeyringError)>,
}

impl Opened {
    /// The repository.
    pub fn repository(&self) -> RepositoryId {
        self.keys.repository()
    }

    /// The newest of the keyrings that were opened.
    pub fn name(&self) -> KeyringName {
        self.name
    }

    /// The keys, of all keyrings that were opened.
    pub fn keys(&self) -> &KeySet {
        &self.keys
    }

    /// The keys alone.
    pub fn into_keys(self) -> KeySet {
        self.keys
    }

    /// Who can open the newest keyring. Authentic, other than [`Keyring::wraps`].
    pub fn wraps(&self) -> impl ExactSizeIterator<Item = &WrapInfo> {
        self.wraps.iter().map(|wrap| &wrap.info)
    }

    /// The wrap that opened it.
    pub fn opened_by(&self) -> WrapId {
        self.unlocked.id
    }

    /// All keyrings whose keys are in [`keys`](Self::keys), ascending.
    pub fn sources(&self) -> &[KeyringName] {
        &self.sources
    }

    /// Objects that [`open_all`] could not open, and why: worth a warning, and a reason not to write when one of them
    /// [is newer](Self::is_newest). Keyrings of before this provider was added are among them, with
    /// [`KeyringError::NoSuchWrap`] or [`KeyringError::WrongSecret`].
    pub fn skipped(&self) -> &[(String, KeyringError)] {
        &self.skipped
    }

    /// Whether no object that was skipped claims a later generation. If not so, the current key here may have been
    /// rotated away: reading is fine, writing is not.
    pub fn is_newest(&self) -> bool {
        self.skipped.iter().all(|(name, _)| {
            name.parse::<KeyringName>()
                .map_or(true, |name| name.generation() <= self.name.generation())
        })
    }
}

/// A provider that derives each secret once: a passphrase takes a good part of a second, and the same wraps occur in
/// every keyring.
struct Unlocker<'a> {
    provider: &'a dyn Provider,
    known: Vec<(Value, Option<Secret>)>,
}

impl<'a> Unlocker<'a> {
    fn new(provider: &'a dyn Provider) -> Self {
        Self {
            provider,
            known: Vec::new(),
        }
    }

    fn unlock(&mut self, parameters: &Value) -> Result<Option<Secret>, ProviderError> {
        if let Some((_, secret)) = self.known.iter().find(|(known, _)| known == parameters) {
            return Ok(secret.clone());
        }
        let secret = self.provider.unlock(parameters)?;
        self.known.push((parameters.clone(), secret.clone()));
        Ok(secret)
    }

    fn open(&mut self, keyring: Keyring) -> Result<Opened, KeyringError> {
        let kind = self.provider.kind();
        let candidates: Vec<&Wrap> = keyring
            .wraps
            .iter()
            .filter(|wrap| wrap.info.kind == kind)
            .collect();
        if candidates.is_empty() {
            return Err(KeyringError::NoSuchWrap {
                kind,
                available: describe(keyring.wraps()),
            });
        }
        // One wrap that cannot be tried must not hide another that opens.
        let mut failure = None;
        for wrap in &candidates {
            let secret = match self.unlock(&wrap.info.parameters) {
                Ok(Some(secret)) => secret,
                Ok(None) => continue,
                Err(error) => {
                    failure.get_or_insert(KeyringError::from(error));
                    continue;
                }
            };
            let keys = WrapKeys::new(&secret, keyring.repository, wrap.info.id);
            if keys.public_key()? != wrap.public_key {
                continue;
            }
            match open_with(&keyring, &keys) {
                Ok(key_set) => {
                    return Ok(Opened {
                        name: keyring.name,
                        wraps: keyring.wraps,
                        keys: key_set,
                        unlocked: keys,
                        sources: vec![keyring.name],
                        skipped: Vec::new(),
                    });
                }
                Err(error) => {
                    failure.get_or_insert(error);
                }
            }
        }
        Err(failure.unwrap_or_else(|| KeyringError::WrongSecret {
            name: self.provider.name(),
            kind,
            tried: candidates.len(),
            labels: labels(candidates.iter().map(|wrap| &wrap.info)),
            others: describe(keyring.wraps().filter(|info| info.kind != kind)),
        }))
    }
}

/// Opens a parsed keyring by the keys of one of its wraps.
pub(super) fn open_with(keyring: &Keyring, keys: &WrapKeys) -> Result<KeySet, KeyringError> {
    let wrap = keyring
        .wraps
        .iter()
        .find(|wrap| wrap.info.id == keys.id)
        .ok_or(KeyringError::UnknownWrap(keys.id))?;
    let keyring_key = wrap.open(keys, keyring.repository, keyring.name)?;
    let key_set = keyring.open_body(&keyring_key)?;
    if !wrap.trusts(keys, keyring.repository, key_set.repository_secret()) {
        return Err(KeyringError::NotGenuine(keyring.name));
    }
    Ok(key_set)
}

/// Opens one keyring object. A repository may have several: see [`open_all`].
///
/// # Errors
/// When it is damaged or not genuine, or the provider does not open it.
pub fn open(bytes: &[u8], provider: &dyn Provider) -> Result<Opened, KeyringError> {
    Unlocker::new(provider).open(Keyring::parse(bytes)?)
}

/// Opens all keyring objects of a repository, given by storage name and contents, and unites them.
///
/// What does not open is passed over as long as something of the newest generation opens; it is listed in
/// [`Opened::skipped`]. A newest generation that is damaged is passed over too, so that an accident (or vandalism) does
/// not stand in the way of a restore, but [`Opened::is_newest`] then tells writers to stop.
///
/// # Errors
/// When nothing opens (the error of the newest keyring), when the provider opens old generations only, or when the
/// keyrings contradict each other.
pub fn open_all<N: AsRef<str>, B: AsRef<[u8]>>(
    objects: &[(N, B)],
    provider: &dyn Provider,
) -> Result<Opened, KeyringError> {
    let mut unlocker = Unlocker::new(provider);
    let mut skipped: Vec<(String, KeyringError)> = Vec::new();
    let mut parsed: Vec<Keyring> = Vec::new();
    for (name, bytes) in objects {
        match parse_as(name.as_ref(), bytes.as_ref()) {
            Ok(keyring) => parsed.push(keyring),
            Err(error) => skipped.push((name.as_ref().to_owned(), error)),
        }
    }
    // Newest first, so that the error of the newest is the one reported.
    parsed.sort_by_key(|keyring| std::cmp::Reverse(keyring.name));
    if let Some(other) = parsed
        .iter()
        .find(|keyring| keyring.repository != parsed[0].repository)
    {
        return Err(KeyringError::OtherRepository(
            parsed[0].repository,
            other.repository,
        ));
    }

    // The newest keyring that is intact but closed to this provider.
    let mut closed: Option<(KeyringName, String)> = None;
    let mut opened: Vec<Opened> = Vec::new();
    for keyring in parsed {
        let name = keyring.name;
        let available = describe(keyring.wraps());
        match unlocker.open(keyring) {
            Ok(keyring) => opened.push(keyring),
            Err(error) => {
                if matches!(
                    error,
                    KeyringError::NoSuchWrap { .. } | KeyringError::WrongSecret { .. }
                ) {
                    closed.get_or_insert((name, available));
                }
                skipped.push((name.to_string(), error));
            }
        }
    }
    let Some(newest) = opened.iter().map(Opened::name).max() else {
        // Parsed keyrings were tried from the newest on, behind those that could not even be parsed.
        let unparsed = skipped.iter().position(|(_, error)| tried(error)).unwrap_or(0);
        return Err(match skipped.is_empty() {
            true => KeyringError::None,
            false => skipped.swap_remove(unparsed).1,
        });
    };
    if let Some((closed, available)) = closed
        && closed.generation() > newest.generation()
    {
        return Err(KeyringError::Removed {
            name: provider.name(),
            newest: closed,
            available,
        });
    }
    let mut united = unite(opened)?;
    united.skipped = skipped;
    Ok(united)
}

/// Whether the error came from trying a provider on an intact keyring.
fn tried(error: &KeyringError) -> bool {
    matches!(
        error,
        KeyringError::NoSuchWrap { .. } | KeyringError::WrongSecret { .. } | KeyringError::Provider(_)
    )
}

fn parse_as(name: &str, bytes: &[u8]) -> Result<Keyring, KeyringError> {
    let keyring = Keyring::parse(bytes)?;
    match name.parse::<KeyringName>() {
        Ok(read_as) if read_as != keyring.name => Err(KeyringError::Renamed {
            read_as,
            contains: keyring.name,
        }),
        Ok(_) => Ok(keyring),
        Err(error) => Err(KeyringError::Damaged(error.to_string())),
    }
}

/// Unites opened keyrings of one repository: wraps and current key of the newest generation (within one generation:
/// of the greatest id, so that all readers agree), data keys of all.
///
/// # Errors
/// When there is none, or they contradict each other, which no administrator's change can bring about.
pub fn unite(opened: Vec<Opened>) -> Result<Opened, KeyringError> {
    let mut opened = opened;
    opened.sort_by_key(Opened::name);
    let mut united = opened.pop().ok_or(KeyringError::None)?;
    for mut other in opened {
        united.keys.unite(&other.keys)?;
        united.sources.append(&mut other.sources);
        united.skipped.append(&mut other.skipped);
    }
    united.sources.sort();
    united.sources.dedup();
    Ok(united)
}

/// `passphrase (labels: a, b), key-file (labels: c)`.
fn describe<'a>(wraps: impl Iterator<Item = &'a WrapInfo>) -> String {
    let mut kinds: Vec<(&str, Vec<&WrapInfo>)> = Vec::new();
    for info in wraps {
        match kinds.iter_mut().find(|(kind, _)| *kind == info.kind) {
            Some((_, infos)) => infos.push(info),
            None => kinds.push((&info.kind, vec![info])),
        }
    }
    if kinds.is_empty() {
        return "nothing else".to_owned();
    }
    let describe =
        |(kind, infos): (&str, Vec<&WrapInfo>)| format!("{kind} (labels: {})", labels(infos.into_iter()));
    kinds.into_iter().map(describe).collect::<Vec<_>>().join(", ")
}

fn labels<'a>(wraps: impl Iterator<Item = &'a WrapInfo>) -> String {
    wraps
        .map(|info| info.label.as_str())
        .collect::<Vec<_>>()
        .join(", ")
}
