//! Reads what clients of the Proxmox Backup protocol say: manifests, key files, and names of all kinds. Names that are
//! accepted print and parse again to the same.
#![no_main]

use std::fmt::{Debug, Display};
use std::str::FromStr;

use libfuzzer_sys::fuzz_target;
use relight_pbs::formats::crypt::KeyFile;
use relight_pbs::formats::ids::{BackupId, BackupTime, BackupType, FileName, Group, Namespace, SnapshotName};
use relight_pbs::formats::manifest::Manifest;
use relight_pbs::formats::upid::Upid;

fn comes_back<T: FromStr + Display + PartialEq + Debug>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        let printed = value.to_string();
        // What was given with fewer escapes than it has to have may be too long with all of them.
        if printed.len() <= text.len() {
            assert_eq!(printed.parse::<T>().ok(), Some(value));
        }
    }
}

fuzz_target!(|data: &[u8]| {
    if let Ok(manifest) = Manifest::parse(data) {
        let again = Manifest::parse(manifest.to_text().as_bytes());
        assert!(again.is_ok_and(|again| again == manifest));
        let _ = (manifest.snapshot(), manifest.key_fingerprint());
    }
    let _ = KeyFile::parse(data);
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    comes_back::<Upid>(text);
    comes_back::<Namespace>(text);
    comes_back::<FileName>(text);
    comes_back::<BackupType>(text);
    comes_back::<BackupId>(text);
    comes_back::<BackupTime>(text);
    comes_back::<Group>(text);
    comes_back::<SnapshotName>(text);
});
