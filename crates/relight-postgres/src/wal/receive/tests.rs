//! Where receiving begins, and what is made of what an earlier run left.

use jiff::Timestamp;

use super::begin::{Begin, Identity, at_slot, begin, gap};
use super::options::{Options, slot_name};
use super::shared::{Shared, Stretch};
use super::spool::{Spool, Writer};
use super::upload::{Uploader, salvage};
use crate::lsn::Lsn;
use crate::wal::history::{History, Tree};
use crate::wal::name::{SegmentName, Timeline, WalName};
use crate::wal::sample::Sample;
use crate::wal::store::{Fetched, LogStore, NewFile};
use crate::wal::tail::Tail;
use crate::wal::testing::Place;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + second).unwrap()
}

/// A log with a commit in each segment.
fn sample(count: u64) -> Sample {
    let mut sample = Sample::new(Sample::cluster(17), 1, 1);
    for second in 0..count {
        sample.commit(at(second as i64));
        sample.fill();
    }
    sample
}

fn push(store: &LogStore, numbers: impl IntoIterator<Item = usize>) {
    let segments = sample(12).segments();
    let files = numbers.into_iter().map(|number| NewFile {
        name: WalName::Segment(segments[number - 1].0),
        bytes: segments[number - 1].1.clone(),
        system: None,
    });
    store.push(files.collect()).unwrap();
}

fn server(timeline: u32, position: u64) -> Identity {
    Identity {
        system: 1,
        timeline: Timeline(timeline),
        position: Lsn(position),
    }
}

fn lsn(number: u64) -> Lsn {
    Lsn(number << 20)
}

fn decide(store: &LogStore, server: &Identity, tree: &Tree, kept: Lsn) -> Result<Begin, String> {
    let size = Sample::cluster(17).segment_size;
    let begun = begin(
        &store.catalog().unwrap(),
        &store.tail().unwrap(),
        server,
        tree,
        kept,
        size,
    );
    begun.map_err(|error| error.to_string())
}

#[test]
fn a_new_log_begins_where_the_slot_does_and_one_that_is_there_goes_on() {
    let store = Place::new().open();
    let tree = Tree::default();
    let here = |timeline, start| {
        Ok(Begin {
            timeline: Timeline(timeline),
            start,
        })
    };
    assert_eq!(
        decide(&store, &server(1, 9 << 20), &tree, lsn(4).plus(77)),
        here(1, lsn(4))
    );
    push(&store, [3, 4, 5]);
    assert_eq!(
        decide(&store, &server(1, 9 << 20), &tree, lsn(6).plus(77)),
        here(1, lsn(6))
    );
    // The slot has more than is needed, or the log has a hole that it can fill.
    assert_eq!(
        decide(&store, &server(1, 9 << 20), &tree, lsn(4).plus(77)),
        here(1, lsn(6))
    );
    push(&store, [8]);
    assert_eq!(
        decide(&store, &server(1, 9 << 20), &tree, lsn(4).plus(77)),
        here(1, lsn(6))
    );
    assert_eq!(
        decide(&store, &server(1, 9 << 20), &tree, lsn(8).plus(77)),
        here(1, lsn(9))
    );
}

