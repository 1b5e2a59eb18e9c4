//! Providers of OpenID Connect: the authorization code flow (OpenID Connect Core 1.0, section 3.1) with PKCE (RFC 7636).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::{constant_time, digest};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD as BASE64};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::Person;
use super::config::{ProviderConfig, is_allowed};
use super::directory::roots;
use super::jwt::{Expected, Keys, TokenError};
use crate::error::Result;
use crate::state::random;

/// How long a log-in at the provider may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// Log-ins under way at a time; beyond that the oldest are forgotten.
const UNDER_WAY: usize = 2048;
/// How long what a provider says of itself is believed.
const KEPT: Duration = Duration::from_secs(3600);
/// How often its keys are asked for again because of a token that none of them fits.
const AGAIN: Duration = Duration::from_secs(30);
/// Largest answer of a provider in bytes.
const MAX_ANSWER: u64 = 512 << 10;
/// Groups of a user that are looked at.
const MAX_GROUPS: usize = 10_000;

/// Why somebody is not let in by a provider.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// What came back is not what was begun, or says somebody who may not log in.
    #[error("{0}")]
    Refused(String),
    /// It cannot be asked.
    #[error("{0}")]
    Down(String),
}

/// A provider.
pub struct Provider {
    realm: String,
    config: ProviderConfig,
    /// Where it sends browsers back to.
    redirect: String,
    agent: Agent,
    about: Mutex<Option<Arc<About>>>,
    under_way: Mutex<HashMap<String, UnderWay>>,
}

/// What a provider says of itself.
struct About {
    endpoints: Endpoints,
    keys: Keys,
    since: Instant,
}

