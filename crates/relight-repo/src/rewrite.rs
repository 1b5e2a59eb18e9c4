//! Which data key seals what, and sealing everything under the current one.
//!
//! After a rotation new objects take the new key and old ones stay as they are. Rewriting seals them again: packs by
//! way of a collection (new packs, then the old ones are condemned, and deleted after the grace), small objects in
//! place under their names. It can be stopped and repeated at any moment. When nothing is left under an old key, that
//! key can be retired from the keyring.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use relight_keys::{KeyId, ObjectKind, SEALED_HEADER_LENGTH};
use serde::Serialize;

use crate::collect::{self, CollectOptions};
use crate::condemned;
use crate::control::{Control, Unit};
use crate::error::{RepoError, Result};
use crate::group;
use crate::id::PackId;
use crate::index::segment;
use crate::lease::{COLLECT, Lease};
use crate::pack::PackKind;
use crate::pack::reader::read_header;
use crate::repository::Repository;
use crate::sealed;
use crate::snapshot::{self, Snapshot};
use crate::storage::{ObjectInfo, PutOptions, StorageError};
use crate::suspects;
use crate::tail;
use crate::verify::checks;

/// Headers that are read at once.
const AT_ONCE: usize = 8;

/// Folders of small sealed objects that stay, and what is in them.
const SEALED: [(&str, ObjectKind); 9] = [
    (segment::PREFIX, ObjectKind::INDEX_SEGMENT),
    (snapshot::PREFIX, ObjectKind::SNAPSHOT),
    (snapshot::MARKS, ObjectKind::SNAPSHOT),
    (snapshot::LOGS, ObjectKind::SNAPSHOT),
    (group::PREFIX, ObjectKind::GROUP),
    (tail::PREFIX, ObjectKind::TAIL),
    (checks::PREFIX, ObjectKind::VERIFICATION),
    (suspects::PREFIX, ObjectKind::VERIFICATION),
    (condemned::PREFIX, ObjectKind::CONDEMNED),
];

/// What is sealed under one data key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct KeyUse {
    /// The key's number.
    pub key: String,
    /// Whether new objects are sealed under it.
    pub current: bool,
    /// Whether the keyring has it. If not, everything counted here is lost without it.
    pub held: bool,
    /// Data packs.
    pub data_packs: u64,
    /// Metadata packs.
    pub metadata_packs: u64,
    /// Bytes of these packs.
    pub bytes: u64,
    /// Packs of these that a collection has condemned: they are about to go.
    pub condemned_packs: u64,
    /// Snapshots whose manifests are sealed under it.
    pub snapshots: u64,
    /// Index segments.
    pub segments: u64,
    /// Notes about snapshots, records of verifications and collections.
    pub others: u64,
}

impl KeyUse {
    /// Whether nothing is sealed under the key.
    pub fn is_unused(&self) -> bool {
        self.data_packs + self.metadata_packs + self.snapshots + self.segments + self.others == 0
    }
}

/// What came of rewriting.
#[derive(Debug, Serialize)]
pub struct RewriteReport {
    /// Small objects that were sealed again.
    pub objects: u64,
    /// What the collection did that rewrote the packs.
    pub collection: collect::Report,
    /// What is sealed under which key now. Packs that are too young to be rewritten, or condemned but not deleted yet,
    /// keep an old key in use for a while.
    pub keys: Vec<KeyUse>,
}

