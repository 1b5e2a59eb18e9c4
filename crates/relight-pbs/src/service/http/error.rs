//! Why a call failed: a status, and one line of plain text, which clients show to people as it is.

use http::{HeaderName, HeaderValue, StatusCode};

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// The status of the answer.
    pub status: StatusCode,
    /// What the client shows. Names nothing that the caller may not know of.
    pub message: String,
    /// A header to add.
    pub header: Option<(HeaderName, HeaderValue)>,
}

/// Result of a call.
pub type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    /// With any status.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            header: None,
        }
    }

    /// Adds a header to the answer.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header = Some((name, value));
        self
    }

    /// 400: what was asked for cannot be done. The status of most failures in this protocol.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// 401: nobody known sends this.
    pub fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "authentication failed")
    }

    /// 403: the sender may not do this.
    pub fn forbidden() -> Self {
        Self::new(StatusCode::FORBIDDEN, "permission check failed.")
    }

    /// 404.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// 500: something is wrong here, not with the call.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }
}

/// A name that is none.
impl From<crate::formats::ids::NameError> for ApiError {
    fn from(error: crate::formats::ids::NameError) -> Self {
        Self::bad_request(error.to_string())
    }
}
