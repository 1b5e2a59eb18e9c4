//! `relight run` of another host's server.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http::Method;
use relight_model::schedule::JobId;
use relight_server::state::Run;
use serde_json::json;

use super::super::runs;
use crate::api::{Api, read};
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::Result;
use crate::{cancel, output};

/// How often it is asked whether the server has begun.
const LOOK: Duration = Duration::from_millis(500);
/// After this time it is told that the server has not.
const PATIENCE: Duration = Duration::from_secs(10);
/// So many runs, the newest ones, are looked through for the one that was asked for.
const NEWEST: u32 = 50;

/// Asks for something of the plan, and waits for it if that is wanted.
pub fn run(global: &Global, job: &JobId, wait: bool, api: &Api) -> Result<Exit> {
    let asked = api.ask(Method::POST, "/runs", Some(&json!({ "job": job })))?;
    let after = asked["after"].as_u64().unwrap_or(0);
    if !wait {
        output::remark(
            global,
            &format!("asked for {job}; `relight runs` shows what becomes of it"),
        );
        if global.json {
            output::result(global, &asked, |_, _| ());
        }
        return Ok(Exit::Done);
    }
    let (cancelled, begun, mut told) = (cancel::flag(), Instant::now(), false);
    loop {
        let newest = api.newest("/runs", &[("kind", job.kind().to_string())], None, NEWEST)?;
        let mut found = None;
        for value in &newest {
            let run: Run = read(value)?;
            if run.number > after && run.job == *job {
                found = Some(run.number);
            }
        }
        if let Some(number) = found {
            output::remark(global, &format!("run {number}: {job}"));
            return runs::over_api::follow(global, number, api);
        }
        if cancelled.load(Ordering::Relaxed) {
            output::remark(
                global,
                "the request stays; `relight runs` shows what becomes of it",
            );
            return Ok(Exit::Cancelled);
        }
        if begun.elapsed() >= PATIENCE && !told {
            told = true;
            output::remark(
                global,
                &format!(
                    "{job} waits: the server begins it when what it has to wait for is done; `relight runs --running`"
                ),
            );
        }
        std::thread::sleep(LOOK);
    }
}
