//! Thirty-two secret bytes that wipe themselves and never print.

use std::fmt;

use zeroize::Zeroize;

use crate::entropy::{Entropy, EntropyError};

/// A 256-bit secret.
///
/// Boxed, so that moving it moves a pointer and leaves no copies of the bytes behind on the stack; wiped when
/// dropped; compared in constant time; `Debug` shows nothing of it.
#[derive(Clone)]
pub struct Secret(Box<[u8; 32]>);

impl Secret {
    /// Takes over 32 bytes. The caller wipes its own copy.
    pub fn new(bytes: &[u8; 32]) -> Self {
        let mut boxed = Box::new([0u8; 32]);
        boxed.copy_from_slice(bytes);
        Self(boxed)
    }

    /// Draws a fresh secret.
    ///
    /// # Errors
    /// When `entropy` fails.
    pub fn generate(entropy: &mut dyn Entropy) -> Result<Self, EntropyError> {
        Self::filled_by(|bytes| entropy.fill(bytes))
    }

    /// Makes a secret by letting `fill` write it where it will stay.
    pub(crate) fn filled_by<E>(fill: impl FnOnce(&mut [u8; 32]) -> Result<(), E>) -> Result<Self, E> {
        let mut secret = Self(Box::new([0u8; 32]));
        fill(&mut secret.0)?;
        Ok(secret)
    }

    /// The bytes themselves. Copy them nowhere that is not wiped.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(&self.0[..], &other.0[..]).is_ok()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
