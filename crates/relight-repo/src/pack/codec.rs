//! How a chunk's content is written in a record: as it is, or as a zstd frame.

use std::io::Read;
use std::sync::atomic::{AtomicU32, Ordering};

use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::{CParameter, ParamSwitch};

/// Level of zstd: 1 is what keeps up with disks; higher levels win little on what labs store.
const LEVEL: i32 = 1;

/// Chunks up to this size, of which a database has very many, are searched in larger steps for longer matches, with a
/// table that stays in the processor's first cache: more than half as fast again, for a tenth more space.
const SMALL: usize = 32 * 1024;

/// For them, as `zstd.h` names them: `ZSTD_c_hashLog`, `ZSTD_c_minMatch`, `ZSTD_c_targetLength` (the steps), and
/// `ZSTD_c_literalCompressionMode`, which larger steps would switch off.
const FOR_SMALL: [CParameter; 4] = [
    CParameter::HashLog(13),
    CParameter::MinMatch(7),
    CParameter::TargetLength(3),
    CParameter::LiteralCompressionMode(ParamSwitch::Enable),
];

/// Chunks up to this size are just compressed; larger ones are sampled first.
const SAMPLED_FROM: usize = 64 * 1024;

/// A sample is this many pieces of `SAMPLE` bytes, spread over the chunk.
const SAMPLES: usize = 4;

/// Size of one piece of a sample.
const SAMPLE: usize = 4 * 1024;

/// One compressed chunk in this many is expanded again at once and compared: faulty memory, and faults of a compressor,
/// are found while the original is still there.
const CHECKED: u32 = 32;

/// How a record's content is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Codec {
    /// As it is.
    Plain = 0,
    /// One zstd frame.
    Zstd = 1,
    /// Encrypted by the client that saved it, and kept as it came: the digest that the client gave (32 bytes), then
    /// its blob. Only that client's key opens it.
    ClientSealed = 2,
}

impl Codec {
    /// From its number in a pack or index.
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Plain),
            1 => Some(Self::Zstd),
            2 => Some(Self::ClientSealed),
            _ => None,
        }
    }
}

/// Compresses chunks; one a thread.
pub struct Encoder {
    zstd: Compressor<'static>,
    for_small: Compressor<'static>,
    expander: Decompressor<'static>,
    sample: Vec<u8>,
    scratch: Vec<u8>,
}

impl Encoder {
    /// A new one.
    pub fn new() -> std::io::Result<Self> {
        let mut for_small = Compressor::new(LEVEL)?;
        for parameter in FOR_SMALL {
            for_small.set_parameter(parameter)?;
        }
        Ok(Self {
            zstd: Compressor::new(LEVEL)?,
            for_small,
            expander: Decompressor::new()?,
            sample: Vec::with_capacity(SAMPLES * SAMPLE),
            scratch: vec![0; SAMPLES * SAMPLE],
        })
    }

    /// Writes `raw` at the start of `out` (which is at least as long), compressed if that saves at least one part
    /// in 32. Returns how it was written and the length.
    pub fn encode(&mut self, raw: &[u8], out: &mut [u8]) -> (Codec, usize) {
        // An output that is too small for a worthwhile frame makes zstd give up early.
        let worth = raw.len() - raw.len() / 32;
        if worth > 0
            && worth < raw.len()
            && self.looks_compressible(raw)
            && let Ok(length) = self
                .compressor(raw.len())
                .compress_to_buffer(raw, &mut out[..worth])
        {
            if !is_due() || self.expands_to(&out[..length], raw) {
                return (Codec::Zstd, length);
            }
            tracing::error!(
                "a chunk did not come back from compression as it was and is stored plain: check this host's memory"
            );
        }
        out[..raw.len()].copy_from_slice(raw);
        (Codec::Plain, raw.len())
    }

    fn compressor(&mut self, length: usize) -> &mut Compressor<'static> {
        if length <= SMALL {
            &mut self.for_small
        } else {
            &mut self.zstd
        }
    }

    /// Whether a frame holds exactly this content.
    fn expands_to(&mut self, frame: &[u8], raw: &[u8]) -> bool {
        let Some(scratch) = self.scratch.get_mut(..raw.len()) else {
            return streams_to(frame, raw);
        };
        let expanded = self.expander.decompress_to_buffer(frame, scratch);
        expanded.is_ok_and(|length| length == raw.len()) && scratch == raw
    }

    /// Compresses a few pieces only, so that media files and encrypted images cost no compression.
    fn looks_compressible(&mut self, raw: &[u8]) -> bool {
        if raw.len() < SAMPLED_FROM {
            return true;
        }
        self.sample.clear();
        let stride = (raw.len() - SAMPLE) / (SAMPLES - 1);
        for piece in 0..SAMPLES {
            let start = piece * stride;
            self.sample.extend_from_slice(&raw[start..start + SAMPLE]);
        }
        let worth = self.sample.len() - self.sample.len() / 16;
        self.zstd
            .compress_to_buffer(&self.sample, &mut self.scratch[..worth])
            .is_ok()
    }
}