#[test]
fn a_new_timeline_is_followed_from_where_it_left_the_old_one() {
    let store = Place::new().open();
    push(&store, [3, 4, 5]);
    let mut tree = Tree::default();
    let history = |at: &str| History::parse(Timeline(2), format!("1\t{at}\tx\n").as_bytes()).unwrap();
    let here = |timeline, start| {
        Ok(Begin {
            timeline: Timeline(timeline),
            start,
        })
    };
    // Not all of the old timeline is there yet.
    tree.insert(history("0/700100"));
    assert_eq!(
        decide(&store, &server(2, 9 << 20), &tree, lsn(4)),
        here(1, lsn(6))
    );
    // More of it is there than belongs to the history of the new one.
    tree.insert(history("0/500100"));
    assert_eq!(
        decide(&store, &server(2, 9 << 20), &tree, lsn(5)),
        here(2, lsn(5))
    );
    assert_eq!(
        at_slot(
            &server(2, 9 << 20),
            &tree,
            lsn(4),
            Sample::cluster(17).segment_size
        )
        .timeline,
        Timeline(1)
    );
    // The old primary comes back.
    let history = b"1\t0/500100\tx\n".to_vec();
    let name = WalName::History(Timeline(2));
    let mut later = Sample::new(Sample::cluster(17), 2, 5);
    later.commit(at(9));
    later.switch();
    let (segment, bytes) = later.segments().swap_remove(0);
    let files = [(name, history), (WalName::Segment(segment), bytes)];
    let files = files.map(|(name, bytes)| NewFile {
        name,
        bytes,
        system: None,
    });
    store.push(files.to_vec()).unwrap();
    let error = decide(&store, &server(1, 9 << 20), &Tree::default(), lsn(5)).unwrap_err();
    assert!(error.contains("old primary"), "{error}");
}

#[test]
fn what_the_server_removed_is_a_gap() {
    let store = Place::new().open();
    push(&store, [3, 4]);
    let size = Sample::cluster(17).segment_size;
    let begin = Begin {
        timeline: Timeline(1),
        start: lsn(8),
    };
    let (catalog, tail) = (store.catalog().unwrap(), Tail::default());
    let gap = gap(&catalog, &tail, &begin, size, at(0), "why").unwrap();
    assert_eq!((gap.from, gap.to), (lsn(5), lsn(8)));
}

fn options(spool: &std::path::Path) -> Options {
    let settings = crate::Settings::with("host=/nowhere user=x", &crate::Environment::default()).unwrap();
    Options {
        every: std::time::Duration::from_millis(1),
        ..Options::new(settings, &"pg/test".parse().unwrap(), spool.to_path_buf())
    }
}

/// Receives up to `to` what was not received before, and stores it.
fn receive(store: &LogStore, folder: &std::path::Path, log: &Sample, from: Lsn, to: Lsn) {
    let cluster = Sample::cluster(17);
    let spool = Spool::open(folder).unwrap();
    salvage(store, &spool).unwrap();
    let shared = Shared::default();
    let bytes = &log.from(from)[..to.since(from) as usize];
    Writer::new(&spool, cluster.segment_size)
        .write(Timeline(1), from, bytes)
        .unwrap();
    shared.change(|state| {
        state.stretches.push_back(Stretch {
            timeline: Timeline(1),
            start: from,
            received: to,
            ended: false,
        });
        state.ending = true;
    });
    Uploader::new(store, &spool, &shared, cluster, &options(folder)).run();
    let state = shared.lock();
    assert!(state.failure.is_none(), "{:?}", state.failure);
    assert_eq!(state.durable, to);
}

#[test]
fn what_is_received_in_any_pieces_is_in_the_repository_to_the_byte() {
    let (store, folder) = (Place::new().open(), tempfile::tempdir().unwrap());
    let log = sample(6);
    let size = Sample::cluster(17).segment_size;
    let (mut from, mut seed) = (lsn(1), 7_u64);
    while from < log.end() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let to = size
            .floor(from)
            .plus((from.since(size.floor(from)) + 1 + (seed >> 33) % 300_000).min(3 << 20));
        let to = to.min(log.end());
        receive(&store, folder.path(), &log, size.floor(from), to);
        // What a recovery would get now.
        let segment = SegmentName::at(Timeline(1), Lsn(to.0 - 1), size);
        let Fetched::Found(bytes) = store.recover_partial(WalName::Segment(segment)).unwrap() else {
            panic!("{segment} is not there");
        };
        let begins = size.floor(Lsn(to.0 - 1));
        let have = to.since(begins) as usize;
        assert_eq!(bytes.len() as u64, size.bytes());
        assert!(bytes[..have] == log.from(begins)[..have], "up to {to}");
        assert!(bytes[have..].iter().all(|&byte| byte == 0));
        from = to;
    }
    let catalog = store.catalog().unwrap();
    assert_eq!(catalog.segments(Timeline(1)).count(), log.segments().len());
    let newest = store.log(&catalog).unwrap();
    let (piece, whole) = newest.piece(Timeline(1), size.segment_of(log.end())).unwrap();
    assert_eq!((piece.end, whole), (log.end(), false));
}

