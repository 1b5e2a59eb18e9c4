//! Parity beside packs: a few percent of Reed-Solomon blocks from which flipped bits, torn ends and unreadable
//! sectors are made good, without any other copy and without a key (it is made of the sealed bytes).
//!
//! The layout is in `docs/format.md`, "Parity".

mod code;
mod format;

use crate::error::Result;
use crate::id::PackId;
use crate::pack::PackKind;
use crate::repository::Repository;
use crate::storage::{self, Storage, StorageError};

pub(crate) use code::Rebuilt;
#[cfg(fuzzing)]
pub(crate) use code::{encode, rebuild as rebuild_from};
#[cfg(fuzzing)]
pub(crate) use format::Layout;
pub(crate) use format::{Head, PREFIX, key, parse_key};

/// Bytes that are read at once where a whole object cannot be: a disk's sector.
const SECTOR: usize = 4096;
/// Larger pieces are tried first.
const PIECE: usize = 256 << 10;

/// Writes the parity of a pack that has just been stored.
pub(crate) fn store(
    repository: &Repository,
    pack: PackId,
    kind: PackKind,
    parts: &[&[u8]],
    percent: u8,
) -> Result<()> {
    let size = parts.iter().map(|part| part.len() as u64).sum();
    let (head, blocks) = code::encode(pack, parts, format::Layout::of(size, percent))?;
    let head = head.encode();
    let end = Head::end(head.len());
    let options = repository.settings().pack_options(kind);
    let parts: [&[u8]; 4] = [&head, &blocks, &head, &end];
    Ok(repository.storage().put(&key(pack), &parts, &options)?)
}

