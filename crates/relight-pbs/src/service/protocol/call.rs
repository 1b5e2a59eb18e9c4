//! One call: method, path, parameters, body, and the way back.

use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{Method, Request, StatusCode};
use serde::de::DeserializeOwned;

use super::{MAX_TARGET, Reply};
use crate::service::http::{ApiError, ApiResult, Parameters};

/// What a client may have sent of a body that is not wanted and be told so; beyond it the call is broken off.
const DRAIN: usize = 32 << 20;

/// How long a client may be silent in the middle of a body.
const SILENCE: Duration = Duration::from_secs(600);

/// A call.
pub(crate) struct Call {
    /// Its method.
    pub method: Method,
    /// What is called: the one part of the path.
    pub name: String,
    query: ApiResult<Parameters>,
    body: Body,
    /// Where the answer goes.
    pub reply: Reply,
}

/// The body of a call, as far as it was not read.
struct Body {
    stream: RecvStream,
    broken: bool,
}

impl Call {
    pub(super) fn new(request: Request<RecvStream>, respond: SendResponse<Bytes>) -> Self {
        let (head, stream) = request.into_parts();
        let target = head.uri.path_and_query().map_or("", |target| target.as_str());
        let query = if target.len() > MAX_TARGET {
            let message = "path and query are too long";
            Err(ApiError::new(StatusCode::URI_TOO_LONG, message))
        } else {
            Parameters::from_query(head.uri.query().unwrap_or_default())
        };
        let name: Vec<&str> = head
            .uri
            .path()
            .split('/')
            .filter(|part| !part.is_empty())
            .collect();
        Self {
            method: head.method,
            // No call has two parts; joined they are none.
            name: name.join("/").chars().take(256).collect(),
            query,
            body: Body {
                stream,
                broken: false,
            },
            reply: Reply::new(respond),
        }
    }

    /// Its parameters, from the query.
    pub fn parameters<T: DeserializeOwned>(&mut self) -> ApiResult<T> {
        std::mem::replace(&mut self.query, Ok(Parameters::new()))?.read()
    }

    /// Its parameters, from the query and a JSON body.
    pub async fn json_parameters<T: DeserializeOwned>(&mut self) -> ApiResult<T> {
        let mut parameters = std::mem::replace(&mut self.query, Ok(Parameters::new()))?;
        let mut body = Vec::new();
        self.read(&mut body, super::MAX_JSON).await?;
        if !body.is_empty() {
            parameters.add_json(&body)?;
        }
        parameters.read()
    }

    /// Reads the body to the end of `buffer`, at most so many bytes.
    ///
    /// # Errors
    /// 413 if there are more; 400 if it breaks off.
    pub async fn read(&mut self, buffer: &mut Vec<u8>, limit: usize) -> ApiResult<()> {
        let begin = buffer.len();
        while let Some(part) = self.body.next().await? {
            if buffer.len() - begin + part.len() > limit {
                let message = "request body too large";
                return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message));
            }
            buffer.extend_from_slice(&part);
        }
        Ok(())
    }

    /// Reads the body and throws it away, however long it is. Gives its length in bytes.
    pub async fn discard(&mut self) -> ApiResult<u64> {
        let mut length = 0;
        while let Some(part) = self.body.next().await? {
            length += part.len() as u64;
        }
        Ok(length)
    }

    /// Answers with an error. What the client still sends is read first, as far as that is reasonable: a client that is cut
    /// off while it sends might never look at the answer.
    pub async fn refuse(mut self, error: &ApiError) {
        let mut rest = DRAIN;
        while let Ok(Some(part)) = self.body.next().await {
            match rest.checked_sub(part.len()) {
                Some(less) => rest = less,
                None => break,
            }
        }
        self.reply.error(error).await;
    }
}

impl Body {
    async fn next(&mut self) -> ApiResult<Option<Bytes>> {
        if self.broken {
            return Ok(None);
        }
        let broken = |_| ApiError::bad_request("the request body broke off");
        let next = tokio::time::timeout(SILENCE, self.stream.data());
        let Ok(next) = next.await else {
            self.broken = true;
            let message = "the request body takes too long";
            return Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, message));
        };
        match next {
            None => Ok(None),
            Some(Err(error)) => {
                self.broken = true;
                Err(broken(error))
            }
            Some(Ok(part)) => {
                // Makes room for what comes next; this part is taken now.
                self.stream
                    .flow_control()
                    .release_capacity(part.len())
                    .map_err(broken)?;
                Ok(Some(part))
            }
        }
    }
}
