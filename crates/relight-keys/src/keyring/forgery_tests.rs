//! Keyrings that an attacker with write access to the storage could make. He knows repository id, wraps and public
//! keys, and can seal to these; he knows no secret.

use super::{Keyring, KeyringError, NewKeyring, create, open, open_all};
use crate::{entropy::SystemEntropy, ids::RepositoryId, provider::KeyFile};

fn key_file() -> KeyFile {
    KeyFile::generate(&mut SystemEntropy).unwrap()
}

fn first(repository: RepositoryId, provider: &KeyFile) -> NewKeyring {
    create(repository, provider, "label", 0, &mut SystemEntropy).unwrap()
}

/// Takes the victim's wraps, as they stand in the genuine keyring, into one whose data keys the attacker knows.
fn forge(genuine: &NewKeyring, attacker: &KeyFile) -> (String, Vec<u8>) {
    let own = first(genuine.keys().repository(), attacker);
    let mut change = open(own.bytes(), attacker).unwrap().change().unwrap();
    change.wraps = Keyring::parse(genuine.bytes()).unwrap().wraps;
    let forged = change.finish(0, &mut SystemEntropy).unwrap();
    (forged.name().to_string(), forged.bytes().to_vec())
}

#[test]
fn a_keyring_of_foreign_keys_is_not_genuine() {
    let (victim, attacker) = (key_file(), key_file());
    let genuine = first(RepositoryId([1; 16]), &victim);
    let forged = forge(&genuine, &attacker);
    let error = open(&forged.1, &victim).unwrap_err();
    assert!(matches!(error, KeyringError::NotGenuine(_)), "{error}");

    // Beside the genuine one it is passed over, and writers are warned.
    let objects = [(genuine.name().to_string(), genuine.bytes().to_vec()), forged];
    let opened = open_all(&objects, &victim).unwrap();
    assert_eq!(opened.keys(), genuine.keys());
    assert!(!opened.is_newest());
}

#[test]
fn a_wrap_smuggled_into_a_genuine_keyring_is_noticed() {
    let (victim, attacker) = (key_file(), key_file());
    let genuine = first(RepositoryId([1; 16]), &victim);
    let own = first(RepositoryId([1; 16]), &attacker);
    let mut keyring = Keyring::parse(genuine.bytes()).unwrap();
    keyring
        .wraps
        .append(&mut Keyring::parse(own.bytes()).unwrap().wraps);
    // Written with the genuine body, whose tag covers the public part.
    let public = serde_json::to_string(&keyring.wraps[1]).unwrap();
    let text = String::from_utf8_lossy(genuine.bytes()).into_owned();
    let (start, end) = (
        text.find("\"wraps\": [").unwrap() + 10,
        text.find("\n  ]").unwrap(),
    );
    let mut bytes = genuine.bytes()[..start].to_vec();
    bytes.extend_from_slice(&genuine.bytes()[start..end]);
    bytes.extend_from_slice(format!(",{public}").as_bytes());
    bytes.extend_from_slice(&genuine.bytes()[end..]);
    let length = u32::from_le_bytes(bytes[12..16].try_into().unwrap()) + public.len() as u32 + 1;
    bytes[12..16].copy_from_slice(&length.to_le_bytes());

    assert_eq!(Keyring::parse(&bytes).unwrap().wraps().len(), 2, "well formed");
    assert!(matches!(open(&bytes, &victim), Err(KeyringError::Damaged(_))));
}
