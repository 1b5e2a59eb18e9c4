//! Logs of PostgreSQL, names of their files, histories of timelines.

use jiff::Timestamp;
use relight_postgres::Lsn;
use relight_postgres::wal::sample::Sample;

use super::Seed;

const TEXTS: [&str; 6] = [
    "\u{5}1\t0/A000198\tno recovery target specified\n\n2\t0/B0001C0\tbefore 2026-01-01 00:00:00+00\n",
    "\u{2}0000000A00000001000000FF",
    "\u{2}000000010000000000000001.partial",
    "\u{2}0000000A.history",
    "\u{2}000000010000000000000003.00000028.backup",
    "\u{2}16/B374D848",
];

pub fn seeds() -> Vec<Seed> {
    let time = Timestamp::from_second(1_790_000_000).unwrap_or_default();
    let logs = (14..=18).map(|major| {
        let mut log = Sample::new(Sample::cluster(major), 1, 1);
        log.commit(time);
        log.point(time, "before the change");
        // Goes on in the next page.
        log.record(10, 0, &[9; 9_000]);
        log.commit(time);
        log.record(0, 0x40, &[]);
        let mut seed = vec![major as u8];
        seed.extend_from_slice(log.from(Lsn(1 << 20)));
        ("wal", format!("log-{major}"), seed)
    });
    let texts = (0..)
        .zip(TEXTS)
        .map(|(number, text): (u32, _)| ("wal", format!("text-{number}"), text.as_bytes().to_vec()));
    logs.chain(texts).collect()
}
