//! The container of chunks and of small files: a magic number, a checksum, then the content, compressed, encrypted,
//! both or neither.

use std::io::Read;

use zstd::bulk::Decompressor;

use super::crypt::{CryptError, CryptKey, IV, TAG};

/// Length of the header of what is not encrypted, in bytes: magic and CRC-32.
pub const HEADER: usize = 12;
/// Length of the header of what is encrypted: the same, vector and tag.
pub const ENCRYPTED_HEADER: usize = HEADER + IV + TAG;
/// Most bytes of content of a chunk.
pub const MAX_CHUNK: usize = 16 << 20;
/// Most bytes that a chunk or blob has when it is sent.
pub const MAX_ENCODED: usize = MAX_CHUNK + ENCRYPTED_HEADER;
/// Most bytes of content of a blob.
pub const MAX_BLOB: usize = 128 << 20;
/// Level at which clients compress.
const LEVEL: i32 = 1;

/// How the content of a blob is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BlobKind {
    /// As it is.
    Plain,
    /// One zstd frame.
    Zstd,
    /// Encrypted.
    Encrypted,
    /// A zstd frame, encrypted.
    EncryptedZstd,
}

impl BlobKind {
    const ALL: [Self; 4] = [Self::Plain, Self::Zstd, Self::Encrypted, Self::EncryptedZstd];

    /// The first bytes: those of the SHA-256 of a text each.
    pub const fn magic(self) -> [u8; 8] {
        match self {
            Self::Plain => [0x42, 0xab, 0x38, 0x07, 0xbe, 0x83, 0x70, 0xa1],
            Self::Zstd => [0x31, 0xb9, 0x58, 0x42, 0x6f, 0xb6, 0xa3, 0x7f],
            Self::Encrypted => [0x7b, 0x67, 0x85, 0xbe, 0x22, 0x2d, 0x4c, 0xf0],
            Self::EncryptedZstd => [0xe6, 0x59, 0x1b, 0xbf, 0x0b, 0xbf, 0xd8, 0x0b],
        }
    }

    /// Whether a key is needed to read it.
    pub fn is_encrypted(self) -> bool {
        matches!(self, Self::Encrypted | Self::EncryptedZstd)
    }

    /// Whether it is compressed.
    pub fn is_compressed(self) -> bool {
        matches!(self, Self::Zstd | Self::EncryptedZstd)
    }

    /// Length of the header in bytes.
    pub fn header(self) -> usize {
        if self.is_encrypted() {
            ENCRYPTED_HEADER
        } else {
            HEADER
        }
    }
}

/// Why a blob cannot be read or made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BlobError {
    /// Shorter than its header, or beginning with something else.
    #[error("this is not a data blob")]
    NotABlob,
    /// The bytes are not those that were written.
    #[error("data blob has wrong CRC checksum")]
    Checksum,
    /// There is more in it than may be.
    #[error("the content of the data blob is longer than the {limit} bytes that are allowed here")]
    TooLarge {
        /// Most bytes.
        limit: usize,
    },
    /// It does not expand, or not to the length that it should have.
    #[error("the content of the data blob does not decompress")]
    Compression,
    /// The content is encrypted, but no key is at hand.
    #[error("the data blob is encrypted")]
    Encrypted,
    /// It does not decrypt.
    #[error("the data blob does not decrypt: {0}")]
    Crypt(#[from] CryptError),
}

/// A blob as it was received: a look at bytes, nothing copied.
#[derive(Debug, Clone, Copy)]
pub struct Blob<'a> {
    kind: BlobKind,
    bytes: &'a [u8],
}

