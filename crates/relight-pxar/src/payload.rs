//! The payload stream of a version 2 archive: contents of files, each behind a header of 16 bytes.
//!
//! The stream is [`START_MARKER`], then for each file [`header`] and the content, at the end [`TAIL_MARKER`]. A
//! metadata stream refers to the position of the header. Bytes between payloads that nothing refers to are allowed.

use crate::error::DecodeError;
use crate::format::{HEADER_SIZE, ItemHeader, PAYLOAD, PAYLOAD_START_MARKER, PAYLOAD_TAIL_MARKER};

/// Bytes that begin a payload stream.
pub const START_MARKER: [u8; 16] = ItemHeader::new(PAYLOAD_START_MARKER, 0).to_bytes();

/// Bytes that end a payload stream.
pub const TAIL_MARKER: [u8; 16] = ItemHeader::new(PAYLOAD_TAIL_MARKER, 0).to_bytes();

/// The header before a content of `size` bytes.
pub const fn header(size: u64) -> [u8; 16] {
    ItemHeader::new(PAYLOAD, size).to_bytes()
}

/// First byte of the content whose header lies at `offset`.
pub const fn content_start(offset: u64) -> u64 {
    offset.saturating_add(HEADER_SIZE)
}

/// Where the payload whose header lies at `offset` ends: the earliest place of the next header.
pub const fn end(offset: u64, size: u64) -> u64 {
    content_start(offset).saturating_add(size)
}

/// Checks that a payload stream begins as it must.
pub fn check_start(bytes: &[u8; 16]) -> Result<(), DecodeError> {
    if *bytes == START_MARKER {
        Ok(())
    } else {
        Err(DecodeError::damaged(
            0,
            "the payload stream does not begin with its start marker",
        ))
    }
}

/// Checks the header found at `offset` of a payload stream against the size the metadata stream gives.
pub fn check_header(bytes: &[u8; 16], offset: u64, size: u64) -> Result<(), DecodeError> {
    if *bytes == header(size) {
        Ok(())
    } else {
        Err(DecodeError::damaged(
            offset,
            "the payload stream holds no content of the expected size here",
        ))
    }
}
