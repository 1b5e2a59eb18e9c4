//! The manifest of a snapshot, `index.json.blob`: what files belong to it, signed by the client if it has a key.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::blob::{self, Blob, BlobError};
use super::crypt::{CryptKey, Fingerprint};
use super::ids::{BackupTime, FileName, Group, SnapshotName};
use super::index::Digest;

/// No manifest is longer, in bytes of its text.
pub const MAX: usize = 16 << 20;
/// How deep what it says may be nested.
const MAX_DEPTH: usize = 64;

/// How the content of a file is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CryptMode {
    /// Not at all.
    #[default]
    None,
    /// Encrypted by the client.
    Encrypt,
    /// Named in a signed manifest.
    SignOnly,
}

/// A file of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestFile {
    /// Its name, with its ending.
    pub filename: FileName,
    /// How its content is protected.
    #[serde(rename = "crypt-mode", default)]
    pub crypt_mode: CryptMode,
    /// Of a blob the length of the file; of an index the length of what it lists. In bytes.
    pub size: u64,
    /// Of a blob the SHA-256 of the file; of an index the checksum of its entries.
    #[serde(with = "hex::serde")]
    pub csum: Digest,
    /// What else is said of it.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Why a manifest is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// Not a blob that can be read.
    #[error("unable to read the manifest: {0}")]
    Blob(#[from] BlobError),
    /// Not the JSON that it should be.
    #[error("unable to parse the manifest: {0}")]
    Json(String),
    /// Two files of one name.
    #[error("the manifest names {0} twice")]
    Duplicate(FileName),
    /// It is that of another snapshot.
    #[error("the manifest is that of {found}, not of {expected}")]
    OtherSnapshot {
        /// What it says.
        found: String,
        /// What it should say.
        expected: String,
    },
    /// There is none, though there should be.
    #[error("the manifest is not signed")]
    Unsigned,
    /// Another key, or something was changed.
    #[error("the signature of the manifest does not fit: it was changed, or signed with another key")]
    Signature,
    /// The canonical form has no null.
    #[error("the manifest has a null where none may be")]
    Null,
}

/// The manifest of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Manifest {
    #[serde(flatten)]
    name: SnapshotNameFields,
    /// The files, without the manifest itself and the client's log.
    pub files: Vec<ManifestFile>,
    /// What is not covered by the signature and may be changed by the server.
    #[serde(default)]
    pub unprotected: Map<String, Value>,
    /// HMAC-SHA-256 in hexadecimal digits.
    #[serde(default)]
    pub signature: Option<String>,
    #[serde(flatten)]
    other: Map<String, Value>,
}

/// The same fields as [`SnapshotName`], which must not swallow the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct SnapshotNameFields {
    backup_type: super::ids::BackupType,
    backup_id: super::ids::BackupId,
    backup_time: BackupTime,
}

/// Figures of the chunks that a client sent, as the server writes them into `unprotected`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UploadStatistic {
    /// Chunks.
    pub count: u64,
    /// Bytes of their content.
    pub size: u64,
    /// Bytes as they were sent.
    pub compressed_size: u64,
    /// How many of them the server had already.
    pub duplicates: u64,
}

/// What the last verification found, as it stands in `unprotected`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyState {
    /// The task that verified.
    pub upid: String,
    /// `ok` or `failed`.
    pub state: VerifyResult,
}

/// The verdict of a verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VerifyResult {
    /// All of it is as it was written.
    Ok,
    /// Something is missing or damaged.
    Failed,
}

impl Manifest {
    /// Key of the notes in `unprotected`.
    pub const NOTES: &'static str = "notes";
    /// Key of the [`VerifyState`] in `unprotected`.
    pub const VERIFY_STATE: &'static str = "verify_state";
    /// Key of the [`UploadStatistic`] in `unprotected`.
    pub const UPLOAD_STATISTIC: &'static str = "chunk_upload_stats";
    /// Key of the fingerprint of the client's key in `unprotected`.
    pub const FINGERPRINT: &'static str = "key-fingerprint";

    /// A manifest that is not signed.
    pub fn new(name: SnapshotName, files: Vec<ManifestFile>) -> Self {
        let SnapshotName { group, backup_time } = name;
        Self {
            name: SnapshotNameFields {
                backup_type: group.backup_type,
                backup_id: group.backup_id,
                backup_time,
            },
            files,
            unprotected: Map::new(),
            signature: None,
            other: Map::new(),
        }
    }

