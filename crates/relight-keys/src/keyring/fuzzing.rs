//! Doors for the fuzz targets to what is sealed in a keyring. There is none of this in other builds.

use super::body;
use crate::{ids::RepositoryId, key_set::KeySet, secret::Secret};

/// An opened body; what is accepted is sealed and opened again to the same keys.
pub fn read_body(bytes: &[u8]) {
    let repository = RepositoryId([7; 16]);
    if let Ok(keys) = body::read(repository, bytes) {
        let key = Secret::new(&[9; 32]);
        let sealed = body::seal(&keys, &key, b"front");
        assert!(body::open(repository, &key, b"front", &sealed).is_ok_and(|again| again == keys));
    }
}

/// The body that holds these keys, opened.
pub fn body_of(keys: &KeySet) -> Vec<u8> {
    let mut body = vec![1];
    body.extend_from_slice(keys.repository_secret().expose());
    body.extend_from_slice(&keys.current().id().0.to_le_bytes());
    body.extend_from_slice(&(keys.entries().len() as u32).to_le_bytes());
    for (id, entry) in keys.entries() {
        body.extend_from_slice(&id.0.to_le_bytes());
        body.extend_from_slice(&entry.created.to_le_bytes());
        body.extend_from_slice(entry.key.secret().expose());
    }
    body
}
