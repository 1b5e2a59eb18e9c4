//! A server's API, from anywhere: where the server is, who asks, and calls.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use http::Method;
use relight_pbs::client::{
    ApiAddress, ApiAnswer, Client, ClientError, ClientOptions, Credentials, TlsTransport, Trust,
};
use relight_pbs::formats::crypt::Fingerprint;
use relight_pbs::formats::ids::Namespace;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::failure::{Failure, Result};

/// A server and who asks, for commands that are done on another host than the server's.
#[derive(Debug, Clone, Args)]
pub struct ApiOptions {
    /// Ask this server instead of the one of this host: https://user@realm!token@host:8007
    #[arg(long, env = "RELIGHT_SERVER", value_name = "ADDRESS", help_heading = "Server")]
    server: Option<ApiAddress>,
    /// SHA-256 fingerprint of the server's certificate, if no authority of this host vouches for it
    #[arg(
        long,
        env = "RELIGHT_FINGERPRINT",
        value_name = "FINGERPRINT",
        help_heading = "Server"
    )]
    fingerprint: Option<Fingerprint>,
    /// File with the secret of the token, or the password of the user
    #[arg(
        long,
        env = "RELIGHT_TOKEN_FILE",
        value_name = "FILE",
        help_heading = "Server"
    )]
    token_file: Option<PathBuf>,
}

/// A server that is asked.
pub struct Api {
    runtime: Runtime,
    client: Client,
}

/// So many entries the server gives at once.
const PAGE: u32 = 200;

impl ApiOptions {
    /// The server that was named; none means the one of this host. Nothing is sent yet.
    pub fn open(&self) -> Result<Option<Api>> {
        let Some(address) = &self.server else {
            return Ok(None);
        };
        let file = self.token_file.as_deref();
        let secret = crate::credentials::secret(file, "--token-file or RELIGHT_TOKEN_FILE")?;
        let trust = self.fingerprint.map_or(Trust::Chain, Trust::Fingerprint);
        let client = Client::new(ClientOptions {
            transport: std::sync::Arc::new(TlsTransport::to(&address.host, address.port, trust)?),
            credentials: Credentials::new(address.auth_id.clone(), &secret)?,
            datastore: String::new(),
            namespace: Namespace::ROOT,
        });
        let runtime = crate::server_access::runtime()?;
        Ok(Some(Api { runtime, client }))
    }

    /// Whether one was named.
    pub fn is_named(&self) -> bool {
        self.server.is_some()
    }

    /// The same, where there is no other way.
    pub fn required(&self) -> Result<Api> {
        self.open()?.ok_or_else(|| {
            Failure::Usage(
                "name the server with --server or RELIGHT_SERVER: https://user@realm!token@host:8007".into(),
            )
        })
    }
}

