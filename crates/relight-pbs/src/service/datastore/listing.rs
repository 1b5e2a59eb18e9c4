//! What is in a datastore: groups and snapshots by namespace. Manifests are read once and kept; what may change is read
//! again when its object is another, so that what other programs do to the repository is seen at once.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use relight_repo::group::{self, Record, Subject};
use relight_repo::snapshot::{self, Marks, Snapshot};
use relight_repo::storage::{Millis, ObjectInfo};
use relight_repo::{RepoError, Repository, SnapshotId};

use super::entry::{Body, Entry};
use super::error::Result;
use super::naming::group_of;
use super::opened::Opened;
use crate::access::AuthId;
use crate::formats::ids::{BackupTime, Group, Namespace, SnapshotName};

/// Objects that are read at once: enough to hide the latency of object storage.
const AT_ONCE: usize = 16;
/// What was written this short before it was read may have been written again since with the same time.
const YOUNG: Millis = 3_000;
/// A manifest that could not be read is tried again after this time.
const RETRY: Duration = Duration::from_secs(60);

/// The snapshots of one group.
pub struct GroupEntry {
    /// Where it is.
    pub namespace: Namespace,
    /// What it is called.
    pub group: Group,
    /// Who owns it, if anybody said.
    pub owner: Option<AuthId>,
    /// Its notes.
    pub notes: String,
    /// Its snapshots, newest first. At least one.
    pub snapshots: Vec<Arc<Entry>>,
}

/// What is in a datastore at a moment.
#[derive(Default)]
pub struct Listing {
    groups: BTreeMap<Namespace, BTreeMap<Group, Arc<GroupEntry>>>,
    namespaces: BTreeSet<Namespace>,
}

impl Listing {
    /// The groups of one namespace.
    pub fn groups(&self, namespace: &Namespace) -> impl Iterator<Item = &Arc<GroupEntry>> {
        self.groups.get(namespace).into_iter().flat_map(BTreeMap::values)
    }

    /// All groups of all namespaces.
    pub fn all_groups(&self) -> impl Iterator<Item = &Arc<GroupEntry>> {
        self.groups.values().flat_map(BTreeMap::values)
    }

    /// One group.
    pub fn group(&self, namespace: &Namespace, group: &Group) -> Option<&Arc<GroupEntry>> {
        self.groups.get(namespace)?.get(group)
    }

    /// One snapshot.
    pub fn snapshot(&self, namespace: &Namespace, name: &SnapshotName) -> Option<&Arc<Entry>> {
        let found = self.group(namespace, &name.group)?;
        found
            .snapshots
            .iter()
            .find(|entry| entry.name.backup_time == name.backup_time)
    }

    /// All namespaces, the root first, each before those in it.
    pub fn namespaces(&self) -> impl Iterator<Item = &Namespace> + Clone {
        self.namespaces.iter()
    }

    /// Whether there is such a namespace.
    pub fn has_namespace(&self, namespace: &Namespace) -> bool {
        namespace.is_root() || self.namespaces.contains(namespace)
    }
}

/// Something that was read, and what its object was then.
struct Read<T> {
    modified: Millis,
    size: u64,
    /// By this host's clock, which is compared only to tell young from old.
    at: Millis,
    value: T,
}

impl<T> Read<T> {
    fn is_current(&self, object: &ObjectInfo) -> bool {
        self.modified == object.modified && self.size == object.size && self.at - self.modified > YOUNG
    }
}

#[derive(Default)]
struct Cache {
    bodies: HashMap<SnapshotId, Arc<Body>>,
    bad: HashMap<SnapshotId, Instant>,
    marks: HashMap<SnapshotId, Read<Marks>>,
    groups: HashMap<String, Read<Record>>,
    logged: HashSet<SnapshotId>,
    /// Something is not in the listing yet: also where looking for more of it failed.
    changed: bool,
    /// With when it was begun to look for it.
    listing: Option<(Instant, Arc<Listing>)>,
}

