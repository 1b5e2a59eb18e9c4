//! The file a client keeps its key in.

use std::num::NonZeroU32;

use aws_lc_rs::pbkdf2;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::gcm::{IV, TAG, WideIvGcm};
use super::{CryptError, CryptKey, Fingerprint, KEY};

/// No key file is larger, in bytes.
const MAX_FILE: usize = 64 << 10;
/// Most memory that scrypt may take, in bytes. What the original writes takes 64 MiB.
const MAX_SCRYPT: u64 = 1 << 30;
/// Most iterations of PBKDF2.
const MAX_ITERATIONS: u32 = 50_000_000;
/// Salt of new key files in bytes.
const SALT: usize = 32;

/// Why a key file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// Not the file of a key.
    #[error("this is not a key file: {0}")]
    Malformed(String),
    /// It asks for more work than any program would.
    #[error("the key file asks for more memory or time than a key file should; it was not opened")]
    Excessive,
    /// It needs a password.
    #[error("the key file is protected by a password, and none was given")]
    PasswordNeeded,
    /// It does not fit.
    #[error("the password does not fit the key file")]
    WrongPassword,
    /// The key is not the one whose fingerprint stands beside it.
    #[error("the key in the file has fingerprint {found}, but the file says {expected}: it is damaged")]
    Fingerprint {
        /// What the file says.
        expected: String,
        /// That of the key.
        found: String,
    },
    /// The cryptographic library failed.
    #[error(transparent)]
    Crypt(#[from] CryptError),
}

/// How a password becomes a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kdf {
    /// RFC 7914.
    Scrypt {
        /// Cost: a power of two.
        n: u64,
        /// Block size.
        r: u64,
        /// Parallelisation.
        p: u64,
        /// Base64.
        salt: String,
    },
    /// RFC 8018 with HMAC-SHA-256.
    #[serde(rename = "PBKDF2")]
    Pbkdf2 {
        /// Iterations.
        iter: u32,
        /// Base64.
        salt: String,
    },
}

/// A key file as it stands on disk. Its `Debug` form does not show the key.
#[derive(Clone, Serialize, Deserialize)]
pub struct KeyFile {
    /// How the password protects it; none if nothing does.
    pub kdf: Option<Kdf>,
    /// When the key was made, as it was written.
    pub created: String,
    /// When the file was last changed, as it was written.
    pub modified: String,
    data: Zeroizing<String>,
    /// Fingerprint of the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Fingerprint>,
    /// What reminds its owner of the password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl std::fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let fingerprint = self.fingerprint.map(|fingerprint| fingerprint.short());
        write!(f, "KeyFile({})", fingerprint.unwrap_or_default())
    }
}

fn salt_of(text: &str) -> Result<Vec<u8>, KeyFileError> {
    STANDARD
        .decode(text)
        .map_err(|_| KeyFileError::Malformed("its salt is not Base64".into()))
}

impl Kdf {
    /// scrypt with the costs that the original uses, and a new salt.
    pub fn new_scrypt() -> Result<Self, KeyFileError> {
        let mut salt = [0; SALT];
        aws_lc_rs::rand::fill(&mut salt).map_err(|_| CryptError::Unavailable)?;
        Ok(Self::Scrypt {
            n: 65536,
            r: 8,
            p: 1,
            salt: STANDARD.encode(salt),
        })
    }

    fn derive(&self, password: &[u8]) -> Result<Zeroizing<[u8; KEY]>, KeyFileError> {
        let mut key = Zeroizing::new([0; KEY]);
        match self {
            Self::Scrypt { n, r, p, salt } => {
                let salt = salt_of(salt)?;
                let memory = n.checked_mul(*r).and_then(|size| size.checked_mul(128));
                let work = memory.and_then(|memory| memory.checked_mul(*p));
                if work.is_none_or(|work| work > MAX_SCRYPT) || *n < 2 || !n.is_power_of_two() {
                    return Err(KeyFileError::Excessive);
                }
                let number = |value: u64| u32::try_from(value).map_err(|_| KeyFileError::Excessive);
                let log = u8::try_from(n.ilog2()).map_err(|_| KeyFileError::Excessive)?;
                let costs = scrypt::Params::new(log, number(*r)?, number(*p)?)
                    .map_err(|_| KeyFileError::Malformed("its scrypt costs are impossible".into()))?;
                scrypt::scrypt(password, &salt, &costs, &mut *key)
                    .map_err(|_| KeyFileError::Malformed("its scrypt costs are impossible".into()))?;
            }
            Self::Pbkdf2 { iter, salt } => {
                let salt = salt_of(salt)?;
                let iterations = NonZeroU32::new(*iter)
                    .ok_or_else(|| KeyFileError::Malformed("it has no iterations".into()))?;
                if *iter > MAX_ITERATIONS {
                    return Err(KeyFileError::Excessive);
                }
                pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &salt, password, &mut *key);
            }
        }
        Ok(key)
    }
}

