//! A data key is rotated while the server runs.

use std::fs;

use serde_json::Value;

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
