//! Calls of Relight's own API, `/api/v1`.

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, Method, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;

use super::rest::{self, CALL, MAX_ANSWER, Plain};
use super::wire::refused;
use super::{Client, ClientError, Result};

/// Where all of it begins.
const BASE: &str = "/api/v1";
/// Bytes of a refusal that are read.
const MAX_REFUSAL: usize = 64 << 10;

/// An answer that is not a refusal; its body is still to be read.
pub struct ApiAnswer<'c> {
    client: &'c Client,
    plain: Plain,
    headers: HeaderMap,
    body: Incoming,
    path: String,
}

impl Client {
    /// Makes a call of the API: `path` is what comes behind `/api/v1`, with or without a query. A body is JSON.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the server's words;
    /// otherwise what went wrong on the way.
    pub async fn api(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        body: Option<&Value>,
    ) -> Result<ApiAnswer<'_>> {
        let mut target = format!("{BASE}{path}");
        if !query.is_empty() {
            target.push(if path.contains('?') { '&' } else { '?' });
            target.push_str(&rest::query(
                query.iter().map(|(name, value)| (*name, value.clone())),
            ));
        }
        let body = body.map_or_else(Bytes::new, |body| body.to_string().into());
        let authority = self.options.transport.authority();
        let mut request = rest::addressed(&authority, method, &target, rest::JSON, body)?;
        self.shown().await?.add(&mut request);
        let path = target.split('?').next().unwrap_or_default().to_string();
        let mut plain = self.connected().await?;
        let (head, body) = plain.send(request, &path).await?.into_parts();
        let mut answer = ApiAnswer {
            client: self,
            plain,
            headers: head.headers,
            body,
            path,
        };
        if head.status.is_success() {
            return Ok(answer);
        }
        let text = answer.read(MAX_REFUSAL).await?;
        let error = why(head.status, &text);
        self.keep(answer.plain).await;
        Err(error)
    }
}

impl ApiAnswer<'_> {
    fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The type of its body, without parameters.
    pub fn content_type(&self) -> &str {
        let value = self.header(&CONTENT_TYPE).unwrap_or_default();
        value.split(';').next().unwrap_or_default().trim()
    }

    /// The name that the server gives to the file that this is, if it is one (RFC 6266, section 4.3); no path.
    pub fn file_name(&self) -> Option<&str> {
        let (_, rest) = self.header(&CONTENT_DISPOSITION)?.split_once("filename=\"")?;
        let (name, _) = rest.split_once('"')?;
        let plain = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\']);
        plain.then_some(name)
    }

    /// The next part of the body; none after the last.
    ///
    /// # Errors
    /// The connection broke off, or nothing came any more.
    pub async fn part(&mut self) -> Result<Option<Bytes>> {
        loop {
            let frame = tokio::time::timeout(CALL, self.body.frame()).await;
            match frame.map_err(|_| rest::late(&self.path))? {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(part) = frame.map_err(ClientError::broken)?.into_data() {
                        return Ok(Some(part));
                    }
                }
            }
        }
    }

    async fn read(&mut self, limit: usize) -> Result<Bytes> {
        let mut bytes = BytesMut::new();
        while let Some(part) = self.part().await? {
            if bytes.len() + part.len() > limit {
                return Err(ClientError::protocol(format!(
                    "the answer to {} is longer than {limit} bytes",
                    self.path
                )));
            }
            bytes.extend_from_slice(&part);
        }
        Ok(bytes.freeze())
    }

    /// All of it, which must be JSON: an object with `data`, and what is beside it.
    ///
    /// # Errors
    /// It is not that, or too long; or the connection broke off.
    pub async fn json(mut self) -> Result<Value> {
        let bytes = self.read(MAX_ANSWER).await?;
        self.client.keep(self.plain).await;
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(fields)) => Ok(Value::Object(fields)),
            _ => Err(ClientError::protocol(format!(
                "the answer to {} is not JSON with data; is this a Relight server?",
                self.path
            ))),
        }
    }
}

/// A refusal in words.
fn why(status: StatusCode, body: &[u8]) -> ClientError {
    let told = serde_json::from_slice::<Value>(body).ok();
    let message = told.as_ref().and_then(|told| told["error"]["message"].as_str());
    let mut error = refused(status, message.map_or(body, str::as_bytes));
    if let ClientError::Refused { message, .. } = &mut error {
        match status {
            StatusCode::UNAUTHORIZED => message.push_str(
                ": the server knows no such token or user, or the secret is another; docs/access.md tells how tokens are made",
            ),
            StatusCode::FORBIDDEN if message.starts_with("permission") => {
                message.push_str(": a privilege is missing; docs/api.md tells which one a call needs");
            }
            _ => {}
        }
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_with_what_to_do() {
        let said = |status, body: &str| why(status, body.as_bytes()).to_string();
        let body = r#"{"error": {"status": 404, "message": "there is no run 7\u001b[2J"}}"#;
        assert_eq!(said(StatusCode::NOT_FOUND, body), "there is no run 7[2J");
        assert_eq!(
            said(StatusCode::BAD_GATEWAY, ""),
            "the server answered 502 Bad Gateway"
        );
        assert!(said(StatusCode::UNAUTHORIZED, "authentication failed").contains("access.md"));
    }
}
