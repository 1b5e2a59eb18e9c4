//! Reads packs: their table of contents, and single records.

use relight_keys::{KeySet, PackCipher, RepositoryId};

use super::codec::{Codec, Decoder};
use super::format::{self, HEADER, Header, MAX_PACK, PackKind, Record, TRAILER, Trailer};
use crate::error::{RepoError, Result};
use crate::id::{ChunkId, PackId};
use crate::read::{Form, Stored, Unseal};
use crate::storage::Storage;

/// Opens the records of one pack.
pub struct PackOpener {
    id: PackId,
    kind: PackKind,
    cipher: PackCipher,
}

impl PackOpener {
    /// For the pack `id` that is sealed under data key `key`.
    pub fn new(
        repository: RepositoryId,
        keys: &KeySet,
        kind: PackKind,
        id: PackId,
        key: relight_keys::KeyId,
    ) -> Result<Self> {
        let data_key = keys.get(key).ok_or_else(|| RepoError::KeyMissing {
            what: format!("pack {id}"),
            key: key.to_string(),
        })?;
        Ok(Self {
            id,
            kind,
            cipher: data_key.pack_cipher(repository, &id.0),
        })
    }

    /// Opens a record in place and returns what was sealed, still compressed.
    pub fn open<'a>(&self, record: &Record, sealed: &'a mut [u8]) -> Result<&'a [u8]> {
        let associated = record.associated_data(self.kind);
        match self.cipher.open(u64::from(record.offset), &associated, sealed) {
            Ok(payload) => Ok(payload),
            Err(_) => Err(self.corrupt(record.id)),
        }
    }

    /// Opens a record and checks that it is the chunk it should be: its content by its digest, what a client encrypted by
    /// the digest that the client gave. What was sealed then lies in `sealed`, without the last [`format::TAG`] bytes.
    pub fn check(
        &self,
        record: &Record,
        sealed: &mut [u8],
        decoder: &mut Decoder,
        scratch: &mut Vec<u8>,
    ) -> Result<()> {
        match self.content(record, sealed, decoder, scratch) {
            Ok(_) | Err(RepoError::ClientSealed(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Opens a record, expands it if need be into `scratch`, and checks that it is the chunk it should be.
    ///
    /// # Errors
    /// [`RepoError::ClientSealed`] if it is, but a client encrypted it.
    pub fn content<'a>(
        &self,
        record: &Record,
        sealed: &'a mut [u8],
        decoder: &mut Decoder,
        scratch: &'a mut Vec<u8>,
    ) -> Result<&'a [u8]> {
        let length = record.raw as usize;
        let payload = self.open(record, sealed)?;
        let raw = match record.codec {
            Codec::ClientSealed => {
                let digest = payload.first_chunk().ok_or_else(|| self.corrupt(record.id))?;
                return Err(if ChunkId::of_client_sealed(digest) == record.id {
                    RepoError::ClientSealed(record.id)
                } else {
                    self.corrupt(record.id)
                });
            }
            Codec::Plain if payload.len() == length => payload,
            codec => {
                if scratch.len() < length {
                    scratch.resize(length, 0);
                }
                if !decoder.decode(codec, payload, &mut scratch[..length]) {
                    return Err(self.corrupt(record.id));
                }
                &scratch[..length]
            }
        };
        if ChunkId::of(raw) != record.id {
            return Err(self.corrupt(record.id));
        }
        Ok(raw)
    }

    /// The chunk in the form that is asked for.
    pub(crate) fn give<'a>(
        &self,
        record: &Record,
        sealed: &'a mut [u8],
        decoder: &mut Decoder,
        scratch: &'a mut Vec<u8>,
        (form, client_key): (Form, Option<&dyn Unseal>),
    ) -> Result<&'a [u8]> {
        match form {
            Form::Content => {
                return match (record.codec, client_key) {
                    (Codec::ClientSealed, Some(key)) => self.unseal(record, sealed, key, scratch),
                    _ => self.content(record, sealed, decoder, scratch),
                };
            }
            Form::Stored => self.check(record, sealed, decoder, scratch)?,
            Form::Sealed => drop(self.open(record, sealed)?),
        }
        let length = Stored::complete(record, sealed, record.stored as usize - format::TAG);
        Ok(&sealed[..length])
    }

    /// The content of what a client encrypted.
    fn unseal<'a>(
        &self,
        record: &Record,
        sealed: &mut [u8],
        key: &dyn Unseal,
        scratch: &'a mut Vec<u8>,
    ) -> Result<&'a [u8]> {
        let payload = self.open(record, sealed)?;
        let parts = payload.split_first_chunk();
        let (digest, blob) = parts
            .filter(|(digest, _)| ChunkId::of_client_sealed(digest) == record.id)
            .ok_or_else(|| self.corrupt(record.id))?;
        let length = record.raw as usize;
        let content = key
            .unseal(digest, blob, length)
            .filter(|content| content.len() == length);
        *scratch = content.ok_or(RepoError::OtherClientKey(record.id))?;
        Ok(scratch)
    }

    fn corrupt(&self, chunk: ChunkId) -> RepoError {
        RepoError::ChunkCorrupt { chunk, pack: self.id }
    }
}

