//! AWS Signature Version 4 in the `Authorization` header ("Authenticating Requests: Using the Authorization Header",
//! Amazon S3 API Reference), over the whole payload: the server refuses a body that arrived damaged.

use std::fmt::Write;

use aws_lc_rs::digest::{self, SHA256};
use aws_lc_rs::hmac::{self, HMAC_SHA256};

use super::credentials::Credentials;

/// What is signed besides the body. `path` and `query` are encoded already; `headers` have lower-case names.
pub(super) struct Parts<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub query: &'a str,
    pub headers: &'a mut Vec<(String, String)>,
    /// SHA-256 of the body, in hex.
    pub body_sha256: &'a str,
}

/// Hex SHA-256 of a body that lies in pieces.
pub(super) fn sha256(parts: &[&[u8]]) -> String {
    let mut context = digest::Context::new(&SHA256);
    parts.iter().for_each(|part| context.update(part));
    hex::encode(context.finish())
}

/// Adds `x-amz-date`, `x-amz-content-sha256`, `x-amz-security-token` and `authorization` to the headers. `now` is
/// `YYYYMMDDTHHMMSSZ`.
pub(super) fn sign(request: Parts<'_>, credentials: &Credentials, region: &str, now: &str) {
    let Parts {
        method,
        path,
        query,
        headers,
        body_sha256,
    } = request;
    headers.push(("x-amz-date".into(), now.into()));
    headers.push(("x-amz-content-sha256".into(), body_sha256.into()));
    if let Some(token) = credentials.session_token() {
        headers.push(("x-amz-security-token".into(), token.into()));
    }
    let mut signed: Vec<&(String, String)> = headers
        .iter()
        .filter(|(name, _)| {
            name.starts_with("x-amz-") || matches!(name.as_str(), "host" | "content-md5" | "content-type")
        })
        .collect();
    signed.sort();
    let names = signed
        .iter()
        .map(|(name, _)| name.as_str())
        .collect::<Vec<_>>()
        .join(";");
    let mut canonical = format!("{method}\n{path}\n{query}\n");
    for (name, value) in signed {
        // Writing to a string does not fail.
        let _ = writeln!(canonical, "{name}:{}", value.trim());
    }
    let _ = write!(canonical, "\n{names}\n{body_sha256}");

    let day = now.get(..8).unwrap_or(now);
    let scope = format!("{day}/{region}/s3/aws4_request");
    let to_sign = format!(
        "AWS4-HMAC-SHA256\n{now}\n{scope}\n{}",
        sha256(&[canonical.as_bytes()])
    );
    let mut key = credentials.signing_root();
    for part in [day, region, "s3", "aws4_request"] {
        key = hmac::Key::new(HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref());
    }
    let signature = hex::encode(hmac::sign(&key, to_sign.as_bytes()));
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope},SignedHeaders={names},Signature={signature}",
        credentials.access_key()
    );
    headers.push(("authorization".into(), authorization));
}

/// Percent-encodes as SigV4 wants it: everything but letters, digits and `-._~`; `/` is kept in paths only.
pub(super) fn encode(text: &str, keep_slash: bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
            b'/' if keep_slash => encoded.push('/'),
            _ => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

/// A query string in the canonical form: sorted, encoded, with `=` also where there is no value.
pub(super) fn encode_query(query: &[(&str, &str)]) -> String {
    let mut pairs: Vec<_> = query
        .iter()
        .map(|(name, value)| (encode(name, false), encode(value, false)))
        .collect();
    pairs.sort();
    pairs
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect::<Vec<_>>()
        .join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the page named above; keys and signatures are published there.
    #[test]
    fn published_examples_come_out_right() {
        let credentials = Credentials::new(
            "AKIAIOSFODNN7EXAMPLE".into(),
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
            None,
        );
        let empty = sha256(&[]);
        let sign_with = |path: &str, query: &str| {
            let mut headers = vec![("host".to_string(), "examplebucket.s3.amazonaws.com".to_string())];
            let parts = Parts {
                method: "GET",
                path,
                query,
                headers: &mut headers,
                body_sha256: &empty,
            };
            sign(parts, &credentials, "us-east-1", "20130524T000000Z");
            headers.pop().unwrap().1
        };
        let lifecycle = sign_with("/", &encode_query(&[("lifecycle", "")]));
        assert!(
            lifecycle.ends_with("Signature=fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
            "{lifecycle}"
        );
        let list = sign_with("/", &encode_query(&[("prefix", "J"), ("max-keys", "2")]));
        assert!(
            list.ends_with("Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
            "{list}"
        );
        assert!(list.contains("SignedHeaders=host;x-amz-content-sha256;x-amz-date,"));
    }

    #[test]
    fn encoding_is_that_of_the_signature() {
        assert_eq!(encode("a/B c+~é", true), "a/B%20c%2B~%C3%A9");
        assert_eq!(
            encode_query(&[("uploads", ""), ("a b", "x/y")]),
            "a%20b=x%2Fy&uploads="
        );
    }
}