/// Whether the next compressed chunk is to be checked.
fn is_due() -> bool {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    COUNT.fetch_add(1, Ordering::Relaxed).is_multiple_of(CHECKED)
}

/// Whether a frame holds exactly this content, in little memory.
fn streams_to(frame: &[u8], raw: &[u8]) -> bool {
    let Ok(mut decoder) = zstd::stream::read::Decoder::with_buffer(frame) else {
        return false;
    };
    let mut buffer = [0; 16 << 10];
    let mut rest = raw;
    loop {
        match decoder.read(&mut buffer) {
            Ok(0) => return rest.is_empty(),
            Ok(count) if rest.get(..count) == Some(&buffer[..count]) => rest = &rest[count..],
            _ => return false,
        }
    }
}

/// Expands chunks; one a thread.
pub struct Decoder {
    zstd: Decompressor<'static>,
}

impl Decoder {
    /// A new one.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            zstd: Decompressor::new()?,
        })
    }

    /// Expands `stored` into `raw`, which it must fill exactly: a frame that claims more is refused before anything
    /// is allocated for it.
    pub fn decode(&mut self, codec: Codec, stored: &[u8], raw: &mut [u8]) -> bool {
        match codec {
            Codec::Plain if stored.len() == raw.len() => {
                raw.copy_from_slice(stored);
                true
            }
            Codec::Plain | Codec::ClientSealed => false,
            Codec::Zstd => self
                .zstd
                .decompress_to_buffer(stored, raw)
                .is_ok_and(|length| length == raw.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        aws_lc_rs::rand::fill(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn what_goes_in_comes_out() {
        let mut encoder = Encoder::new().unwrap();
        let mut decoder = Decoder::new().unwrap();
        let mut half = noise(300_000);
        half[..150_000].fill(7);
        for raw in [
            vec![],
            vec![1],
            vec![5; 40],
            noise(10),
            noise(100_000),
            vec![3; 5_000_000],
            half,
        ] {
            let mut out = vec![0xaa; raw.len()];
            let (codec, length) = encoder.encode(&raw, &mut out);
            let mut back = vec![0x55; raw.len()];
            assert!(decoder.decode(codec, &out[..length], &mut back));
            assert!(back == raw);
        }
    }

    #[test]
    fn a_frame_that_holds_something_else_is_noticed() {
        let raw: Vec<u8> = b"relight ".iter().copied().cycle().take(100_000).collect();
        let mut encoder = Encoder::new().unwrap();
        let mut other = raw.clone();
        other[7_000] ^= 1;
        for length in [100_000, 8_192] {
            let (raw, other) = (&raw[..length], &other[..length]);
            let frame = zstd::bulk::compress(raw, 1).unwrap();
            assert!(encoder.expands_to(&frame, raw));
            assert!(!encoder.expands_to(&frame, &raw[..length - 1]));
            assert!(!encoder.expands_to(&frame, other));
            assert!(!encoder.expands_to(&frame[..frame.len() / 2], raw));
        }
    }

    #[test]
    fn noise_is_stored_plain_and_text_is_not() {
        let mut encoder = Encoder::new().unwrap();
        let mut out = vec![0; 4 << 20];
        assert_eq!(encoder.encode(&noise(4 << 20), &mut out).0, Codec::Plain);
        let text: Vec<u8> = b"the quick brown fox "
            .iter()
            .copied()
            .cycle()
            .take(4 << 20)
            .collect();
        assert_eq!(encoder.encode(&text, &mut out).0, Codec::Zstd);
    }

    #[test]
    fn a_frame_of_another_length_is_refused() {
        let mut encoder = Encoder::new().unwrap();
        let mut decoder = Decoder::new().unwrap();
        let mut out = vec![0; 1 << 20];
        let (codec, length) = encoder.encode(&vec![0; 1 << 20], &mut out);
        assert_eq!(codec, Codec::Zstd);
        assert!(!decoder.decode(codec, &out[..length], &mut vec![0; (1 << 20) - 1]));
        assert!(!decoder.decode(codec, &out[..length], &mut vec![0; (1 << 20) + 1]));
    }
}
