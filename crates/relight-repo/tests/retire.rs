//! Old data keys go when nothing needs them, and never under somebody who still writes with them.

mod common;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use common::{Place, back_up, content, read_back};
use relight_keys::{KeyId, SystemEntropy};
use relight_repo::collect::{CollectOptions, collect};
use relight_repo::control::Control;
use relight_repo::retire::{Need, RetireReport, retire};
use relight_repo::rewrite::{key_use, rewrite};
use relight_repo::session::Session;
use relight_repo::snapshot::{ArchiveKind, Marks, SnapshotSpec};
use relight_repo::storage::memory::MemoryStorage;
use relight_repo::verify::{Options, Scope, verify};
use relight_repo::{OpenOptions, RepoError, Repository, Result, keyring};

static QUIET: AtomicBool = AtomicBool::new(false);

fn quiet() -> Control<'static> {
    Control::quiet(&QUIET)
}

fn at_once() -> CollectOptions {
    CollectOptions {
        grace: Duration::ZERO,
        ..CollectOptions::default()
    }
}

struct World {
    storage: MemoryStorage,
    place: Place,
    old: KeyId,
    bytes: Vec<u8>,
}

impl World {
    /// Saved, verified and collected under the first key.
    fn new() -> Self {
        let storage = MemoryStorage::new();
        let place = Place::new(Arc::new(storage.clone()));
        let repository = place.open().unwrap();
        let bytes = content(1, 6_000_000);
        back_up(&repository, "a", &[("x", &bytes)]).unwrap();
        verify(&repository, &Options::new(Scope::Everything), quiet()).unwrap();
        let old = repository.keys().current().id();
        Self {
            storage,
            place,
            old,
            bytes,
        }
    }

    fn rotate(&self) {
        let opened = keyring::unlock(&*self.place.storage, &self.place.key).unwrap();
        keyring::change(&*self.place.storage, &opened, jiff::Timestamp::now(), |change| {
            change.rotate(0, &mut SystemEntropy).map(drop)
        })
        .unwrap();
    }

    /// Seals everything again, and lets the graces pass.
    fn rewrite(&self) {
        for _ in 0..3 {
            self.storage.advance(Duration::from_secs(3600));
            rewrite(&self.place.open().unwrap(), &at_once(), quiet()).unwrap();
        }
    }

    fn retire(&self, keys: &[KeyId]) -> Result<RetireReport> {
        let opened = keyring::unlock(&*self.place.storage, &self.place.key)?;
        retire(&*self.place.open()?, &opened, keys, quiet())
    }

    fn marks(&self) -> usize {
        self.place.storage.list("retired/").unwrap().len()
    }

    fn keys(&self) -> usize {
        self.place.open().unwrap().keys().ids().count()
    }
}

fn needs(report: &RetireReport) -> Vec<Need> {
    report
        .kept
        .iter()
        .flat_map(|kept| kept.needs.keys().copied())
        .collect()
}

#[test]
fn a_key_goes_when_nothing_needs_it() {
    let world = World::new();
    // The only one is the current one.
    assert_eq!(world.retire(&[]).unwrap(), RetireReport::default());
    let refused = world.retire(&[world.old]).unwrap_err();
    assert!(refused.to_string().contains("current"), "{refused}");
    world.rotate();
    let report = world.retire(&[]).unwrap();
    assert!(report.retired.is_empty());
    assert_eq!(
        needs(&report),
        [Need::Packs, Need::Snapshots, Need::Index, Need::Records]
    );
    assert_eq!((world.marks(), world.keys()), (0, 2));
    let unknown = world.retire(&[KeyId(12345)]).unwrap_err();
    assert!(unknown.to_string().contains("not in the keyring"), "{unknown}");

    world.rewrite();
    let report = world.retire(&[world.old]).unwrap();
    assert_eq!(
        (report.retired, report.kept),
        (vec![world.old.to_string()], vec![])
    );
    assert_eq!((world.marks(), world.keys()), (1, 1));
    std::fs::remove_dir_all(world.place.cache.path()).unwrap();
    let repository = world.place.open().unwrap();
    let snapshot = &repository.snapshots().unwrap().0[0];
    assert!(read_back(&repository, &snapshot.archives[0]).unwrap() == world.bytes);
    assert!(
        verify(&repository, &Options::new(Scope::Everything), quiet())
            .unwrap()
            .is_clean()
    );
    let again = back_up(&repository, "a", &[("x", &world.bytes)]).unwrap();
    assert_eq!(again.figures.new_chunks, 0);
    collect(&repository, &at_once(), quiet()).unwrap();
}

