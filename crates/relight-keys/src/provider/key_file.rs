//! A file with a random key.
//!
//! Text, so that it survives copy and paste, print and password safes:
//!
//! ```text
//! relight-key-file 1
//! key 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff
//! check 89abcdef01234567
//! ```
//!
//! `check` is the first 8 bytes of SHA-256("relight key file v1 check" + key). Empty lines and lines that begin with
//! `#` may stand anywhere.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

use serde_json::Value;
use zeroize::Zeroizing;

use super::{Fingerprint, Provider, ProviderError};
use crate::{derive, entropy::Entropy, secret::Secret};

pub(super) const KIND: &str = "key-file";

const HEADER: &str = "relight-key-file 1";

/// Room for the key and a page of remarks.
const MAXIMUM_LENGTH: u64 = 16 * 1024;

/// 32 random bytes from a file.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyFile {
    key: Secret,
}

impl KeyFile {
    /// Draws a new key.
    ///
    /// # Errors
    /// When `entropy` fails.
    pub fn generate(entropy: &mut dyn Entropy) -> Result<Self, ProviderError> {
        Ok(Self {
            key: Secret::generate(entropy)?,
        })
    }

    /// Writes the key to a new file that only its owner may use (mode 0600), durably.
    ///
    /// # Errors
    /// When the file exists already (it is left alone), or cannot be written (then none is left).
    pub fn create(&self, path: &Path) -> Result<(), ProviderError> {
        let failed = |source| ProviderError::File {
            path: path.to_owned(),
            source,
        };
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        let written = file
            .write_all(self.to_text().as_bytes())
            .and_then(|()| file.sync_all());
        // A key file is often made right before the keyring that needs it: its name must be as durable as it.
        written.and_then(|()| sync_directory_of(path)).map_err(|error| {
            let _ = std::fs::remove_file(path);
            failed(error)
        })
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// When it cannot be read, is open to group or others, or is no undamaged key file.
    pub fn read(path: &Path) -> Result<Self, ProviderError> {
        let failed = |source| ProviderError::File {
            path: path.to_owned(),
            source,
        };
        let not = |reason| ProviderError::NotKeyFile {
            path: path.to_owned(),
            reason,
        };
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(not("not a regular file"));
        }
        if metadata.mode() & 0o077 != 0 {
            return Err(ProviderError::Exposed {
                path: path.to_owned(),
                mode: metadata.mode() & 0o7777,
            });
        }
        if metadata.len() > MAXIMUM_LENGTH {
            return Err(not("too long to be a Relight key file"));
        }
        // Made as large as it can become, so that reading never reallocates and leaves a copy behind.
        let mut contents = Zeroizing::new(Vec::with_capacity(MAXIMUM_LENGTH as usize + 1));
        file.take(MAXIMUM_LENGTH)
            .read_to_end(&mut contents)
            .map_err(failed)?;
        Self::parse(&contents).map_err(not)
    }

    /// Reads the text of a key file, for callers that keep it elsewhere (a password safe, a secret mount).
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(contents: &[u8]) -> Result<Self, &'static str> {
        const NOT: &str = "not a Relight key file (it does not begin with `relight-key-file`)";
        let text = std::str::from_utf8(contents).map_err(|_| NOT)?;
        let mut lines = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        match lines.next() {
            Some(HEADER) => {}
            Some(line) if line.starts_with("relight-key-file ") => {
                return Err("a key file of a later version; use a newer program");
            }
            _ => return Err(NOT),
        }
        let (Some(key), Some(check), None) = (
            lines.next().and_then(|line| line.strip_prefix("key ")),
            lines.next().and_then(|line| line.strip_prefix("check ")),
            lines.next(),
        ) else {
            return Err("the key file is incomplete; it has one `key` and one `check` line");
        };
        let key = Secret::filled_by(|out| hex::decode_to_slice(key.trim(), out))
            .map_err(|_| "the `key` line is not 64 hexadecimal digits")?;
        if hex::encode(Self::check(&key)) != check.trim().to_ascii_lowercase() {
            return Err("the key does not fit its check line: the file was altered; use a copy of it");
        }
        Ok(Self { key })
    }

    /// The text of the key file. Secret.
    pub fn to_text(&self) -> Zeroizing<String> {
        let key = Zeroizing::new(hex::encode(self.key.expose()));
        let mut text = Zeroizing::new(String::with_capacity(512));
        for part in [
            "# Relight key file. Whoever has it can read the repository it was added to.\n",
            "# Keep a copy away from this machine and away from the repository.\n",
            HEADER,
            "\nkey ",
            &key,
            "\ncheck ",
            &hex::encode(Self::check(&self.key)),
            "\n",
        ] {
            text.push_str(part);
        }
        text
    }

    /// Eight hexadecimal digits that tell key files apart; not secret.
    pub fn fingerprint(&self) -> String {
        hex::encode(self.fingerprint_parameters().fingerprint)
    }

    fn fingerprint_parameters(&self) -> Fingerprint {
        Fingerprint::of("relight key file v1 fingerprint", self.key.expose())
    }

    fn check(key: &Secret) -> [u8; 8] {
        let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        context.update(b"relight key file v1 check");
        context.update(key.expose());
        let mut check = [0; 8];
        check.copy_from_slice(&context.finish().as_ref()[..8]);
        check
    }
}

fn sync_directory_of(path: &Path) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(directory)?.sync_all()
}

impl Provider for KeyFile {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn name(&self) -> String {
        format!("key file {}", self.fingerprint())
    }

    fn enroll(&self, _: &mut dyn Entropy) -> Result<Value, ProviderError> {
        Ok(self.fingerprint_parameters().to_value())
    }

    fn unlock(&self, parameters: &Value) -> Result<Option<Secret>, ProviderError> {
        let mine = self.fingerprint_parameters().matches(KIND, parameters)?;
        Ok(mine.then(|| derive::secret(self.key.expose(), b"", &[b"relight key file v1"])))
    }
}

impl fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyFile({})", self.fingerprint())
    }
}
