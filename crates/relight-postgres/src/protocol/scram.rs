//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677), the client's side.

use std::num::NonZeroU32;

use aws_lc_rs::{constant_time, digest, hmac, pbkdf2, rand};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// The mechanism's name.
pub(super) const MECHANISM: &str = "SCRAM-SHA-256";
/// No server that is meant well asks for more rounds: the default is 4096.
const MOST_ROUNDS: u32 = 10_000_000;
/// That of the mechanism that binds the log-in to the connection.
pub(super) const BOUND_MECHANISM: &str = "SCRAM-SHA-256-PLUS";

/// What the log-in is bound to (RFC 5802, section 6).
pub(super) enum Binding {
    /// Nothing: this client cannot here, or does not want to.
    None,
    /// Nothing, because the server does not offer it.
    NotOffered,
    /// The server's certificate, by its digest.
    EndPoint(Vec<u8>),
}

impl Binding {
    /// How the first message begins.
    fn header(&self) -> &'static str {
        match self {
            Self::None => "n,,",
            Self::NotOffered => "y,,",
            Self::EndPoint(_) => "p=tls-server-end-point,,",
        }
    }

    /// What is repeated under the proof.
    fn repeated(&self) -> String {
        let mut bytes = self.header().as_bytes().to_vec();
        if let Self::EndPoint(digest) = self {
            bytes.extend(digest);
        }
        STANDARD.encode(bytes)
    }
}

/// A log-in under way.
pub(super) struct Scram {
    password: Zeroizing<String>,
    nonce: String,
    binding: Binding,
    expected: Option<hmac::Tag>,
    finished: bool,
}

impl Scram {
    /// With a password, prepared as RFC 4013 says where it can be.
    pub fn new(password: &str, binding: Binding) -> Result<Self, String> {
        let mut nonce = [0; 18];
        rand::fill(&mut nonce).map_err(|_| "the operating system gave no random bytes".to_string())?;
        Ok(Self::with_nonce(password, STANDARD.encode(nonce), binding))
    }

    fn with_nonce(password: &str, nonce: String, binding: Binding) -> Self {
        // Servers take a password that cannot be prepared as it is.
        let prepared = stringprep::saslprep(password).map_or(password.into(), |prepared| prepared);
        Self {
            password: Zeroizing::new(prepared.into_owned()),
            nonce,
            binding,
            expected: None,
            finished: false,
        }
    }

    /// Whether it is bound to the connection.
    pub fn is_bound(&self) -> bool {
        matches!(self.binding, Binding::EndPoint(_))
    }

    /// Whether the server has proved that it knows the password too.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// The first message. The name is left out, because the startup message said it.
    pub fn first(&self) -> String {
        format!("{}{}", self.binding.header(), self.first_bare())
    }

    fn first_bare(&self) -> String {
        format!("n=,r={}", self.nonce)
    }