impl<'a> Blob<'a> {
    /// Looks at the header only.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BlobError> {
        let magic = bytes.first_chunk::<8>().ok_or(BlobError::NotABlob)?;
        let kind = BlobKind::ALL.into_iter().find(|kind| kind.magic() == *magic);
        let kind = kind.ok_or(BlobError::NotABlob)?;
        if bytes.len() < kind.header() {
            return Err(BlobError::NotABlob);
        }
        Ok(Self { kind, bytes })
    }

    /// How its content is written.
    pub fn kind(&self) -> BlobKind {
        self.kind
    }

    /// All of it.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// What follows the header: content, frame or ciphertext.
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[self.kind.header()..]
    }

    /// Whether the payload is what the header says; neither the vector nor the tag are covered.
    pub fn check_crc(&self) -> Result<(), BlobError> {
        let mut crc = [0; 4];
        crc.copy_from_slice(&self.bytes[8..HEADER]);
        if crc32fast::hash(self.payload()) == u32::from_le_bytes(crc) {
            Ok(())
        } else {
            Err(BlobError::Checksum)
        }
    }

    /// The content of a blob that is not encrypted, of at most `limit` bytes. Also checks the CRC.
    pub fn decode(&self, limit: usize) -> Result<Vec<u8>, BlobError> {
        if self.kind.is_encrypted() {
            return Err(BlobError::Encrypted);
        }
        self.check_crc()?;
        expand(self.kind, self.payload().into(), limit)
    }

    /// The content of any blob, of at most `limit` bytes. Also checks the CRC, and of what is encrypted the tag.
    pub fn decrypt(&self, key: &CryptKey, limit: usize) -> Result<Vec<u8>, BlobError> {
        if !self.kind.is_encrypted() {
            return self.decode(limit);
        }
        self.check_crc()?;
        let fields = &self.bytes[HEADER..ENCRYPTED_HEADER];
        let (Some((iv, tag)), mut payload) = (fields.split_first_chunk::<IV>(), self.payload().to_vec())
        else {
            return Err(BlobError::NotABlob);
        };
        let tag: &[u8; TAG] = tag.try_into().map_err(|_| BlobError::NotABlob)?;
        key.open(iv, tag, &mut payload)?;
        expand(self.kind, payload.into(), limit)
    }
}

fn expand(kind: BlobKind, payload: std::borrow::Cow<'_, [u8]>, limit: usize) -> Result<Vec<u8>, BlobError> {
    if !kind.is_compressed() {
        if payload.len() > limit {
            return Err(BlobError::TooLarge { limit });
        }
        return Ok(payload.into_owned());
    }
    // A frame need not say how much is in it, so it is read as a stream.
    let frame = zstd::stream::read::Decoder::with_buffer(&*payload).map_err(|_| BlobError::Compression)?;
    let mut content = Vec::new();
    let most = (limit as u64).saturating_add(1);
    frame
        .take(most)
        .read_to_end(&mut content)
        .map_err(|_| BlobError::Compression)?;
    if content.len() > limit {
        return Err(BlobError::TooLarge { limit });
    }
    Ok(content)
}

/// Expands the zstd frames of chunks, whose length is known, into memory that is used again. One a thread.
pub struct ChunkDecoder {
    zstd: Decompressor<'static>,
    content: Vec<u8>,
}

impl ChunkDecoder {
    /// A new one.
    pub fn new() -> Result<Self, BlobError> {
        Ok(Self {
            zstd: Decompressor::new().map_err(|_| BlobError::Compression)?,
            content: Vec::new(),
        })
    }

    /// The content of a frame, which must have exactly `length` bytes.
    pub fn expand(&mut self, frame: &[u8], length: usize) -> Result<&[u8], BlobError> {
        if length > MAX_CHUNK {
            return Err(BlobError::TooLarge { limit: MAX_CHUNK });
        }
        if self.content.len() < length {
            self.content.resize(length, 0);
        }
        let out = &mut self.content[..length];
        match self.zstd.decompress_to_buffer(frame, out) {
            Ok(count) if count == length => Ok(&self.content[..length]),
            _ => Err(BlobError::Compression),
        }
    }
}

/// The header of a blob that is not encrypted with this payload, which follows in one or several parts.
pub fn header<'a>(compressed: bool, payload: impl IntoIterator<Item = &'a [u8]>) -> [u8; HEADER] {
    let kind = if compressed {
        BlobKind::Zstd
    } else {
        BlobKind::Plain
    };
    let mut crc = crc32fast::Hasher::new();
    payload.into_iter().for_each(|part| crc.update(part));
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(&kind.magic());
    header[8..].copy_from_slice(&crc.finalize().to_le_bytes());
    header
}

/// The frame of `content` if it is not longer, as clients do it.
fn compressed(content: &[u8]) -> Option<Vec<u8>> {
    zstd::bulk::compress(content, LEVEL)
        .ok()
        .filter(|frame| frame.len() <= content.len())
}

fn check_size(content: &[u8]) -> Result<(), BlobError> {
    if content.len() > MAX_BLOB {
        return Err(BlobError::TooLarge { limit: MAX_BLOB });
    }
    Ok(())
}

/// A blob of this content; compressed if that is wanted and helps.
pub fn encode(content: &[u8], compress: bool) -> Result<Vec<u8>, BlobError> {
    check_size(content)?;
    let frame = if compress { compressed(content) } else { None };
    let payload = frame.as_deref().unwrap_or(content);
    let mut bytes = Vec::with_capacity(HEADER + payload.len());
    bytes.extend_from_slice(&header(frame.is_some(), [payload]));
    bytes.extend_from_slice(payload);
    Ok(bytes)
}

