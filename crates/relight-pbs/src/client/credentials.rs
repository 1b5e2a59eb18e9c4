//! How a client shows who it is.

use std::fmt;

use http::HeaderValue;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use zeroize::Zeroizing;

use super::{ClientError, Result};
use crate::access::AuthId;

/// What may not stand as it is in a header or a cookie.
const ESCAPED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'%')
    .add(b',')
    .add(b';')
    .add(b'\\');
/// No secret is longer, in bytes.
const MAX_SECRET: usize = 4096;

/// A secret, and whose it is. Its `Debug` form does not show the secret.
#[derive(Clone)]
pub struct Credentials {
    pub(super) auth_id: AuthId,
    pub(super) secret: Zeroizing<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({})", self.auth_id)
    }
}

impl Credentials {
    /// The secret of a token, or the password of a user; white space at its end is left out, as it comes from files.
    ///
    /// # Errors
    /// There is none, or it is longer than 4096 bytes, or more than one line.
    pub fn new(auth_id: AuthId, secret: &str) -> Result<Self> {
        let secret = secret.trim_end();
        let refused = |why| ClientError::Secret(format!("the secret of {auth_id} {why}"));
        if secret.is_empty() {
            return Err(refused("is empty"));
        }
        if secret.len() > MAX_SECRET || secret.contains(['\n', '\r', '\0']) {
            return Err(refused("is not one line of at most 4096 bytes"));
        }
        Ok(Self {
            secret: Zeroizing::new(secret.to_string()),
            auth_id,
        })
    }

    /// Whose they are.
    pub fn auth_id(&self) -> &AuthId {
        &self.auth_id
    }

    /// The header of a token.
    pub(super) fn authorization(&self) -> Result<HeaderValue> {
        let secret = utf8_percent_encode(&self.secret, ESCAPED);
        secret_header(&Zeroizing::new(format!("PBSAPIToken {}:{secret}", self.auth_id)))
    }
}

/// The cookie in which a ticket is shown.
pub(super) fn cookie(ticket: &str) -> Result<HeaderValue> {
    let ticket = utf8_percent_encode(ticket, ESCAPED);
    secret_header(&Zeroizing::new(format!("PBSAuthCookie={ticket}")))
}

/// A header that is never shown.
pub(super) fn secret_header(text: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| ClientError::Secret("a secret cannot stand in a header of HTTP".into()))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_sent_but_never_shown() {
        let id: AuthId = "bkup@pbs!tok1".parse().unwrap();
        let credentials = Credentials::new(id.clone(), "gehe%im ü\n").unwrap();
        let header = credentials.authorization().unwrap();
        assert_eq!(header.as_bytes(), b"PBSAPIToken bkup@pbs!tok1:gehe%25im%20%C3%BC");
        let shown = format!("{credentials:?} {header:?}");
        assert!(!shown.contains("gehe"), "{shown}");
        for secret in ["", "\n", "geheim\nmehr", &"geheim".repeat(1000)] {
            let error = Credentials::new(id.clone(), secret).unwrap_err().to_string();
            assert!(!error.contains("geheim"), "{error}");
        }
        let cookie = cookie("PBS:a@pbs:65536789::AB+/=").unwrap();
        assert_eq!(cookie.as_bytes(), b"PBSAuthCookie=PBS:a@pbs:65536789::AB+/=");
    }
}
