//! The newest pieces of a workload's log, before there is enough of it for a snapshot: small sealed objects, one write
//! each, so that they can be written every second. Whoever puts what they hold into a snapshot removes them.

use relight_keys::ObjectKind;

use crate::error::{RepoError, Result};
use crate::repository::Repository;
use crate::storage::PutOptions;

/// Folder of these pieces.
pub const PREFIX: &str = "tails/";
/// No piece is larger, compressed or not: a segment of a log, and what is said about it.
pub const MAX_PIECE: usize = (64 << 20) + (1 << 20);

fn prefix(repository: &Repository, workload: &str) -> String {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    context.update(&repository.keys().secret("tail names v1"));
    context.update(workload.as_bytes());
    format!("{PREFIX}{}/", hex::encode(&context.finish().as_ref()[..16]))
}

fn key(repository: &Repository, workload: &str, number: u64) -> String {
    format!("{}{number:016x}", prefix(repository, workload))
}

impl Repository {
    /// Stores a piece, in place of the one of that number. When this returns, it is durable.
    ///
    /// # Errors
    /// [`RepoError::ChunkTooLarge`] beyond [`MAX_PIECE`]; errors of the storage.
    pub fn put_tail(&self, workload: &str, number: u64, content: &[u8]) -> Result<()> {
        if content.len() > MAX_PIECE {
            return Err(RepoError::ChunkTooLarge {
                size: content.len(),
                limit: MAX_PIECE,
            });
        }
        let key = key(self, workload, number);
        let packed = zstd::bulk::compress(content, 3).map_err(RepoError::Source)?;
        self.vault()
            .put(ObjectKind::TAIL, &key, &packed, &PutOptions::default())
    }

    /// Numbers of the pieces of a workload, ascending.
    pub fn tail_numbers(&self, workload: &str) -> Result<Vec<u64>> {
        let prefix = prefix(self, workload);
        let listed = self.storage().list(&prefix)?;
        let number = |key: &str| u64::from_str_radix(key.strip_prefix(&prefix)?, 16).ok();
        let mut numbers: Vec<u64> = listed.iter().filter_map(|object| number(&object.key)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// A piece; none if it is gone.
    pub fn tail(&self, workload: &str, number: u64) -> Result<Option<Vec<u8>>> {
        let key = key(self, workload, number);
        let packed = match self.vault().get(ObjectKind::TAIL, &key) {
            Ok(packed) => packed,
            Err(RepoError::Storage(error)) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        let content = zstd::bulk::decompress(&packed, MAX_PIECE);
        content
            .map(Some)
            .map_err(|error| RepoError::damaged(key, error.to_string()))
    }

    /// Removes a piece.
    pub fn remove_tail(&self, workload: &str, number: u64) -> Result<()> {
        Ok(self.storage().delete(&key(self, workload, number))?)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use relight_keys::{KeyFile, SystemEntropy};

    use super::*;
    use crate::keyring;
    use crate::repository::OpenOptions;
    use crate::settings::Settings;
    use crate::storage::Storage;
    use crate::storage::local::LocalStorage;

    #[test]
    fn pieces_come_back_by_workload_and_number_and_tell_nothing_by_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let storage = Arc::new(LocalStorage::create(folder.path()).unwrap());
        let key = KeyFile::generate(&mut SystemEntropy).unwrap();
        keyring::initialise(
            &*storage,
            &key,
            "test",
            jiff::Timestamp::now(),
            Settings::default(),
        )
        .unwrap();
        let keys = keyring::unlock(&*storage, &key).unwrap().into_keys();
        let cache = tempfile::tempdir().unwrap();
        let repository = Repository::open(storage.clone(), keys, OpenOptions::new(cache.path())).unwrap();
        repository.put_tail("pg/a", 2, b"two").unwrap();
        repository.put_tail("pg/a", 1, b"one").unwrap();
        repository.put_tail("pg/b", 1, b"other").unwrap();
        repository.put_tail("pg/a", 2, b"two, longer").unwrap();
        assert_eq!(repository.tail_numbers("pg/a").unwrap(), [1, 2]);
        assert_eq!(repository.tail("pg/a", 2).unwrap().unwrap(), b"two, longer");
        assert_eq!(repository.tail("pg/b", 1).unwrap().unwrap(), b"other");
        for object in storage.list(PREFIX).unwrap() {
            assert!(!object.key.contains("pg"), "{}", object.key);
            assert!(
                !storage
                    .get(&object.key)
                    .unwrap()
                    .windows(3)
                    .any(|some| some == b"two")
            );
        }
        repository.remove_tail("pg/a", 2).unwrap();
        assert_eq!(repository.tail("pg/a", 2).unwrap(), None);
        assert_eq!(repository.tail_numbers("pg/a").unwrap(), [1]);
        let key = storage.list(PREFIX).unwrap()[0].key.clone();
        let mut bytes = storage.get(&key).unwrap();
        bytes[40] ^= 1;
        storage.put(&key, &[&bytes], &PutOptions::default()).unwrap();
        assert!(
            repository
                .tail("pg/a", 1)
                .and(repository.tail("pg/b", 1))
                .is_err(),
            "one of them was changed"
        );
        assert!(repository.put_tail("pg/a", 3, &vec![0; MAX_PIECE + 1]).is_err());
    }
}