/// Brings a pack back to what it was. `bytes` is what could be read of it. None if there is no parity for it.
pub(crate) fn rebuild(storage: &dyn Storage, pack: PackId, bytes: &mut Vec<u8>) -> Result<Option<Rebuilt>> {
    let object = match read_what_is_there(storage, &key(pack)) {
        Ok(object) => object,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let head = Head::read(&object, pack)?;
    code::rebuild(&head, &object, bytes).map(Some)
}

/// Whether the parity of a pack is there and whole, and that of a pack with this digest.
pub(crate) fn check(storage: &dyn Storage, pack: PackId, size: u64, digest: u128) -> Result<Option<bool>> {
    let object = match read_what_is_there(storage, &key(pack)) {
        Ok(object) => object,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let Ok(head) = Head::read(&object, pack) else {
        return Ok(Some(false));
    };
    let expected = head.length() * 2 + head.layout.recoveries * head.layout.block + Head::end(0).len();
    let mut blocks = 0..head.layout.recoveries;
    let good = head.size == size
        && head.digest == digest
        && object.len() == expected
        && object[..head.length()] == object[expected - 16 - head.length()..expected - 16]
        && object[expected - 16..] == Head::end(head.length())
        && blocks.all(|number| head.recovery(&object, number).is_some());
    Ok(Some(good))
}

/// Reads an object as far as the disk gives it: sectors that cannot be read come as zeros, which the sums tell.
/// Other errors than those of a disk are returned: they say nothing about the object.
pub(crate) fn read_what_is_there(storage: &dyn Storage, key: &str) -> storage::Result<Vec<u8>> {
    match storage.get(key) {
        Err(StorageError::Io { .. } | StorageError::Short { .. }) => {}
        other => return other,
    }
    let size = storage.head(key)?.size.min(crate::pack::format::MAX_PACK * 2) as usize;
    let mut bytes = vec![0; size];
    for piece in (0..size).step_by(PIECE) {
        let end = size.min(piece + PIECE);
        if read_piece(storage, key, piece, &mut bytes[piece..end])? {
            continue;
        }
        for sector in (piece..end).step_by(SECTOR) {
            let end = end.min(sector + SECTOR);
            if !read_piece(storage, key, sector, &mut bytes[sector..end])? {
                bytes[sector..end].fill(0);
            }
        }
    }
    Ok(bytes)
}

fn read_piece(storage: &dyn Storage, key: &str, offset: usize, buffer: &mut [u8]) -> storage::Result<bool> {
    match storage.get_range(key, offset as u64, buffer) {
        Ok(()) => Ok(true),
        Err(StorageError::Io { .. } | StorageError::Short { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::code::{encode, rebuild};
    use super::format::Layout;
    use super::*;

    fn bytes(seed: u64, length: usize) -> Vec<u8> {
        let mut state = seed | 1;
        let step = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        };
        std::iter::repeat_with(step).take(length).collect()
    }

    fn object(pack: PackId, parts: &[&[u8]], percent: u8) -> (Head, Vec<u8>) {
        let size = parts.iter().map(|part| part.len() as u64).sum();
        let (head, blocks) = encode(pack, parts, Layout::of(size, percent)).unwrap();
        let encoded = head.encode();
        let object = [&encoded[..], &blocks, &encoded, &Head::end(encoded.len())].concat();
        (head, object)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn damage_within_the_budget_is_always_made_good(
            seed in any::<u64>(),
            length in 1usize..600_000,
            split in any::<prop::sample::Index>(),
            percent in 1u8..=100,
            wounds in proptest::collection::vec((any::<u32>(), any::<u32>(), 1u8..=255), 1..200),
            torn in any::<Option<u32>>(),
            head_hit in 0u8..3,
        ) {
            let pack = PackId([7; 16]);
            let whole = bytes(seed, length);
            let (front, back) = whole.split_at(split.index(length));
            let (head, mut object) = object(pack, &[front, back], percent);
            let Layout { block, originals, recoveries } = head.layout;
            prop_assert_eq!(recoveries, (originals * usize::from(percent)).div_ceil(100));

            // Wounds in the pack and in the parity, as many blocks as the parity can bear and not one less.
            let mut hurt = std::collections::BTreeSet::new();
            let mut damaged = whole.clone();
            for (place, within, mask) in wounds {
                let number = place as usize % (originals + recoveries);
                if hurt.len() == recoveries && !hurt.contains(&number) {
                    continue;
                }
                if number < originals {
                    let room = block.min(length - number * block);
                    let at = number * block + within as usize % room;
                    // A flip that undoes another leaves the block whole, which is as well.
                    damaged[at] ^= mask;
                } else {
                    let at = head.length() + (number - originals) * block + within as usize % block;
                    object[at] ^= mask;
                }
                hurt.insert(number);
            }
            if let Some(cut) = torn {
                let cut = cut as usize % length;
                let blocks = (cut / block)..originals;
                if blocks.clone().filter(|number| !hurt.contains(number)).count() + hurt.len() <= recoveries {
                    damaged.truncate(cut);
                }
            }
            let end = object.len();
            match head_hit {
                1 => object[seed as usize % head.length()] ^= 1,
                2 => object[end - 1 - seed as usize % head.length()] ^= 1,
                _ => {}
            }
            let read = Head::read(&object, pack).unwrap();
            prop_assert_eq!(&read, &head);
            let outcome = rebuild(&read, &object, &mut damaged).unwrap();
            prop_assert!(matches!(outcome, Rebuilt::Whole(_)), "{:?}", outcome);
            prop_assert!(damaged == whole);
        }
    }

    #[test]
    fn more_damage_than_parity_is_told_and_changes_nothing() {
        let whole = bytes(3, 500_000);
        let pack = PackId([1; 16]);
        let (head, object) = object(pack, &[&whole], 5);
        let mut damaged = whole.clone();
        for number in 0..=head.layout.recoveries {
            damaged[number * head.layout.block] ^= 1;
        }
        let before = damaged.clone();
        let outcome = rebuild(&head, &object, &mut damaged).unwrap();
        let (damaged_blocks, left) = (head.layout.recoveries + 1, head.layout.recoveries);
        assert_eq!(
            outcome,
            Rebuilt::TooMuch {
                damaged: damaged_blocks,
                left
            }
        );
        assert!(damaged == before);
    }

    #[test]
    fn parity_of_another_pack_or_nonsense_is_refused() {
        let whole = bytes(4, 10_000);
        let (head, mut object) = object(PackId([1; 16]), &[&whole], 10);
        assert!(Head::read(&object, PackId([2; 16])).is_err());
        for length in 0..head.length() {
            assert!(Head::read(&object[..length], PackId([1; 16])).is_err());
        }
        object.iter_mut().for_each(|byte| *byte ^= 0x55);
        assert!(Head::read(&object, PackId([1; 16])).is_err());
    }

    #[test]
    fn full_parity_brings_back_a_pack_that_is_gone() {
        let whole = bytes(5, 300_000);
        let (head, object) = object(PackId([1; 16]), &[&whole], 100);
        let mut nothing = Vec::new();
        let outcome = rebuild(&head, &object, &mut nothing).unwrap();
        assert_eq!(outcome, Rebuilt::Whole(head.layout.originals));
        assert!(nothing == whole);
    }
}
