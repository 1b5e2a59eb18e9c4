//! Builds one pack in memory: compressed and sealed in place, no byte copied twice.

use relight_keys::{DataKey, PackCipher, RepositoryId};

use super::codec::{Codec, Encoder};
use super::format::{self, CLIENT_EXTRA, HEADER, Header, MAX_CHUNK, PackKind, Record, TAG, TRAILER, Trailer};
use crate::direct::Aligned;
use crate::error::{RepoError, Result};
use crate::id::{ChunkId, PackId};

/// Memory for one pack; reused, so that it is cleared only once. Aligned, so that it can be written without a copy.
pub struct PackBuffer(Aligned);

impl PackBuffer {
    /// Memory for a pack of up to `capacity` bytes.
    pub fn new(capacity: usize) -> Self {
        Self(Aligned::new(
            capacity.max(HEADER + MAX_CHUNK + CLIENT_EXTRA + TAG),
        ))
    }
}

/// A pack that is being filled.
pub struct PackBuilder {
    header: Header,
    cipher: PackCipher,
    buffer: PackBuffer,
    used: usize,
    records: Vec<Record>,
}

/// A pack that is complete.
pub struct FinishedPack {
    /// Its identity.
    pub id: PackId,
    /// What it holds.
    pub kind: PackKind,
    /// Where its chunks lie.
    pub records: Vec<Record>,
    buffer: PackBuffer,
    used: usize,
    tail: Vec<u8>,
}

impl FinishedPack {
    /// Its bytes, in two parts.
    pub fn parts(&self) -> [&[u8]; 2] {
        [&self.buffer.0[..self.used], &self.tail]
    }

    /// Length of the whole pack in bytes.
    pub fn size(&self) -> u64 {
        (self.used + self.tail.len()) as u64
    }

    /// The memory and the list of chunks.
    pub fn into_buffer(self) -> (PackBuffer, Vec<Record>) {
        (self.buffer, self.records)
    }
}

impl PackBuilder {
    /// An empty pack.
    pub fn new(
        kind: PackKind,
        repository: RepositoryId,
        key: &DataKey,
        mut buffer: PackBuffer,
    ) -> Result<Self> {
        let id = PackId::random()?;
        let header = Header {
            kind,
            key: key.id(),
            id,
            repository,
        };
        buffer.0[..HEADER].copy_from_slice(&header.encode());
        let cipher = key.pack_cipher(repository, &id.0);
        Ok(Self {
            header,
            cipher,
            buffer,
            used: HEADER,
            records: Vec::new(),
        })
    }

    /// Its identity.
    pub fn id(&self) -> PackId {
        self.header.id
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Bytes in it so far.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Whether a chunk of `raw` bytes fits without growing beyond the buffer.
    pub fn fits(&self, raw: usize) -> bool {
        self.used + raw + TAG <= self.buffer.0.len()
    }

    /// Compresses, seals and appends a chunk. [`Self::fits`] must have said yes.
    pub fn append(&mut self, id: ChunkId, raw: &[u8], encoder: &mut Encoder) -> Result<Record> {
        if raw.len() > MAX_CHUNK {
            return Err(RepoError::ChunkTooLarge {
                size: raw.len(),
                limit: MAX_CHUNK,
            });
        }
        let (codec, length) = encoder.encode(raw, &mut self.buffer.0[self.used..self.used + raw.len()]);
        Ok(self.seal(Record {
            id,
            offset: self.used as u32,
            stored: (length + TAG) as u32,
            raw: raw.len() as u32,
            codec,
        }))
    }

    /// Appends what a client encrypted: the digest it gave and its blob. [`Self::fits`] must have said yes to both.
    pub fn append_client_sealed(&mut self, id: ChunkId, raw: u32, digest: &[u8; 32], blob: &[u8]) -> Record {
        let length = digest.len() + blob.len();
        let room = &mut self.buffer.0[self.used..self.used + length];
        room[..digest.len()].copy_from_slice(digest);
        room[digest.len()..].copy_from_slice(blob);
        self.seal(Record {
            id,
            offset: self.used as u32,
            stored: (length + TAG) as u32,
            raw,
            codec: Codec::ClientSealed,
        })
    }

    /// Appends a chunk that is compressed already: `payload` as it was in another pack, without its tag.
    pub fn append_encoded(&mut self, record: &Record, payload: &[u8]) -> Record {
        self.buffer.0[self.used..self.used + payload.len()].copy_from_slice(payload);
        self.seal(Record {
            offset: self.used as u32,
            stored: (payload.len() + TAG) as u32,
            ..*record
        })
    }

    fn seal(&mut self, record: Record) -> Record {
        let end = self.used + record.stored as usize;
        let (payload, tag) = self.buffer.0[self.used..end].split_at_mut(record.stored as usize - TAG);
        tag.copy_from_slice(&self.cipher.seal(
            u64::from(record.offset),
            &record.associated_data(self.header.kind),
            payload,
        ));
        self.used = end;
        self.records.push(record);
        record
    }

    /// Ends the pack with its table of contents.
    pub fn finish(self) -> FinishedPack {
        let mut tail = Vec::with_capacity(self.records.len() * format::ENTRY + TAG + TRAILER);
        format::encode_toc(&self.records, &mut tail);
        let tag = self
            .cipher
            .seal(format::TOC_OFFSET, &self.header.encode(), &mut tail);
        tail.extend_from_slice(&tag);
        let toc = tail.len() as u32;
        let total = (self.used + tail.len() + TRAILER) as u64;
        tail.extend_from_slice(&Trailer { toc, total }.encode());
        FinishedPack {
            id: self.header.id,
            kind: self.header.kind,
            records: self.records,
            buffer: self.buffer,
            used: self.used,
            tail,
        }
    }
}