    /// The answer to the server's first message.
    pub fn respond(&mut self, challenge: &[u8]) -> Result<String, String> {
        let challenge = std::str::from_utf8(challenge).map_err(|_| "its challenge is no text".to_string())?;
        let (mut nonce, mut salt, mut rounds) = (None, None, None);
        for part in challenge.split(',') {
            match part.split_once('=') {
                Some(("r", value)) => nonce = Some(value),
                Some(("s", value)) => salt = STANDARD.decode(value).ok(),
                Some(("i", value)) => rounds = value.parse::<u32>().ok(),
                Some(("m", _)) => return Err("it demands an extension of SCRAM".into()),
                _ => {}
            }
        }
        let (Some(nonce), Some(salt), Some(rounds)) = (nonce, salt, rounds) else {
            return Err("its challenge is not complete".into());
        };
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err("its challenge is not an answer to what was sent".into());
        }
        let Some(rounds) = NonZeroU32::new(rounds).filter(|rounds| rounds.get() <= MOST_ROUNDS) else {
            return Err(format!("it demands {rounds} rounds of hashing"));
        };
        let mut salted = Zeroizing::new([0; 32]);
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            rounds,
            &salt,
            self.password.as_bytes(),
            &mut *salted,
        );
        let sign = |key: &[u8], text: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text);
        let client_key = sign(&*salted, b"Client Key");
        let stored_key = digest::digest(&digest::SHA256, client_key.as_ref());
        let without_proof = format!("c={},r={nonce}", self.binding.repeated());
        let message = format!("{},{challenge},{without_proof}", self.first_bare());
        let signature = sign(stored_key.as_ref(), message.as_bytes());
        let proof: Vec<u8> = client_key
            .as_ref()
            .iter()
            .zip(signature.as_ref())
            .map(|(a, b)| a ^ b)
            .collect();
        let server_key = sign(&*salted, b"Server Key");
        self.expected = Some(sign(server_key.as_ref(), message.as_bytes()));
        Ok(format!("{without_proof},p={}", STANDARD.encode(proof)))
    }

    /// Checks that the server knows the password too.
    pub fn finish(&mut self, last: &[u8]) -> Result<(), String> {
        let text = std::str::from_utf8(last).unwrap_or_default();
        let given = text
            .split(',')
            .find_map(|part| part.strip_prefix("v="))
            .and_then(|value| STANDARD.decode(value).ok());
        match (given, &self.expected) {
            (Some(given), Some(expected))
                if constant_time::verify_slices_are_equal(&given, expected.as_ref()).is_ok() =>
            {
                self.finished = true;
                Ok(())
            }
            _ => Err("it did not prove that it knows the password".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7677, section 3, but for the name, which PostgreSQL leaves out: the proofs follow from it.
    #[test]
    fn a_log_in_proves_both_sides_to_each_other() {
        let mut client = Scram::with_nonce("pencil", "rOprNGfwEbeRWgbNEkqO".into(), Binding::None);
        assert_eq!(client.first(), "n,,n=,r=rOprNGfwEbeRWgbNEkqO");
        let challenge =
            b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let answer = client.respond(challenge).unwrap();
        let (text, proof) = answer.split_once(",p=").unwrap();
        assert_eq!(
            text,
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
        );

        // What a server does, which knows StoredKey and ServerKey only (RFC 5802, section 3).
        let mut salted = [0; 32];
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let rounds = NonZeroU32::new(4096).unwrap();
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, &salt, b"pencil", &mut salted);
        let sign = |key: &[u8], text: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text);
        let stored = digest::digest(&digest::SHA256, sign(&salted, b"Client Key").as_ref());
        let server_key = sign(&salted, b"Server Key");
        let message = format!(
            "n=,r=rOprNGfwEbeRWgbNEkqO,{},{text}",
            std::str::from_utf8(challenge).unwrap()
        );
        let signature = sign(stored.as_ref(), message.as_bytes());
        let proof = STANDARD.decode(proof).unwrap();
        let recovered: Vec<u8> = proof.iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
        assert_eq!(
            digest::digest(&digest::SHA256, &recovered).as_ref(),
            stored.as_ref()
        );
        let verdict = sign(server_key.as_ref(), message.as_bytes());
        let last = format!("v={}", STANDARD.encode(verdict.as_ref()));
        assert_eq!(client.finish(last.as_bytes()), Ok(()));
        assert!(client.finish(b"v=AAAA").is_err());
        assert!(client.finish(b"e=other-error").is_err());
    }

    #[test]
    fn challenges_that_are_not_meant_well_are_refused() {
        for wrong in [
            "",
            "r=abc,s=AAAA,i=4096",
            "r=mine,s=AAAA,i=4096",
            "r=minemore,s=AAAA,i=0",
            "r=minemore,s=AAAA,i=4000000000",
            "r=minemore,s=?,i=1",
            "m=x,r=minemore,s=AAAA,i=1",
        ] {
            let mut client = Scram::with_nonce("p", "mine".into(), Binding::None);
            assert!(client.respond(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