/// The objects from which a listing is made.
struct Objects {
    snapshots: HashSet<SnapshotId>,
    logged: HashSet<SnapshotId>,
    marks: Vec<ObjectInfo>,
    groups: Vec<ObjectInfo>,
    keyrings: Option<Vec<String>>,
}

impl Objects {
    /// Looks for them, everywhere at once: each look may be a request.
    fn look(opened: &Opened) -> Result<Self> {
        let open = opened.now();
        let repository = &open.repository;
        let list = |prefix| repository.storage().list(prefix).map_err(RepoError::from);
        let (snapshots, logged, marks, groups, keyrings) = std::thread::scope(|scope| {
            let snapshots = scope.spawn(|| repository.snapshot_ids());
            let keyrings = scope.spawn(|| opened.keyrings());
            let marks = scope.spawn(|| list(snapshot::MARKS));
            let groups = scope.spawn(|| list(group::PREFIX));
            let logged = repository.logged();
            let (snapshots, marks) = (joined(snapshots), joined(marks));
            (snapshots, logged, marks, joined(groups), joined(keyrings))
        });
        Ok(Self {
            snapshots: snapshots?.into_iter().collect(),
            logged: logged?,
            marks: marks?,
            groups: groups?,
            keyrings: keyrings?,
        })
    }
}

fn joined<T>(thread: ScopedJoinHandle<'_, relight_repo::Result<T>>) -> relight_repo::Result<T> {
    let result = thread.join();
    result.unwrap_or_else(|_| Err(RepoError::Stopped("a list could not be made".into())))
}

/// Reads listings.
#[derive(Default)]
pub(super) struct Lister(Mutex<Cache>);

impl Lister {
    /// What is there now.
    pub fn list(&self, opened: &Opened) -> Result<Arc<Listing>> {
        let asked = Instant::now();
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // While this one waited, another has looked.
        if let Some((_, listing)) = cache.listing.as_ref().filter(|(begun, _)| *begun > asked) {
            return Ok(listing.clone());
        }
        let begun = Instant::now();
        let objects = Objects::look(opened)?;
        if opened.follow(objects.keyrings) {
            cache.bad.clear();
        }
        let open = opened.now();
        let repository = &open.repository;
        cache.read_snapshots(repository, objects.snapshots, objects.logged);
        cache.read_marks(repository, objects.marks)?;
        cache.read_groups(repository, &objects.groups)?;
        let listing = match &cache.listing {
            Some((_, listing)) if !cache.changed => listing.clone(),
            _ => Arc::new(cache.build()),
        };
        cache.changed = false;
        cache.listing = Some((begun, listing.clone()));
        Ok(listing)
    }
}

impl Lister {
    /// All snapshots that can be read, with their marks: also those that have no place in a listing.
    pub fn snapshots(&self, opened: &Opened) -> Result<Vec<(Arc<Body>, Option<Marks>)>> {
        self.list(opened)?;
        let cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let marks = |id| cache.marks.get(&id).map(|read| read.value.clone());
        let bodies = cache.bodies.values();
        Ok(bodies
            .map(|body| (body.clone(), marks(body.snapshot.id)))
            .collect())
    }
}

/// Reads things in parallel. What is gone by now is left out.
fn read_all<K: Sync, T: Send>(
    keys: &[K],
    read: impl Fn(&K) -> relight_repo::Result<Option<T>> + Sync,
) -> Vec<(&K, relight_repo::Result<T>)> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(keys.len()));
    let work = || {
        while let Some(key) = keys.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
            let result = match read(key) {
                Ok(None) => continue,
                Ok(Some(value)) => Ok(value),
                Err(error) => Err(error),
            };
            done.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push((key, result));
        }
    };
    if keys.len() < 4 {
        work();
    } else {
        std::thread::scope(|scope| {
            (0..AT_ONCE.min(keys.len())).for_each(|_| drop(scope.spawn(work)));
        });
    }
    done.into_inner().unwrap_or_else(PoisonError::into_inner)
}