/// Finds out what is sealed under which key, the current one first.
///
/// # Errors
/// Where storage is not available, or somebody asked to stop.
pub fn key_use(repository: &Repository, control: Control<'_>) -> Result<Vec<KeyUse>> {
    repository.refresh()?;
    let mut uses: BTreeMap<KeyId, KeyUse> = BTreeMap::new();
    for id in repository.keys().ids() {
        uses.insert(id, KeyUse::default());
    }
    let storage = repository.storage();
    let known = repository.index().packs();
    let condemned = condemned::load_states(repository)?;
    let mut unread = Vec::new();
    for kind in PackKind::ALL {
        for object in storage.list(kind.prefix())? {
            let Some((_, pack)) = PackKind::parse_key(&object.key) else {
                continue;
            };
            match known.get(&pack) {
                Some((line, _)) => {
                    let found = uses.entry(line.key).or_default();
                    found.add_pack(kind, object.size, condemned.contains_key(&pack));
                }
                None => unread.push(Unread::Pack(kind, pack, object.size)),
            }
        }
    }
    for (prefix, _) in SEALED {
        unread.extend(storage.list(prefix)?.into_iter().map(Unread::Object));
    }
    for (what, key) in read_keys(repository, unread, control)? {
        let found = uses.entry(key).or_default();
        match what {
            Unread::Pack(kind, pack, size) => found.add_pack(kind, size, condemned.contains_key(&pack)),
            Unread::Object(object) if object.key.starts_with(snapshot::PREFIX) => found.snapshots += 1,
            Unread::Object(object) if object.key.starts_with(segment::PREFIX) => found.segments += 1,
            Unread::Object(_) => found.others += 1,
        }
    }
    let current = repository.keys().current().id();
    let mut uses: Vec<KeyUse> = uses
        .into_iter()
        .map(|(key, found)| KeyUse {
            key: key.to_string(),
            current: key == current,
            held: repository.keys().get(key).is_some(),
            ..found
        })
        .collect();
    uses.sort_by_key(|found| !found.current);
    Ok(uses)
}

impl KeyUse {
    fn add_pack(&mut self, kind: PackKind, size: u64, condemned: bool) {
        match kind {
            PackKind::Data => self.data_packs += 1,
            PackKind::Metadata => self.metadata_packs += 1,
        }
        self.bytes += size;
        self.condemned_packs += u64::from(condemned);
    }
}

/// Something whose key only its header tells.
pub(crate) enum Unread {
    Pack(PackKind, PackId, u64),
    Object(ObjectInfo),
}

/// Under which key something is sealed.
pub(crate) enum Under {
    /// This one.
    Key(KeyId),
    /// None: it is not sealed, or not there any more.
    None,
    /// Its header is damaged or cannot be read now.
    Unknown,
}

/// Reads under which key things are sealed; what has vanished, lies cold or is no sealed object is left out.
fn read_keys(
    repository: &Repository,
    unread: Vec<Unread>,
    control: Control<'_>,
) -> Result<Vec<(Unread, KeyId)>> {
    let read = read_headers(repository, unread, control)?.into_iter();
    let known = |(what, under)| match under {
        Under::Key(key) => Some((what, key)),
        Under::None | Under::Unknown => None,
    };
    Ok(read.filter_map(known).collect())
}

/// Reads under which key things are sealed.
pub(crate) fn read_headers(
    repository: &Repository,
    unread: Vec<Unread>,
    control: Control<'_>,
) -> Result<Vec<(Unread, Under)>> {
    control
        .progress
        .begin("reading headers", Unit::Items, unread.len() as u64);
    let next = AtomicUsize::new(0);
    let keys: Mutex<Result<HashMap<usize, Under>>> = Mutex::new(Ok(HashMap::new()));
    let read = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(what) = unread.get(at) else { return };
            let key = control.check().and_then(|()| key_of(repository, what));
            control.progress.advance(1);
            let mut keys = keys.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            match (&mut *keys, key) {
                (Ok(keys), Ok(key)) => drop(keys.insert(at, key)),
                (Ok(_), Err(error)) => *keys = Err(error),
                (Err(_), _) => return,
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(unread.len()) {
            scope.spawn(read);
        }
    });
    let mut keys = keys
        .into_inner()
        .unwrap_or_else(|poisoned| poisoned.into_inner())?;
    let read = unread.into_iter().enumerate();
    Ok(read
        .filter_map(|(at, what)| Some((what, keys.remove(&at)?)))
        .collect())
}

