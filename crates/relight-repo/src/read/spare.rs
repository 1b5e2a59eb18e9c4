//! Memory that is used again.

use std::sync::Mutex;

/// New memory comes in multiples of this, so that it fits the next chunk as well.
const STEP: usize = 64 << 10;

/// Buffers that nobody uses at the moment.
pub(super) struct Spare {
    most: u64,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    buffers: Vec<Vec<u8>>,
    bytes: u64,
}

impl Spare {
    /// Keeps up to `most` bytes.
    pub fn new(most: u64) -> Self {
        Self {
            most,
            kept: Mutex::default(),
        }
    }

    /// An empty buffer in which `length` bytes fit: the smallest there is, if it is not far too large, or a new one.
    pub fn take(&self, length: usize) -> Vec<u8> {
        let mut kept = self.kept.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let fits =
            |buffer: &Vec<u8>| buffer.capacity() >= length && buffer.capacity() / 2 <= length.max(STEP);
        let best = kept.buffers.iter().enumerate().filter(|(_, buffer)| fits(buffer));
        let best = best
            .min_by_key(|(_, buffer)| buffer.capacity())
            .map(|(number, _)| number);
        match best {
            Some(number) => {
                let buffer = kept.buffers.swap_remove(number);
                kept.bytes -= buffer.capacity() as u64;
                buffer
            }
            None => {
                drop(kept);
                Vec::with_capacity(length.next_multiple_of(STEP))
            }
        }
    }

    /// Takes back a buffer; what does not fit in is freed.
    pub fn put(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut kept = self.kept.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let bytes = buffer.capacity() as u64;
        if kept.bytes + bytes <= self.most {
            kept.bytes += bytes;
            kept.buffers.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_used_again_if_they_fit() {
        let spare = Spare::new(10 << 20);
        let buffer = spare.take(1 << 20);
        let place = buffer.as_ptr();
        spare.put(buffer);
        let (larger, small) = (spare.take(2 << 20), spare.take(1000));
        assert_ne!(larger.as_ptr(), place, "it is too small");
        assert_ne!(small.as_ptr(), place, "it would be wasted");
        let again = spare.take((1 << 20) - 5);
        assert_eq!((again.as_ptr(), again.len()), (place, 0));
        (0..20).for_each(|_| spare.put(Vec::with_capacity(1 << 20)));
        assert_eq!(spare.kept.lock().unwrap().buffers.len(), 10);
    }
}
