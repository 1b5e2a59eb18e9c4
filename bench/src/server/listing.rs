//! Lists of what a server has: a repository with many small snapshots, and what the tasks of the server say.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use relight_pbs::client::Client;
use relight_repo::session::Session;
use relight_repo::snapshot::{ArchiveKind, SnapshotSpec};
use serde_json::{Value, json};

use super::lab::{Lab, Server};
use super::reading;
use crate::failure::{Doing, Failure, Result};

/// Days between the snapshots of a group, in seconds.
const DAY: i64 = 86_400;
/// 2026-01-01T00:00:00Z.
const FIRST: i64 = 1_767_225_600;

/// Publishes snapshots of small content, spread over groups.
pub fn fill(lab: &Lab, snapshots: u64, groups: u64) -> Result<()> {
    let doing = || "make snapshots".to_owned();
    let repository = Arc::new(lab.repository()?);
    let session = Session::begin(repository, Arc::new(AtomicBool::new(false))).doing(doing)?;
    for number in 0..snapshots {
        let second = FIRST + (number / groups) as i64 * DAY + (number % groups) as i64;
        let time = jiff::Timestamp::from_second(second).doing(doing)?;
        let mut archive = session.archive("disk.img", ArchiveKind::Image).doing(doing)?;
        archive
            .push_chunk(number.to_le_bytes().repeat(512))
            .doing(doing)?;
        let archive = archive.finish().doing(doing)?;
        let spec = SnapshotSpec {
            workload: format!("vm/{}", 100 + number % groups),
            time: Some(time),
            ..SnapshotSpec::default()
        };
        session.publish(spec, vec![archive]).doing(doing)?;
    }
    Ok(())
}

fn ask(client: &Client, runtime: &tokio::runtime::Runtime, path: &str, parameters: &Value) -> Result<Value> {
    let method = "GET".parse().doing(|| "ask".to_owned())?;
    runtime
        .block_on(client.rest(method, path, parameters))
        .doing(|| format!("ask for {path}"))
}

/// Seconds for the first and for a later list of all snapshots and groups, over TLS, each twice: with the connection made
/// before.
pub fn measure(server: &Server) -> Result<[f64; 2]> {
    let runtime = tokio::runtime::Runtime::new().doing(|| "start threads".to_owned())?;
    let client = reading::client(&reading::Options::from_words(server.words())?)?;
    ask(&client, &runtime, "/version", &json!({}))?;
    let mut seconds = [0.0; 2];
    for seconds in &mut seconds {
        let began = Instant::now();
        for what in ["snapshots", "groups"] {
            ask(
                &client,
                &runtime,
                &format!("/admin/datastore/main/{what}"),
                &json!({}),
            )?;
        }
        *seconds = began.elapsed().as_secs_f64();
    }
    Ok(seconds)
}

/// Chunks that the last reader asked for, and how many of them were read ahead, as the log of its task says.
pub fn read_ahead(server: &Server) -> Result<(u64, u64)> {
    let runtime = tokio::runtime::Runtime::new().doing(|| "start threads".to_owned())?;
    let client = reading::client(&reading::Options::from_words(server.words())?)?;
    for _ in 0..100 {
        let tasks = ask(
            &client,
            &runtime,
            "/nodes/localhost/tasks",
            &json!({"typefilter": "reader"}),
        )?;
        let ended = tasks
            .as_array()
            .into_iter()
            .flatten()
            .find(|task| !task["endtime"].is_null());
        if let Some(upid) = ended.and_then(|task| task["upid"].as_str()) {
            let log = ask(
                &client,
                &runtime,
                &format!("/nodes/localhost/tasks/{}/log", encoded(upid)),
                &json!({}),
            )?;
            let lines = log
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|line| line["t"].as_str());
            for line in lines {
                let numbers: Vec<u64> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
                if let (&[chunks, ahead], true) = (&numbers[..], line.contains("ahead")) {
                    return Ok((chunks, ahead));
                }
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    Err(Failure::new("no task of the server says what was read ahead"))
}

/// A UPID in a path.
fn encoded(upid: &str) -> String {
    upid.replace('%', "%25").replace('\\', "%5C").replace('/', "%2F")
}
