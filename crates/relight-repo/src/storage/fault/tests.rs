use super::super::memory::MemoryStorage;
use super::*;

fn process() -> (MemoryStorage, FaultStorage) {
    let world = MemoryStorage::new();
    (world.clone(), FaultStorage::new(Arc::new(world)))
}

fn put(storage: &dyn Storage, key: &str, content: &[u8]) -> Result<()> {
    storage.put(key, &[content], &PutOptions::default())
}

#[test]
fn a_crash_before_leaves_nothing_and_one_after_leaves_all() {
    for (moment, there) in [(Moment::Before, false), (Moment::After, true)] {
        let (world, first) = process();
        first.crash_at(2, moment);
        put(&first, "a", b"1").unwrap();
        assert!(matches!(
            put(&first, "b", b"2"),
            Err(StorageError::Unavailable { .. })
        ));
        assert!(first.is_crashed() && first.clone().is_crashed());
        assert!(first.list("").is_err());
        assert_eq!(world.get("b").is_ok(), there);
        let second = first.restart();
        assert_eq!(second.get("a").unwrap(), b"1");
        assert_eq!(second.operations(), 1);
        assert_eq!(first.operations(), 2, "a dead process begins nothing");
    }
}

#[test]
fn rules_hit_what_they_name_as_often_as_they_say() {
    let (_, storage) = process();
    storage.inject_times(2, Fault::Full, |operation| {
        operation.kind.is_write() && operation.key == "a"
    });
    assert!(matches!(put(&storage, "a", b"1"), Err(StorageError::Full { .. })));
    put(&storage, "b", b"1").unwrap();
    assert!(matches!(put(&storage, "a", b"1"), Err(StorageError::Full { .. })));
    put(&storage, "a", b"1").unwrap();
    storage.inject(Fault::LostAnswer, |operation| operation.kind == Kind::PutNew);
    assert!(storage.put_new("c", &[b"1"], &PutOptions::default()).is_err());
    storage.heal();
    assert_eq!(storage.get("c").unwrap(), b"1");
    let bytes: Vec<_> = storage.log().iter().map(|operation| operation.bytes).collect();
    assert_eq!(bytes, [1, 1, 1, 1, 1, 0]);
}

#[test]
fn a_power_cut_undoes_lost_writes_alone() {
    let (world, storage) = process();
    put(&storage, "old", b"1").unwrap();
    put(&storage, "kept", b"1").unwrap();
    storage.inject(Fault::LostWrite, |operation| operation.key != "kept");
    put(&storage, "old", b"2").unwrap();
    put(&storage, "old", b"3").unwrap();
    put(&storage, "new", b"2").unwrap();
    put(&storage, "kept", b"2").unwrap();
    assert_eq!(storage.get("new").unwrap(), b"2", "visible until then");
    let next = storage.power_cut().unwrap();
    assert!(storage.is_crashed());
    assert_eq!(next.get("old").unwrap(), b"1");
    assert!(next.get("new").unwrap_err().is_not_found());
    assert_eq!(world.get("kept").unwrap(), b"2");
}

#[test]
fn damage_is_done_as_told() {
    let (world, storage) = process();
    storage.inject_at(1, Fault::Torn(3));
    storage.inject_at(2, Fault::Flip(9));
    put(&storage, "a", b"abcdef").unwrap();
    assert_eq!(storage.get("a").unwrap(), [b'a', b'b' ^ 2, b'c']);
    storage.flip_bit("a", 0).unwrap();
    assert_eq!(world.get("a").unwrap(), [b'a' ^ 1, b'b', b'c']);
    storage.truncate("a", 1).unwrap();
    assert_eq!(world.head("a").unwrap().size, 1);
}

#[test]
fn lists_lag_only_when_told() {
    let (_, storage) = process();
    put(&storage, "a", b"").unwrap();
    assert_eq!(storage.list("").unwrap().len(), 1);
    storage.lag_lists(2);
    put(&storage, "b", b"").unwrap();
    assert_eq!(storage.list("").unwrap().len(), 1);
    assert_eq!(storage.list("").unwrap().len(), 1);
    assert_eq!(storage.list("").unwrap().len(), 2);
    assert_eq!(storage.get("b").unwrap(), b"");
}

#[test]
fn a_hook_runs_in_between() {
    let (_, storage) = process();
    let other = storage.another();
    storage.before_each(move |operation| {
        if operation.number == 2 {
            other.delete("a").unwrap();
        }
    });
    put(&storage, "a", b"1").unwrap();
    assert!(storage.get("a").unwrap_err().is_not_found());
}