    /// Reads the blob that holds a manifest.
    pub fn from_blob(bytes: &[u8]) -> Result<Self, ManifestError> {
        Self::parse(&Blob::parse(bytes)?.decode(MAX)?)
    }

    /// Reads the text of a manifest.
    pub fn parse(text: &[u8]) -> Result<Self, ManifestError> {
        if text.len() > MAX {
            return Err(BlobError::TooLarge { limit: MAX }.into());
        }
        let manifest: Self =
            serde_json::from_slice(text).map_err(|error| ManifestError::Json(error.to_string()))?;
        let mut names = std::collections::HashSet::new();
        for file in &manifest.files {
            if !names.insert(&file.filename) {
                return Err(ManifestError::Duplicate(file.filename.clone()));
            }
        }
        Ok(manifest)
    }

    /// The text, with sorted keys and indented, as the original writes it.
    pub fn to_text(&self) -> String {
        let value = serde_json::to_value(self).map(sorted);
        value
            .and_then(|value| serde_json::to_string_pretty(&value))
            .unwrap_or_default()
    }

    /// The blob that holds it.
    pub fn to_blob(&self) -> Result<Vec<u8>, BlobError> {
        blob::encode(self.to_text().as_bytes(), true)
    }

    /// The snapshot that it is the manifest of.
    pub fn snapshot(&self) -> SnapshotName {
        SnapshotName {
            group: Group {
                backup_type: self.name.backup_type,
                backup_id: self.name.backup_id.clone(),
            },
            backup_time: self.name.backup_time,
        }
    }

    /// Fails if it is not that of `expected`.
    pub fn check_snapshot(&self, expected: &SnapshotName) -> Result<(), ManifestError> {
        let found = self.snapshot();
        if found == *expected {
            return Ok(());
        }
        Err(ManifestError::OtherSnapshot {
            found: found.to_string(),
            expected: expected.to_string(),
        })
    }

    /// The file of that name.
    pub fn file(&self, name: &str) -> Option<&ManifestFile> {
        self.files.iter().find(|file| file.filename.as_str() == name)
    }

    /// Fingerprint of the key with which it was signed or files were encrypted.
    pub fn key_fingerprint(&self) -> Option<Fingerprint> {
        self.unprotected.get(Self::FINGERPRINT)?.as_str()?.parse().ok()
    }

    /// What the last verification found, if there was one.
    pub fn verify_state(&self) -> Option<VerifyState> {
        serde_json::from_value(self.unprotected.get(Self::VERIFY_STATE)?.clone()).ok()
    }

    /// The text that is signed: all but `unprotected` and `signature`.
    pub fn canonical(&self) -> Result<Vec<u8>, ManifestError> {
        let mut value = serde_json::to_value(self).map_err(|error| ManifestError::Json(error.to_string()))?;
        if let Value::Object(fields) = &mut value {
            fields.remove("unprotected");
            fields.remove("signature");
        }
        let mut text = Vec::new();
        canonical(&value, MAX_DEPTH, &mut text)?;
        Ok(text)
    }

    /// Signs it, and notes by which key.
    pub fn sign(&mut self, key: &CryptKey) -> Result<(), ManifestError> {
        self.signature = Some(hex::encode(key.sign(&self.canonical()?)));
        let fingerprint = key.fingerprint().to_string();
        self.unprotected
            .insert(Self::FINGERPRINT.into(), fingerprint.into());
        Ok(())
    }

    /// Fails if it was not signed with this key, or was changed since.
    pub fn check_signature(&self, key: &CryptKey) -> Result<(), ManifestError> {
        let signature = self.signature.as_deref().ok_or(ManifestError::Unsigned)?;
        let signature = hex::decode(signature).map_err(|_| ManifestError::Signature)?;
        if key.is_signed(&self.canonical()?, &signature) {
            Ok(())
        } else {
            Err(ManifestError::Signature)
        }
    }
}

/// The same value with the keys of all objects in order of their bytes, whatever the map keeps.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<(String, Value)> = fields.into_iter().collect();
            fields.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(
                fields
                    .into_iter()
                    .map(|(key, value)| (key, sorted(value)))
                    .collect(),
            )
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

