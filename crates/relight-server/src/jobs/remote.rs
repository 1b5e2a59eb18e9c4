//! Clients of the other servers that are known.

use std::sync::Arc;

use http::Method;
use relight_pbs::client::{
    Client, ClientOptions, Credentials, Limited, Rate, ServerAddress, TlsTransport, Transport, Trust,
};
use relight_pbs::formats::crypt::Fingerprint;
use relight_pbs::formats::ids::Namespace;
use relight_pbs::service::http::{ApiError, ApiResult};
use serde_json::Value;

use super::refused;
use crate::state::State;

/// Port of the original.
const PORT: u16 = 8007;

/// A client of a datastore there, with limits of what comes in and what goes out.
pub(super) fn client(
    state: &State,
    name: &str,
    datastore: &str,
    (inward, outward): (Option<Rate>, Option<Rate>),
) -> ApiResult<Client> {
    let none = || {
        let name: String = name.chars().take(64).collect();
        ApiError::bad_request(format!("remote '{name}' does not exist."))
    };
    let remote = state.remote(name).map_err(refused)?.ok_or_else(none)?;
    let secret = state.remote_secret(name).map_err(refused)?;
    let failed = |error: relight_pbs::client::ClientError| ApiError::bad_request(error.to_string());
    let address = ServerAddress {
        auth_id: remote.auth_id.clone(),
        host: remote.host,
        port: remote.port.unwrap_or(PORT),
        datastore: datastore.to_string(),
    };
    let trust = match remote.fingerprint {
        None => Trust::Chain,
        Some(fingerprint) => {
            let parsed = fingerprint.parse::<Fingerprint>();
            Trust::Fingerprint(parsed.map_err(|_| ApiError::bad_request("the fingerprint cannot be read"))?)
        }
    };
    let transport: Arc<dyn Transport> = Arc::new(TlsTransport::new(&address, trust).map_err(failed)?);
    Ok(Client::new(ClientOptions {
        transport: Arc::new(Limited::new(transport, inward, outward)),
        credentials: Credentials::new(remote.auth_id, &secret).map_err(failed)?,
        datastore: datastore.to_string(),
        namespace: Namespace::ROOT,
    }))
}

/// What another server lists.
pub(crate) async fn scan(
    client: ApiResult<Client>,
    name: &str,
    path: &str,
    parameters: &Value,
) -> ApiResult<Value> {
    let list = client?.rest(Method::GET, path, parameters).await;
    list.map_err(|error| ApiError::internal(format!("failed to scan remote '{name}' - {error}")))
}

impl super::Jobs {
    /// A client for looking at what another server has.
    pub(crate) fn looker(&self, name: &str) -> ApiResult<Client> {
        client(self.gate.state(), name, "-", (None, None))
    }
}
