//! Keys of the server's repositories: a data key is rotated while the server runs; keys are given away with the approval of a second
//! person.

use std::fs;

use serde_json::{Value, json};

use super::lab::Lab;

#[tokio::test(flavor = "multi_thread")]
async fn a_running_server_follows_a_rotation_of_keys() {
    let lab = Lab::new();
    lab.user("bkup@pbs", "DatastoreAdmin", "/datastore/main");
    let header = lab.token("bkup@pbs!tok1", "DatastoreAdmin", "/datastore/main");
    fs::write(lab.path("secret"), header.rsplit_once(':').unwrap().1).unwrap();
    let server = lab.serve();
    let address = format!("https://bkup@pbs!tok1@{}/main", server.address);
    let image = |fill: u8| fs::write(lab.path("disk.raw"), vec![fill; 5 << 20]).unwrap();
    let to_server = |workload: &str| {
        let trust = ["--fingerprint", &server.fingerprint, "--workload", workload];
        let what = ["--token-file", "secret", "--image", "disk.raw"];
        lab.json(&[&["backup", "--server", &address], &trust[..], &what].concat())
    };
    image(1);
    to_server("host/before");

    lab.ok(&["key", "rotate"]);
    image(2);
    lab.ok(&["backup", "--workload", "host/beside", "--image", "disk.raw"]);
    let groups = server.get("admin/datastore/main/groups", &[&header]).await;
    let listed = groups.data().as_array().unwrap().len();
    assert_eq!(listed, 2, "what was sealed under the new key is listed");

    image(3);
    to_server("host/after");
    let uses = lab.json(&["key", "uses"]);
    let current = uses.as_array().or_else(|| uses["keys"].as_array()).unwrap();
    let current = current.iter().find(|key| key["current"] == true).unwrap();
    assert_eq!(
        current["snapshots"],
        Value::from(2),
        "the server seals under the new key: {uses}"
    );
    for (workload, fill) in [("host/before", 1), ("host/beside", 2), ("host/after", 3)] {
        let target = workload.replace('/', "-");
        lab.ok(&["restore", &format!("{workload}@latest"), "--to", &target]);
        let back = fs::read(lab.path(&target).join("disk.img")).unwrap();
        assert!(back == vec![fill; 5 << 20], "{workload}");
    }
    server.stop();
}

#[tokio::test]
async fn a_recovery_key_is_given_away_once_and_with_approval() {
    let lab = Lab::new();
    let text = fs::read_to_string(lab.path("relight.toml")).unwrap();
    fs::write(
        lab.path("relight.toml"),
        format!("{text}[approvals]\nrequired = ['keys']\n"),
    )
    .unwrap();
    lab.user("otto@pbs", "KeyOfficer", "/");
    lab.user("anna@pbs", "Approver", "/");
    lab.user("paul@pbs", "KeyOfficer", "/");
    let (otto, paul) = (
        lab.token("otto@pbs!t", "KeyOfficer", "/"),
        lab.token("paul@pbs!t", "KeyOfficer", "/"),
    );
    let server = lab.serve();
    let path = "/api/v1/keys/main/recovery";
    let body = json!({"label": "the safe"}).to_string();
    let ask = async |who: &str| server.ask_at("POST", path, &[who], &body).await;
    let approve = |number: &str| {
        let by = ["--as", "anna@pbs", "--user-password-file", "user-password"];
        lab.ok(&[&["approval", "approve", number], &by[..]].concat())
    };
    let asked = ask(&otto).await;
    assert_eq!(asked.status, 409, "{}", asked.text());
    assert!(asked.text().contains("request 1"), "{}", asked.text());
    assert!(approve("1").contains("make a recovery key \"the safe\" that opens the repository main"));
    // What was approved is for the one who asked, for this label, and once.
    assert_eq!(ask(&paul).await.status, 409);
    let other = json!({"label": "at home"}).to_string();
    assert_eq!(server.ask_at("POST", path, &[&otto], &other).await.status, 409);
    let given = ask(&otto).await.data();
    assert_eq!(ask(&otto).await.status, 409);
    fs::write(lab.path("page"), given["page"].as_str().unwrap()).unwrap();
    fs::write(lab.path("code"), given["key"].as_str().unwrap()).unwrap();
    for file in ["page", "code"] {
        let tested = lab
            .command(&["key", "test", "--json", "--recovery-key-file", file])
            .env_remove("RELIGHT_PASSWORD_FILE")
            .output()
            .unwrap();
        let tested: Value = serde_json::from_slice(&tested.stdout).unwrap();
        assert_eq!(tested[0]["id"], given["id"], "{file}: {tested}");
    }
    assert_eq!(server.stop().0, 0);
    let told = lab.ok(&["evidence", "list", "--json"]);
    assert!(
        told.contains("made a recovery key of main and gave it away"),
        "{told}"
    );
    assert!(told.contains(given["fingerprint"].as_str().unwrap()), "{told}");
    // Whatever is kept of it, the key is not among it.
    let secret = given["key"].as_str().unwrap();
    let log = fs::read_to_string(lab.path("server.log")).unwrap();
    let audit = lab.ok(&["audit", "-n", "100", "--json"]);
    for kept in [&told, &log, &audit] {
        assert!(!kept.contains(secret) && !kept.contains(&secret[..17]), "{kept}");
    }

    // On the host, too, as long as nobody breaks the glass.
    let make = ["key", "recovery", "--output", "printed"];
    let refused = lab.fails(&make);
    assert!(refused.contains("approval of a second person"), "{refused}");
    assert!(!lab.path("printed").exists());
    let number = refused.split("request ").nth(1).unwrap();
    let number: String = number.chars().take_while(char::is_ascii_digit).collect();
    approve(&number);
    fs::write(lab.path("printed"), "in the way").unwrap();
    lab.fails(&make);
    fs::remove_file(lab.path("printed")).unwrap();
    lab.ok(&make);
    assert!(
        fs::read_to_string(lab.path("printed"))
            .unwrap()
            .contains("Fingerprint:")
    );
    let more = ["key", "add", "--new-key-file", "more.key"];
    let refused = lab.fails(&more);
    assert!(refused.contains("approval of a second person"), "{refused}");
    lab.ok(&["approval", "break-glass", "--reason", "anna is away"]);
    lab.ok(&more);
    let told = lab.ok(&["evidence", "list", "--kind", "approval"]);
    assert!(told.contains("went without approval"), "{told}");
}
