//! Byte sizes and transfer rates: parsing what an operator writes, and printing what a table shows.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};

/// A number of bytes.
///
/// Parsed from a number and a unit, with or without a space, in any case: `512`, `4 MiB`, `10GB`, `1.5 GiB`.
/// `KiB`, `MiB`… are powers of 1024, `kB`, `MB`… powers of 1000 (IEC 80000-13). A bare letter (`4M`) is a power
/// of 1024, as in coreutils. Displayed in powers of 1024 with three significant digits (`1.20 GiB`).
///
/// Serialised as the plain number of bytes; deserialised from a number or a string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ByteSize(pub u64);

/// Why a text is not a byte size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SizeError {
    /// No digits where the number is expected.
    #[error("{text:?} is not a size: write a number and a unit, such as 4MiB or 10GB")]
    NoNumber {
        /// What was given, shortened.
        text: String,
    },
    /// The letters after the number are no unit of size.
    #[error(
        "{unit:?} is not a unit of size: use B, KiB, MiB, GiB, TiB, PiB (powers of 1024) or kB, MB, GB, TB, PB (powers of 1000)"
    )]
    UnknownUnit {
        /// The unit as given, shortened.
        unit: String,
    },
    /// A rate that does not end with `/s`.
    #[error("{text:?} is not a rate: write a size per second, such as 100 MiB/s")]
    NotPerSecond {
        /// What was given, shortened.
        text: String,
    },
    /// The size does not fit into 64 bits.
    #[error("the size {text:?} is too large: the limit is 16 EiB")]
    TooLarge {
        /// What was given, shortened.
        text: String,
    },
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
const PIB: u64 = 1 << 50;
const EIB: u64 = 1 << 60;

impl ByteSize {
    /// `n` kibibytes (1024 bytes), saturating.
    pub const fn kib(n: u64) -> Self {
        Self(n.saturating_mul(KIB))
    }

    /// `n` mebibytes (1024² bytes), saturating.
    pub const fn mib(n: u64) -> Self {
        Self(n.saturating_mul(MIB))
    }

    /// `n` gibibytes (1024³ bytes), saturating.
    pub const fn gib(n: u64) -> Self {
        Self(n.saturating_mul(GIB))
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl From<u64> for ByteSize {
    fn from(bytes: u64) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&human(self.0))
    }
}

/// Three significant digits and a binary unit, rounded down so that a table never claims more than there is.
fn human(bytes: u64) -> String {
    let (unit, name) = match bytes {
        0..KIB => return format!("{bytes} B"),
        KIB..MIB => (KIB, "KiB"),
        MIB..GIB => (MIB, "MiB"),
        GIB..TIB => (GIB, "GiB"),
        TIB..PIB => (TIB, "TiB"),
        PIB..EIB => (PIB, "PiB"),
        _ => (EIB, "EiB"),
    };
    let whole = bytes / unit;
    let hundredths = u128::from(bytes % unit) * 100 / u128::from(unit);
    match whole {
        0..10 => format!("{whole}.{hundredths:02} {name}"),
        10..100 => format!("{whole}.{} {name}", hundredths / 10),
        _ => format!("{whole} {name}"),
    }
}

/// At most this much of a refused text is repeated in an error.
const SHOWN: usize = 40;

/// The beginning of `text`, for an error message.
pub(crate) fn shortened(text: &str) -> String {
    if text.chars().count() <= SHOWN {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(SHOWN).collect();
    short.push('…');
    short
}

impl FromStr for ByteSize {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let trimmed = text.trim();
        let number_end = trimmed
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(number_end);
        let no_number = || SizeError::NoNumber {
            text: shortened(text),
        };
        let too_large = || SizeError::TooLarge {
            text: shortened(text),
        };
        let factor = unit_factor(unit.trim_start()).ok_or_else(|| {
            if number.is_empty() {
                no_number()
            } else {
                SizeError::UnknownUnit {
                    unit: shortened(unit.trim()),
                }
            }
        })?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        if whole.is_empty() || fraction.is_empty() || fraction.contains('.') {
            return Err(no_number());
        }
        let whole: u64 = whole.parse().map_err(|_| too_large())?;
        // Nine digits are exact to a byte up to a gibibyte and to a thousandth of a percent beyond.
        let digits: String = fraction.chars().take(9).collect();
        let scale = 10_u128.pow(u32::try_from(digits.len()).map_err(|_| no_number())?);
        let fraction: u128 = digits.parse().map_err(|_| no_number())?;
        let bytes = u128::from(whole) * u128::from(factor) + fraction * u128::from(factor) / scale;
        u64::try_from(bytes).map(ByteSize).map_err(|_| too_large())
    }
}

