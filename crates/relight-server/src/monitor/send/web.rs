//! Posts letters to web addresses.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use relight_model::plan::Shape;
use serde_json::{Value, json};
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::SendError;
use crate::monitor::letter::Letter;

/// All of it takes no longer.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Posts a letter.
pub(super) fn send(shape: Shape, url: &str, letter: &Letter) -> Result<(), SendError> {
    let body = serde_json::to_vec(&body(shape, letter)).map_err(|error| SendError::Web(error.to_string()))?;
    let sent = agent()
        .post(url)
        .header("content-type", "application/json")
        .header("user-agent", concat!("relight/", env!("CARGO_PKG_VERSION")))
        .send(&body[..]);
    // Errors of the library may name the address, which may hold a secret.
    sent.map(drop).map_err(|error| {
        SendError::Web(match error {
            ureq::Error::StatusCode(status) => format!("it answered {status}"),
            ureq::Error::Timeout(_) => "it did not answer in time".into(),
            ureq::Error::HostNotFound => "its host is not known".into(),
            ureq::Error::Io(error) => error.to_string(),
            ureq::Error::Tls(_) | ureq::Error::Rustls(_) => "its certificate was not accepted".into(),
            _ => "it could not be reached".into(),
        })
    })
}

fn agent() -> &'static Agent {
    static AGENT: OnceLock<Agent> = OnceLock::new();
    AGENT.get_or_init(|| {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let roots = rustls_native_certs::load_native_certs();
        let roots: Vec<Certificate<'static>> = roots
            .certs
            .iter()
            .map(|der| Certificate::from_der(der).to_owned())
            .collect();
        let tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(provider)
            .root_certs(RootCerts::Specific(Arc::new(roots)))
            .build();
        Agent::config_builder()
            .tls_config(tls)
            .timeout_global(Some(TIMEOUT))
            .max_redirects(0)
            .build()
            .into()
    })
}

/// In the shape that the service takes.
fn body(shape: Shape, letter: &Letter) -> Value {
    let title = format!("{}: {}", letter.server, letter.summary);
    match shape {
        Shape::Json => json!(letter),
        // Slack, "Incoming webhooks" and "Formatting text": &, < and > are escaped.
        Shape::Slack => {
            let text = format!("*{title}*\n{}", letter.text());
            let text = text
                .replace('&', "&amp;")
                .replace('<', "&lt;")
                .replace('>', "&gt;");
            json!({"text": text})
        }
        // Mattermost, "Incoming webhooks". A code block, so that nothing in it is formatted or notifies anybody.
        Shape::Mattermost => {
            let text = letter.text().replace("```", "'''");
            json!({"text": format!("**{}**\n```\n{text}```", title.replace(['*', '@', '`'], " "))})
        }
        // Microsoft Teams, "Create incoming webhooks with Workflows": an adaptive card (schema 1.4).
        Shape::Teams => json!({
            "type": "message",
            "attachments": [{
                "contentType": "application/vnd.microsoft.card.adaptive",
                "content": {
                    "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                    "type": "AdaptiveCard",
                    "version": "1.4",
                    "body": [
                        {"type": "TextBlock", "text": title, "weight": "Bolder", "wrap": true},
                        {"type": "TextBlock", "text": letter.text(), "wrap": true},
                    ],
                },
            }],
        }),
    }
}
