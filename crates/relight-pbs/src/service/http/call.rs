//! A call as its handler sees it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;

use super::{ApiError, ApiResult};
use crate::access::{Access, AuthId, Guarded, Privileges};
use crate::formats::ids::Group;

/// A call: who sends it, from where, and what is left to read of it. Its parameters are handed over beside it.
pub struct Call {
    pub(super) who: Option<AuthId>,
    pub(super) peer: Option<SocketAddr>,
    pub(super) headers: HeaderMap,
    pub(super) access: Arc<dyn Access>,
    pub(super) body: Option<Incoming>,
    pub(super) body_timeout: Duration,
}

impl Call {
    /// Who sends it.
    ///
    /// # Errors
    /// 401: nobody known; this can only be on routes that are open to all.
    pub fn who(&self) -> ApiResult<&AuthId> {
        self.who.as_ref().ok_or_else(ApiError::unauthorized)
    }

    /// From where.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// Whoever knows of access.
    pub fn access(&self) -> &Arc<dyn Access> {
        &self.access
    }

    /// Headers of the request.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// What the sender may do at a path.
    ///
    /// # Errors
    /// 401: nobody known sends it.
    pub fn privileges(&self, path: &str) -> ApiResult<Privileges> {
        Ok(self.access.privileges(self.who()?, path))
    }

    /// What the sender may do in a group of the namespace whose rules are at a path.
    ///
    /// # Errors
    /// 401: nobody known sends it.
    pub fn privileges_in_group(&self, path: &str, group: &Group) -> ApiResult<Privileges> {
        Ok(self.access.privileges_in_group(self.who()?, path, group))
    }

    /// Goes on only if the sender has all of the privileges at a path. Ask before looking for what the path names, so that
    /// whoever may not see it does not learn whether it is there.
    ///
    /// # Errors
    /// 403: one is missing.
    pub fn require(&self, path: &str, all: Privileges) -> ApiResult<()> {
        if self.privileges(path)?.contains(all) {
            Ok(())
        } else {
            Err(ApiError::forbidden())
        }
    }

    /// Goes on only if the sender has some of the privileges at a path; gives all that it has there.
    ///
    /// # Errors
    /// 403: none of them.
    pub fn require_some(&self, path: &str, some: Privileges) -> ApiResult<Privileges> {
        let has = self.privileges(path)?;
        if has.intersects(some) {
            Ok(has)
        } else {
            Err(ApiError::forbidden())
        }
    }

    /// Does something that may need a second person. Ask for the sender's own privileges before.
    ///
    /// # Errors
    /// 409: it waits for approval; 403: it was denied. Those of `action`, after which the approval holds still.
    pub fn guarded<T>(&self, what: &Guarded<'_>, action: impl FnOnce() -> ApiResult<T>) -> ApiResult<T> {
        let pass = self.access.approved(self.who()?, what)?;
        let done = action();
        if done.is_err() {
            self.access.unused(pass);
        }
        done
    }

    /// Goes on only if the client asks for exactly this protocol.
    ///
    /// # Errors
    /// 400: it asks for none or for another one.
    pub fn require_upgrade(&self, protocol: &'static str) -> ApiResult<()> {
        let text = |name| self.headers.get(name).and_then(|value| value.to_str().ok());
        match text(http::header::UPGRADE) {
            Some(asked) if asked == protocol => {}
            Some(_) => return Err(ApiError::bad_request("invalid protocol name")),
            None => return Err(ApiError::bad_request("missing Upgrade header")),
        }
        let connection = text(http::header::CONNECTION).unwrap_or_default();
        if connection
            .split(',')
            .any(|word| word.trim().eq_ignore_ascii_case("upgrade"))
        {
            Ok(())
        } else {
            Err(ApiError::bad_request("missing Connection: upgrade"))
        }
    }

    /// Reads the body of a route that takes it raw (see [`super::Route::raw_body`]), up to `limit` bytes. Empty when it was
    /// read before.
    ///
    /// # Errors
    /// 413: it is longer; 408: it takes too long; 400: it breaks off.
    pub async fn body(&mut self, limit: usize) -> ApiResult<Bytes> {
        match self.body.take() {
            None => Ok(Bytes::new()),
            Some(body) => read_body(body, limit, self.body_timeout).await,
        }
    }
}

/// Reads a whole body.
pub(super) async fn read_body(body: Incoming, limit: usize, timeout: Duration) -> ApiResult<Bytes> {
    let too_long = || ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "request body too large");
    // What announces its length is refused without being read.
    if hyper::body::Body::size_hint(&body).lower() > limit as u64 {
        return Err(too_long());
    }
    match tokio::time::timeout(timeout, Limited::new(body, limit).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_long()),
        Ok(Err(_)) => Err(ApiError::bad_request("the request body broke off")),
        Err(_) => Err(ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            "the request body takes too long",
        )),
    }
}
