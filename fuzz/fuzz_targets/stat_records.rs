//! Reads the states of files that a capture left for the next one, and ACLs as the kernel hands them out.
#![no_main]

use libfuzzer_sys::fuzz_target;
use relight_pxar::fs::posix_acl;
use relight_pxar::fs::stat_records::{HEADER_SIZE, RECORD_SIZE, StatReader, header};
use relight_pxar::metadata::Acl;

fuzz_target!(|data: &[u8]| {
    if let Ok(mut reader) = StatReader::new(data) {
        assert_eq!(header(reader.start())[..28], data[..28]);
        for place in 0.. {
            let at = HEADER_SIZE + place * RECORD_SIZE;
            let Ok(record) = reader.next() else {
                assert!(data.len() < at + RECORD_SIZE);
                break;
            };
            assert_eq!(record.to_bytes()[..], data[at..at + RECORD_SIZE]);
        }
    }
    let mut acl = Acl::default();
    let (access, default) = data.split_at(data.len() / 2);
    let _ = (
        posix_acl::read_access(access, &mut acl),
        posix_acl::read_default(default, &mut acl),
    );
    let mut whole = Acl::default();
    let _ = (
        posix_acl::read_access(data, &mut whole),
        posix_acl::read_default(data, &mut whole),
    );
});
