//! Where random bytes come from. A trait, so that golden files can be made from fixed bytes.

/// The system's random generator gave nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system's random generator failed; no key was made (check that getrandom(2) works here)")]
pub struct EntropyError;

/// A source of bytes for keys, salts and identifiers.
///
/// Everything but tests passes [`SystemEntropy`]; keys made from a predictable source protect nothing.
pub trait Entropy {
    /// Fills `out` with random bytes.
    ///
    /// # Errors
    /// When the source cannot deliver; `out` must then not be used.
    fn fill(&mut self, out: &mut [u8]) -> Result<(), EntropyError>;
}

/// The operating system's generator, by way of `aws-lc-rs`.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), EntropyError> {
        aws_lc_rs::rand::fill(out).map_err(|_| EntropyError)
    }
}
