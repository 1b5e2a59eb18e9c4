//! What the fuzz targets share: keys that are always the same, and an allocator that stops at what no parser should ask
//! for, however large the lengths in its input.

pub mod known;

use std::alloc::{GlobalAlloc, Layout, System};

use relight_keys::{Entropy, EntropyError, KeySet, RepositoryId};

/// The repository of all that is sealed here.
pub const REPOSITORY: RepositoryId = RepositoryId([7; 16]);

/// The largest single allocation: more than any limit of the formats, less than a length out of thin air.
const MOST: usize = 256 << 20;

struct Bounded;

impl Bounded {
    fn check(size: usize) {
        if size > MOST {
            // Not a panic, which would allocate, and be caught somewhere.
            eprintln!("an allocation of {size} bytes was asked for");
            std::process::abort();
        }
    }
}

// SAFETY: everything is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::check(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::check(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::check(size);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static BOUNDED: Bounded = Bounded;

/// Bytes that are always the same.
pub struct Counting(u8);

impl Entropy for Counting {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), EntropyError> {
        for byte in out {
            self.0 = self.0.wrapping_mul(13).wrapping_add(7);
            *byte = self.0;
        }
        Ok(())
    }
}

/// The first of them.
pub fn entropy() -> Counting {
    Counting(1)
}

/// Keys of [`REPOSITORY`].
pub fn keys() -> KeySet {
    KeySet::generate(REPOSITORY, 1_700_000_000, &mut entropy()).expect("these bytes never end")
}
