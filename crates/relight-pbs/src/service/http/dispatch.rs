//! From the head of a request to its answer: limits, who it is, which route, parameters, the record of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, COOKIE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::call::read_body;
use super::linger::drained;
use super::shape::{self, Format};
use super::{Answer, ApiError, ApiResult, Body, Call, HttpService, Parameters};
use crate::access::{AuditEvent, AuthId, Credentials, Unauthenticated};

/// Ends of the paths by which contents of backups leave the server: reading them is evidence, though it changes nothing.
const REVEALING: [&str; 4] = ["/reader", "/download", "/download-decoded", "/pxar-file-download"];

/// What becomes known of a call on the way, for its record.
struct Known {
    who: Option<AuthId>,
    changing: bool,
    parameters: String,
    body: Rest,
}

/// How much of the body of a request is still to be read.
enum Rest {
    All(Incoming),
    Some,
    Nothing,
}

impl HttpService {
    /// Answers one request.
    pub(super) async fn dispatch(
        self: Arc<Self>,
        mut request: Request<Incoming>,
        peer: Option<SocketAddr>,
        unread: &AtomicBool,
    ) -> Response<Body> {
        let upgrading = hyper::upgrade::on(&mut request);
        let (head, body) = request.into_parts();
        let mut known = Known {
            who: None,
            changing: head.method != Method::GET,
            parameters: String::new(),
            body: Rest::All(body),
        };
        let mut format = Format::Json;
        let result = self.answer(&head, peer, &mut known, &mut format).await;
        self.record(&head, peer, &known, &result);
        let keeps = match known.body {
            Rest::Nothing => true,
            Rest::Some => result.is_ok(),
            Rest::All(body) => drained(body, &head.headers).await,
        };
        let mut response = self.shaped(result, upgrading, peer, format).await;
        if !keeps {
            // The client has to know that nothing more is read.
            unread.store(true, Ordering::Release);
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        response
    }

    async fn shaped(
        &self,
        result: ApiResult<Answer>,
        upgrading: OnUpgrade,
        peer: Option<SocketAddr>,
        format: Format,
    ) -> Response<Body> {
        match result {
            Ok(Answer::Upgrade { protocol, session }) => {
                let aborted = self.aborted.clone();
                self.sessions.spawn(async move {
                    let run = async {
                        match upgrading.await {
                            Ok(io) => session(TokioIo::new(io)).await,
                            Err(error) => tracing::debug!(?peer, "{protocol}: the client went away: {error}"),
                        }
                    };
                    tokio::select! {
                        () = run => {}
                        () = aborted.cancelled() => {}
                    }
                });
                shape::answer(Answer::upgrade(protocol, |_| async {}), format)
            }
            Ok(answer) => shape::answer(answer, format),
            Err(error) => {
                match error.status {
                    StatusCode::UNAUTHORIZED => tokio::time::sleep(self.limits.unauthorized_delay).await,
                    StatusCode::FORBIDDEN => tokio::time::sleep(self.limits.forbidden_delay).await,
                    _ => {}
                }
                shape::error(&error, format)
            }
        }
    }

    async fn answer(
        &self,
        head: &Parts,
        peer: Option<SocketAddr>,
        known: &mut Known,
        format: &mut Format,
    ) -> ApiResult<Answer> {
        *format = Format::of(head.uri.path().split('/'));
        let target = head.uri.path_and_query().map_or("", |target| target.as_str());
        if target.len() > self.limits.target {
            return Err(ApiError::new(
                StatusCode::URI_TOO_LONG,
                "path and query are too long",
            ));
        }
        let path = parts(head.uri.path())?;
        // What is read decides, however it was written.
        *format = Format::of(path.iter().map(String::as_str));
        let found = match path.iter().map(String::as_str).take(2).collect::<Vec<_>>()[..] {
            ["api2", "json" | "extjs"] => self.router.find(&head.method, &path[2..]),
            ["api2", ..] => return Err(no_such_path(head)),
            _ => self.router.find_own(&head.method, &path),
        };
        let public = found.as_ref().is_some_and(|(route, _)| route.public);
        known.changing = found.as_ref().map_or(known.changing, |(route, _)| route.changing);
        // Before anything is told or read: strangers learn nothing of the paths and send no bodies.
        match self.authenticate(head, peer) {
            Ok(who) => known.who = Some(who),
            Err(_) if public => {}
            Err(error) => {
                tracing::info!(?peer, "{} {}: {}", head.method, head.uri.path(), error.reason);
                return Err(ApiError::unauthorized());
            }
        }
        let Some((route, named)) = found else {
            let methods = match format {
                Format::Own => self.router.own_methods(&path),
                Format::Json | Format::ExtJs => Vec::new(),
            };
            return Err(no_such_method(&methods).unwrap_or_else(|| no_such_path(head)));
        };
        let mut parameters = Parameters::new();
        if *format == Format::Own {
            parameters = parameters.exact();
        }
        parameters.add_form(head.uri.query().unwrap_or_default().as_bytes())?;
        for (name, value) in named {
            parameters.add_single(name, value.to_string())?;
        }
        let mut raw = None;
        let Rest::All(body) = std::mem::replace(&mut known.body, Rest::Some) else {
            return Err(ApiError::internal("the request body was read already"));
        };
        if route.raw_body {
            if hyper::body::Body::is_end_stream(&body) {
                known.body = Rest::Nothing;
            }
            raw = Some(body);
        } else {
            let limit = match known.who {
                Some(_) => self.limits.parameters,
                None => self.limits.parameters_of_strangers,
            };
            let bytes = read_body(body, limit, self.limits.body).await?;
            known.body = Rest::Nothing;
            add_body(&mut parameters, &head.headers, &bytes)?;
        }
        known.parameters = parameters.for_log();
        let call = Call {
            who: known.who.clone(),
            peer,
            headers: head.headers.clone(),
            access: self.access.clone(),
            body: raw,
            body_timeout: self.limits.body,
        };
        let answer = route.call(call, parameters).await?;
        if matches!(answer, Answer::Upgrade { .. }) && self.is_stopping() {
            let message = "the server is being stopped; try again later";
            return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message));
        }
        Ok(answer)
    }

    fn authenticate(&self, head: &Parts, peer: Option<SocketAddr>) -> Result<AuthId, Unauthenticated> {
        let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
        let cookies: Vec<&str> = head
            .headers
            .get_all(COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .collect();
        let cookies = cookies.join("; ");
        let credentials = Credentials {
            authorization: text(AUTHORIZATION.as_str()),
            cookie: (!cookies.is_empty()).then_some(cookies.as_str()),
            csrf: text("CSRFPreventionToken"),
            changing: head.method != Method::GET,
            peer,
        };
        self.access.authenticate(&credentials)
    }

    /// Keeps the record of what was denied, of what changes something, and of what gives contents of backups away.
    fn record(&self, head: &Parts, peer: Option<SocketAddr>, known: &Known, result: &ApiResult<Answer>) {
        let (status, message) = match result {
            Ok(Answer::Upgrade { .. }) => (StatusCode::SWITCHING_PROTOCOLS, ""),
            Ok(_) => (StatusCode::OK, ""),
            Err(error) => (error.status, error.message.as_str()),
        };
        let denied = matches!(
            status,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS
        );
        let reads = REVEALING.iter().any(|last| head.uri.path().ends_with(last));
        if !denied && !known.changing && !reads {
            return;
        }
        let path: String = head.uri.path().chars().take(512).collect();
        self.access.audit(&AuditEvent {
            who: known.who.as_ref(),
            peer,
            what: &format!("{} {path}", head.method),
            parameters: &known.parameters,
            status: status.as_u16(),
            message,
        });
    }
}

