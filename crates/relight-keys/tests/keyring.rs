//! Keyrings through their whole life: made, opened, changed, raced, tampered with.

#![allow(clippy::unwrap_used)]

mod support;

use relight_keys::{
    Keyring, KeyringError, KeyringName, ObjectKind, Passphrase, Provider, ProviderError, RecoveryKey,
    SystemEntropy, create, open, open_all, open_object, seal_object, unite,
};
use support::{NOW, first, key_file, passphrase, repository, stored};

fn rng() -> SystemEntropy {
    SystemEntropy
}

#[test]
fn every_kind_of_provider_opens_what_it_was_added_to() {
    let pass = passphrase("correct horse battery");
    let file = key_file();
    let recovery = RecoveryKey::generate(&mut rng()).unwrap();
    let made = create(repository(), &pass, "night shift", NOW, &mut rng()).unwrap();
    let opened = open(made.bytes(), &pass).unwrap();
    assert_eq!(opened.keys(), made.keys());

    let mut change = opened.change().unwrap();
    change.add_wrap(&file, "server", NOW + 1, &mut rng()).unwrap();
    change.add_wrap(&recovery, "safe", NOW + 2, &mut rng()).unwrap();
    let next = change.finish(NOW + 3, &mut rng()).unwrap();
    assert_eq!(next.name().generation(), 2);
    assert_eq!(next.supersedes(), [made.name()]);
    for provider in [&pass as &dyn Provider, &file, &recovery] {
        assert_eq!(open(next.bytes(), provider).unwrap().keys(), made.keys());
    }

    let listed = Keyring::parse(next.bytes()).unwrap();
    let labels: Vec<_> = listed
        .wraps()
        .map(|wrap| (wrap.kind.as_str(), wrap.label.as_str()))
        .collect();
    assert_eq!(
        labels,
        [
            ("passphrase", "night shift"),
            ("key-file", "server"),
            ("recovery", "safe")
        ]
    );
    assert_eq!(
        (listed.repository(), listed.created()),
        (made.keys().repository(), NOW + 3)
    );
    assert_eq!(listed.name().to_string().parse(), Ok(next.name()));
}

#[test]
fn errors_name_what_was_tried_and_what_else_there_is() {
    let made = create(
        repository(),
        &passphrase("correct horse battery"),
        "night",
        NOW,
        &mut rng(),
    )
    .unwrap();
    let opened = open(made.bytes(), &passphrase("correct horse battery")).unwrap();
    let (second, file) = (passphrase("another passphrase"), key_file());
    let mut change = opened.change().unwrap();
    change.add_wrap(&second, "day", NOW, &mut rng()).unwrap();
    change.add_wrap(&file, "server", NOW, &mut rng()).unwrap();
    let next = change.finish(NOW, &mut rng()).unwrap();

    let wrong = open(next.bytes(), &passphrase("correct horse batterz")).unwrap_err();
    assert_eq!(
        wrong.to_string(),
        "the passphrase does not open any of the 2 passphrase wraps (labels: night, day); \
         it can also be opened with: key-file (labels: server)"
    );
    let stranger = key_file();
    let wrong = open(next.bytes(), &stranger).unwrap_err().to_string();
    assert!(
        wrong.contains(&format!("key file {}", stranger.fingerprint())),
        "{wrong}"
    );
    let none = open(next.bytes(), &RecoveryKey::generate(&mut rng()).unwrap()).unwrap_err();
    assert_eq!(
        none.to_string(),
        "the keyring has no recovery wrap; it can be opened with: \
         passphrase (labels: night, day), key-file (labels: server)"
    );
    let nothing = open_all::<&str, &[u8]>(&[], &file).unwrap_err();
    assert!(matches!(nothing, KeyringError::None));
    assert!(
        nothing
            .to_string()
            .contains("only when a repository is initialised")
    );
}

#[test]
fn short_passphrases_are_refused_wherever_a_wrap_is_made_and_nowhere_else() {
    let short = passphrase("elevenbytes");
    let refused = |error: KeyringError| {
        assert!(
            matches!(
                error,
                KeyringError::Provider(ProviderError::PassphraseTooShort {
                    length: 11,
                    minimum: 12
                })
            ),
            "{error}"
        );
    };
    refused(create(repository(), &short, "a", NOW, &mut rng()).unwrap_err());
    let file = key_file();
    let made = first(&file);
    let opened = open(made.bytes(), &file).unwrap();
    refused(
        opened
            .change()
            .unwrap()
            .add_wrap(&short, "a", NOW, &mut rng())
            .unwrap_err(),
    );
    // To open, it is tried like any other.
    assert!(matches!(
        open(made.bytes(), &short),
        Err(KeyringError::NoSuchWrap { .. })
    ));
    assert!(matches!(
        Passphrase::new(b""),
        Err(ProviderError::PassphraseEmpty)
    ));
}

