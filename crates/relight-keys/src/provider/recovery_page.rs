//! The page on which a recovery key is printed.

use zeroize::Zeroizing;

use super::{Background, RecoveryKey};

/// What is on the page beside the key.
#[derive(Debug, Clone, Copy)]
pub struct RecoveryPage<'a> {
    /// The repository that the key opens.
    pub repository: &'a str,
    /// Where it lies.
    pub location: &'a str,
    /// What the key is called.
    pub label: &'a str,
    /// When it was made.
    pub made: &'a str,
}

impl RecoveryPage<'_> {
    /// The page as plain text, with a QR code of half blocks. Secret.
    pub fn text(&self, key: &RecoveryKey, background: Background) -> Zeroizing<String> {
        // Large enough for all of it: text that grows leaves copies of itself behind.
        let mut page = Zeroizing::new(String::with_capacity(16 << 10));
        for part in [
            "Recovery key of a Relight backup repository\n\n",
            "Repository:  ",
            self.repository,
            "\nLocation:    ",
            self.location,
            "\nLabel:       ",
            self.label,
            "\nFingerprint: ",
            &key.fingerprint(),
            "\nMade:        ",
            self.made,
            "\n\nWhoever has this page and access to the storage can read every backup. Keep it in a safe, away from\n",
            "the repository and from the machines that are backed up.\n\n",
            "To use it, type the key below into a file (or scan the code) and run\n",
            "  relight snapshots --repo LOCATION --recovery-key-file FILE\n\n",
            key.to_text().as_str(),
            "\n\n",
            key.to_qr_text(background).as_str(),
            "\n",
        ] {
            page.push_str(part);
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SystemEntropy;

    #[test]
    fn the_key_on_a_page_is_read_again() {
        let key = RecoveryKey::generate(&mut SystemEntropy).unwrap();
        let page = RecoveryPage {
            repository: "0123",
            location: "/backups",
            label: "safe",
            made: "2026-11-23T10:00:00Z",
        };
        let text = page.text(&key, Background::Light);
        assert!(text.len() < 16 << 10, "{}", text.len());
        let found = text.lines().find_map(|line| RecoveryKey::parse(line).ok());
        assert_eq!(found.unwrap().fingerprint(), key.fingerprint());
        assert!(text.contains(&format!("Fingerprint: {}\n", key.fingerprint())));
    }
}