impl KeyFile {
    /// Reads a key file.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeyFileError> {
        if bytes.len() > MAX_FILE {
            return Err(KeyFileError::Malformed("it is too large".into()));
        }
        // serde_json's message tells line and column only, none of the key.
        serde_json::from_slice(bytes).map_err(|error| {
            let place = format!("line {}, column {}", error.line(), error.column());
            KeyFileError::Malformed(place)
        })
    }

    /// Its bytes. They hold the key: in the clear if no password protects it.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(serde_json::to_vec(self).unwrap_or_default())
    }

    /// A file for `key`, protected by `kdf` and its password if they are given. `now` is written as it is given (RFC 3339).
    pub fn new(
        key: &[u8; KEY],
        protection: Option<(Kdf, &[u8])>,
        hint: Option<String>,
        now: &str,
    ) -> Result<Self, KeyFileError> {
        let (kdf, data) = match protection {
            None => (None, Zeroizing::new(STANDARD.encode(key))),
            Some((kdf, password)) => {
                let mut iv = [0; IV];
                aws_lc_rs::rand::fill(&mut iv).map_err(|_| CryptError::Unavailable)?;
                let mut sealed = Zeroizing::new(*key);
                let tag = WideIvGcm::new(&*kdf.derive(password)?)?.seal(&iv, &mut *sealed)?;
                let data = [iv.as_slice(), &tag, &*sealed].concat();
                (Some(kdf), Zeroizing::new(STANDARD.encode(data)))
            }
        };
        Ok(Self {
            kdf,
            created: now.to_string(),
            modified: now.to_string(),
            data,
            fingerprint: Some(CryptKey::new(key)?.fingerprint()),
            hint,
        })
    }

    /// The key. `password` is asked for only if the file is protected.
    pub fn unlock(
        &self,
        password: impl FnOnce() -> Option<Zeroizing<Vec<u8>>>,
    ) -> Result<Zeroizing<[u8; KEY]>, KeyFileError> {
        let malformed = || KeyFileError::Malformed("its data has the wrong length".into());
        let data = STANDARD
            .decode(self.data.as_bytes())
            .map_err(|_| KeyFileError::Malformed("its data is not Base64".into()))?;
        let data = Zeroizing::new(data);
        let mut key = Zeroizing::new([0; KEY]);
        match &self.kdf {
            None => *key = data.as_slice().try_into().map_err(|_| malformed())?,
            Some(kdf) => {
                let (iv, rest) = data.split_first_chunk::<IV>().ok_or_else(malformed)?;
                let (tag, sealed) = rest.split_first_chunk::<TAG>().ok_or_else(malformed)?;
                *key = sealed.try_into().map_err(|_| malformed())?;
                let password = password().ok_or(KeyFileError::PasswordNeeded)?;
                WideIvGcm::new(&*kdf.derive(&password)?)?
                    .open(iv, tag, &mut *key)
                    .map_err(|error| match error {
                        CryptError::Mismatch => KeyFileError::WrongPassword,
                        other => KeyFileError::Crypt(other),
                    })?;
            }
        }
        let found = CryptKey::new(&key)?.fingerprint();
        match self.fingerprint {
            Some(expected) if expected != found => Err(KeyFileError::Fingerprint {
                expected: expected.short(),
                found: found.short(),
            }),
            _ => Ok(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-11-22T21:00:24+00:00";

    #[test]
    fn a_password_opens_what_it_closed() {
        let key = CryptKey::generate().unwrap();
        let kdfs = [
            Kdf::Scrypt {
                n: 1024,
                r: 8,
                p: 1,
                salt: STANDARD.encode([1; 32]),
            },
            Kdf::Pbkdf2 {
                iter: 1000,
                salt: STANDARD.encode([2; 32]),
            },
        ];
        for kdf in kdfs {
            let file = KeyFile::new(&key, Some((kdf, b"secret")), Some("usual".into()), NOW).unwrap();
            let file = KeyFile::parse(&file.encode()).unwrap();
            let with = |password: &[u8]| file.unlock(|| Some(Zeroizing::new(password.to_vec())));
            assert_eq!(*with(b"secret").unwrap(), *key);
            assert!(matches!(with(b"Secret"), Err(KeyFileError::WrongPassword)));
            assert!(matches!(file.unlock(|| None), Err(KeyFileError::PasswordNeeded)));
            assert!(!format!("{file:?}").contains(file.data.as_str()));
        }
        let file = KeyFile::new(&key, None, None, NOW).unwrap();
        assert_eq!(*file.unlock(|| panic!("no password is needed")).unwrap(), *key);
    }

    #[test]
    fn hostile_files_are_refused() {
        let with_kdf = |kdf: &str| {
            let data = STANDARD.encode([0; 64]);
            let text = format!(r#"{{"kdf":{kdf},"created":"","modified":"","data":"{data}"}}"#);
            KeyFile::parse(text.as_bytes())
                .unwrap()
                .unlock(|| Some(Zeroizing::new(vec![1])))
        };
        for kdf in [
            r#"{"Scrypt":{"n":1099511627776,"r":8,"p":1,"salt":""}}"#,
            r#"{"Scrypt":{"n":65536,"r":18446744073709551615,"p":1,"salt":""}}"#,
            r#"{"Scrypt":{"n":3,"r":8,"p":1,"salt":""}}"#,
            r#"{"Scrypt":{"n":0,"r":0,"p":0,"salt":""}}"#,
            r#"{"PBKDF2":{"iter":4294967295,"salt":""}}"#,
        ] {
            assert!(matches!(with_kdf(kdf), Err(KeyFileError::Excessive)), "{kdf}");
        }
        assert!(matches!(
            with_kdf(r#"{"PBKDF2":{"iter":0,"salt":""}}"#),
            Err(KeyFileError::Malformed(_))
        ));
        assert!(KeyFile::parse(b"{}").is_err() && KeyFile::parse(&vec![b' '; MAX_FILE + 1]).is_err());
        let short = r#"{"kdf":null,"created":"","modified":"","data":"AAAA"}"#;
        let short = KeyFile::parse(short.as_bytes()).unwrap().unlock(|| None);
        assert!(matches!(short, Err(KeyFileError::Malformed(_))));
    }
}
