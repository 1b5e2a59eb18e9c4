//! Reed-Solomon over the blocks of a pack: makes recovery blocks, and makes lost blocks from them.
//!
//! The code works on each 64 bytes of all blocks by themselves, so blocks are coded slice by slice: that keeps the
//! work in the processor's cache and its memory at a few MiB, however large the pack.

use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::format::{Head, Layout};
use crate::error::{RepoError, Result};
use crate::id::PackId;

/// Bytes of each block that are coded at once.
const SLICE: usize = 2048;

fn failed(pack: PackId, error: reed_solomon_simd::Error) -> RepoError {
    RepoError::damaged(format!("parity of pack {pack}"), error.to_string())
}

/// A pack in parts as one run of bytes, followed by zeros.
struct Padded<'a>(&'a [&'a [u8]]);

impl Padded<'_> {
    /// The bytes `start..start + buffer.len()`: from where they lie if they lie together, else gathered in `buffer`.
    fn get<'b>(&'b self, mut start: usize, buffer: &'b mut [u8]) -> &'b [u8] {
        let length = buffer.len();
        let mut filled = 0;
        for part in self.0 {
            if start >= part.len() {
                start -= part.len();
                continue;
            }
            let here = &part[start..part.len().min(start + length - filled)];
            if here.len() == length {
                return here;
            }
            buffer[filled..filled + here.len()].copy_from_slice(here);
            filled += here.len();
            start = 0;
            if filled == length {
                break;
            }
        }
        buffer[filled..].fill(0);
        buffer
    }
}

fn slices(block: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..block)
        .step_by(SLICE)
        .map(move |start| (start, SLICE.min(block - start)))
}

/// Makes the parity object of a pack. Its bytes are the returned head, blocks, head, end.
pub(crate) fn encode(pack: PackId, parts: &[&[u8]], layout: Layout) -> Result<(Head, Vec<u8>)> {
    let Layout {
        block,
        originals,
        recoveries,
    } = layout;
    let bytes = Padded(parts);
    let mut blocks = vec![0; recoveries * block];
    let mut buffer = vec![0; block];
    let mut encoder: Option<ReedSolomonEncoder> = None;
    for (start, length) in slices(block) {
        let encoder = match &mut encoder {
            Some(encoder) => {
                let reset = encoder.reset(originals, recoveries, length);
                reset.map_err(|error| failed(pack, error))?;
                encoder
            }
            none => none.insert(
                ReedSolomonEncoder::new(originals, recoveries, length)
                    .map_err(|error| failed(pack, error))?,
            ),
        };
        for number in 0..originals {
            let slice = bytes.get(number * block + start, &mut buffer[..length]);
            encoder
                .add_original_shard(slice)
                .map_err(|error| failed(pack, error))?;
        }
        let made = encoder.encode().map_err(|error| failed(pack, error))?;
        for (number, slice) in made.recovery_iter().enumerate() {
            let at = number * block + start;
            blocks[at..at + length].copy_from_slice(slice);
        }
    }
    let mut digest = Xxh3::new();
    parts.iter().for_each(|part| digest.update(part));
    let mut sums: Vec<u64> = (0..originals)
        .map(|number| xxh3_64(bytes.get(number * block, &mut buffer)))
        .collect();
    sums.extend(blocks.chunks(block).map(xxh3_64));
    let head = Head {
        layout,
        pack,
        size: parts.iter().map(|part| part.len() as u64).sum(),
        digest: digest.digest128(),
        sums,
    };
    Ok((head, blocks))
}

/// What became of a damaged pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Rebuilt {
    /// It is as it was written: this many blocks were damaged (0: none was).
    Whole(usize),
    /// More blocks are damaged than there are whole recovery blocks.
    TooMuch {
        /// Blocks of the pack that are damaged.
        damaged: usize,
        /// Recovery blocks that are whole.
        left: usize,
    },
}

/// Brings a pack, of which `bytes` is what could be read (zeros where nothing could), back to what it was.
pub(crate) fn rebuild(head: &Head, object: &[u8], bytes: &mut Vec<u8>) -> Result<Rebuilt> {
    if head.is_pack(bytes) {
        return Ok(Rebuilt::Whole(0));
    }
    let Layout {
        block,
        originals,
        recoveries,
    } = head.layout;
    bytes.resize(head.size as usize, 0);
    // The last block is summed with the zeros that fill it.
    bytes.resize(originals * block, 0);
    let lost: Vec<usize> = (0..originals)
        .filter(|&number| xxh3_64(&bytes[number * block..(number + 1) * block]) != head.sums[number])
        .collect();
    let whole: Vec<(usize, &[u8])> = (0..recoveries)
        .filter_map(|number| Some((number, head.recovery(object, number)?)))
        .take(lost.len())
        .collect();
    if whole.len() < lost.len() {
        let left = whole.len();
        bytes.truncate(head.size as usize);
        return Ok(Rebuilt::TooMuch {
            damaged: lost.len(),
            left,
        });
    }
    let fail = |error| failed(head.pack, error);
    let mut decoder: Option<ReedSolomonDecoder> = None;
    for (start, length) in slices(block) {
        let decoder = match &mut decoder {
            Some(decoder) => {
                decoder.reset(originals, recoveries, length).map_err(fail)?;
                decoder
            }
            none => none.insert(ReedSolomonDecoder::new(originals, recoveries, length).map_err(fail)?),
        };
        let mut gaps = lost.iter().peekable();
        for number in 0..originals {
            if gaps.next_if_eq(&&number).is_none() {
                let at = number * block + start;
                decoder
                    .add_original_shard(number, &bytes[at..at + length])
                    .map_err(fail)?;
            }
        }
        for (number, recovery) in &whole {
            decoder
                .add_recovery_shard(*number, &recovery[start..start + length])
                .map_err(fail)?;
        }
        let made = decoder.decode().map_err(fail)?;
        for (number, slice) in made.restored_original_iter() {
            let at = number * block + start;
            bytes[at..at + length].copy_from_slice(slice);
        }
    }
    bytes.truncate(head.size as usize);
    if head.is_pack(bytes) {
        Ok(Rebuilt::Whole(lost.len()))
    } else {
        let what = format!("parity of pack {}", head.pack);
        Err(RepoError::damaged(
            what,
            "what it makes of the pack does not match its digest",
        ))
    }
}