#[test]
fn a_removed_provider_opens_no_later_generation() {
    let (stays, goes) = (key_file(), key_file());
    let made = first(&stays);
    let mut change = open(made.bytes(), &stays).unwrap().change().unwrap();
    let id = change.add_wrap(&goes, "leaver", NOW, &mut rng()).unwrap();
    let second = change.finish(NOW, &mut rng()).unwrap();

    let mut change = open(second.bytes(), &stays).unwrap().change().unwrap();
    change.remove_wrap(id).unwrap();
    let new_key = change.rotate(NOW, &mut rng()).unwrap();
    let third = change.finish(NOW, &mut rng()).unwrap();
    assert!(matches!(
        open(third.bytes(), &goes),
        Err(KeyringError::WrongSecret { .. })
    ));
    assert_eq!(
        open(third.bytes(), &stays).unwrap().keys().current().id(),
        new_key
    );

    // While the old keyring still lies there, it is told rather than let in by the back door.
    let objects = [stored(&second), stored(&third)];
    let removed = open_all(&objects, &goes).unwrap_err();
    assert!(
        matches!(removed, KeyringError::Removed { newest, .. } if newest == third.name()),
        "{removed}"
    );
    assert_eq!(open_all(&objects, &stays).unwrap().keys().current().id(), new_key);
}

#[test]
fn the_remaining_providers_open_what_was_rotated_without_them() {
    let (admin, pass) = (key_file(), passphrase("correct horse battery"));
    let mut change = open(first(&admin).bytes(), &admin).unwrap().change().unwrap();
    change.add_wrap(&pass, "other", NOW, &mut rng()).unwrap();
    let mut keyring = change.finish(NOW, &mut rng()).unwrap();
    let old = keyring.keys().clone();
    let sealed = seal_object(
        old.current(),
        old.repository(),
        ObjectKind::SNAPSHOT,
        "s",
        b"before",
    )
    .unwrap();
    for _ in 0..3 {
        let mut change = open(keyring.bytes(), &admin).unwrap().change().unwrap();
        change.rotate(NOW, &mut rng()).unwrap();
        keyring = change.finish(NOW, &mut rng()).unwrap();
    }
    let keys = open(keyring.bytes(), &pass).unwrap().into_keys();
    assert_eq!(keys.ids().count(), 4);
    assert_ne!(keys.current().id(), old.current().id());
    assert_eq!(keys.secret("chunking"), old.secret("chunking"));
    assert_eq!(
        open_object(&keys, keys.repository(), ObjectKind::SNAPSHOT, "s", &sealed).unwrap(),
        b"before",
        "old keys stay readable"
    );
}

#[test]
fn the_last_wrap_and_the_current_key_cannot_be_given_up() {
    let file = key_file();
    let made = first(&file);
    let opened = open(made.bytes(), &file).unwrap();
    let mut change = opened.change().unwrap();
    assert!(matches!(
        change.remove_wrap(opened.opened_by()),
        Err(KeyringError::LastWrap(_))
    ));
    assert!(matches!(
        change.remove_wrap("00000000".parse().unwrap()),
        Err(KeyringError::UnknownWrap(_))
    ));
    assert!(change.retire(made.keys().current().id()).is_err());

    // Replacing it in one step is fine, and so is retiring a key that is no longer current.
    let new = key_file();
    change.add_wrap(&new, "new", NOW, &mut rng()).unwrap();
    change.remove_wrap(opened.opened_by()).unwrap();
    change.rotate(NOW, &mut rng()).unwrap();
    change.retire(made.keys().current().id()).unwrap();
    let next = change.finish(NOW, &mut rng()).unwrap();
    assert!(open(next.bytes(), &file).is_err());
    assert_eq!(open(next.bytes(), &new).unwrap().keys().ids().count(), 1);
}

