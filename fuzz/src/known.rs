//! A service of HTTP with calls of all kinds, and somebody who is known to it.

use http::Method;
use relight_pbs::access::{Access, AuditEvent, AuthId, Credentials, Privileges, Unauthenticated};
use relight_pbs::service::http::{Answer, Call, NoParameters, Router};
use serde::Deserialize;

/// The header that makes its sender known.
pub const KNOWN: &str = "authorization: PBSAPIToken a@pbs!t:x\r\n";

/// Parameters of all types.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Everything {
    /// From the path.
    pub store: String,
    #[allow(dead_code)]
    backup_time: Option<i64>,
    #[allow(dead_code)]
    small: Option<u8>,
    #[allow(dead_code)]
    dry_run: Option<bool>,
    #[serde(default)]
    #[allow(dead_code)]
    group: Vec<String>,
    #[allow(dead_code)]
    who: Option<AuthId>,
    #[allow(dead_code)]
    any: Option<serde_json::Value>,
}

/// Knows one token.
pub struct Known;

impl Known {
    /// Its routes.
    pub fn router() -> Router {
        let mut router = Router::new();
        router
            .on(Method::GET, "/ping", |_, _: NoParameters| async {
                Answer::data("pong")
            })
            .public();
        for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE] {
            router.on(
                method,
                "/admin/datastore/{store}/groups",
                |call: Call, given: Everything| async move {
                    call.require(&format!("/datastore/{}", given.store), Privileges::DATASTORE_READ)?;
                    Answer::data(format!("{given:?}"))
                },
            );
        }
        router
            .on(
                Method::POST,
                "/upload",
                |mut call: Call, _: NoParameters| async move { Answer::data(call.body(4096).await?.len()) },
            )
            .raw_body();
        router.on(Method::GET, "/backup", |call: Call, _: NoParameters| async move {
            call.require_upgrade("v1")?;
            Ok(Answer::upgrade("v1", |_| async {}))
        });
        router
    }
}

impl Access for Known {
    fn authenticate(&self, credentials: &Credentials<'_>) -> Result<AuthId, Unauthenticated> {
        match credentials.authorization {
            Some("PBSAPIToken a@pbs!t:x") => Ok("a@pbs!t".parse().unwrap()),
            _ => Err(Unauthenticated::new("unknown")),
        }
    }

    fn privileges(&self, _: &AuthId, path: &str) -> Privileges {
        if path == "/datastore/main" {
            Privileges::ALL
        } else {
            Privileges::NONE
        }
    }

    fn exists(&self, _: &AuthId) -> bool {
        true
    }

    fn has_below(&self, _: &AuthId, _: &str, _: Privileges) -> bool {
        true
    }

    fn audit(&self, event: &AuditEvent<'_>) {
        // A record is one line.
        assert!(!event.parameters.contains(['\n', '\r', '\0']) && !event.what.contains(['\n', '\r', '\0']));
    }
}