impl Cache {
    fn read_snapshots(
        &mut self,
        repository: &Repository,
        ids: HashSet<SnapshotId>,
        logged: HashSet<SnapshotId>,
    ) {
        let before = self.bodies.len();
        self.bodies.retain(|id, _| ids.contains(id));
        self.bad.retain(|id, _| ids.contains(id));
        self.changed |= self.bodies.len() != before;
        let is_bad = |id: &SnapshotId| {
            self.bad
                .get(id)
                .is_some_and(|since: &Instant| since.elapsed() < RETRY)
        };
        let new: Vec<SnapshotId> = ids
            .into_iter()
            .filter(|id| !self.bodies.contains_key(id) && !is_bad(id))
            .collect();
        let read = read_all(&new, |id| match repository.snapshot(*id) {
            Ok(snapshot) => Ok(Some(snapshot)),
            Err(RepoError::NoSuchSnapshot(_)) => Ok(None),
            Err(error) => Err(error),
        });
        for (id, result) in read {
            match result {
                Ok(snapshot) => {
                    self.bodies.insert(*id, Arc::new(Body::new(snapshot)));
                    self.bad.remove(id);
                    self.changed = true;
                }
                Err(error) => {
                    tracing::warn!(snapshot = %id, %error, "a snapshot is left out of lists");
                    self.bad.insert(*id, Instant::now());
                }
            }
        }
        self.changed |= logged != self.logged;
        self.logged = logged;
    }

    fn read_marks(&mut self, repository: &Repository, listed: Vec<ObjectInfo>) -> Result<()> {
        let name = |object: &ObjectInfo| object.key.strip_prefix(snapshot::MARKS)?.parse().ok();
        let listed: Vec<(SnapshotId, ObjectInfo)> = listed
            .into_iter()
            .filter_map(|object| Some((name(&object)?, object)))
            .collect();
        let there: HashSet<SnapshotId> = listed.iter().map(|(id, _)| *id).collect();
        let before = self.marks.len();
        self.marks.retain(|id, _| there.contains(id));
        self.changed |= self.marks.len() != before;
        let stale: Vec<(SnapshotId, ObjectInfo)> = listed
            .into_iter()
            .filter(|(id, object)| !self.marks.get(id).is_some_and(|known| known.is_current(object)))
            .collect();
        let at = repository.now().as_millisecond();
        for ((id, object), result) in read_all(&stale, |(id, _)| repository.marks(*id).map(Some)) {
            let value = match result {
                Ok(value) => value,
                Err(error @ RepoError::Storage(_)) => return Err(error.into()),
                Err(error) => {
                    // Nobody may remove a snapshot because its protection cannot be read.
                    tracing::warn!(snapshot = %id, %error, "taken for protected");
                    Marks {
                        protected: true,
                        ..Marks::default()
                    }
                }
            };
            self.changed |= self.marks.get(id).is_none_or(|known| known.value != value);
            let (modified, size) = (object.modified, object.size);
            self.marks.insert(
                *id,
                Read {
                    modified,
                    size,
                    at,
                    value,
                },
            );
        }
        Ok(())
    }

    fn read_groups(&mut self, repository: &Repository, listed: &[ObjectInfo]) -> Result<()> {
        let there: HashSet<&str> = listed.iter().map(|object| object.key.as_str()).collect();
        let before = self.groups.len();
        self.groups.retain(|key, _| there.contains(key.as_str()));
        self.changed |= self.groups.len() != before;
        let stale: Vec<&ObjectInfo> = listed
            .iter()
            .filter(|object| {
                !self
                    .groups
                    .get(&object.key)
                    .is_some_and(|known| known.is_current(object))
            })
            .collect();
        let at = repository.now().as_millisecond();
        for (object, result) in read_all(&stale, |object| repository.group_at(&object.key)) {
            let value = match result {
                Ok(value) => value,
                Err(error @ RepoError::Storage(_)) => return Err(error.into()),
                Err(error) => {
                    tracing::warn!(%error, "owner and notes of a group cannot be read");
                    continue;
                }
            };
            self.changed |= self
                .groups
                .get(&object.key)
                .is_none_or(|known| known.value != value);
            let (modified, size) = (object.modified, object.size);
            self.groups.insert(
                object.key.clone(),
                Read {
                    modified,
                    size,
                    at,
                    value,
                },
            );
        }
        Ok(())
    }