#[test]
fn two_administrators_at_once_lose_no_key() {
    let file = key_file();
    let made = first(&file);
    let base = open(made.bytes(), &file).unwrap();
    let rotate = || {
        let mut change = base.change().unwrap();
        let id = change.rotate(NOW, &mut rng()).unwrap();
        (id, change.finish(NOW, &mut rng()).unwrap())
    };
    let ((key_a, a), (key_b, b)) = (rotate(), rotate());
    assert_ne!(a.name(), b.name());

    let objects = [stored(&made), stored(&a), stored(&b)];
    let united = open_all(&objects, &file).unwrap();
    for key in [made.keys().current().id(), key_a, key_b] {
        assert!(united.keys().get(key).is_some());
    }
    let winner = std::cmp::max_by_key(&a, &b, |keyring| keyring.name());
    assert_eq!(united.keys().current().id(), winner.keys().current().id());
    assert_eq!(united.name(), winner.name());
    assert!(united.is_newest() && united.skipped().is_empty());
    // All readers agree, in whatever order they listed.
    let reversed: Vec<_> = objects.iter().rev().cloned().collect();
    assert_eq!(open_all(&reversed, &file).unwrap().keys(), united.keys());

    // The next generation holds all, and says which objects it replaces; one it has not seen is not among them.
    let next = united.change().unwrap().finish(NOW, &mut rng()).unwrap();
    assert_eq!(open(next.bytes(), &file).unwrap().keys(), united.keys());
    assert_eq!(next.supersedes().len(), 3);
    let blind = open_all(&objects[..2], &file)
        .unwrap()
        .change()
        .unwrap()
        .finish(NOW, &mut rng())
        .unwrap();
    assert!(!blind.supersedes().contains(&b.name()));
}

#[test]
fn a_damaged_newest_keyring_allows_reading_but_not_writing() {
    let file = key_file();
    let made = first(&file);
    let mut next = stored(
        &open(made.bytes(), &file)
            .unwrap()
            .change()
            .unwrap()
            .finish(NOW, &mut rng())
            .unwrap(),
    );
    *next.1.last_mut().unwrap() ^= 1;
    let opened = open_all(&[stored(&made), next.clone()], &file).unwrap();
    assert_eq!(opened.keys(), made.keys());
    assert!(!opened.is_newest());
    assert!(matches!(opened.skipped(), [(name, KeyringError::Damaged(_))] if *name == next.0));
    assert!(matches!(open_all(&[next], &file), Err(KeyringError::Damaged(_))));
}

#[test]
fn renamed_keyrings_are_noticed() {
    let file = key_file();
    let (a, b) = (first(&file), first(&file));
    let swapped = [(a.name().to_string(), b.bytes().to_vec())];
    assert!(matches!(
        open_all(&swapped, &file),
        Err(KeyringError::Renamed { .. })
    ));
    let two = [stored(&a), stored(&b)];
    assert!(matches!(
        open_all(&two, &file),
        Err(KeyringError::OtherRepository(..))
    ));
    assert!(matches!(
        unite(vec![
            open(a.bytes(), &file).unwrap(),
            open(b.bytes(), &file).unwrap()
        ]),
        Err(KeyringError::Keys(_))
    ));
    for name in [
        "keyring/1-00000000",
        "keyring/00000001-0000000A",
        "keyring/00000000-00000000",
        "x",
    ] {
        assert!(name.parse::<KeyringName>().is_err(), "{name}");
    }
}

#[test]
fn what_is_read_back_must_be_what_was_written() {
    let made = first(&key_file());
    made.verify_written(made.bytes()).unwrap();
    let mut other = made.bytes().to_vec();
    other[100] ^= 1;
    assert!(matches!(
        made.verify_written(&other),
        Err(KeyringError::ReadBack(_))
    ));
    assert!(made.verify_written(&[]).is_err());
}

#[test]
fn nothing_secret_is_printed() {
    let (file, pass) = (key_file(), passphrase("correct horse battery"));
    let made = first(&file);
    let opened = open(made.bytes(), &file).unwrap();
    let mut change = opened.change().unwrap();
    change.add_wrap(&pass, "p", NOW, &mut rng()).unwrap();
    let shown = format!(
        "{made:?} {opened:?} {change:?} {file:?} {pass:?} {:?}",
        made.keys()
    );
    assert!(!shown.contains("correct horse"));
    let text = file.to_text();
    let key = text.lines().find_map(|line| line.strip_prefix("key ")).unwrap();
    assert!(!shown.contains(key));
    let bytes = hex::decode(key).unwrap();
    assert!(!shown.contains(&format!("{bytes:?}")));
}

#[test]
fn every_flipped_bit_and_every_cut_is_noticed() {
    let file = key_file();
    let made = first(&file);
    for at in 0..made.bytes().len() {
        let mut flipped = made.bytes().to_vec();
        flipped[at] ^= 1 << (at % 8);
        assert!(open(&flipped, &file).is_err(), "byte {at}");
        assert!(open(&made.bytes()[..at], &file).is_err(), "cut at {at}");
    }
    let longer = [made.bytes(), b"\0"].concat();
    assert!(open(&longer, &file).is_err());
}