#[test]
fn what_is_only_in_the_spool_is_salvaged_as_far_as_it_is_whole() {
    let (store, folder) = (Place::new().open(), tempfile::tempdir().unwrap());
    let log = sample(3);
    receive(&store, folder.path(), &log, lsn(1), lsn(1).plus(500_000));
    // The receiver died after it had received more, the last bytes of which did not reach the disk.
    let spool = Spool::open(folder.path()).unwrap();
    let size = Sample::cluster(17).segment_size;
    Writer::new(&spool, size)
        .write(Timeline(1), lsn(1), &log.from(lsn(1))[..1_900_000])
        .unwrap();
    Writer::new(&spool, size)
        .write(Timeline(1), lsn(1).plus(1_900_000), &[0; 5000])
        .unwrap();
    salvage(&store, &spool).unwrap();
    assert!(spool.segments().unwrap().is_empty());
    let catalog = store.catalog().unwrap();
    assert_eq!(catalog.segments(Timeline(1)).count(), 1);
    let newest = store.log(&catalog).unwrap();
    let (piece, _) = newest.piece(Timeline(1), 2).unwrap();
    assert!(
        piece.end > lsn(1).plus(1_890_000) && piece.end <= lsn(1).plus(1_900_000),
        "{}",
        piece.end
    );
    // The pieces of the first segment are not needed any more.
    let tail = store.tail().unwrap();
    assert!(
        tail.pieces
            .iter()
            .all(|piece| size.segment_of(piece.head.start) == 2)
    );
}

#[test]
fn a_server_that_sends_something_else_than_before_is_refused() {
    let (store, folder) = (Place::new().open(), tempfile::tempdir().unwrap());
    let log = sample(1);
    receive(&store, folder.path(), &log, lsn(1), lsn(1).plus(300_000));
    let mut other = Sample::new(Sample::cluster(17), 1, 1);
    other.commit(at(77));
    other.fill();
    let spool = Spool::open(folder.path()).unwrap();
    salvage(&store, &spool).unwrap();
    let shared = Shared::default();
    let size = Sample::cluster(17).segment_size;
    Writer::new(&spool, size)
        .write(Timeline(1), lsn(1), &other.from(lsn(1))[..400_000])
        .unwrap();
    shared.change(|state| {
        state.stretches.push_back(Stretch {
            timeline: Timeline(1),
            start: lsn(1),
            received: lsn(1).plus(400_000),
            ended: false,
        });
        state.ending = true;
    });
    let options = options(folder.path());
    Uploader::new(&store, &spool, &shared, Sample::cluster(17), &options).run();
    let failure = shared.lock().failure.take().unwrap();
    assert!(failure.to_string().contains("with other content"), "{failure}");
}

#[test]
fn one_receiver_uses_a_spool() {
    let folder = tempfile::tempdir().unwrap();
    let first = Spool::open(folder.path()).unwrap();
    assert!(
        Spool::open(folder.path())
            .unwrap_err()
            .to_string()
            .contains("another receiver")
    );
    drop(first);
    Spool::open(folder.path()).unwrap();
}

#[test]
fn slots_have_names_that_servers_take() {
    assert_eq!(slot_name(&"pg/Main-1.x".parse().unwrap()), "relight_main_1_x");
    assert_eq!(
        slot_name(&format!("pg/{}", "a".repeat(100)).parse().unwrap()).len(),
        63
    );
}
