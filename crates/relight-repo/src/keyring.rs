//! Keeps keyrings in storage. What is in them, and who opens them, is `relight-keys`'s.

use jiff::Timestamp;
use relight_keys::{
    Change, Keyring, KeyringError, KeyringName, NewKeyring, Opened, Provider, RepositoryId, SystemEntropy,
};

use crate::error::{RepoError, Result};
use crate::settings::{self, Descriptor, Settings};
use crate::storage::{PutOptions, Storage};

fn failed(error: KeyringError) -> RepoError {
    RepoError::Keys(error.to_string())
}

/// Makes a new repository in an empty storage: its keyring, opened by `provider`, and then its descriptor.
///
/// The descriptor is written last: a storage in which this was interrupted holds no repository, and it can be
/// tried again.
pub fn initialise(
    storage: &dyn Storage,
    provider: &dyn Provider,
    label: &str,
    now: Timestamp,
    settings: Settings,
) -> Result<(Descriptor, relight_keys::KeySet)> {
    match Descriptor::load(storage) {
        Err(RepoError::NotARepository { .. }) => {}
        Ok(_) => {
            return Err(RepoError::AlreadyARepository {
                location: storage.location(),
            });
        }
        Err(error) => return Err(error),
    }
    let rest = storage.list("")?;
    if rest
        .iter()
        .any(|object| !object.key.starts_with(KeyringName::PREFIX))
    {
        return Err(RepoError::NotEmpty {
            location: storage.location(),
        });
    }
    let id = RepositoryId::generate(&mut SystemEntropy).map_err(|_| RepoError::NoRandomness)?;
    let created = relight_keys::create(id, provider, label, now.as_second(), &mut SystemEntropy);
    let keyring = created.map_err(failed)?;
    store(storage, &keyring)?;
    let descriptor = crate::repository::Repository::initialise(storage, id, now, settings);
    match descriptor {
        Ok(descriptor) => {
            // Keyrings of attempts that were interrupted are of repositories that never came to be.
            for object in rest {
                storage.delete(&object.key)?;
            }
            Ok((descriptor, keyring.into_keys()))
        }
        Err(error) => {
            if matches!(error, RepoError::AlreadyARepository { .. }) {
                storage.delete(&keyring.name().to_string())?;
            }
            Err(error)
        }
    }
}

/// All keyrings in storage, with their names.
fn read_all(storage: &dyn Storage) -> Result<Vec<(String, Vec<u8>)>> {
    let mut found = Vec::new();
    for object in storage.list(KeyringName::PREFIX)? {
        match storage.get(&object.key) {
            Ok(bytes) => found.push((object.key, bytes)),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

/// The names of all keyrings in storage, in order. They are other ones whenever anything about the keys has changed.
pub fn names(storage: &dyn Storage) -> Result<Vec<String>> {
    let listed = storage.list(KeyringName::PREFIX)?.into_iter();
    let mut names: Vec<String> = listed.map(|object| object.key).collect();
    names.sort_unstable();
    Ok(names)
}

/// Opens the keyring of the repository in `storage`.
pub fn unlock(storage: &dyn Storage, provider: &dyn Provider) -> Result<Opened> {
    // A clear answer for a wrong place comes before one about keys.
    let descriptor = Descriptor::load(storage)?;
    let id = descriptor.repository()?;
    let found = read_all(storage)?;
    let of_this: Vec<_> = found
        .into_iter()
        .filter(|(_, bytes)| Keyring::parse(bytes).map_or(true, |keyring| keyring.repository() == id))
        .collect();
    let opened = relight_keys::open_all(&of_this, provider).map_err(failed)?;
    for (name, error) in opened.skipped() {
        tracing::warn!(keyring = name, %error, "a keyring was not used");
    }
    Ok(opened)
}

/// Who can open the repository: the wraps of the newest keyring. Needs no secret.
pub fn wraps(storage: &dyn Storage) -> Result<Keyring> {
    let id = Descriptor::load(storage)?.repository()?;
    let rings = read_all(storage)?
        .into_iter()
        .filter_map(|(_, bytes)| Keyring::parse(&bytes).ok());
    let newest = rings
        .filter(|ring| ring.repository() == id)
        .max_by_key(|ring| ring.name().generation());
    newest.ok_or_else(|| RepoError::Keys(format!("{} holds no keyring", storage.location())))
}

/// Changes the keyring: `edit` says how. The new generation is written and read back before the old one goes.
pub fn change<'p>(
    storage: &dyn Storage,
    opened: &Opened,
    now: Timestamp,
    edit: impl FnOnce(&mut Change<'p>) -> std::result::Result<(), KeyringError>,
) -> Result<NewKeyring> {
    if !opened.is_newest() {
        return Err(RepoError::Keys(
            "the keyring was opened with a key that its newest generation does not know; use another one"
                .into(),
        ));
    }
    let mut change = opened.change().map_err(failed)?;
    edit(&mut change).map_err(failed)?;
    let keyring = change
        .finish(now.as_second(), &mut SystemEntropy)
        .map_err(failed)?;
    store(storage, &keyring)?;
    for old in keyring.supersedes() {
        storage.delete(&old.to_string())?;
    }
    Ok(keyring)
}

fn store(storage: &dyn Storage, keyring: &NewKeyring) -> Result<()> {
    let name = keyring.name().to_string();
    storage.put_new(&name, &[keyring.bytes()], &PutOptions::default())?;
    let read_back = storage.get(&name)?;
    if let Err(error) = keyring.verify_written(&read_back) {
        storage.delete(&name)?;
        return Err(failed(error));
    }
    Ok(())
}

/// Whether there is a repository in `storage`.
pub fn is_repository(storage: &dyn Storage) -> Result<bool> {
    match storage.head(settings::KEY) {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error.into()),
    }
}