/// Reads the header of a pack.
pub(crate) fn read_header(
    storage: &dyn Storage,
    repository: RepositoryId,
    kind: PackKind,
    id: PackId,
) -> Result<Header> {
    let mut header = [0; HEADER];
    storage.get_range(&kind.key(id), 0, &mut header)?;
    Header::decode(&header, &format!("pack {id}"), id, repository)
}

/// Reads the table of contents of a pack of `size` bytes from its end: how an index is rebuilt.
pub fn read_toc(
    storage: &dyn Storage,
    repository: RepositoryId,
    keys: &KeySet,
    kind: PackKind,
    id: PackId,
    size: u64,
) -> Result<(Header, Vec<Record>)> {
    let key = kind.key(id);
    let what = format!("pack {id}");
    let damaged = |why: &str| RepoError::damaged(&what, why);
    if size < (HEADER + TRAILER + format::TAG) as u64 {
        return Err(damaged("it was cut short"));
    }
    if size > MAX_PACK {
        return Err(damaged("it is larger than any pack"));
    }
    let mut header = [0; HEADER];
    storage.get_range(&key, 0, &mut header)?;
    let header = Header::decode(&header, &what, id, repository)?;
    if header.kind != kind {
        return Err(damaged("it is a pack of the other kind"));
    }
    let mut trailer = [0; TRAILER];
    storage.get_range(&key, size - TRAILER as u64, &mut trailer)?;
    let trailer = Trailer::decode(&trailer, size, &what)?;
    let end = size - TRAILER as u64 - u64::from(trailer.toc);
    let mut toc = vec![0; trailer.toc as usize];
    storage.get_range(&key, end, &mut toc)?;
    let records = open_toc(&header, keys, &mut toc, end, &what)?;
    Ok((header, records))
}

/// The same from the bytes of a whole pack.
pub fn parse_toc(
    bytes: &[u8],
    repository: RepositoryId,
    keys: &KeySet,
    id: PackId,
) -> Result<(Header, Vec<Record>)> {
    let what = format!("pack {id}");
    let damaged = || RepoError::damaged(&what, "it was cut short");
    let header = bytes.first_chunk::<HEADER>().ok_or_else(damaged)?;
    let header = Header::decode(header, &what, id, repository)?;
    let trailer = bytes.last_chunk::<TRAILER>().ok_or_else(damaged)?;
    let trailer = Trailer::decode(trailer, bytes.len() as u64, &what)?;
    let end = bytes.len() - TRAILER - trailer.toc as usize;
    let mut toc = bytes
        .get(end..bytes.len() - TRAILER)
        .ok_or_else(damaged)?
        .to_vec();
    let records = open_toc(&header, keys, &mut toc, end as u64, &what)?;
    Ok((header, records))
}

fn open_toc(header: &Header, keys: &KeySet, toc: &mut [u8], end: u64, what: &str) -> Result<Vec<Record>> {
    let key = keys.get(header.key).ok_or_else(|| RepoError::KeyMissing {
        what: what.to_string(),
        key: header.key.to_string(),
    })?;
    let cipher = key.pack_cipher(header.repository, &header.id.0);
    let plain = cipher
        .open(format::TOC_OFFSET, &header.encode(), toc)
        .map_err(|_| RepoError::damaged(what, "its table of contents does not open"))?;
    format::decode_toc(plain, end, what)
}
