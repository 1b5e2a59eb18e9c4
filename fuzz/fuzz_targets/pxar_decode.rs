//! Reads an archive from front to back, with every attribute and content.
#![no_main]

use libfuzzer_sys::fuzz_target;
use relight_pxar::decoder::{Decoder, Event};

fuzz_target!(|data: &[u8]| {
    let Ok(mut decoder) = Decoder::new(data) else { return };
    let mut buffer = [0; 4096];
    while let Ok(Some(event)) = decoder.next() {
        if let Event::Entry(entry) = event {
            if let Some(metadata) = entry.metadata {
                let _ = metadata.decode();
            }
        }
        while decoder.read_content(&mut buffer).is_ok_and(|count| count > 0) {}
    }
});
