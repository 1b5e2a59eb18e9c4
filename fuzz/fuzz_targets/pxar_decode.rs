//! Reads an archive from front to back, with every attribute and content: once from a stream, once with seeking, which
//! must give the same; and once passing over folders.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use relight_pxar::decoder::{Decoder, Event};
use relight_pxar::metadata_items::encode_metadata;
use relight_pxar::{DecodeError, EntryKind, RawMetadata};

/// What was read, in few words.
#[derive(Debug, PartialEq)]
enum Seen {
    Entry {
        path: Vec<u8>,
        kind: String,
        position: u64,
    },
    Content(Vec<u8>),
    End(Vec<u8>, u64),
    Failed(String),
}

fn read<R: std::io::Read>(mut decoder: Decoder<R>) -> Vec<Seen> {
    let mut seen = Vec::new();
    let _ = decoder.prelude();
    let mut buffer = [0; 4096];
    loop {
        match decoder.next() {
            Ok(None) => return seen,
            Err(error) => {
                seen.push(Seen::Failed(failure(&error)));
                return seen;
            }
            Ok(Some(Event::EndDirectory { path, end })) => seen.push(Seen::End(path.to_vec(), end)),
            Ok(Some(Event::Entry(entry))) => {
                // Names are made into paths when files are written: none of them may lead elsewhere.
                assert!(!entry.name.contains(&b'/') && entry.name != b"." && entry.name != b"..");
                if let Some(raw) = entry.metadata {
                    metadata(&raw);
                }
                let kind = format!("{:?}", entry.kind);
                let is_file = matches!(entry.kind, EntryKind::File { .. });
                seen.push(Seen::Entry {
                    path: entry.path.to_vec(),
                    kind,
                    position: entry.position,
                });
                let mut content = Vec::new();
                while is_file {
                    match decoder.read_content(&mut buffer) {
                        Ok(0) => break,
                        Ok(count) => content.extend_from_slice(&buffer[..count]),
                        Err(error) => {
                            seen.push(Seen::Failed(failure(&error)));
                            return seen;
                        }
                    }
                }
                seen.push(Seen::Content(content));
            }
        }
    }
}

/// Which error, without the place, which the two ways of reading notice sooner or later.
fn failure(error: &DecodeError) -> String {
    let words = format!("{error:?}");
    words
        .split([' ', '(', '{'])
        .next()
        .unwrap_or_default()
        .to_string()
}

/// Attributes that are understood are written to what reads as the same.
fn metadata(raw: &RawMetadata<'_>) {
    let _ = (raw.stat(), raw.has_attributes());
    if let Ok(decoded) = raw.decode() {
        let mut again = Vec::new();
        if encode_metadata(&decoded, &mut again).is_ok() {
            let reread = RawMetadata::new(&again).and_then(|raw| raw.decode());
            assert_eq!(reread.ok().as_ref(), Some(&decoded));
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let stream = Decoder::new(data).map(read);
    let seekable = Decoder::seekable(Cursor::new(data)).map(read);
    match (stream, seekable) {
        (Ok(one), Ok(other)) => assert_eq!(one, other),
        (one, other) => assert_eq!(one.is_ok(), other.is_ok()),
    }
    if let Ok(mut decoder) = Decoder::seekable(Cursor::new(data)) {
        while let Ok(Some(event)) = decoder.next() {
            if let Event::Entry(entry) = event
                && matches!(entry.kind, EntryKind::Directory)
                && !entry.path.is_empty()
                && decoder.skip_directory().is_err()
            {
                break;
            }
        }
    }
});