    fn build(&self) -> Listing {
        let old = self.listing.as_ref().map(|(_, listing)| &**listing);
        let mut by_group: HashMap<(Namespace, Group), Vec<&Arc<Body>>> = HashMap::new();
        for body in self.bodies.values() {
            // A piece of a log is no backup that a client could restore.
            if let Some(place) = group_of(&body.snapshot.workload).filter(|_| !body.snapshot.is_log()) {
                by_group.entry(place).or_default().push(body);
            }
        }
        let mut records: HashMap<(Namespace, Group), &Record> = HashMap::new();
        let mut listing = Listing::default();
        listing.namespaces.insert(Namespace::ROOT);
        for read in self.groups.values() {
            match read.value.subject {
                Subject::Group => {
                    if let Some(place) = group_of(&read.value.name) {
                        records.insert(place, &read.value);
                    }
                }
                Subject::Namespace => listing.add_namespaces(read.value.name.parse().ok()),
            }
        }
        for ((namespace, group), bodies) in by_group {
            listing.add_namespaces(Some(namespace.clone()));
            let entries = self.entries(&namespace, &group, bodies, old);
            let record = records.get(&(namespace.clone(), group.clone()));
            let said = record.map_or("", |record| record.owner.as_str());
            let owners = std::iter::once(said).chain(entries.iter().filter_map(|entry| entry.body.owner()));
            let owner = owners.filter_map(|owner| owner.parse().ok()).next();
            let found = GroupEntry {
                namespace: namespace.clone(),
                group: group.clone(),
                owner,
                notes: record.map(|record| record.notes.clone()).unwrap_or_default(),
                snapshots: entries,
            };
            let groups = listing.groups.entry(namespace).or_default();
            groups.insert(group, Arc::new(found));
        }
        listing
    }

    /// The snapshots of a group, newest first. Of several in one second only the newest has a name.
    fn entries(
        &self,
        namespace: &Namespace,
        group: &Group,
        mut bodies: Vec<&Arc<Body>>,
        old: Option<&Listing>,
    ) -> Vec<Arc<Entry>> {
        let order = |snapshot: &Snapshot| (snapshot.time, snapshot.published, snapshot.id);
        bodies.sort_by_key(|body| std::cmp::Reverse(order(&body.snapshot)));
        let mut entries: Vec<Entry> = Vec::with_capacity(bodies.len());
        for body in bodies {
            let backup_time = BackupTime::of(body.snapshot.time);
            if let Some(last) = entries.last_mut()
                && last.name.backup_time == backup_time
            {
                last.hidden.push(body.snapshot.id);
                continue;
            }
            entries.push(Entry {
                namespace: namespace.clone(),
                name: SnapshotName {
                    group: group.clone(),
                    backup_time,
                },
                body: body.clone(),
                marks: self.marks.get(&body.snapshot.id).map(|read| read.value.clone()),
                has_log: self.logged.contains(&body.snapshot.id),
                hidden: Vec::new(),
                served: OnceLock::new(),
            });
        }
        // What is as it was keeps what was made of it.
        let kept = |entry: Entry| {
            let before = old.and_then(|old| old.snapshot(namespace, &entry.name));
            let same = before.filter(|before| {
                before.id() == entry.id()
                    && before.marks == entry.marks
                    && before.has_log == entry.has_log
                    && before.hidden == entry.hidden
            });
            same.cloned().unwrap_or_else(|| Arc::new(entry))
        };
        entries.into_iter().map(kept).collect()
    }
}

impl Listing {
    /// Takes in a namespace and those above it.
    fn add_namespaces(&mut self, namespace: Option<Namespace>) {
        let mut next = namespace;
        while let Some(namespace) = next {
            next = namespace.parent();
            if !self.namespaces.insert(namespace) {
                return;
            }
        }
    }
}