fn key_of(repository: &Repository, what: &Unread) -> Result<Under> {
    let key = match what {
        Unread::Pack(kind, pack, _) => {
            let header = read_header(repository.storage(), repository.id(), *kind, *pack);
            header.map(|header| Under::Key(header.key))
        }
        Unread::Object(object) => {
            let mut header = [0; SEALED_HEADER_LENGTH];
            let read = repository.storage().get_range(&object.key, 0, &mut header);
            read.map(|()| sealed::key_in(&header).map_or(Under::None, Under::Key))
                .map_err(RepoError::from)
        }
    };
    match key {
        Err(RepoError::Damaged { .. } | RepoError::TooNew { .. }) => Ok(Under::Unknown),
        Err(RepoError::Storage(StorageError::Cold { .. })) => Ok(Under::Unknown),
        Err(RepoError::Storage(StorageError::Short { .. })) if matches!(what, Unread::Pack(..)) => {
            Ok(Under::Unknown)
        }
        Err(RepoError::Storage(StorageError::NotFound { .. } | StorageError::Short { .. })) => {
            Ok(Under::None)
        }
        other => other,
    }
}

/// Seals everything that is sealed under another key again under the current one. `options` are those of the
/// collection that rewrites the packs: those that are younger than its grace are left for the next time.
///
/// # Errors
/// Those of a collection. What was sealed again until then is.
pub fn rewrite(
    repository: &Arc<Repository>,
    options: &CollectOptions,
    control: Control<'_>,
) -> Result<RewriteReport> {
    let options = CollectOptions {
        reseal: true,
        ..options.clone()
    };
    let collection = collect::collect(repository, &options, control)?;
    // Last, because a collection replaces segments as well. It holds the same lease: nothing is cleared away that is
    // being sealed again.
    let lease = Lease::acquire(repository, COLLECT)?;
    let objects = reseal_objects(repository, &lease, control)?;
    drop(lease);
    let keys = key_use(repository, control)?;
    Ok(RewriteReport {
        objects,
        collection,
        keys,
    })
}

fn reseal_objects(repository: &Repository, lease: &Lease, control: Control<'_>) -> Result<u64> {
    let current = repository.keys().current().id();
    let mut objects = 0;
    for (prefix, kind) in SEALED {
        let listed = repository.storage().list(prefix)?;
        let listed = listed.into_iter().map(Unread::Object).collect();
        let mut due = read_keys(repository, listed, control)?;
        due.retain(|(_, key)| *key != current && repository.keys().get(*key).is_some());
        control
            .progress
            .begin("sealing objects again", Unit::Items, due.len() as u64);
        for (number, (what, _)) in due.iter().enumerate() {
            control.check()?;
            if number % 64 == 0 {
                lease.check()?;
            }
            if let Unread::Object(object) = what {
                objects += u64::from(reseal(repository, &object.key, kind)?);
            }
            control.progress.advance(1);
        }
    }
    Ok(objects)
}

/// Seals one object again under its name. False if there was nothing to be sealed.
fn reseal(repository: &Repository, name: &str, kind: ObjectKind) -> Result<bool> {
    let vault = repository.vault();
    let old = match vault.storage.get(name) {
        Ok(old) => old,
        Err(error) if error.is_not_found() => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let plain = match sealed::open(vault.keys, vault.repository, kind, name, &old) {
        Ok(plain) => plain,
        Err(error) => {
            tracing::warn!(%error, "it is left as it is");
            return Ok(false);
        }
    };
    let mut options = PutOptions::default();
    if let Some(id) = Snapshot::parse_key(name) {
        let manifest = Snapshot::decode(&plain, id)?;
        options.retain_until = crate::retention::object_lock(repository, &manifest);
    }
    let new = sealed::seal(vault.keys.current(), vault.repository, kind, name, &plain)?;
    // Forgotten or changed while it was being sealed: what was done then stands.
    match vault.storage.get(name) {
        Ok(now) if now == old => {}
        Ok(_) => return Ok(false),
        Err(error) if error.is_not_found() => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    vault.storage.put(name, &[&new], &options)?;
    Ok(true)
}
