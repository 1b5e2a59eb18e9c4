//! Chunks as they are stored: compressed, or encrypted by a client. For those who hand them on as they are.

use crate::error::{RepoError, Result};
use crate::pack::{Codec, Record};
use crate::session::Encoded;

/// What follows the payload: length of the content u32, codec u8.
const SUFFIX: usize = 5;

/// What a reader gives of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// Its content. What a client encrypted has none.
    #[default]
    Content,
    /// Its stored form, to be read with [`Stored::parse`], checked as content is.
    Stored,
    /// The same, but only its seal is checked: that it is what was written under this identity. For receivers that
    /// compare with the digest themselves; it saves expanding and hashing.
    Sealed,
}

/// The stored form of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored<'a> {
    /// How the payload is to be understood.
    pub codec: Codec,
    /// Length of the content in bytes.
    pub raw: u32,
    /// The content, the zstd frame, or the client's digest and blob.
    pub payload: &'a [u8],
}

impl<'a> Stored<'a> {
    /// Makes the stored form of a record that was opened in place: what tells how to read it takes the place of the tag.
    /// Gives its length.
    pub(crate) fn complete(record: &Record, opened: &mut [u8], payload: usize) -> usize {
        opened[payload..payload + 4].copy_from_slice(&record.raw.to_le_bytes());
        opened[payload + 4] = record.codec as u8;
        payload + SUFFIX
    }

    /// Reads what a reader of [`Form::Stored`] or [`Form::Sealed`] gave.
    ///
    /// # Errors
    /// If it was not given by one.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let wrong = || RepoError::damaged("stored form of a chunk", "it does not end as one does");
        let (payload, suffix) = bytes.split_last_chunk::<SUFFIX>().ok_or_else(wrong)?;
        Ok(Self {
            codec: Codec::from_number(suffix[4]).ok_or_else(wrong)?,
            raw: u32::from_le_bytes([suffix[0], suffix[1], suffix[2], suffix[3]]),
            payload,
        })
    }

    /// The digest that the client gave and its blob, if a client encrypted the chunk.
    pub fn client_sealed(&self) -> Option<(&'a [u8; 32], &'a [u8])> {
        match self.codec {
            Codec::ClientSealed => self.payload.split_first_chunk(),
            Codec::Plain | Codec::Zstd => None,
        }
    }

    /// The same for [`crate::session::Session::put_chunk`].
    ///
    /// # Errors
    /// If a client-sealed payload is shorter than its digest.
    pub fn encoded(&self) -> Result<Encoded<'a>> {
        Ok(match self.codec {
            Codec::Plain => Encoded::Plain(self.payload),
            Codec::Zstd => Encoded::Zstd {
                frame: self.payload,
                raw: self.raw,
            },
            Codec::ClientSealed => {
                let (digest, blob) = self.payload.split_first_chunk().ok_or_else(|| {
                    RepoError::damaged("stored form of a chunk", "it is shorter than a digest")
                })?;
                Encoded::ClientSealed {
                    digest: *digest,
                    blob,
                    raw: self.raw,
                }
            }
        })
    }
}
