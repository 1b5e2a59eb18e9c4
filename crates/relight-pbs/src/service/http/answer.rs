//! Answers: data as JSON, raw bytes, a stream, or another protocol on the same connection.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde_json::Value;

use super::body::Body;
use super::{ApiError, ApiResult};

/// The connection after an upgrade, for reading and writing.
pub type UpgradedIo = TokioIo<hyper::upgrade::Upgraded>;

/// A session of another protocol, to be run once the connection has been handed over.
pub type Session = Box<dyn FnOnce(UpgradedIo) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// How a call is answered when all went well.
pub enum Answer {
    /// `{"data": …}`, with more attributes beside it (`total`, `active`, …).
    Data {
        /// The data.
        data: Value,
        /// What is beside it.
        beside: BTreeMap<&'static str, Value>,
        /// Headers to add.
        headers: HeaderMap,
    },
    /// Bytes as they are.
    Raw {
        /// What they are.
        content_type: &'static str,
        /// Headers to add.
        headers: HeaderMap,
        /// The bytes.
        body: Body,
    },
    /// `101 Switching Protocols`, then the session. Dropped unrun if the client goes away before.
    Upgrade {
        /// The protocol's name, as asked for.
        protocol: &'static str,
        /// The session.
        session: Session,
    },
}

impl Answer {
    /// Data alone.
    ///
    /// # Errors
    /// 500: the value cannot be written as JSON.
    pub fn data(value: impl Serialize) -> ApiResult<Self> {
        let data = serde_json::to_value(value)
            .map_err(|error| ApiError::internal(format!("the answer cannot be written as JSON: {error}")))?;
        Ok(Self::Data {
            data,
            beside: BTreeMap::new(),
            headers: HeaderMap::new(),
        })
    }

    /// `{"data": null}`: done, nothing to tell.
    pub fn null() -> Self {
        Self::Data {
            data: Value::Null,
            beside: BTreeMap::new(),
            headers: HeaderMap::new(),
        }
    }

    /// Adds an attribute beside the data.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        if let Self::Data { beside, .. } = &mut self {
            beside.insert(name, value.into());
        }
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        if let Self::Data { headers, .. } | Self::Raw { headers, .. } = &mut self {
            headers.append(name, value);
        }
        self
    }

    /// Bytes (`application/octet-stream`).
    pub fn bytes(bytes: impl Into<Bytes>) -> Self {
        Self::stream(Body::whole(bytes))
    }

    /// A stream of bytes (`application/octet-stream`).
    pub fn stream(body: Body) -> Self {
        Self::Raw {
            content_type: "application/octet-stream",
            headers: HeaderMap::new(),
            body,
        }
    }

    /// Switches the connection to another protocol. See also [`super::Call::require_upgrade`].
    pub fn upgrade<F>(protocol: &'static str, session: impl FnOnce(UpgradedIo) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::Upgrade {
            protocol,
            session: Box::new(|io| Box::pin(session(io))),
        }
    }
}
