//! What the server tells of how it stands.

use std::io::Write;
use std::process::{Command, Stdio};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::lab::{Lab, Running};

const PLAN: &str = r#"
[policy.files]
schedule = "2027-01-01 02:00"
method = "files"
repository = "main"
retention = { keep-last = 2 }
rpo = "24 h"
rto = "1 h"
[[workload]]
name = "host/web"
policy = "files"
source = { paths = ["DATA"] }
"#;

/// Status and body of a path outside the protocol.
async fn get(server: &Running, path: &str, header: &str) -> (u16, String) {
    let mut stream = server.connect().await;
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{header}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    if status == 200 {
        assert!(
            head.to_lowercase()
                .contains("content-type: text/plain; version=0.0.4"),
            "{head}"
        );
    }
    (status, body.to_string())
}

/// What Prometheus' own tool says of it, where that is installed (scripts/test does).
fn check(metrics: &str) {
    let command = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = command else { return };
    child.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}

#[tokio::test]
async fn metrics_are_for_those_who_may_see_the_server() {
    let lab = Lab::new();
    std::fs::create_dir(lab.path("data")).unwrap();
    let plan = PLAN.replace("DATA", lab.path("data").to_str().unwrap());
    let config = std::fs::read_to_string(lab.path("relight.toml")).unwrap();
    std::fs::write(lab.path("relight.toml"), config + &plan).unwrap();
    lab.user("eye@pbs", "Audit", "/");
    lab.user("pve@pbs", "DatastoreBackup", "/datastore/main");
    let may = lab.token("eye@pbs!prometheus", "Audit", "/") + "\r\n";
    let may_not = lab.token("pve@pbs!node", "DatastoreBackup", "/datastore/main") + "\r\n";
    let server = lab.serve();

    let (status, before) = get(&server, "/metrics", &may).await;
    assert_eq!(status, 200, "{before}");
    check(&before);
    let met = "relight_workload_rpo_met{workload=\"host/web\",policy=\"files\"}";
    assert!(before.contains(&format!("{met} 0\n")), "{before}");
    assert_eq!(get(&server, "/metrics", "").await.0, 401);
    assert_eq!(get(&server, "/metrics", &may_not).await.0, 403);

    lab.ok(&["run", "host/web"]);
    let (_, after) = get(&server, "/metrics", &may).await;
    assert!(after.contains(&format!("{met} 1\n")), "{after}");
    assert!(
        after.contains("relight_runs_ended_total{kind=\"backup\",outcome=\"good\"} 1\n"),
        "{after}"
    );
    assert!(
        after.contains("relight_repository_used_bytes{repository=\"main\"} "),
        "{after}"
    );
}
