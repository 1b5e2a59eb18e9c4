//! Reads small sealed records, after they were opened: checks, suspects, condemned packs, sessions and what they are
//! about to publish, leases, marks. The first byte says which.
#![no_main]

use libfuzzer_sys::fuzz_target;
use relight_keys::ObjectKind;
use relight_repo::fuzzing::record;

fuzz_target!(|data: &[u8]| {
    if let Some((&kind, plain)) = data.split_first() {
        record(ObjectKind(kind), plain);
    }
});
