//! A key on paper, for the day when everything else is lost.

use std::fmt;

use serde_json::Value;
use zeroize::Zeroizing;

use super::{
    Fingerprint, Provider, ProviderError,
    qr::{self, Background},
    recovery_code::{self, KEY_LENGTH, RecoveryCodeError},
};
use crate::{derive, entropy::Entropy, secret::Secret};

pub(super) const KIND: &str = "recovery";

/// A recovery key: 144 random bits, made to be printed and typed in again.
pub struct RecoveryKey {
    key: Zeroizing<[u8; KEY_LENGTH]>,
}

impl RecoveryKey {
    /// Draws a new key.
    ///
    /// # Errors
    /// When `entropy` fails.
    pub fn generate(entropy: &mut dyn Entropy) -> Result<Self, ProviderError> {
        let mut key = Zeroizing::new([0; KEY_LENGTH]);
        entropy.fill(&mut key[..])?;
        Ok(Self { key })
    }

    /// Reads a key as printed, typed or scanned: case, blanks and dashes do not matter, O is 0, I and L are 1.
    ///
    /// # Errors
    /// Says in which group the typing error is.
    pub fn parse(text: &str) -> Result<Self, RecoveryCodeError> {
        Ok(Self {
            key: recovery_code::read(text)?,
        })
    }

    /// The key as text: nine groups of five, joined by dashes. Secret.
    pub fn to_text(&self) -> Zeroizing<String> {
        recovery_code::spell(&self.key)
    }

    /// The text as a QR code of Unicode half blocks, for a terminal or a text file to print. Secret.
    pub fn to_qr_text(&self, background: Background) -> Zeroizing<String> {
        qr::text(&self.to_text(), background)
    }

    /// The text as a QR code in an SVG image, for print. Secret.
    pub fn to_qr_svg(&self) -> Zeroizing<String> {
        qr::svg(&self.to_text())
    }

    /// Eight hexadecimal digits that tell recovery keys apart; not secret.
    pub fn fingerprint(&self) -> String {
        hex::encode(self.fingerprint_parameters().fingerprint)
    }

    fn fingerprint_parameters(&self) -> Fingerprint {
        Fingerprint::of("relight recovery key v1 fingerprint", &self.key[..])
    }
}

impl Provider for RecoveryKey {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn name(&self) -> String {
        format!("recovery key {}", self.fingerprint())
    }

    fn enroll(&self, _: &mut dyn Entropy) -> Result<Value, ProviderError> {
        Ok(self.fingerprint_parameters().to_value())
    }

    fn unlock(&self, parameters: &Value) -> Result<Option<Secret>, ProviderError> {
        let mine = self.fingerprint_parameters().matches(KIND, parameters)?;
        Ok(mine.then(|| derive::secret(&self.key[..], b"", &[b"relight recovery key v1"])))
    }
}

impl fmt::Debug for RecoveryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecoveryKey({})", self.fingerprint())
    }
}
