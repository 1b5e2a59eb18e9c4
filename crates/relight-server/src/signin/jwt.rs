//! ID tokens: signatures by published keys (RFC 7515, RFC 7517), and what OpenID Connect Core 1.0, section 3.1.3.7, wants of
//! the claims.

use aws_lc_rs::constant_time;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde::Deserialize;
use serde_json::{Map, Value};

/// How far clocks of two servers are apart, in seconds.
const LEEWAY: i64 = 60;
/// Longest token in bytes.
const MAX_TOKEN: usize = 64 << 10;

/// The keys of a provider.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Keys {
    keys: Vec<Value>,
}

/// A key, as far as it can be used here. Others in a set are passed over.
#[derive(Deserialize)]
struct Key {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    alg: Option<String>,
    n: Option<String>,
    e: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

/// What a token has to say.
pub(super) struct Expected<'a> {
    pub(super) issuer: &'a str,
    pub(super) client: &'a str,
    pub(super) nonce: &'a str,
    /// Seconds since 1970.
    pub(super) now: i64,
}

/// Why a token is not accepted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TokenError {
    /// It does not look like one.
    #[error("the ID token is malformed: {0}")]
    Malformed(&'static str),
    /// An algorithm that is not taken: none at all, or one by a shared secret.
    #[error("the ID token is signed by {0:?}; RS256 and ES256 are taken")]
    Algorithm(String),
    /// No key of the provider fits; its keys may have changed.
    #[error("the ID token is signed with a key that the provider does not publish")]
    NoKey,
    /// A claim is not what it must be.
    #[error("the ID token's {0}")]
    Claim(&'static str),
}

impl Key {
    fn verifies(&self, algorithm: &str, signed: &[u8], signature: &[u8]) -> bool {
        let bytes = |text: &Option<String>| BASE64.decode(text.as_deref()?).ok();
        match (algorithm, self.kty.as_str()) {
            ("RS256", "RSA") => {
                let (Some(n), Some(e)) = (bytes(&self.n), bytes(&self.e)) else {
                    return false;
                };
                let key = RsaPublicKeyComponents { n, e };
                key.verify(&RSA_PKCS1_2048_8192_SHA256, signed, signature).is_ok()
            }
            ("ES256", "EC") if self.crv.as_deref() == Some("P-256") => {
                let (Some(x), Some(y)) = (bytes(&self.x), bytes(&self.y)) else {
                    return false;
                };
                if x.len() != 32 || y.len() != 32 {
                    return false;
                }
                let point = [&[4], &x[..], &y[..]].concat();
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                    .verify(signed, signature)
                    .is_ok()
            }
            _ => false,
        }
    }

    fn fits(&self, header: &Header) -> bool {
        self.usage.as_deref().is_none_or(|usage| usage == "sig")
            && self.alg.as_deref().is_none_or(|alg| alg == header.alg)
            && (header.kid.is_none() || self.kid == header.kid)
    }
}

impl Keys {
    /// Checks a token; gives its claims.
    pub(super) fn verify(
        &self,
        token: &str,
        expected: &Expected<'_>,
    ) -> Result<Map<String, Value>, TokenError> {
        if token.len() > MAX_TOKEN {
            return Err(TokenError::Malformed("it is too long"));
        }
        let (signed, signature) = token
            .rsplit_once('.')
            .ok_or(TokenError::Malformed("no signature"))?;
        let (header, claims) = signed.split_once('.').ok_or(TokenError::Malformed("no claims"))?;
        let bytes = |text: &str| {
            BASE64
                .decode(text)
                .map_err(|_| TokenError::Malformed("no base64url"))
        };
        let header: Header =
            serde_json::from_slice(&bytes(header)?).map_err(|_| TokenError::Malformed("header"))?;
        // Never "none", and never a secret: whoever knows the public key could sign with it.
        if !["RS256", "ES256"].contains(&header.alg.as_str()) {
            return Err(TokenError::Algorithm(header.alg.chars().take(32).collect()));
        }
        if header.crit.is_some() {
            return Err(TokenError::Malformed("it wants extensions"));
        }
        let (claims, signature) = (bytes(claims)?, bytes(signature)?);
        let keys = self.keys.iter().filter_map(|key| Key::deserialize(key).ok());
        let mut fitting = keys.filter(|key| key.fits(&header));
        if !fitting.any(|key| key.verifies(&header.alg, signed.as_bytes(), &signature)) {
            return Err(TokenError::NoKey);
        }
        let claims: Value = serde_json::from_slice(&claims).map_err(|_| TokenError::Malformed("claims"))?;
        let Value::Object(claims) = claims else {
            return Err(TokenError::Malformed("claims"));
        };
        check(&claims, expected)?;
        Ok(claims)
    }
}

fn check(claims: &Map<String, Value>, expected: &Expected<'_>) -> Result<(), TokenError> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let time = |name: &str| {
        claims
            .get(name)
            .and_then(Value::as_f64)
            .map(|seconds| seconds as i64)
    };
    if text("iss") != Some(expected.issuer) {
        return Err(TokenError::Claim("iss is another provider"));
    }
    let audience: Vec<&str> = match claims.get("aud") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !audience.contains(&expected.client) {
        return Err(TokenError::Claim("aud is another client"));
    }
    let azp = text("azp");
    if azp.is_some_and(|azp| azp != expected.client) || (audience.len() > 1 && azp.is_none()) {
        return Err(TokenError::Claim("azp is another client"));
    }
    if time("exp").is_none_or(|exp| exp.saturating_add(LEEWAY) <= expected.now) {
        return Err(TokenError::Claim("exp is over"));
    }
    if time("iat").is_none_or(|iat| iat > expected.now.saturating_add(LEEWAY)) {
        return Err(TokenError::Claim("iat has not come"));
    }
    if time("nbf").is_some_and(|nbf| nbf > expected.now.saturating_add(LEEWAY)) {
        return Err(TokenError::Claim("nbf has not come"));
    }
    let nonce = text("nonce").unwrap_or_default();
    if constant_time::verify_slices_are_equal(nonce.as_bytes(), expected.nonce.as_bytes()).is_err() {
        return Err(TokenError::Claim("nonce is not the one of this log-in"));
    }
    match text("sub") {
        Some(sub) if !sub.is_empty() && sub.len() <= 255 => Ok(()),
        _ => Err(TokenError::Claim("sub is missing")),
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_795_381_225;

    fn key() -> (EcdsaKeyPair, Keys) {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let point = pair.public_key().as_ref().to_vec();
        let (x, y) = (BASE64.encode(&point[1..33]), BASE64.encode(&point[33..]));
        let keys = json!({"keys": [{"kty": "OKP", "x": 5}, {"kty": "EC", "crv": "P-256", "kid": "1", "x": x, "y": y}]});
        (pair, serde_json::from_value(keys).unwrap())
    }

    fn claims() -> Value {
        json!({
            "iss": "https://id.example.org", "aud": "relight", "sub": "jane", "nonce": "n", "exp": NOW + 10, "iat": NOW,
        })
    }

    fn token(pair: &EcdsaKeyPair, header: &Value, claims: &Value) -> String {
        let signed = format!(
            "{}.{}",
            BASE64.encode(header.to_string()),
            BASE64.encode(claims.to_string())
        );
        let signature = pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", BASE64.encode(signature))
    }

    fn verify(keys: &Keys, token: &str) -> Result<(), TokenError> {
        let expected = Expected {
            issuer: "https://id.example.org",
            client: "relight",
            nonce: "n",
            now: NOW,
        };
        keys.verify(token, &expected).map(drop)
    }

    #[test]
    fn a_token_is_taken_only_as_it_was_signed() {
        let (pair, keys) = key();
        let header = json!({"alg": "ES256", "kid": "1"});
        let good = token(&pair, &header, &claims());
        assert_eq!(verify(&keys, &good), Ok(()));
        assert_eq!(
            verify(&keys, &token(&pair, &json!({"alg": "ES256"}), &claims())),
            Ok(())
        );
        let (head, rest) = good.split_once('.').unwrap();
        let (body, signature) = rest.split_once('.').unwrap();
        let other = BASE64.encode(claims().to_string().replace("jane", "root"));
        let unsigned = BASE64.encode(r#"{"alg":"none"}"#);
        for bad in [
            format!("{head}.{other}.{signature}"),
            format!("{head}.{body}."),
            format!("{head}.{body}"),
            format!("{unsigned}.{body}."),
            "x".repeat(MAX_TOKEN + 1),
            String::new(),
        ] {
            assert!(verify(&keys, &bad).is_err(), "{bad:.80}");
        }
        for header in [
            json!({"alg": "none"}),
            json!({"alg": "HS256", "kid": "1"}),
            json!({"alg": "RS256", "kid": "1"}),
            json!({"alg": "ES256", "kid": "2"}),
            json!({"alg": "ES256", "kid": "1", "crit": ["x"]}),
        ] {
            assert!(
                verify(&keys, &token(&pair, &header, &claims())).is_err(),
                "{header}"
            );
        }
        assert_eq!(verify(&key().1, &good), Err(TokenError::NoKey));
    }

    #[test]
    fn claims_of_another_log_in_are_refused() {
        let (pair, keys) = key();
        let header = json!({"alg": "ES256", "kid": "1"});
        for (name, value, good) in [
            ("iss", json!("https://id.example.org/"), false),
            ("iss", Value::Null, false),
            ("aud", json!("other"), false),
            ("aud", json!(["relight"]), true),
            ("aud", json!(["relight", "other"]), false),
            ("azp", json!("relight"), true),
            ("azp", json!("other"), false),
            ("exp", json!(NOW - 59), true),
            ("exp", json!(NOW - 60), false),
            ("exp", Value::Null, false),
            ("iat", json!(NOW + 61), false),
            ("nbf", json!(NOW + 61), false),
            ("nonce", json!("m"), false),
            ("nonce", Value::Null, false),
            ("sub", json!(""), false),
            ("sub", json!(7), false),
        ] {
            let mut claims = claims();
            claims[name] = value.clone();
            assert_eq!(
                verify(&keys, &token(&pair, &header, &claims)).is_ok(),
                good,
                "{name}: {value}"
            );
        }
    }
}
