//! The shapes of answers and errors on the wire.

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_TYPE, REFERRER_POLICY, SET_COOKIE, UPGRADE, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use serde_json::{Map, Value, json};

use super::{Answer, ApiError, Body};

/// What JSON answers say they are. Errors say it, too, although they are plain text: clients expect it so.
const JSON: HeaderValue = HeaderValue::from_static("application/json;charset=UTF-8");
/// Makes a browser forget a ticket that is no longer good.
const FORGET_TICKET: HeaderValue = HeaderValue::from_static(
    "__Host-PBSAuthCookie=; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Secure; SameSite=Lax; HttpOnly; Path=/;",
);

/// How answers are shaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// `/api2/json`: the status is the status of HTTP, an error is plain text.
    Json,
    /// `/api2/extjs`: always 200, success or not is in the body.
    ExtJs,
    /// Outside the protocol: the status is the status of HTTP, an error is JSON.
    Own,
}

impl Format {
    /// How answers about a path of these parts are shaped, whatever is wrong with it.
    pub fn of<'a>(parts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut parts = parts.into_iter().filter(|part| !part.is_empty());
        match (parts.next(), parts.next()) {
            (Some("api2"), Some("extjs")) => Self::ExtJs,
            (Some("api2"), _) => Self::Json,
            _ => Self::Own,
        }
    }
}

/// Headers of everything outside the protocol: browsers read it.
const OF_OWN: [(HeaderName, &str); 3] = [
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (X_FRAME_OPTIONS, "DENY"),
];

fn dressed(mut response: Response<Body>, format: Format) -> Response<Body> {
    if format == Format::Own {
        for (name, value) in OF_OWN {
            response
                .headers_mut()
                .insert(name, HeaderValue::from_static(value));
        }
    }
    response
}

fn response(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn json_response(value: &Value) -> Response<Body> {
    let bytes = serde_json::to_vec(value).unwrap_or_default();
    let mut response = response(StatusCode::OK, Body::whole(bytes));
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// An answer that is no upgrade.
pub(super) fn answer(answer: Answer, format: Format) -> Response<Body> {
    match answer {
        Answer::Data {
            data,
            beside,
            headers,
        } => {
            let mut object = Map::new();
            object.insert("data".into(), data);
            if format == Format::ExtJs {
                object.insert("success".into(), true.into());
            }
            object.extend(beside.into_iter().map(|(name, value)| (name.to_string(), value)));
            let mut response = json_response(&Value::Object(object));
            response.headers_mut().extend(headers);
            dressed(response, format)
        }
        Answer::Raw {
            content_type,
            headers,
            body,
        } => {
            let mut response = response(StatusCode::OK, body);
            response
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
            response.headers_mut().extend(headers);
            dressed(response, format)
        }
        Answer::Upgrade { protocol, .. } => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("upgrade"));
            response
                .headers_mut()
                .insert(UPGRADE, HeaderValue::from_static(protocol));
            response
        }
    }
}

/// An error.
pub(super) fn error(error: &ApiError, format: Format) -> Response<Body> {
    let mut response = match format {
        Format::ExtJs => json_response(&json!({
            "success": false,
            "status": error.status.as_u16(),
            "message": error.message,
            "errors": {},
            "data": null,
        })),
        Format::Own => {
            let mut response = json_response(&json!({
                "error": {"status": error.status.as_u16(), "message": error.message},
            }));
            *response.status_mut() = error.status;
            response
        }
        Format::Json => {
            let mut response = response(error.status, Body::whole(Bytes::from(error.message.clone())));
            response.headers_mut().insert(CONTENT_TYPE, JSON);
            response
        }
    };
    if let Some((name, value)) = &error.header {
        response.headers_mut().insert(name, value.clone());
    }
    if error.status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(SET_COOKIE, FORGET_TICKET);
    }
    dressed(response, format)
}
