//! Doors for the fuzz targets to parsers that only the engine calls. There is none of this in other builds.

use relight_keys::ObjectKind;

use crate::id::PackId;
use crate::parity::{self, Head, Layout};
use crate::session::announce::{Announcement, Intent};
use crate::snapshot::Marks;
use crate::verify::checks;
use crate::{condemned, lease, suspects};

pub use crate::storage::s3::fuzzing as s3;

/// A small sealed object with this content, after it was opened.
pub fn record(kind: ObjectKind, plain: &[u8]) {
    match kind {
        ObjectKind::VERIFICATION => {
            let _ = checks::decode(plain, "checks");
            json::<suspects::Record>(plain);
        }
        ObjectKind::CONDEMNED => json::<condemned::Record>(plain),
        ObjectKind::SESSION => {
            json::<Announcement>(plain);
            json::<Intent>(plain);
        }
        ObjectKind::LEASE => json::<lease::Content>(plain),
        _ => json::<Marks>(plain),
    }
}

/// What is read is written again to what reads as the same.
fn json<T: serde::Serialize + serde::de::DeserializeOwned + PartialEq>(plain: &[u8]) {
    if let Ok(value) = serde_json::from_slice::<T>(plain) {
        let again = serde_json::to_vec(&value).expect("what was read can be written");
        assert!(serde_json::from_slice::<T>(&again).is_ok_and(|again| again == value));
    }
}

/// Bytes of all kinds of small records, to begin with.
pub fn records() -> Vec<(ObjectKind, Vec<u8>)> {
    let time = jiff::Timestamp::UNIX_EPOCH;
    let (pack, chunk) = (PackId([1; 16]), crate::ChunkId([2; 32]));
    let announcement = Announcement {
        host: "host".into(),
        boot: "boot".into(),
        pid: 1,
        namespace: "pid:[1]".into(),
        started: time,
        beat: 2,
        since: Some(3),
    };
    let intent = Intent {
        snapshot: crate::SnapshotId([3; 16]),
        roots: vec![crate::tree::Root {
            id: chunk,
            levels: 1,
            size: 5,
        }],
    };
    let mut condemned = condemned::Record::new(1, time, vec![(crate::pack::PackKind::Data, pack)]);
    condemned.gone = vec![(crate::pack::PackKind::Metadata, pack)];
    condemned.since = Some(4);
    condemned.readers = Some(["sessions/0".to_string()].into());
    let suspects = suspects::Record {
        time,
        lost: vec![pack],
        corrupt: vec![(pack, vec![chunk])],
    };
    let checked = checks::encode(&[(pack, checks::Check { time, good: true })]);
    let lease = lease::Content {
        holder: announcement.clone(),
        ended: false,
    };
    let marks = Marks {
        protected: true,
        notes: "words".into(),
        ..Marks::default()
    };
    let json = [
        (ObjectKind::VERIFICATION, serde_json::to_vec(&suspects)),
        (ObjectKind::CONDEMNED, serde_json::to_vec(&condemned)),
        (ObjectKind::SESSION, serde_json::to_vec(&announcement)),
        (ObjectKind::SESSION, serde_json::to_vec(&intent)),
        (ObjectKind::LEASE, serde_json::to_vec(&lease)),
        (ObjectKind::SNAPSHOT, serde_json::to_vec(&marks)),
    ];
    let written = json.map(|(kind, json)| (kind, json.expect("records are written")));
    written
        .into_iter()
        .chain([(ObjectKind::VERIFICATION, checked)])
        .collect()
}

/// The parity object of a pack.
pub fn parity(pack: &[u8], percent: u8) -> Vec<u8> {
    let layout = Layout::of(pack.len() as u64, percent);
    let (head, blocks) = parity::encode(PackId::default(), &[pack], layout).expect("parity is made");
    let head = head.encode();
    [&head, &blocks, &head, &Head::end(head.len())[..]].concat()
}

/// Brings a pack back by a parity object. True if the object said what it should be, and it is.
pub fn rebuild(object: &[u8], pack: &mut Vec<u8>) -> bool {
    let Ok(head) = Head::read(object, PackId::default()) else {
        return false;
    };
    let whole = matches!(
        parity::rebuild_from(&head, object, pack),
        Ok(parity::Rebuilt::Whole(_))
    );
    assert!(!whole || head.is_pack(pack));
    whole
}
