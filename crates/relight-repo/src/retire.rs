//! Retiring old data keys: dropping those from the keyring that nothing is sealed under any more.
//!
//! Nobody may go on sealing under a key that is about to go, and a process keeps the keys that it read when it opened
//! the repository. So retiring a key first leaves a mark for it, *then* looks for what is sealed under it; and whoever
//! writes announces itself (sealed under its key), or takes a lease, and *then* looks for the mark. Either the writer
//! finds the mark, and stops; or its announcement is found, and the key stays. The mark stays for ever.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use relight_keys::{KeyId, KeySet, KeyringName, Opened};
use serde::Serialize;

use crate::control::Control;
use crate::error::{RepoError, Result};
use crate::keyring;
use crate::lease;
use crate::pack::PackKind;
use crate::repository::Repository;
use crate::rewrite::{Under, Unread, read_headers};
use crate::session::announce;
use crate::settings;
use crate::storage::{PutOptions, Storage};

/// Folder of the marks.
const PREFIX: &str = "retired/";

fn mark(key: KeyId) -> String {
    format!("{PREFIX}{key}")
}

/// Fails if the data key that `keys` seal under has been retired.
pub(crate) fn check(storage: &dyn Storage, keys: &KeySet) -> Result<()> {
    let current = keys.current().id();
    match storage.head(&mark(current)) {
        Ok(_) => Err(RepoError::KeyRetired(current.to_string())),
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Something for which a key is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Need {
    /// Packs, those included that are condemned and wait for their grace to end.
    Packs,
    /// Manifests and notes of snapshots.
    Snapshots,
    /// Parts of the index.
    Index,
    /// Processes that write, or have died and were not given up yet.
    Writers,
    /// Records of collections and verifications.
    Records,
    /// Things that may need any key, because it cannot be read under which one they are sealed.
    Unknown,
}

/// A key that cannot be retired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// Its number.
    pub key: String,
    /// How many of what are sealed under it.
    pub needs: BTreeMap<Need, u64>,
}

/// What came of retiring.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RetireReport {
    /// Keys that are in the keyring no more.
    pub retired: Vec<String>,
    /// Keys that are still needed.
    pub kept: Vec<Kept>,
}

/// Drops those of `wanted` from the keyring that nothing is sealed under; none: all but the current one.
///
/// # Errors
/// [`RepoError::Keys`] for one that is not in the keyring or is the current one, and those of the storage. Nothing is
/// changed then.
pub fn retire(
    repository: &Repository,
    opened: &Opened,
    wanted: &[KeyId],
    control: Control<'_>,
) -> Result<RetireReport> {
    let current = opened.keys().current().id();
    let mut candidates: BTreeSet<KeyId> = opened.keys().ids().filter(|key| *key != current).collect();
    for key in wanted {
        if !candidates.contains(key) {
            let why = if *key == current {
                "is the current one: make another with `relight key rotate` first"
            } else {
                "is not in the keyring"
            };
            return Err(RepoError::Keys(format!(
                "data key {key} {why}; nothing was changed"
            )));
        }
    }
    if !wanted.is_empty() {
        candidates = wanted.iter().copied().collect();
    }
    let mut report = RetireReport::default();
    repository.refresh()?;
    sort_out(repository, &mut candidates, &mut report, control)?;
    if candidates.is_empty() {
        return Ok(report);
    }
    let marked = candidates.clone();
    let done = drop_marked(repository, opened, &mut candidates, &mut report, control);
    // What was not retired can be used again.
    for key in &marked {
        if done.is_err() || !candidates.contains(key) {
            repository.storage().delete(&mark(*key))?;
        }
    }
    done?;
    report.retired = candidates.iter().map(KeyId::to_string).collect();
    Ok(report)
}

fn drop_marked(
    repository: &Repository,
    opened: &Opened,
    candidates: &mut BTreeSet<KeyId>,
    report: &mut RetireReport,
    control: Control<'_>,
) -> Result<()> {
    for key in candidates.iter() {
        let put = PutOptions::default();
        repository.storage().put(&mark(*key), &[b"retired"], &put)?;
    }
    repository.refresh()?;
    sort_out(repository, candidates, report, control)?;
    if candidates.is_empty() {
        return Ok(());
    }
    keyring::change(repository.storage(), opened, Timestamp::now(), |change| {
        candidates.iter().try_for_each(|key| change.retire(*key))
    })?;
    Ok(())
}

/// Takes out of `candidates` what is needed, and says for what.
fn sort_out(
    repository: &Repository,
    candidates: &mut BTreeSet<KeyId>,
    report: &mut RetireReport,
    control: Control<'_>,
) -> Result<()> {
    let needs = needs(repository, candidates, control)?;
    for (key, needs) in needs {
        candidates.remove(&key);
        report.kept.push(Kept {
            key: key.to_string(),
            needs,
        });
    }
    Ok(())
}

type Needs = BTreeMap<KeyId, BTreeMap<Need, u64>>;

/// For what each of these keys is needed: everything in storage is looked at, whatever it is.
fn needs(repository: &Repository, candidates: &BTreeSet<KeyId>, control: Control<'_>) -> Result<Needs> {
    let mut needs = Needs::new();
    let mut unread = Vec::new();
    let mut add = |key: KeyId, need: Need| {
        if candidates.contains(&key) {
            *needs.entry(key).or_default().entry(need).or_default() += 1;
        }
    };
    let known = repository.index().packs();
    for object in repository.storage().list("")? {
        match PackKind::parse_key(&object.key) {
            Some((kind, pack)) => match known.get(&pack) {
                Some((line, _)) => add(line.key, Need::Packs),
                None => unread.push(Unread::Pack(kind, pack, object.size)),
            },
            None if is_sealed(&object.key) => unread.push(Unread::Object(object)),
            None => {}
        }
    }
    for (what, under) in read_headers(repository, unread, control)? {
        match under {
            Under::Key(key) => add(key, need(&what)),
            Under::None => {}
            Under::Unknown => candidates.iter().for_each(|key| add(*key, Need::Unknown)),
        }
    }
    Ok(needs)
}

/// Whether an object that is no pack may be sealed under a data key. What is not known counts as such.
fn is_sealed(key: &str) -> bool {
    let plain = [KeyringName::PREFIX, crate::parity::PREFIX, PREFIX];
    key != settings::KEY && !plain.iter().any(|prefix| key.starts_with(prefix))
}

fn need(what: &Unread) -> Need {
    let key = match what {
        Unread::Pack(..) => return Need::Packs,
        Unread::Object(object) => &object.key,
    };
    let under = |prefix: &str| key.starts_with(prefix);
    if under(announce::PREFIX) || under(lease::COLLECT) {
        Need::Writers
    } else if under(crate::index::segment::PREFIX) {
        Need::Index
    } else if [
        crate::snapshot::PREFIX,
        crate::snapshot::MARKS,
        crate::snapshot::LOGS,
    ]
    .into_iter()
    .any(under)
    {
        Need::Snapshots
    } else {
        Need::Records
    }
}