fn unit_factor(unit: &str) -> Option<u64> {
    Some(match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => KIB,
        "m" | "mib" => MIB,
        "g" | "gib" => GIB,
        "t" | "tib" => TIB,
        "p" | "pib" => PIB,
        "e" | "eib" => EIB,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "pb" => 1_000_000_000_000_000,
        "eb" => 1_000_000_000_000_000_000,
        _ => return None,
    })
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SizeVisitor;
        impl Visitor<'_> for SizeVisitor {
            type Value = ByteSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes, or a text such as \"4 MiB\"")
            }

            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<ByteSize, E> {
                Ok(ByteSize(bytes))
            }

            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<ByteSize, E> {
                u64::try_from(bytes)
                    .map(ByteSize)
                    .map_err(|_| E::custom("a size cannot be negative"))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteSize, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(SizeVisitor)
    }
}

/// Bytes in a second, displayed as `123 MiB/s`. Parsed from a size and `/s`: `100 MiB/s`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rate(pub u64);

impl Rate {
    /// The rate of `bytes` in `elapsed`; `None` when no time has passed, for which there is no rate.
    pub fn of(bytes: u64, elapsed: Duration) -> Option<Self> {
        let nanos = elapsed.as_nanos();
        if nanos == 0 {
            return None;
        }
        // A u64 of bytes times 10^9 fits 94 bits.
        let rate = u128::from(bytes) * 1_000_000_000 / nanos;
        Some(Self(u64::try_from(rate).unwrap_or(u64::MAX)))
    }
}

impl FromStr for Rate {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let size = text
            .trim()
            .strip_suffix("/s")
            .ok_or_else(|| SizeError::NotPerSecond {
                text: shortened(text),
            })?;
        size.parse().map(|ByteSize(bytes)| Self(bytes))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/s", human(self.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_read_with_and_without_units() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("512 B", 512),
            ("4 MiB", 4 << 20),
            ("4mib", 4 << 20),
            ("4M", 4 << 20),
            ("10GB", 10_000_000_000),
            ("1.5 GiB", 3 << 29),
            (" 2 k ", 2048),
            ("0.1kB", 100),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused_with_the_reason() {
        for text in ["", "MiB", "-1", "1.2.3", ".5", "5.", "1e9", "five", "4 XiB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
        assert!(matches!(
            "16EiB".parse::<ByteSize>(),
            Err(SizeError::TooLarge { .. })
        ));
        assert!(matches!("4 XiB".parse::<ByteSize>(), Err(SizeError::UnknownUnit { unit }) if unit == "XiB"));
        assert!(matches!(
            "99999999999999999999999".parse::<ByteSize>(),
            Err(SizeError::TooLarge { .. })
        ));
    }

    #[test]
    fn tables_show_three_significant_digits() {
        for (bytes, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (1_288_490_188, "1.19 GiB"),
            (13 << 20, "13.0 MiB"),
            (1023 << 20, "1023 MiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(ByteSize(bytes).to_string(), shown);
        }
        assert_eq!(format!("{:>10}|", ByteSize(1024)), "  1.00 KiB|");
    }

    #[test]
    fn a_rate_needs_time() {
        assert_eq!(Rate::of(100, Duration::ZERO), None);
        assert_eq!(
            Rate::of(1 << 30, Duration::from_secs(2)).unwrap().to_string(),
            "512 MiB/s"
        );
        assert_eq!(Rate::of(u64::MAX, Duration::from_nanos(1)), Some(Rate(u64::MAX)));
    }

    #[test]
    fn configuration_may_give_a_number_or_a_text() {
        assert_eq!(serde_json::from_str::<ByteSize>("4096").unwrap(), ByteSize(4096));
        assert_eq!(
            serde_json::from_str::<ByteSize>("\"4 KiB\"").unwrap(),
            ByteSize(4096)
        );
        assert!(serde_json::from_str::<ByteSize>("-1").is_err());
        assert!(serde_json::from_str::<ByteSize>("\"4 cows\"").is_err());
        assert_eq!(serde_json::to_string(&ByteSize(4096)).unwrap(), "4096");
    }

    proptest! {
        #[test]
        fn any_text_gives_a_size_or_an_error(text in ".*") {
            let _ = text.parse::<ByteSize>();
        }

        #[test]
        fn a_displayed_size_is_at_most_one_percent_low(bytes: u64) {
            let read: ByteSize = ByteSize(bytes).to_string().parse().unwrap();
            prop_assert!(read.0 <= bytes && u128::from(read.0) * 101 >= u128::from(bytes) * 100 - 100);
        }
    }
}
