//! The look-up table that ends each directory: a binary search tree over the hashes of the names, kept in an array.
//!
//! The record at index `i` has its smaller ones below `2i + 1` and its larger ones below `2i + 2`.

use crate::format::{GOODBYE, GOODBYE_ITEM_SIZE, GOODBYE_TAIL_MARKER, HEADER_SIZE, ItemHeader, u64_at};

/// One record of a look-up table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GoodbyeItem {
    /// Hash of the child's name.
    pub hash: u64,
    /// On disk the distance back from the table to the child's FILENAME item; while writing, its absolute position.
    pub offset: u64,
    /// Size of the child in bytes, from its FILENAME item to its end.
    pub size: u64,
}

impl GoodbyeItem {
    /// Reads a record.
    pub fn parse(bytes: &[u8; 24]) -> Self {
        Self {
            hash: u64_at(bytes, 0),
            offset: u64_at(bytes, 8),
            size: u64_at(bytes, 16),
        }
    }

    fn write(&self, out: &mut [u8]) {
        out[..8].copy_from_slice(&self.hash.to_le_bytes());
        out[8..16].copy_from_slice(&self.offset.to_le_bytes());
        out[16..24].copy_from_slice(&self.size.to_le_bytes());
    }
}

/// Appends the GOODBYE item of a directory to `out`. `items` hold absolute positions and are sorted here; `position`
/// is where the item will lie and `directory` where the directory's ENTRY lies (0 for the root).
pub(crate) fn write_table(items: &mut [GoodbyeItem], position: u64, directory: u64, out: &mut Vec<u8>) {
    items.sort_unstable_by_key(|item| (item.hash, item.offset));
    let content = (items.len() as u64 + 1) * GOODBYE_ITEM_SIZE;
    out.extend_from_slice(&ItemHeader::new(GOODBYE, content).to_bytes());
    let table = out.len();
    out.resize(table + content as usize, 0);
    let table = &mut out[table..];
    let mut sorted = items.iter();
    in_order(items.len(), |index| {
        if let Some(item) = sorted.next() {
            let relative = GoodbyeItem {
                offset: position.saturating_sub(item.offset),
                ..*item
            };
            relative.write(&mut table[index * GOODBYE_ITEM_SIZE as usize..]);
        }
    });
    let tail = GoodbyeItem {
        hash: GOODBYE_TAIL_MARKER,
        offset: position.saturating_sub(directory),
        size: content + HEADER_SIZE,
    };
    tail.write(&mut table[items.len() * GOODBYE_ITEM_SIZE as usize..]);
}

/// Visits the indexes of a complete binary tree of `count` nodes kept in an array, smallest value first.
fn in_order(count: usize, mut visit: impl FnMut(usize)) {
    let mut pending = Vec::with_capacity(usize::BITS as usize);
    let mut index = 0;
    loop {
        while index < count {
            pending.push(index);
            index = 2 * index + 1;
        }
        let Some(next) = pending.pop() else { break };
        visit(next);
        index = 2 * next + 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tree_is_searchable_and_filled_from_the_left() {
        for count in 0..300 {
            let mut tree = vec![usize::MAX; count];
            let mut value = 0;
            in_order(count, |index| {
                tree[index] = value;
                value += 1;
            });
            for wanted in 0..count {
                let mut index = 0;
                while tree[index] != wanted {
                    index = 2 * index + if wanted < tree[index] { 1 } else { 2 };
                }
            }
        }
    }

    #[test]
    fn the_order_of_six_is_as_published() {
        let mut tree = [0; 6];
        let mut value = 0;
        in_order(6, |index| {
            tree[index] = value;
            value += 1;
        });
        assert_eq!(tree, [3, 1, 5, 0, 2, 4]);
    }
}