#[derive(Clone, Deserialize)]
struct Endpoints {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    userinfo_endpoint: Option<String>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

struct UnderWay {
    since: Instant,
    nonce: String,
    verifier: String,
    browser: String,
}

/// A log-in that was begun.
pub struct Begun {
    /// Where the browser goes.
    pub url: String,
    /// What the browser keeps, so that nobody else's log-in can be put upon it.
    pub browser: String,
}

#[derive(Deserialize)]
struct Tokens {
    id_token: String,
    access_token: Option<String>,
}

fn secret() -> Result<String, ProviderError> {
    let bytes: [u8; 32] = random().map_err(|error| ProviderError::Down(error.to_string()))?;
    Ok(BASE64.encode(bytes))
}

fn escaped(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

impl Provider {
    /// With its configuration. `url`: where browsers reach this server.
    ///
    /// # Errors
    /// The certificates of the authorities cannot be read.
    pub fn new(realm: &str, config: ProviderConfig, url: &str) -> Result<Self> {
        let certificates = roots(config.ca_file.as_deref())?;
        let certificates = certificates
            .iter()
            .map(|der| Certificate::from_der(der).to_owned())
            .collect();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(provider)
            .root_certs(RootCerts::Specific(Arc::new(certificates)))
            .build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .timeout_global(Some(config.timeout.0))
            .max_redirects(0)
            .http_status_as_error(false)
            .build();
        Ok(Self {
            realm: realm.to_owned(),
            redirect: format!("{}/signed-in", url.trim_end_matches('/')),
            config,
            agent: agent.into(),
            about: Mutex::default(),
            under_way: Mutex::default(),
        })
    }

    /// Name of its realm.
    pub fn realm(&self) -> &str {
        &self.realm
    }

    /// What people are shown.
    pub fn title(&self) -> &str {
        self.config.title.as_deref().unwrap_or(&self.realm)
    }

    /// Begins a log-in. Waits for the provider.
    ///
    /// # Errors
    /// The provider cannot be asked what it can do.
    pub fn begin(&self) -> Result<Begun, ProviderError> {
        let about = self.about(false)?;
        let (state, nonce, verifier, browser) = (secret()?, secret()?, secret()?, secret()?);
        let challenge = BASE64.encode(digest::digest(&digest::SHA256, verifier.as_bytes()));
        let mut scope = "openid".to_owned();
        for more in &self.config.scopes {
            scope.push(' ');
            scope.push_str(more);
        }
        let endpoint = &about.endpoints.authorization_endpoint;
        let separator = if endpoint.contains('?') { '&' } else { '?' };
        let url = format!(
            "{endpoint}{separator}response_type=code&client_id={}&redirect_uri={}&scope={}&state={state}&nonce={nonce}\
             &code_challenge={challenge}&code_challenge_method=S256",
            escaped(&self.config.client_id),
            escaped(&self.redirect),
            escaped(&scope),
        );
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.retain(|_, one| one.since.elapsed() < PATIENCE);
        if under_way.len() >= UNDER_WAY
            && let Some(oldest) = under_way
                .iter()
                .min_by_key(|(_, one)| one.since)
                .map(|(state, _)| state.clone())
        {
            under_way.remove(&oldest);
        }
        let begun = UnderWay {
            since: Instant::now(),
            nonce,
            verifier,
            browser: browser.clone(),
        };
        under_way.insert(state, begun);
        Ok(Begun { url, browser })
    }

    /// Whether a log-in of this state is under way here.
    pub fn knows(&self, state: &str) -> bool {
        let under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.contains_key(state)
    }

    /// Ends a log-in with what the provider sent back through the browser. Waits for the provider.
    ///
    /// # Errors
    /// It does not fit what was begun, the user may not log in, or the provider cannot be asked.
    pub fn finish(
        &self,
        answer: &HashMap<String, String>,
        browser: &str,
        now: i64,
    ) -> Result<Person, ProviderError> {
        let refused = |why: &str| ProviderError::Refused(why.to_owned());
        let state = answer.get("state").ok_or_else(|| refused("no state"))?;
        let begun = {
            let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
            under_way.remove(state)
        };
        let begun = begun.filter(|begun| begun.since.elapsed() < PATIENCE);
        let begun = begun.ok_or_else(|| refused("no such log-in is under way"))?;
        if constant_time::verify_slices_are_equal(begun.browser.as_bytes(), browser.as_bytes()).is_err() {
            return Err(refused("it was begun in another browser"));
        }
        if let Some(error) = answer.get("error") {
            let error: String = error.chars().filter(|c| c.is_ascii_graphic()).take(64).collect();
            return Err(ProviderError::Refused(format!("the provider answered {error}")));
        }
        let about = self.about(false)?;
        // RFC 9207: an answer of another provider must not be taken for one of this.
        if answer
            .get("iss")
            .is_some_and(|issuer| *issuer != about.endpoints.issuer)
        {
            return Err(refused("it comes from another provider"));
        }
        let code = answer
            .get("code")
            .filter(|code| code.len() <= 4096)
            .ok_or_else(|| refused("no code"))?;
        let tokens = self.exchange(&about, code, &begun.verifier)?;
        let claims = self.claims(&about, &tokens, &begun.nonce, now)?;
        self.person(&about, &claims, tokens.access_token.as_deref())
    }

    fn claims(
        &self,
        about: &About,
        tokens: &Tokens,
        nonce: &str,
        now: i64,
    ) -> Result<Map<String, Value>, ProviderError> {
        let expected = Expected {
            issuer: &about.endpoints.issuer,
            client: &self.config.client_id,
            nonce,
            now,
        };
        let checked = match about.keys.verify(&tokens.id_token, &expected) {
            // Keys are exchanged from time to time.
            Err(TokenError::NoKey) => self.about(true)?.keys.verify(&tokens.id_token, &expected),
            other => other,
        };
        checked.map_err(|error| ProviderError::Refused(error.to_string()))
    }

    fn exchange(&self, about: &About, code: &str, verifier: &str) -> Result<Tokens, ProviderError> {
        let secret = self.config.client_secret().read().map_err(ProviderError::Down)?;
        let endpoint = &about.endpoints.token_endpoint;
        let mut form = format!(
            "grant_type=authorization_code&code={}&redirect_uri={}&code_verifier={verifier}",
            escaped(code),
            escaped(&self.redirect),
        );
        let mut request = self
            .agent
            .post(endpoint)
            .header("content-type", "application/x-www-form-urlencoded");
        let client = escaped(&self.config.client_id);
        // Basic is what every provider takes unless it says otherwise (OpenID Connect Discovery 1.0, section 3).
        let methods = about.endpoints.token_endpoint_auth_methods_supported.as_deref();
        let basic =
            methods.is_none_or(|methods| methods.iter().any(|method| method == "client_secret_basic"));
        match &secret {
            Some(secret) if basic => {
                let both = STANDARD.encode(format!("{client}:{}", escaped(secret)));
                request = request.header("authorization", format!("Basic {both}"));
            }
            Some(secret) => form.push_str(&format!("&client_id={client}&client_secret={}", escaped(secret))),
            None => form.push_str(&format!("&client_id={client}")),
        }
        let answer = request.header("accept", "application/json").send(form.as_bytes());
        let mut answer = answer.map_err(|error| down(endpoint, &error))?;
        let status = answer.status();
        if status.is_client_error() {
            let text = answer
                .body_mut()
                .with_config()
                .limit(MAX_ANSWER)
                .read_to_string()
                .unwrap_or_default();
            let told: Value = serde_json::from_str(&text).unwrap_or_default();
            let error = told["error"].as_str().unwrap_or_default();
            let error: String = error.chars().filter(|c| c.is_ascii_graphic()).take(64).collect();
            return Err(ProviderError::Refused(format!(
                "{endpoint} answered {status} {error}"
            )));
        }
        read(endpoint, answer)
    }

    /// Who the claims are about. What is not in the token may be where the provider tells of users.
    fn person(
        &self,
        about: &About,
        claims: &Map<String, Value>,
        access: Option<&str>,
    ) -> Result<Person, ProviderError> {
        let refused = |why: String| ProviderError::Refused(why);
        let (user_claim, groups_claim) = (&self.config.user_claim, &self.config.groups_claim);
        let mut claims = claims.clone();
        let lacks = |name: &str| !claims.contains_key(name);
        let wanted = lacks(user_claim) || (!self.config.groups.is_empty() && lacks(groups_claim));
        if let (true, Some(endpoint), Some(access)) = (wanted, &about.endpoints.userinfo_endpoint, access) {
            let more: Map<String, Value> = self.get(endpoint, Some(access))?;
            // Section 5.3.2: they may be about somebody else otherwise.
            if more.get("sub") != claims.get("sub") {
                return Err(refused(
                    "the provider tells of another user than its token".into(),
                ));
            }
            for (name, value) in more {
                claims.entry(name).or_insert(value);
            }
        }
        if user_claim == "email" && claims.get("email_verified") != Some(&Value::Bool(true)) {
            return Err(refused(
                "the provider has not verified the user's e-mail address".into(),
            ));
        }
        let name = claims.get(user_claim).and_then(Value::as_str);
        let name = name
            .ok_or_else(|| refused(format!("the provider tells no {user_claim}")))?
            .to_ascii_lowercase();
        let name = match &self.config.domain {
            Some(domain) => {
                let local = name
                    .strip_suffix(&domain.to_ascii_lowercase())
                    .and_then(|rest| rest.strip_suffix('@'));
                local
                    .ok_or_else(|| refused(format!("{user_claim} is not of {domain}")))?
                    .to_owned()
            }
            None => name,
        };
        let told: Vec<&str> = match claims.get(groups_claim) {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(list)) => list.iter().take(MAX_GROUPS).filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let mine = self
            .config
            .groups
            .iter()
            .filter(|(_, place)| told.contains(&place.as_str()));
        let groups: Vec<String> = mine.map(|(name, _)| name.clone()).collect();
        if !is_allowed(&groups, self.config.allow.as_deref()) {
            return Err(refused(format!(
                "{name} is in none of the groups that may log in"
            )));
        }
        let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
        Ok(Person {
            name,
            subject: format!("{} {subject}", about.endpoints.issuer),
            groups,
        })
    }

    /// What the provider says of itself, with its keys.
    fn about(&self, again: bool) -> Result<Arc<About>, ProviderError> {
        let known = self.about.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let limit = if again { AGAIN } else { KEPT };
        if let Some(known) = known
            && known.since.elapsed() < limit
        {
            return Ok(known);
        }
        let issuer = self.config.issuer.trim_end_matches('/');
        let endpoints: Endpoints = self.get(&format!("{issuer}/.well-known/openid-configuration"), None)?;
        // Discovery 1.0, section 4.3: exactly the same.
        if endpoints.issuer != self.config.issuer {
            let why = format!(
                "{issuer} says that it is {:?}: write exactly that as issuer",
                endpoints.issuer
            );
            return Err(ProviderError::Down(why));
        }
        let is_safe = |url: &str| url.starts_with("https://") || self.config.issuer.starts_with("http://");
        let all = [
            &endpoints.authorization_endpoint,
            &endpoints.token_endpoint,
            &endpoints.jwks_uri,
        ];
        if !all
            .into_iter()
            .chain(&endpoints.userinfo_endpoint)
            .all(|url| is_safe(url))
        {
            return Err(ProviderError::Down(format!(
                "{issuer} names addresses without TLS"
            )));
        }
        let about = Arc::new(About {
            keys: self.get(&endpoints.jwks_uri, None)?,
            endpoints,
            since: Instant::now(),
        });
        *self.about.lock().unwrap_or_else(PoisonError::into_inner) = Some(about.clone());
        Ok(about)
    }

    fn get<T: DeserializeOwned>(&self, url: &str, access: Option<&str>) -> Result<T, ProviderError> {
        let mut request = self.agent.get(url).header("accept", "application/json");
        if let Some(access) = access {
            request = request.header("authorization", format!("Bearer {access}"));
        }
        read(url, request.call().map_err(|error| down(url, &error))?)
    }
}

fn read<T: DeserializeOwned>(
    url: &str,
    mut answer: ureq::http::Response<ureq::Body>,
) -> Result<T, ProviderError> {
    let status = answer.status();
    if !status.is_success() {
        return Err(ProviderError::Down(format!("{url} answered {status}")));
    }
    let text = answer.body_mut().with_config().limit(MAX_ANSWER).read_to_string();
    let text = text.map_err(|error| down(url, &error))?;
    // What cannot be read is not shown: it may hold a token.
    serde_json::from_str(&text)
        .map_err(|_| ProviderError::Down(format!("the answer of {url} cannot be read")))
}

fn down(url: &str, error: &ureq::Error) -> ProviderError {
    ProviderError::Down(format!("{url}: {error}"))
}