fn no_such_path(head: &Parts) -> ApiError {
    let path: String = head.uri.path().chars().take(256).collect();
    ApiError::not_found(format!("Path '{path}' not found."))
}

/// 405, if there are others.
fn no_such_method(methods: &[&str]) -> Option<ApiError> {
    let allow = http::HeaderValue::from_str(&methods.join(", ")).ok()?;
    let message = format!("this path knows only: {}", methods.join(", "));
    (!methods.is_empty()).then(|| {
        ApiError::new(StatusCode::METHOD_NOT_ALLOWED, message).with_header(http::header::ALLOW, allow)
    })
}

/// The parts of a path. Empty ones are dropped: clients send `//api2/json/…`.
fn parts(path: &str) -> ApiResult<Vec<String>> {
    let decode = |part: &str| {
        let decoded = percent_encoding::percent_decode_str(part).decode_utf8();
        decoded
            .map(String::from)
            .map_err(|_| ApiError::bad_request("the path is not UTF-8"))
    };
    path.split('/')
        .filter(|part| !part.is_empty())
        .map(decode)
        .collect()
}

fn add_body(parameters: &mut Parameters, headers: &HeaderMap, body: &[u8]) -> ApiResult<()> {
    if body.is_empty() {
        return Ok(());
    }
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    match kind
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
        .as_str()
    {
        "application/json" => parameters.add_json(body),
        "application/x-www-form-urlencoded" => parameters.add_form(body),
        _ => Err(ApiError::bad_request(
            "unsupported content type of the parameters",
        )),
    }
}
