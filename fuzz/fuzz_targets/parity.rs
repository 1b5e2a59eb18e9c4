//! Reads a parity object and brings a pack back by it. The last two bytes say how long the pack is, which comes first.
#![no_main]

use libfuzzer_sys::fuzz_target;
use relight_repo::fuzzing::{parity, rebuild};

fuzz_target!(|data: &[u8]| {
    let Some((data, length)) = data.split_last_chunk::<2>() else {
        return;
    };
    let length = usize::from(u16::from_le_bytes(*length)).min(data.len());
    let (pack, object) = data.split_at(length);
    rebuild(object, &mut pack.to_vec());
    // Sums keep most changes out. So also: parity that is good, of a pack that is damaged in one place.
    if let (false, Some(&place)) = (pack.is_empty(), object.first()) {
        let made = parity(pack, 30);
        let mut damaged = pack.to_vec();
        let at = usize::from(place) * pack.len() / 256;
        damaged[at] ^= 0x55;
        assert!(rebuild(&made, &mut damaged) && damaged == pack);
    }
});
