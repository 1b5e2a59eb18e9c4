//! Walks over the records of a PostgreSQL log, cut in two ways, and reads names and histories of timelines.
#![no_main]

use libfuzzer_sys::fuzz_target;
use relight_postgres::Lsn;
use relight_postgres::wal::history::{History, Tree};
use relight_postgres::wal::page::PageHeader;
use relight_postgres::wal::record::Event;
use relight_postgres::wal::summary::Summary;
use relight_postgres::wal::walk::Walker;
use relight_postgres::wal::{SegmentName, Timeline, WalName};

fn walk(bytes: &[u8], step: usize) -> Option<(Vec<(Lsn, Event)>, Option<Lsn>, String)> {
    let (first, long) = PageHeader::first(bytes).ok()?;
    let mut walker = Walker::new(first.at, long.segment_size);
    let mut seen = Vec::new();
    for piece in bytes.chunks(step) {
        walker.feed(piece, &mut |at, event| seen.push((at, event))).ok()?;
    }
    Some((seen, walker.end(), format!("{:?}", walker.stop())))
}

fuzz_target!(|data: &[u8]| {
    let Some((&step, bytes)) = data.split_first() else {
        return;
    };
    let whole = walk(bytes, usize::MAX);
    assert_eq!(walk(bytes, usize::from(step) * 7 + 1), whole);
    if let Ok((first, long)) = PageHeader::first(bytes) {
        let name = SegmentName::at(first.timeline, first.at, long.segment_size);
        let summary = Summary::of(name, bytes);
        assert!(summary.is_err() || whole.is_some());
    }
    if let Ok(history) = History::parse(Timeline(u32::from(step)), bytes) {
        let mut tree = Tree::default();
        let steps = history.steps.len();
        tree.insert(history);
        assert_eq!(tree.path(Timeline(u32::from(step))).len(), steps + 1);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(name) = text.parse::<WalName>() {
            assert_eq!(name.to_string(), text);
        }
        if let Ok(lsn) = text.parse::<Lsn>() {
            assert_eq!(lsn.to_string().parse::<Lsn>().ok(), Some(lsn));
        }
    }
});
