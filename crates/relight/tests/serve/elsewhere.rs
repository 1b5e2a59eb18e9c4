//! Another host, from which a server is asked: what it knows of the server is an address, a fingerprint and a secret.

use std::fs;
use std::process::Output;

use serde_json::Value;

use super::lab::{Lab, Running};

/// Another host, and who asks.
pub struct Elsewhere<'l> {
    pub lab: &'l Lab,
    pub server: String,
    pub fingerprint: String,
    secret: String,
}

impl<'l> Elsewhere<'l> {
    /// With a token, by the header that sends it.
    pub fn new(lab: &'l Lab, server: &Running, header: &str, who: &str) -> Self {
        let secret = header.rsplit(':').next().unwrap();
        fs::write(lab.path("token"), format!("{secret}\n")).unwrap();
        Self {
            lab,
            server: format!("https://{who}@{}", server.address),
            fingerprint: server.fingerprint.clone(),
            secret: "token".into(),
        }
    }

    /// As a user with the password of all users.
    pub fn as_user(&self, who: &str) -> Self {
        let (_, address) = self.server.rsplit_once('@').unwrap();
        Self {
            server: format!("https://{who}@{address}"),
            fingerprint: self.fingerprint.clone(),
            secret: "user-password".into(),
            ..*self
        }
    }

    pub fn output(&self, arguments: &[&str]) -> Output {
        self.lab
            .command(arguments)
            .env_remove("RELIGHT_REPOSITORY")
            .env_remove("RELIGHT_PASSWORD_FILE")
            .env_remove("RELIGHT_CONFIG")
            .env("RELIGHT_SERVER", &self.server)
            .env("RELIGHT_FINGERPRINT", &self.fingerprint)
            .env("RELIGHT_TOKEN_FILE", self.lab.path(&self.secret))
            // An editor for tests: what it does is said by the test.
            .env("EDITOR", self.lab.path("editor"))
            .env_remove("VISUAL")
            .env("TMPDIR", self.lab.folder.path())
            .output()
            .unwrap()
    }

    /// Runs a command that ends with a code; gives what it printed and said.
    #[track_caller]
    pub fn ends(&self, code: i32, arguments: &[&str]) -> (String, String) {
        let output = self.output(arguments);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let (printed, said) = (text(output.stdout), text(output.stderr));
        let line = arguments.join(" ");
        assert_eq!(
            output.status.code(),
            Some(code),
            "relight {line}: {printed}\n{said}"
        );
        (printed, said)
    }

    #[track_caller]
    pub fn ok(&self, arguments: &[&str]) -> String {
        self.ends(0, arguments).0
    }

    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.ok(&[arguments, &["--json"]].concat())).unwrap()
    }
}
