//! Repair: of packs by parity and from other repositories, and of the index from the packs.
//!
//! A pack is immutable and named by a random identity, and repairing it does not change that: what is put in its place
//! is, bit for bit, what was written there first. The tags in it prove that (parity alone could be forged), so a
//! reader that has half of the old object and half of the new reads the same as ever.

mod index;
mod packs;

pub use index::{BadSegment, IndexReport, KeptPack, index};
pub use packs::{PackOptions, PackReport, packs};
