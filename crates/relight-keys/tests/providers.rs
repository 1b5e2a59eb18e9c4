//! Passphrases, key files and recovery keys as an operator meets them.

#![allow(clippy::unwrap_used)]

mod support;

use std::{fs, os::unix::fs::PermissionsExt};

use relight_keys::{
    Argon2Cost, Background, KINDS, KeyFile, Passphrase, Provider, ProviderError, RecoveryKey, SystemEntropy,
};
use serde_json::json;
use support::{FixedEntropy, key_file, passphrase};

#[test]
fn a_passphrase_file_counts_up_to_its_first_end_of_line() {
    let secret = |contents: &[u8]| {
        let parameters =
            json!({"argon2id": {"memory_kib": 64, "passes": 1, "lanes": 1}, "salt": "00".repeat(16)});
        let unlocked = Passphrase::from_first_line(contents)?.unlock(&parameters)?;
        Ok::<_, ProviderError>(*unlocked.unwrap().expose())
    };
    let plain = secret(b"correct horse battery").unwrap();
    assert_eq!(secret(b"correct horse battery\n").unwrap(), plain);
    assert_eq!(secret(b"correct horse battery\r\nsecond line\n").unwrap(), plain);
    assert_ne!(
        secret(b"correct horse battery \n").unwrap(),
        plain,
        "blanks count"
    );
    assert!(matches!(
        secret(b"\nsecond line"),
        Err(ProviderError::PassphraseEmpty)
    ));

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pass");
    fs::write(&path, "correct horse battery\n").unwrap();
    assert!(Passphrase::read_file(&path).unwrap().check_new().is_ok());
    fs::write(&path, [b'x'; 10_000]).unwrap();
    assert!(matches!(
        Passphrase::read_file(&path),
        Err(ProviderError::PassphraseTooLong { .. })
    ));
    let missing = Passphrase::read_file(&directory.path().join("missing")).unwrap_err();
    assert!(missing.to_string().contains("missing"));
}

#[test]
fn the_cost_is_bounded_before_anything_is_allocated() {
    let unlock = |memory_kib: u64, passes: u64, lanes: u64| {
        let argon2id = json!({"memory_kib": memory_kib, "passes": passes, "lanes": lanes});
        passphrase("correct horse battery").unlock(&json!({"argon2id": argon2id, "salt": "00".repeat(16)}))
    };
    assert!(unlock(8, 1, 1).is_ok());
    for (memory, passes, lanes) in [
        (4 << 20, 1, 1),
        (2 << 20, 64, 1),
        (64, 1_000_000, 1),
        (64, 0, 1),
        (64, 1, 0),
        (64, 1, 1000),
        (7, 1, 1),
        (8, 1, 2),
        (u64::from(u32::MAX), 1, 1),
    ] {
        let error = unlock(memory, passes, lanes).unwrap_err();
        assert!(matches!(error, ProviderError::Cost { .. }), "{error}");
    }
    assert!(matches!(
        unlock(1 << 40, 1, 1),
        Err(ProviderError::Parameters { .. })
    ));
    for (memory_kib, passes) in [(1024, 3), (64 * 1024, 1)] {
        let weak = Passphrase::new(b"correct horse battery")
            .unwrap()
            .with_cost(Argon2Cost {
                memory_kib,
                passes,
                lanes: 1,
            });
        assert!(matches!(weak, Err(ProviderError::Cost { .. })));
    }
}

#[test]
fn a_key_file_is_made_private_and_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key");
    let key = key_file();
    key.create(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(KeyFile::read(&path).unwrap(), key);

    let error = key_file().create(&path).unwrap_err();
    assert!(matches!(error, ProviderError::File { .. }));
    assert_eq!(KeyFile::read(&path).unwrap(), key, "never overwritten");

    for mode in [0o640, 0o604, 0o620, 0o610, 0o601] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let error = KeyFile::read(&path).unwrap_err();
        assert!(matches!(error, ProviderError::Exposed { .. }), "{mode:o}");
        assert!(error.to_string().contains("chmod 600"));
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    assert_eq!(KeyFile::read(&path).unwrap(), key);
    assert!(matches!(
        KeyFile::read(directory.path()),
        Err(ProviderError::NotKeyFile { .. })
    ));
}

