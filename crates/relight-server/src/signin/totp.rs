//! One-time passwords by the clock: RFC 6238 with the parameters that every app knows (SHA-1, 30 seconds, 6 digits).

use aws_lc_rs::{constant_time, hmac};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use zeroize::Zeroizing;

use crate::error::Result;
use crate::state::random;

/// Seconds for which a code is the current one.
const STEP: i64 = 30;
/// Steps before and after the current one whose codes are taken too: clocks differ, and people type slowly
/// (RFC 6238, section 5.2).
const AROUND: i64 = 1;
/// Digits of a code, and ten to that.
const DIGITS: usize = 6;
const MODULUS: u32 = 1_000_000;
/// Bytes of a secret: as many as the hash has (RFC 4226, section 4, requirement 6).
const SECRET: usize = 20;
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// What server and app share.
#[derive(Clone)]
pub struct TotpSecret(Zeroizing<[u8; SECRET]>);

impl std::fmt::Debug for TotpSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TotpSecret(not shown)")
    }
}

impl TotpSecret {
    /// A new one.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn generate() -> Result<Self> {
        Ok(Self(Zeroizing::new(random()?)))
    }

    /// From the bytes as they are stored.
    pub(crate) fn from_bytes(bytes: [u8; SECRET]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    pub(crate) fn bytes(&self) -> &[u8; SECRET] {
        &self.0
    }

    /// As people type it into an app: base 32 (RFC 4648, section 6).
    pub fn text(&self) -> Zeroizing<String> {
        Zeroizing::new(base32(&*self.0))
    }

    /// As apps read it from a QR code (Key URI Format of Google Authenticator, which all of them know).
    pub fn uri(&self, server: &str, user: &str) -> Zeroizing<String> {
        let escaped = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let (server, user) = (escaped(server), escaped(user));
        Zeroizing::new(format!(
            "otpauth://totp/{server}:{user}?secret={}&issuer={server}",
            *self.text()
        ))
    }

    /// The code of a step (RFC 4226, section 5.3).
    fn code(&self, step: i64) -> u32 {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &*self.0);
        let tag = hmac::sign(&key, &step.to_be_bytes());
        let bytes = tag.as_ref();
        let at = usize::from(bytes[bytes.len() - 1] & 0x0f);
        let mut four = [0; 4];
        four.copy_from_slice(&bytes[at..at + 4]);
        (u32::from_be_bytes(four) & 0x7fff_ffff) % MODULUS
    }

    /// The step that a code belongs to, if it is one of now (seconds since 1970) and later than the last one that was used:
    /// a code is good once (RFC 6238, section 5.2).
    pub(crate) fn step_of(&self, code: &str, now: i64, used: i64) -> Option<i64> {
        let current = now.div_euclid(STEP);
        let mut found = None;
        // All of them are looked at: the time tells nothing.
        for step in current - AROUND..=current + AROUND {
            let expected = format!("{:0DIGITS$}", self.code(step));
            let same = constant_time::verify_slices_are_equal(expected.as_bytes(), code.as_bytes()).is_ok();
            if same && step > used {
                found = Some(step);
            }
        }
        found
    }

    /// The code at a time, for tests.
    #[cfg(test)]
    pub(crate) fn code_at(&self, now: i64) -> String {
        format!("{:0DIGITS$}", self.code(now.div_euclid(STEP)))
    }
}

/// Whether a text has the shape of a code, once what people put between its digits is left out.
pub(crate) fn is_code(text: &str) -> bool {
    text.len() == DIGITS && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Base 32 without padding.
pub(crate) fn base32(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(5) * 8);
    for five in bytes.chunks(5) {
        let mut bits = [0; 8];
        bits[3..3 + five.len()].copy_from_slice(five);
        let bits = u64::from_be_bytes(bits);
        let letters = (five.len() * 8).div_ceil(5);
        out.extend((0..letters).map(|at| char::from(BASE32[(bits >> (35 - 5 * at)) as usize & 31])));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_the_rfc() -> TotpSecret {
        TotpSecret::from_bytes(*b"12345678901234567890")
    }

    #[test]
    fn the_codes_are_those_of_the_rfcs() {
        // RFC 4226, appendix D.
        let codes = [
            755_224, 287_082, 359_152, 969_429, 338_314, 254_676, 287_922, 162_583, 399_871, 520_489,
        ];
        for (step, code) in codes.into_iter().enumerate() {
            assert_eq!(of_the_rfc().code(step as i64), code);
        }
        // RFC 6238, appendix B, of which the last six digits are ours.
        for (time, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(of_the_rfc().code_at(time), code);
        }
    }

    #[test]
    fn a_code_is_good_a_little_before_and_after_and_once() {
        let (secret, now) = (of_the_rfc(), 1_234_567_890);
        let step = now / 30;
        for (code, found) in [
            (secret.code_at(now), Some(step)),
            (secret.code_at(now - 30), Some(step - 1)),
            (secret.code_at(now + 30), Some(step + 1)),
            (secret.code_at(now - 60), None),
            (secret.code_at(now + 60), None),
            ("5924".into(), None),
            (" 005924".into(), None),
            (String::new(), None),
        ] {
            assert_eq!(secret.step_of(&code, now, 0), found, "{code}");
        }
        let code = secret.code_at(now);
        assert_eq!(secret.step_of(&code, now, step), None);
        assert_eq!(secret.step_of(&secret.code_at(now - 30), now, step), None);
        assert_eq!(
            secret.step_of(&secret.code_at(now + 30), now, step),
            Some(step + 1)
        );
    }

    #[test]
    fn secrets_are_written_as_apps_read_them() {
        // RFC 4648, section 10.
        for (bytes, text) in [
            ("", ""),
            ("f", "MY"),
            ("fo", "MZXQ"),
            ("foo", "MZXW6"),
            ("foob", "MZXW6YQ"),
            ("fooba", "MZXW6YTB"),
            ("foobar", "MZXW6YTBOI"),
        ] {
            assert_eq!(base32(bytes.as_bytes()), text);
        }
        assert_eq!(
            *of_the_rfc().uri("backup 1", "jane@pbs"),
            "otpauth://totp/backup%201:jane%40pbs?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=backup%201"
        );
        assert_eq!(format!("{:?}", of_the_rfc()), "TotpSecret(not shown)");
    }
}
