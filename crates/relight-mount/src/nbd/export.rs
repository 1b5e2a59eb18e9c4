//! What is offered: one image.

use relight_repo::read::ArchiveReader;

use super::wire::transmission;
use crate::content::Image;
use crate::trouble::Trouble;

/// Smallest block in which the device can be read, the one it is best read in, in bytes.
pub const SMALLEST: u32 = 1;
pub const PREFERRED: u32 = 64 << 10;

/// An image that is offered.
pub struct Export {
    image: Image,
    trouble: Trouble,
}

impl Export {
    /// Offers an image.
    pub fn new(image: Image) -> Self {
        Self {
            image,
            trouble: Trouble::default(),
        }
    }

    /// The name by which it is listed.
    pub fn name(&self) -> &str {
        self.image.name()
    }

    /// Whether a client means this image: by its name, with or without its ending, or by none.
    pub fn is_meant(&self, name: &[u8]) -> bool {
        let own = self.name();
        let plain = own.strip_suffix(relight_workloads::image::IMAGE).unwrap_or(own);
        name.is_empty() || name == own.as_bytes() || name == plain.as_bytes()
    }

    /// What it is, for people.
    pub fn description(&self) -> String {
        let snapshot = self.image.snapshot();
        format!(
            "{} of snapshot {} of {}, {}",
            self.name(),
            snapshot.id.short(),
            snapshot.workload,
            snapshot.time
        )
    }

    /// Its length in bytes.
    pub fn size(&self) -> u64 {
        self.image.size()
    }

    /// What clients may ask of it.
    pub fn flags(&self, structured: bool) -> u16 {
        let flags = transmission::HAS_FLAGS
            | transmission::READ_ONLY
            | transmission::SEND_FLUSH
            | transmission::CAN_MULTI_CONN;
        if structured {
            flags | transmission::SEND_DF
        } else {
            flags
        }
    }

    /// What reads it for one connection.
    pub fn reader(&self) -> ArchiveReader {
        self.image.reader()
    }

    /// Says that it could not be read at a place.
    pub fn unreadable(&self, offset: u64, error: &dyn std::fmt::Display) {
        let what = || format!("cannot read byte {offset} of {}", self.description());
        self.trouble.say(offset >> 22, what, error);
    }
}
