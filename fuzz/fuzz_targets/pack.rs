//! Reads the parts of a pack: header, trailer, table of contents, and the content of records.
#![no_main]

use libfuzzer_sys::fuzz_target;
use relight_fuzz::REPOSITORY;
use relight_repo::PackId;
use relight_repo::pack::codec::{Codec, Decoder};
use relight_repo::pack::format::{HEADER, Header, TRAILER, Trailer, decode_toc, encode_toc};

fuzz_target!(|data: &[u8]| {
    if let Some(header) = data.first_chunk::<HEADER>()
        && let Ok(read) = Header::decode(header, "pack", PackId::default(), REPOSITORY)
    {
        let again = Header::decode(&read.encode(), "pack", PackId::default(), REPOSITORY);
        assert!(again.is_ok_and(|again| again == read));
    }
    if let Some(trailer) = data.last_chunk::<TRAILER>()
        && let Ok(read) = Trailer::decode(trailer, data.len() as u64, "pack")
    {
        // The table that it speaks of lies in the pack.
        let before = data.len() - HEADER - TRAILER;
        assert!(read.toc as usize <= before);
    }
    // The first four bytes say where the records end.
    if let Some((end, toc)) = data.split_first_chunk::<4>() {
        let end = u64::from(u32::from_le_bytes(*end));
        if let Ok(records) = decode_toc(toc, end, "pack") {
            assert!(
                records
                    .iter()
                    .all(|record| u64::from(record.offset) + u64::from(record.stored) <= end)
            );
            let mut again = Vec::new();
            encode_toc(&records, &mut again);
            assert!(decode_toc(&again, end, "pack").is_ok_and(|again| again == records));
        }
    }
    // A record after it was opened: the first bytes say how it is written and how long it is to be.
    if let Some((&[number, low, high], stored)) = data.split_first_chunk::<3>()
        && let Some(codec) = Codec::from_number(number)
    {
        let mut raw = vec![0; usize::from(u16::from_le_bytes([low, high]))];
        let mut decoder = Decoder::new().expect("there is memory for a decoder");
        let _ = decoder.decode(codec, stored, &mut raw);
    }
});
