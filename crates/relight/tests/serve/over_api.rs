//! The commands that ask another host's server: the real program against the real server, by a token, with nothing of the
//! server's own files at hand.

use std::fs;
use std::process::Output;

use serde_json::Value;

use super::lab::{Lab, Running};
use super::runs::PLAN;

/// Another host: what it knows of the server is an address, a fingerprint and a token.
struct Elsewhere<'l> {
    lab: &'l Lab,
    server: String,
    fingerprint: String,
}

impl<'l> Elsewhere<'l> {
    fn new(lab: &'l Lab, server: &Running, header: &str, who: &str) -> Self {
        let secret = header.rsplit(':').next().unwrap();
        fs::write(lab.path("token"), format!("{secret}\n")).unwrap();
        Self {
            lab,
            server: format!("https://{who}@{}", server.address),
            fingerprint: server.fingerprint.clone(),
        }
    }

    fn output(&self, arguments: &[&str]) -> Output {
        self.lab
            .command(arguments)
            .env_remove("RELIGHT_REPOSITORY")
            .env_remove("RELIGHT_PASSWORD_FILE")
            .env_remove("RELIGHT_CONFIG")
            .env("RELIGHT_SERVER", &self.server)
            .env("RELIGHT_FINGERPRINT", &self.fingerprint)
            .env("RELIGHT_TOKEN_FILE", self.lab.path("token"))
            .output()
            .unwrap()
    }

    /// Runs a command that ends with a code; gives what it printed and said.
    #[track_caller]
    fn ends(&self, code: i32, arguments: &[&str]) -> (String, String) {
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
    fn ok(&self, arguments: &[&str]) -> String {
        self.ends(0, arguments).0
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.ok(&[arguments, &["--json"]].concat())).unwrap()
    }
}

#[test]
fn runs_are_asked_for_and_looked_at_from_elsewhere() {
    let lab = Lab::with_plan(PLAN);
    lab.user("jane@pbs", "Admin", "/");
    let header = lab.token("jane@pbs!script", "Admin", "/");
    let server = lab.serve();
    let far = Elsewhere::new(&lab, &server, &header, "jane@pbs!script");

    let (_, said) = far.ends(4, &["overview", "--strict"]);
    assert_eq!(said, "");
    let (printed, said) = far.ends(0, &["run", "host/web"]);
    assert!(
        printed.contains("outcome    good") && said.contains("run 1: backup host/web"),
        "{printed}{said}"
    );
    let overview = far.json(&["overview"]);
    assert_eq!(overview["workloads"][0]["health"], "unproven", "{overview:#}");
    assert!(far.ok(&["overview"]).contains("unproven  host/web  files"));

    let run = far.json(&["run", "drill", "host/web"]);
    assert_eq!((&run["number"], &run["outcome"]), (&2.into(), &"good".into()));
    let listed = far.json(&["runs", "--kind", "backup"]);
    assert_eq!(
        (listed.as_array().unwrap().len(), &listed[0]["number"]),
        (1, &1.into())
    );
    // What is told on the server's own host, in the same words.
    assert_eq!(far.ok(&["runs"]), lab.ok(&["runs"]));
    assert_eq!(far.ok(&["runs", "show", "2"]), lab.ok(&["runs", "show", "2"]));
    assert_eq!(
        far.json(&["runs", "follow", "2"])["snapshot"],
        listed[0]["snapshot"]
    );

    let records = far.json(&["evidence", "list", "--kind", "run"]);
    assert_eq!(records, lab.json(&["evidence", "list", "--kind", "run"]));
    fs::create_dir(lab.path("reports")).unwrap();
    let period = ["report", "compliance", "--from", "2026-01-01"];
    let report = far.json(&[&period[..], &["--format", "pdf", "-o", "reports"]].concat());
    assert_eq!(report["whole"], true, "{report:#}");
    let written = fs::read_dir(lab.path("reports"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    assert!(written.file_name().to_str().unwrap().ends_with(".pdf"));
    assert!(fs::read(written.path()).unwrap().starts_with(b"%PDF-"));

    // What makes no sense is told in the server's words, and by the exit code.
    for (code, arguments, says) in [
        (1, &["run", "backup", "host/other"][..], "not in the plan"),
        (1, &["runs", "cancel", "1"], "has ended already"),
        (1, &["runs", "show", "77"], "there is no run 77"),
        (1, &["runs", "--since", "2026-01-01T00:00:00Z"], "--before"),
        (1, &["api", "GET", "/nothing"], "not found"),
        (1, &["api", "POST", "/runs", "--data", "{"], "no JSON (line 1"),
        (2, &["api", "PATCH", "/runs"], "GET, POST, PUT, DELETE"),
        (
            2,
            &["runs", "--server", "https://h:8007"],
            "user@realm!token@host",
        ),
    ] {
        let (_, said) = far.ends(code, arguments);
        assert!(said.contains(says), "{arguments:?}: {said}");
    }

    // Any call.
    let asked = far.json(&["api", "POST", "runs", "--data", r#"{"job": "verify host/web"}"#]);
    assert_eq!(asked["data"]["job"], "verify host/web");
    far.ok(&["api", "get", "/api/v1/openapi.json", "-o", "openapi.json"]);
    let described: Value = serde_json::from_slice(&fs::read(lab.path("openapi.json")).unwrap()).unwrap();
    assert_eq!(described["openapi"], "3.1.0");
    server.stop();
    let (_, said) = far.ends(1, &["overview"]);
    assert!(said.contains("cannot connect to 127.0.0.1"), "{said}");
}

#[test]
fn whoever_is_not_known_or_may_not_is_told_so() {
    let lab = Lab::with_plan(PLAN);
    lab.user("jane@pbs", "DatastoreReader", "/datastore/main");
    let header = lab.token("jane@pbs!script", "DatastoreReader", "/datastore/main");
    let server = lab.serve();
    let mut far = Elsewhere::new(&lab, &server, &header, "jane@pbs!script");
    let (_, said) = far.ends(1, &["run", "host/web"]);
    assert!(said.contains("Runs.Ask") || said.contains("privilege"), "{said}");
    // A password in the place of a token's secret.
    fs::copy(lab.path("user-password"), lab.path("token")).unwrap();
    let (_, said) = far.ends(1, &["overview"]);
    assert!(said.contains("the secret is another"), "{said}");
    far.server = far.server.replace("!script", "");
    assert!(far.ok(&["overview"]).contains("host/web"));
    // Another certificate.
    far.fingerprint = far.fingerprint.replace(|c: char| c.is_ascii_digit(), "0");
    let (_, said) = far.ends(1, &["overview"]);
    assert!(said.contains("is not trusted"), "{said}");
    fs::remove_file(lab.path("token")).unwrap();
    let (_, said) = far.ends(1, &["overview"]);
    assert!(!said.contains("Secret12345"), "{said}");
}