/// A blob of this content, encrypted; compressed before if that is wanted and helps.
pub fn encrypt(content: &[u8], key: &CryptKey, compress: bool) -> Result<Vec<u8>, BlobError> {
    check_size(content)?;
    let frame = if compress { compressed(content) } else { None };
    let kind = if frame.is_some() {
        BlobKind::EncryptedZstd
    } else {
        BlobKind::Encrypted
    };
    let payload = frame.as_deref().unwrap_or(content);
    let mut bytes = vec![0; ENCRYPTED_HEADER];
    bytes.extend_from_slice(payload);
    let (iv, tag) = key.seal(&mut bytes[ENCRYPTED_HEADER..])?;
    let crc = crc32fast::hash(&bytes[ENCRYPTED_HEADER..]);
    bytes[..8].copy_from_slice(&kind.magic());
    bytes[8..HEADER].copy_from_slice(&crc.to_le_bytes());
    bytes[HEADER..HEADER + IV].copy_from_slice(&iv);
    bytes[HEADER + IV..ENCRYPTED_HEADER].copy_from_slice(&tag);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::digest;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn magic_numbers_are_digests() {
        for (kind, name) in [
            (BlobKind::Plain, "uncompressed blob"),
            (BlobKind::Zstd, "zstd compressed blob"),
            (BlobKind::Encrypted, "encrypted blob"),
            (BlobKind::EncryptedZstd, "zstd compressed encrypted blob"),
        ] {
            let text = format!("Proxmox Backup {name} v1.0");
            let digest = digest::digest(&digest::SHA256, text.as_bytes());
            assert_eq!(kind.magic(), digest.as_ref()[..8]);
        }
    }

    #[test]
    fn what_goes_in_comes_out() {
        let key = CryptKey::new(&[5; 32]).unwrap();
        let mut noise = vec![0; 10_000];
        aws_lc_rs::rand::fill(&mut noise).unwrap();
        for content in [vec![], vec![1], vec![7; 100_000], noise] {
            for compress in [false, true] {
                let bytes = encode(&content, compress).unwrap();
                let blob = Blob::parse(&bytes).unwrap();
                assert_eq!(blob.decode(100_000).unwrap(), content);
                let helps = content.len() == 100_000 && compress;
                assert_eq!(blob.kind().is_compressed(), helps);

                let bytes = encrypt(&content, &key, compress).unwrap();
                let blob = Blob::parse(&bytes).unwrap();
                assert_eq!(blob.decrypt(&key, 100_000).unwrap(), content);
                assert_eq!(blob.kind().is_compressed(), helps);
                assert_eq!(blob.decode(100_000), Err(BlobError::Encrypted));
                let other = CryptKey::new(&[6; 32]).unwrap();
                assert!(blob.decrypt(&other, 100_000).is_err());
            }
        }
    }

    #[test]
    fn limits_hold_for_what_expands() {
        let bytes = encode(&vec![0; 1 << 20], true).unwrap();
        assert!(bytes.len() < 1000);
        let blob = Blob::parse(&bytes).unwrap();
        assert_eq!(
            blob.decode((1 << 20) - 1),
            Err(BlobError::TooLarge { limit: (1 << 20) - 1 })
        );
        let mut decoder = ChunkDecoder::new().unwrap();
        assert_eq!(decoder.expand(blob.payload(), 1 << 20).unwrap(), vec![0; 1 << 20]);
        assert!(decoder.expand(blob.payload(), (1 << 20) - 1).is_err());
        assert!(decoder.expand(blob.payload(), (1 << 20) + 1).is_err());
        assert!(decoder.expand(blob.payload(), usize::MAX).is_err());
        assert!(encode(&vec![0; MAX_BLOB + 1], true).is_err());
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let bytes = encode(b"some content that does not compress", true).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(
                Blob::parse(&changed).and_then(|blob| blob.decode(1000)).is_err(),
                "{at}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0..5usize) {
            if let Some(kind) = BlobKind::ALL.get(kind) {
                let length = bytes.len().min(8);
                bytes[..length].copy_from_slice(&kind.magic()[..length]);
            }
            if let Ok(blob) = Blob::parse(&bytes) {
                let _ = blob.decode(1000);
                let _ = blob.decrypt(&CryptKey::new(&[1; 32]).unwrap(), 1000);
            }
        }
    }
}