#[test]
fn a_key_file_that_was_altered_or_is_something_else_is_refused() {
    let key = key_file();
    let text = key.to_text();
    assert_eq!(KeyFile::parse(text.as_bytes()).unwrap(), key);
    let shuffled = format!("# copied from the safe\n\n{}\n", text.replace('\n', "\r\n\r\n"));
    assert_eq!(KeyFile::parse(shuffled.as_bytes()).unwrap(), key);

    let digit = text.find("key ").unwrap();
    let digit = text[digit..].find("\nkey ").unwrap() + digit + 5;
    let mut altered = text.as_bytes().to_vec();
    altered[digit] = if altered[digit] == b'0' { b'1' } else { b'0' };
    assert!(KeyFile::parse(&altered).unwrap_err().contains("altered"));
    assert!(
        KeyFile::parse(text.replace("file 1", "file 2").as_bytes())
            .unwrap_err()
            .contains("later version")
    );
    for other in [
        &b""[..],
        b"-----BEGIN PRIVATE KEY-----\n",
        b"\xff\xfe",
        b"# only a remark\n",
    ] {
        assert!(
            KeyFile::parse(other)
                .unwrap_err()
                .contains("not a Relight key file")
        );
    }
    let cut: String = text.lines().take(4).map(|line| format!("{line}\n")).collect();
    assert!(KeyFile::parse(cut.as_bytes()).unwrap_err().contains("incomplete"));
}

#[test]
fn a_recovery_key_survives_paper() {
    let key = RecoveryKey::generate(&mut SystemEntropy).unwrap();
    let text = key.to_text();
    let groups: Vec<_> = text.split('-').collect();
    assert_eq!(
        (groups.len(), groups.iter().all(|group| group.len() == 5)),
        (9, true)
    );
    let typed = RecoveryKey::parse(&text.to_lowercase().replace('-', " ")).unwrap();
    let parameters = key.enroll(&mut SystemEntropy).unwrap();
    assert!(key.unlock(&parameters).unwrap().is_some());
    assert_eq!(
        typed.unlock(&parameters).unwrap(),
        key.unlock(&parameters).unwrap()
    );
    assert_eq!(typed.fingerprint(), key.fingerprint());
    let other = RecoveryKey::generate(&mut SystemEntropy).unwrap();
    assert_eq!(other.unlock(&parameters).unwrap(), None);
}

#[test]
fn recovery_keys_print_as_qr_codes() {
    let key = RecoveryKey::generate(&mut FixedEntropy::new("qr")).unwrap();
    let paper = key.to_qr_text(Background::Light);
    let widths: Vec<_> = paper.lines().map(|line| line.chars().count()).collect();
    assert!(
        widths.iter().all(|width| *width == widths[0]) && widths[0] < 60,
        "{widths:?}"
    );
    assert_eq!(widths.len(), widths[0].div_ceil(2));
    assert!(paper.chars().all(|c| matches!(c, ' ' | '▀' | '▄' | '█' | '\n')));
    assert!(paper.lines().next().unwrap().trim().is_empty(), "quiet zone");
    assert!(key.to_qr_text(Background::Dark).starts_with('█'));
    let svg = key.to_qr_svg();
    assert!(svg.starts_with("<?xml") && svg.contains("<svg") && svg.ends_with("</svg>"));
}

#[test]
fn kinds_are_registered_and_names_give_nothing_away() {
    let recovery = RecoveryKey::generate(&mut SystemEntropy).unwrap();
    let (pass, file) = (passphrase("correct horse battery"), key_file());
    let providers: [&dyn Provider; 3] = [&pass, &file, &recovery];
    let kinds: Vec<_> = KINDS.iter().map(|kind| kind.name).collect();
    assert_eq!(providers.map(Provider::kind).to_vec(), kinds);
    assert_eq!(pass.name(), "passphrase");
    let shown = format!("{} {recovery:?} {} {file:?}", recovery.name(), file.name());
    assert!(!shown.contains(&recovery.to_text()[..11]), "{shown}");
}
