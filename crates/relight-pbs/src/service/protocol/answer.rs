//! The way back of a call.

use bytes::Bytes;
use h2::SendStream;
use h2::server::SendResponse;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;
use serde_json::json;

use crate::service::http::ApiError;

/// What answers say they are. Errors say it, too, although they are plain text: clients expect it so.
const JSON: HeaderValue = HeaderValue::from_static("application/json;charset=UTF-8");
const BYTES: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// Where the answer of a call goes. A client that is gone does not get it; nobody needs to know.
pub(crate) struct Reply(SendResponse<Bytes>);

impl Reply {
    pub(super) fn new(respond: SendResponse<Bytes>) -> Self {
        Self(respond)
    }

    /// `{"data": …}`
    pub async fn data(self, data: impl Serialize) {
        match serde_json::to_vec(&json!({ "data": data })) {
            Ok(body) => self.send(StatusCode::OK, JSON, [Bytes::from(body)]).await,
            Err(error) => {
                let error = ApiError::internal(format!("the answer cannot be written as JSON: {error}"));
                self.error(&error).await;
            }
        }
    }

    /// Bytes as they are, in parts that follow each other.
    pub async fn bytes<const N: usize>(self, parts: [Bytes; N]) {
        self.send(StatusCode::OK, BYTES, parts).await;
    }

    /// An error: a status, and what clients show.
    pub async fn error(self, error: &ApiError) {
        let body = Bytes::from(error.message.clone());
        self.send(error.status, JSON, [body]).await;
    }

    async fn send<const N: usize>(mut self, status: StatusCode, content: HeaderValue, parts: [Bytes; N]) {
        let length: usize = parts.iter().map(Bytes::len).sum();
        let mut head = Response::new(());
        *head.status_mut() = status;
        head.headers_mut().insert(CONTENT_TYPE, content);
        head.headers_mut().insert(CONTENT_LENGTH, length.into());
        let Ok(mut stream) = self.0.send_response(head, length == 0) else {
            return;
        };
        let mut rest = length;
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            rest -= part.len();
            if send(&mut stream, part, rest == 0).await.is_err() {
                return;
            }
        }
    }
}

/// Sends bytes as fast as the other side takes them.
async fn send(stream: &mut SendStream<Bytes>, mut bytes: Bytes, last: bool) -> Result<(), h2::Error> {
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        let granted = std::future::poll_fn(|context| stream.poll_capacity(context)).await;
        let part = match granted {
            Some(granted) => bytes.split_to(granted?.min(bytes.len())),
            // It was reset.
            None => return Ok(()),
        };
        stream.send_data(part, last && bytes.is_empty())?;
    }
    Ok(())
}
