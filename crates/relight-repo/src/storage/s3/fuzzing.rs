//! Doors for the fuzz targets to what is read of servers and files.

use super::answer::{Failed, Reason, Refusal};
use super::client::parse_http_date;
use super::xml::{Element, escape};
use super::{Credentials, S3Config, S3Storage, credentials, list, thaw};

/// A storage that nobody is asked for.
pub struct Nowhere(S3Storage);

impl Nowhere {
    /// One.
    pub fn new() -> Self {
        let mut config = S3Config::new("bucket", "prefix");
        config.endpoint = Some("http://127.0.0.1:1".into());
        let keys = Credentials::new("key".into(), "secret".into(), None);
        Self(S3Storage::with_credentials(config, keys).expect("the configuration is good"))
    }

    /// An answer's document: a list, or an error.
    pub fn document(&self, body: &[u8]) {
        if let Ok(document) = Element::parse(body) {
            let _ = self.0.objects(&document, "prefix/");
            let _ = list::next(&document, "NextContinuationToken", None);
            let again = written(&document);
            assert!(Element::parse(again.as_bytes()).is_ok(), "{again}");
        }
        let refusal = Refusal::of(400, body);
        let _ = (refusal.is_transient(), refusal.is_uncertain(), refusal.words());
        let failed = Failed {
            reason: Reason::Refused(refusal),
            uncertain: false,
        };
        let _ = failed.into_error("read", "key", "s3://bucket").to_string();
    }
}

impl Default for Nowhere {
    fn default() -> Self {
        Self::new()
    }
}

/// The texts of a document, escaped.
fn written(element: &Element) -> String {
    let inner: String = element.children.iter().map(written).collect();
    format!("<e>{}{inner}</e>", escape(&element.text))
}

/// The values of headers, a file of keys, and a location as an operator types it.
pub fn text(text: &str) {
    let _ = super::first_of(text);
    let _ = thaw::parse(text);
    let _ = parse_http_date(text);
    let _ = list::time(text);
    let _ = credentials::parse(text, "default");
    if let Ok(config) = S3Config::parse(text) {
        let _ = super::config::Endpoint::of(&config);
    }
}
