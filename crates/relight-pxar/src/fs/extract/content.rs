//! Reads the content of one file out of the archive.

use std::io;
use std::ops::ControlFlow;

use super::items::Items;
use super::source::{ContentSource, Piece};
use crate::entry::ContentPlace;
use crate::format::HEADER_SIZE;
use crate::payload;

/// Bytes of inline content read at a time.
const BLOCK: usize = 256 * 1024;

/// Why a content was not read to its end.
#[derive(Debug)]
pub(in crate::fs) enum ContentFailure {
    /// The archive does not have it.
    Archive(io::Error),
    /// It could not be written.
    Write(io::Error),
    /// The restore was stopped.
    Stopped,
}

/// Hands the `size` bytes at `place` to `write`. For contents in the archive itself they must be those of the entry
/// that `items` handed out last.
pub(in crate::fs) fn read(
    stopped: &dyn Fn() -> bool,
    items: &mut Items<'_>,
    source: Option<&mut (dyn ContentSource + '_)>,
    place: ContentPlace,
    size: u64,
    write: &mut dyn FnMut(Piece<'_>) -> io::Result<()>,
) -> Result<(), ContentFailure> {
    match (place, source) {
        (ContentPlace::Inline { .. }, _) => read_inline(stopped, items, size, write),
        (ContentPlace::Payload { offset }, Some(source)) => {
            read_payload(stopped, source, offset, size, write)
        }
        (ContentPlace::Payload { .. }, None) => Err(ContentFailure::Archive(io::Error::other(
            "the payload stream of the archive cannot be opened",
        ))),
    }
}

fn read_inline(
    stopped: &dyn Fn() -> bool,
    items: &mut Items<'_>,
    size: u64,
    write: &mut dyn FnMut(Piece<'_>) -> io::Result<()>,
) -> Result<(), ContentFailure> {
    let mut buffer = vec![0; BLOCK.min(usize::try_from(size).unwrap_or(BLOCK))];
    let mut left = size;
    while left > 0 {
        if stopped() {
            return Err(ContentFailure::Stopped);
        }
        let count = items
            .inline(&mut buffer)
            .map_err(|error| ContentFailure::Archive(io::Error::other(error)))?;
        if count == 0 {
            return Err(ContentFailure::Archive(io::ErrorKind::UnexpectedEof.into()));
        }
        write(Piece::Bytes(&buffer[..count])).map_err(ContentFailure::Write)?;
        left = left.saturating_sub(count as u64);
    }
    Ok(())
}

fn read_payload(
    stopped: &dyn Fn() -> bool,
    source: &mut dyn ContentSource,
    offset: u64,
    size: u64,
    write: &mut dyn FnMut(Piece<'_>) -> io::Result<()>,
) -> Result<(), ContentFailure> {
    let mut header = Vec::with_capacity(HEADER_SIZE as usize);
    let mut left = size;
    let mut failure = None;
    let result = source.read(offset..payload::end(offset, size), &mut |mut piece| {
        if stopped() {
            failure = Some(ContentFailure::Stopped);
            return ControlFlow::Break(());
        }
        if header.len() < HEADER_SIZE as usize {
            let wanted = HEADER_SIZE as usize - header.len();
            let Piece::Bytes(bytes) = piece else {
                failure = Some(ContentFailure::Archive(no_content(offset)));
                return ControlFlow::Break(());
            };
            let (first, rest) = bytes.split_at(wanted.min(bytes.len()));
            header.extend_from_slice(first);
            if let Some(header) = header.first_chunk::<16>()
                && let Err(error) = payload::check_header(header, offset, size)
            {
                failure = Some(ContentFailure::Archive(io::Error::new(
                    io::ErrorKind::InvalidData,
                    error,
                )));
                return ControlFlow::Break(());
            }
            piece = Piece::Bytes(rest);
        }
        let length = match piece {
            Piece::Bytes(bytes) => bytes.len() as u64,
            Piece::Zeros(length) => length,
        };
        if length == 0 {
            return ControlFlow::Continue(());
        }
        if length > left {
            failure = Some(ContentFailure::Archive(no_content(offset)));
            return ControlFlow::Break(());
        }
        left -= length;
        match write(piece) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failure = Some(ContentFailure::Write(error));
                ControlFlow::Break(())
            }
        }
    });
    match (failure, result) {
        (Some(failure), _) => Err(failure),
        (None, Err(error)) => Err(ContentFailure::Archive(error)),
        (None, Ok(())) if left > 0 || header.len() < HEADER_SIZE as usize => {
            Err(ContentFailure::Archive(io::ErrorKind::UnexpectedEof.into()))
        }
        (None, Ok(())) => Ok(()),
    }
}

fn no_content(offset: u64) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the payload stream holds something else at byte {offset}"),
    )
}
