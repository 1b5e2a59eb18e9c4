//! `relight runs` of another host's server.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http::Method;
use relight_server::state::{Run, RunEvent};
use serde::Deserialize;
use serde_json::Value;

use super::{Detailed, ListOptions, Listed};
use crate::api::{Api, is_passing, parameter, read};
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::{cancel, output};

/// How often it is asked how far a run is.
const LOOK: Duration = Duration::from_millis(700);
/// So long a server may be away while a run is followed: it may be restarted.
const AWAY: Duration = Duration::from_secs(90);

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Told {
    #[serde(flatten)]
    run: Run,
    events: Vec<RunEvent>,
    more_events: Option<u64>,
}

pub(super) fn list(global: &Global, options: &ListOptions, api: &Api) -> Result<Exit> {
    if options.since.is_some() || options.until.is_some() {
        return Err(Failure::Usage(
            "--since and --until are for the server's own host; page with --before and -n".into(),
        ));
    }
    let mut query = Vec::new();
    query.extend(parameter("workload", options.workload.as_ref()));
    query.extend(parameter("kind", options.kind.map(|kind| kind.name())));
    query.extend(parameter(
        "outcome",
        options.outcome.map(|outcome| outcome.name()),
    ));
    query.extend(options.running.then(|| ("running", "true".to_string())));
    let mut data = api.newest("/runs", &query, options.before, options.limit)?;
    data.reverse();
    let runs = data.iter().map(read::<Run>).collect::<Result<Vec<_>>>()?;
    let listed = Listed {
        runs,
        clock_alarm: None,
    };
    output::result(global, &data, |_, out| super::table(&listed, out));
    Ok(Exit::Done)
}

/// A run, and its events from one on, over as many pages as they take.
fn one(api: &Api, number: u64, from: u64) -> Result<(Value, Run, Vec<RunEvent>)> {
    let path = format!("/runs/{number}");
    let at = |from: u64| api.get(&path, &[("from", from.to_string())]);
    let mut data = at(from)?;
    let told: Told = read(&data)?;
    let (run, mut events, mut more, mut from) = (told.run, told.events, told.more_events, from);
    while let Some(next) = more.filter(|next| *next > from) {
        let page = at(next)?;
        let told: Told = read(&page)?;
        if let (Some(all), Some(page)) = (data["events"].as_array_mut(), page["events"].as_array()) {
            all.extend(page.iter().cloned());
        }
        events.extend(told.events);
        (more, from) = (told.more_events, next);
    }
    data["more-events"] = Value::Null;
    Ok((data, run, events))
}

pub(super) fn show(global: &Global, number: u64, api: &Api) -> Result<Exit> {
    let (data, run, events) = one(api, number, 0)?;
    let detailed = Detailed { run, events };
    output::result(global, &data, |_, out| super::detailed_words(&detailed, out));
    Ok(Exit::Done)
}

pub(super) fn cancel(global: &Global, number: u64, api: &Api) -> Result<Exit> {
    api.ask(Method::POST, &format!("/runs/{number}/cancel"), None)?;
    output::remark(global, &format!("asked the server to end run {number}"));
    Ok(Exit::Done)
}

/// Shows what happens until a run has ended, and then what came of it.
pub fn follow(global: &Global, number: u64, api: &Api) -> Result<Exit> {
    let (cancelled, mut shown) = (cancel::flag(), 0);
    let mut heard = Instant::now();
    loop {
        match one(api, number, shown) {
            Ok((mut data, run, events)) => {
                heard = Instant::now();
                for event in &events {
                    output::remark(global, &event.text);
                }
                shown = shown.saturating_add(events.len() as u64);
                if run.outcome.is_some() {
                    // All that the server tells of it but its events, which were shown.
                    if let Some(fields) = data.as_object_mut() {
                        fields.remove("events");
                        fields.remove("more-events");
                    }
                    output::result(global, &data, |_, out| super::words(&run, out));
                    return Ok(super::exit_of(&run));
                }
            }
            Err(failure) if is_passing(&failure) && heard.elapsed() < AWAY => {}
            Err(failure) => return Err(failure),
        }
        if cancelled.load(Ordering::Relaxed) {
            output::remark(
                global,
                &format!("it goes on; `relight runs cancel {number}` ends it"),
            );
            return Ok(Exit::Cancelled);
        }
        std::thread::sleep(LOOK);
    }
}