/// The canonical form of JSON: no white space, keys in order of their bytes, no null.
fn canonical(value: &Value, depth: usize, out: &mut Vec<u8>) -> Result<(), ManifestError> {
    if depth == 0 {
        return Err(ManifestError::Json("it is nested too deeply".into()));
    }
    match value {
        Value::Null => return Err(ManifestError::Null),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            let text = serde_json::to_vec(value).map_err(|error| ManifestError::Json(error.to_string()))?;
            out.extend_from_slice(&text);
        }
        Value::Array(items) => {
            out.push(b'[');
            for (number, item) in items.iter().enumerate() {
                if number > 0 {
                    out.push(b',');
                }
                canonical(item, depth - 1, out)?;
            }
            out.push(b']');
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by(|a, b| a.0.cmp(b.0));
            out.push(b'{');
            for (number, (key, item)) in fields.into_iter().enumerate() {
                if number > 0 {
                    out.push(b',');
                }
                canonical(&Value::String(key.clone()), depth - 1, out)?;
                out.push(b':');
                canonical(item, depth - 1, out)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let file = ManifestFile {
            filename: "a.img.fidx".parse().unwrap(),
            crypt_mode: CryptMode::SignOnly,
            size: 5,
            csum: [7; 32],
            other: Map::new(),
        };
        Manifest::new("vm/100/2023-11-14T22:13:21Z".parse().unwrap(), vec![file])
    }

    #[test]
    fn the_canonical_form_is_sorted_and_dense() {
        let sum = "07".repeat(32);
        let expected = format!(
            r#"{{"backup-id":"100","backup-time":1700000001,"backup-type":"vm","files":[{{"crypt-mode":"sign-only","csum":"{sum}","filename":"a.img.fidx","size":5}}]}}"#
        );
        assert_eq!(
            String::from_utf8(manifest().canonical().unwrap()).unwrap(),
            expected
        );
    }

    #[test]
    fn a_signature_covers_all_but_the_unprotected_part() {
        let key = CryptKey::new(&[1; 32]).unwrap();
        let mut signed = manifest();
        assert!(matches!(
            signed.check_signature(&key),
            Err(ManifestError::Unsigned)
        ));
        signed.sign(&key).unwrap();
        assert_eq!(signed.key_fingerprint(), Some(key.fingerprint()));
        signed.unprotected.insert(Manifest::NOTES.into(), "new".into());
        let read = Manifest::from_blob(&signed.to_blob().unwrap()).unwrap();
        assert_eq!(read, signed);
        read.check_signature(&key).unwrap();
        let mut changed = read.clone();
        changed.files[0].size = 6;
        assert!(matches!(
            changed.check_signature(&key),
            Err(ManifestError::Signature)
        ));
        assert!(read.check_signature(&CryptKey::new(&[2; 32]).unwrap()).is_err());
    }

    #[test]
    fn fields_of_later_versions_are_kept_and_signed() {
        let text = manifest().to_text().replace(
            "\"files\"",
            "\"new-field\": {\"b\": [1, true], \"a\": \"x\"}, \"files\"",
        );
        let read = Manifest::parse(text.as_bytes()).unwrap();
        assert!(
            String::from_utf8(read.canonical().unwrap())
                .unwrap()
                .ends_with(r#","new-field":{"a":"x","b":[1,true]}}"#)
        );
        let with_null = text.replace("true", "null");
        let read = Manifest::parse(with_null.as_bytes()).unwrap();
        assert!(matches!(read.canonical(), Err(ManifestError::Null)));
    }

    #[test]
    fn numbers_come_back_as_they_were() {
        let mut manifest = manifest();
        let long = "0.".to_string() + &"2".repeat(70);
        for text in ["0.1", "1e300", "123456789012345680", &"2".repeat(105), &long] {
            let number: Value = serde_json::from_str(text).unwrap();
            manifest.unprotected.insert(text.into(), number);
        }
        assert_eq!(Manifest::parse(manifest.to_text().as_bytes()).unwrap(), manifest);
    }

    #[test]
    fn hostile_manifests_are_refused() {
        let text = manifest().to_text();
        for (from, to) in [
            ("a.img.fidx", "../a.fidx"),
            ("1700000001", "-1"),
            ("1700000001", "18446744073709551616"),
            ("\"vm\"", "\"qemu\""),
            ("\"100\"", "\"../100\""),
            ("0707", "07"),
            ("\"size\": 5", "\"size\": -5"),
        ] {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text);
            assert!(Manifest::parse(changed.as_bytes()).is_err(), "{to}");
        }
        let mut twice = manifest();
        twice.files.push(twice.files[0].clone());
        assert!(matches!(
            Manifest::parse(twice.to_text().as_bytes()),
            Err(ManifestError::Duplicate(_))
        ));
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let deep = text.replace("\"files\"", &format!("\"x\": {deep}, \"files\""));
        assert!(Manifest::parse(deep.as_bytes()).is_err());
        assert!(Manifest::parse(&vec![b' '; MAX + 1]).is_err());
    }
}