impl Api {
    /// Makes a call. `path` is what comes behind `/api/v1`.
    pub fn call(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        body: Option<&Value>,
    ) -> Result<ApiAnswer<'_>> {
        Ok(self
            .runtime
            .block_on(self.client.api(method, path, query, body))?)
    }

    /// The JSON of an answer: `data`, and what is beside it.
    pub fn whole(&self, answer: ApiAnswer<'_>) -> Result<Value> {
        Ok(self.runtime.block_on(answer.json())?)
    }

    /// The data that a GET gives.
    pub fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Value> {
        Ok(self.whole(self.call(Method::GET, path, query, None)?)?["data"].take())
    }

    /// The data that anything else gives.
    pub fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        Ok(self.whole(self.call(method, path, &[], body)?)?["data"].take())
    }

    /// The newest `wanted` entries of a list from `before` on, the newest first, over as many pages as it takes.
    pub fn newest(
        &self,
        path: &str,
        query: &[(&str, String)],
        before: Option<u64>,
        wanted: u32,
    ) -> Result<Vec<Value>> {
        let (mut found, mut before) = (Vec::new(), before);
        loop {
            let missing = (wanted as usize).saturating_sub(found.len());
            if missing == 0 {
                return Ok(found);
            }
            let mut query = query.to_vec();
            query.push(("limit", missing.min(PAGE as usize).to_string()));
            query.extend(before.map(|before| ("before", before.to_string())));
            let mut page = self.whole(self.call(Method::GET, path, &query, None)?)?;
            match page["data"].take() {
                Value::Array(entries) => found.extend(entries),
                _ => return Err(odd("no list")),
            }
            let next = page["next"].as_u64();
            // Numbers only get smaller; anything else would go on for ever.
            if next.is_none() || before.is_some_and(|before| next >= Some(before)) {
                return Ok(found);
            }
            before = next;
        }
    }

    /// All of a list that is counted from its beginning, over as many pages as it takes.
    pub fn all(&self, path: &str, query: &[(&str, String)]) -> Result<Vec<Value>> {
        let (mut found, mut from) = (Vec::new(), 0);
        loop {
            let mut query = query.to_vec();
            query.push(("limit", PAGE.to_string()));
            query.push(("from", from.to_string()));
            let mut page = self.whole(self.call(Method::GET, path, &query, None)?)?;
            match page["data"].take() {
                Value::Array(entries) => found.extend(entries),
                _ => return Err(odd("no list")),
            }
            match page["next"].as_u64() {
                Some(next) if next > from => from = next,
                _ => return Ok(found),
            }
        }
    }

    /// Writes the body of an answer as it comes; gives how many bytes those were.
    pub fn copy(&self, answer: &mut ApiAnswer<'_>, out: &mut dyn Write) -> Result<u64> {
        let mut written = 0_u64;
        while let Some(part) = self.runtime.block_on(answer.part())? {
            out.write_all(&part).map_err(Failure::io("write the answer"))?;
            written = written.saturating_add(part.len() as u64);
        }
        Ok(written)
    }

    /// Writes it to a file, or into a folder under the name that the server gives it. A file is there whole or as it was
    /// before. Gives its path.
    pub fn save(&self, mut answer: ApiAnswer<'_>, to: &Path) -> Result<PathBuf> {
        let path = match (to.is_dir(), answer.file_name()) {
            (false, _) => to.to_path_buf(),
            (true, Some(name)) => to.join(name),
            (true, None) => {
                return Err(Failure::Usage(format!(
                    "{} is a folder, and the server gives the answer no name: name a file",
                    to.display()
                )));
            }
        };
        let mut beside = path
            .file_name()
            .map(OsString::from)
            .ok_or_else(|| Failure::Usage(format!("{} is no name of a file", path.display())))?;
        beside.push(format!(".{}.new", std::process::id()));
        let beside = path.with_file_name(beside);
        let failed = |error| Failure::Io(format!("write {}", path.display()), error);
        let written = std::fs::File::create(&beside)
            .map_err(failed)
            .and_then(|mut file| {
                self.copy(&mut answer, &mut file)?;
                file.sync_all().map_err(failed)?;
                std::fs::rename(&beside, &path).map_err(failed)
            });
        if written.is_err() {
            let _ = std::fs::remove_file(&beside);
        }
        written.map(|()| path)
    }
}

/// Reads what a server answered.
pub fn read<T: DeserializeOwned>(value: &Value) -> Result<T> {
    T::deserialize(value).map_err(|error| odd(&error.to_string()))
}

fn odd(why: &str) -> Failure {
    Failure::Usage(format!(
        "the server's answer cannot be understood ({why}): it may be of another version; `relight api` shows it as it is"
    ))
}

/// Whether the server may be there again in a moment.
pub fn is_passing(failure: &Failure) -> bool {
    matches!(
        failure,
        Failure::Client(ClientError::Connect { .. } | ClientError::Broken(_) | ClientError::Timeout { .. })
    )
}

/// A name, as a part of a path.
pub fn segment(name: &impl ToString) -> String {
    percent_encoding::utf8_percent_encode(&name.to_string(), percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// What was given, as a parameter of a query.
pub fn parameter(name: &str, value: Option<impl ToString>) -> Option<(&str, String)> {
    value.map(|value| (name, value.to_string()))
}
