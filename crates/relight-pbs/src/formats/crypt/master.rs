//! Keys of clients, encrypted for whoever keeps the private key of a site: `rsa-encrypted.key.blob` beside the archives.
//!
//! The content is a key file without password, encrypted with RSA as PKCS #1 v1.5 has it (RFC 8017, section 7.2). That
//! padding is the original's; it is safe here as nobody answers an attacker who asks for decryptions.

use aws_lc_rs::rsa::{
    Pkcs1PrivateDecryptingKey, Pkcs1PublicEncryptingKey, PrivateDecryptingKey, PublicEncryptingKey,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::{KeyFile, KeyFileError};

/// No PEM file of a key is longer, in bytes.
const MAX_PEM: usize = 64 << 10;
/// What stands before an RSA private key to make it one of PKCS #8 (RFC 5208): version 0, and rsaEncryption without
/// parameters (RFC 8017, appendix A.1).
const PKCS8_HEAD: [u8; 18] = [
    0x02, 0x01, 0x00, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05,
    0x00,
];

/// Why a master key is of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MasterKeyError {
    /// Not a key in PEM.
    #[error("this is no RSA key in PEM: {0}")]
    Malformed(&'static str),
    /// A passphrase protects it.
    #[error(
        "a passphrase protects this key: write it without one first, such as by `openssl rsa -in FILE -out PLAIN`"
    )]
    Protected,
    /// Another key, or other bytes.
    #[error("it was not encrypted for this key, or is damaged")]
    Mismatch,
    /// What was encrypted is no key file.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// The cryptographic library failed.
    #[error(transparent)]
    Crypt(#[from] super::CryptError),
}

/// Encrypts a key file that no password protects for the owner of `public`, a PEM file of a public RSA key.
pub fn seal(file: &KeyFile, public: &[u8]) -> Result<Vec<u8>, MasterKeyError> {
    let (label, der) = pem(public)?;
    if label != "PUBLIC KEY" {
        return Err(MasterKeyError::Malformed("it is no public key"));
    }
    let key = PublicEncryptingKey::from_der(&der)
        .and_then(|key| Ok(Pkcs1PublicEncryptingKey::new(key)?))
        .map_err(|_| MasterKeyError::Malformed("it is no public key of RSA, or too short"))?;
    let mut sealed = vec![0; key.ciphertext_size()];
    let length = key
        .encrypt(&file.encode(), &mut sealed)
        .map_err(|_| MasterKeyError::Malformed("it is too short for the key of a client"))?
        .len();
    sealed.truncate(length);
    Ok(sealed)
}

/// Opens what [`seal`] made with the private key in a PEM file.
pub fn open(sealed: &[u8], private: &[u8]) -> Result<KeyFile, MasterKeyError> {
    let (label, der) = pem(private)?;
    let der = match label.as_str() {
        "PRIVATE KEY" => der,
        "RSA PRIVATE KEY" => pkcs8(&der),
        "ENCRYPTED PRIVATE KEY" => return Err(MasterKeyError::Protected),
        _ => return Err(MasterKeyError::Malformed("it is no private key")),
    };
    let key = PrivateDecryptingKey::from_pkcs8(&der)
        .map_err(|_| MasterKeyError::Malformed("it is no private key of RSA"))?;
    let key = Pkcs1PrivateDecryptingKey::new(key).map_err(|_| super::CryptError::Unavailable)?;
    let mut opened = Zeroizing::new(vec![0; key.min_output_size()]);
    let text = key
        .decrypt(sealed, &mut opened)
        .map_err(|_| MasterKeyError::Mismatch)?;
    Ok(KeyFile::parse(text)?)
}

/// Label and content of the first block of a PEM file (RFC 7468).
fn pem(bytes: &[u8]) -> Result<(String, Zeroizing<Vec<u8>>), MasterKeyError> {
    let text = std::str::from_utf8(bytes).ok().filter(|_| bytes.len() <= MAX_PEM);
    let text = text.ok_or(MasterKeyError::Malformed("it is no text"))?;
    let mut lines = text.lines().map(str::trim);
    let begin = lines.find_map(|line| line.strip_prefix("-----BEGIN ")?.strip_suffix("-----"));
    let label = begin.ok_or(MasterKeyError::Malformed("it has no line that begins a key"))?;
    let mut digits = Zeroizing::new(String::new());
    for line in lines.take_while(|line| !line.starts_with("-----END ")) {
        // The headers of older files (RFC 1421) tell how it is encrypted.
        if line.contains(':') {
            return Err(MasterKeyError::Protected);
        }
        digits.push_str(line);
    }
    let der = STANDARD
        .decode(digits.as_bytes())
        .map_err(|_| MasterKeyError::Malformed("it is not Base64"))?;
    Ok((label.to_string(), Zeroizing::new(der)))
}

/// An RSA private key (RFC 8017, appendix A.1.2) as PKCS #8.
fn pkcs8(key: &[u8]) -> Zeroizing<Vec<u8>> {
    let octets = element(0x04, key);
    let mut body = Zeroizing::new(PKCS8_HEAD.to_vec());
    body.extend_from_slice(&octets);
    element(0x30, &body)
}

/// An element of DER with this tag.
fn element(tag: u8, content: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(vec![tag]);
    let length = content.len().to_be_bytes();
    match u8::try_from(content.len()) {
        Ok(short @ 0..=0x7f) => bytes.push(short),
        _ => {
            let from = length
                .iter()
                .position(|byte| *byte != 0)
                .unwrap_or(length.len() - 1);
            let digits = &length[from..];
            bytes.push(0x80 | digits.len() as u8);
            bytes.extend_from_slice(digits);
        }
    }
    bytes.extend_from_slice(content);
    bytes
}