#[test]
fn who_still_has_the_key_cannot_write_with_it() {
    let world = World::new();
    let stale = world.place.open().unwrap();
    let id = stale.snapshots().unwrap().0[0].id;
    world.rotate();
    world.rewrite();
    world.retire(&[]).unwrap();
    let before: Vec<_> = world.place.storage.list("").unwrap();
    let retired = |outcome: Result<()>| {
        assert!(
            matches!(&outcome, Err(RepoError::KeyRetired(key)) if *key == world.old.to_string()),
            "{outcome:?}"
        )
    };
    retired(back_up(&stale, "a", &[("x", b"more")]).map(drop));
    retired(collect(&stale, &at_once(), quiet()).map(drop));
    retired(rewrite(&stale, &at_once(), quiet()).map(drop));
    retired(stale.set_marks(id, &Marks::default()));
    retired(stale.add_log(id, b"log").map(drop));
    assert_eq!(world.place.storage.list("").unwrap(), before);
}

#[test]
fn a_running_writer_keeps_its_key() {
    let world = World::new();
    let stale = world.place.open().unwrap();
    let session = Session::begin(stale.clone(), Arc::new(AtomicBool::new(false))).unwrap();
    world.rotate();
    world.rewrite();
    let report = world.retire(&[]).unwrap();
    assert!(report.retired.is_empty());
    assert!(needs(&report).contains(&Need::Writers), "{report:?}");
    assert_eq!(world.marks(), 0);
    let mut writer = session.archive("y", ArchiveKind::Stream).unwrap();
    writer.write(&content(2, 3_000_000)).unwrap();
    let archive = writer.finish().unwrap();
    let spec = SnapshotSpec {
        workload: "b".into(),
        ..SnapshotSpec::default()
    };
    session.publish(spec, vec![archive]).unwrap();
    drop(session);
    let report = world.retire(&[]).unwrap();
    assert_eq!(needs(&report), [Need::Packs, Need::Snapshots, Need::Index]);
    world.rewrite();
    assert_eq!(world.retire(&[]).unwrap().retired.len(), 1);
    let repository = world.place.open().unwrap();
    assert!(
        verify(&repository, &Options::new(Scope::Everything), quiet())
            .unwrap()
            .is_clean()
    );
    assert_eq!(repository.snapshots().unwrap().0.len(), 2);
}

#[test]
fn what_cannot_be_told_counts_for_every_key() {
    let world = World::new();
    world.rotate();
    world.rewrite();
    // A pack that no index knows, of which not even the header can be read.
    let stray = "packs/data/ab/abababababababababababababababab";
    world
        .place
        .storage
        .put(stray, &[&[7; 200]], &Default::default())
        .unwrap();
    let report = world.retire(&[]).unwrap();
    assert_eq!(needs(&report), [Need::Unknown]);
    world.place.storage.delete(stray).unwrap();
    assert_eq!(world.retire(&[]).unwrap().retired.len(), 1);
}

#[test]
fn a_lost_key_under_which_packs_were_condemned_does_not_hide_the_rest() {
    let world = World::new();
    let repository = world.place.open().unwrap();
    // Of no use, and condemned under the first key.
    let forgotten = back_up(&repository, "b", &[("y", &content(5, 3_000_000))]).unwrap();
    repository.forget(forgotten.id).unwrap();
    world.storage.advance(Duration::from_secs(3600));
    collect(&repository, &at_once(), quiet()).unwrap();
    assert!(!world.place.storage.list("condemned/").unwrap().is_empty());
    world.rotate();
    let own = content(6, 2_000_000);
    let kept = back_up(&world.place.open().unwrap(), "c", &[("z", &own)]).unwrap();
    // Lost: the keyring goes on without it though nearly everything needs it.
    let opened = keyring::unlock(&*world.place.storage, &world.place.key).unwrap();
    keyring::change(&*world.place.storage, &opened, jiff::Timestamp::now(), |change| {
        change.retire(world.old)
    })
    .unwrap();
    std::fs::remove_dir_all(world.place.cache.path()).unwrap();

    let keys = keyring::unlock(&*world.place.storage, &world.place.key)
        .unwrap()
        .into_keys();
    let mut options = OpenOptions::new(world.place.cache.path());
    options.lost_keys = true;
    let reading = Arc::new(Repository::open(world.place.storage.clone(), keys, options).unwrap());
    assert!(read_back(&reading, &kept.archives[0]).unwrap() == own);
    assert_eq!(key_use(&reading, quiet()).unwrap().len(), 2);
    let report = verify(&reading, &Options::new(Scope::Everything), quiet()).unwrap();
    assert!(
        report.affected.is_empty() && report.manifests.len() == 1,
        "{report:?}"
    );
    // Whoever refers to packs must know which are about to go.
    let refused = Session::begin(reading, Arc::new(AtomicBool::new(false)));
    assert!(matches!(refused, Err(RepoError::KeyMissing { .. })));
}
