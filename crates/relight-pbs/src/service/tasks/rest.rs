//! Calls about tasks: list, status, log, stop.

use std::sync::Arc;

use http::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{TaskInfo, Tasks};
use crate::access::{AuthId, Privileges};
use crate::formats::upid::Upid;
use crate::service::http::{Answer, ApiError, ApiResult, Call, Router};

/// Most entries of a list.
const MAX_LIST: u64 = 5000;

/// Adds the routes under `/nodes/{node}/tasks`.
pub fn routes(router: &mut Router, tasks: &Arc<Tasks>) {
    let all = tasks.clone();
    router.on_blocking(Method::GET, "/nodes/{node}/tasks", move |call, wanted: Wanted| {
        list(&all, &call, &wanted)
    });
    let all = tasks.clone();
    router.on_blocking(
        Method::GET,
        "/nodes/{node}/tasks/{upid}/status",
        move |call, one: One| {
            let info = find(&all, &call, &one.upid, Privileges::SYS_AUDIT)?;
            Answer::data(status(&info))
        },
    );
    let all = tasks.clone();
    router.on_blocking(
        Method::GET,
        "/nodes/{node}/tasks/{upid}/log",
        move |call, page: Page| log(&all, &call, &page),
    );
    let all = tasks.clone();
    router.on_blocking(
        Method::DELETE,
        "/nodes/{node}/tasks/{upid}",
        move |call, one: One| {
            find(&all, &call, &one.upid, Privileges::SYS_MODIFY)?;
            all.stop(&one.upid);
            Ok(Answer::null())
        },
    );
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct One {
    #[allow(
        dead_code,
        reason = "part of the path; this server has one node whatever it is called"
    )]
    node: String,
    upid: Upid,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Page {
    #[allow(
        dead_code,
        reason = "part of the path; this server has one node whatever it is called"
    )]
    node: String,
    upid: Upid,
    #[serde(default)]
    start: u64,
    #[serde(default = "fifty")]
    limit: u64,
    #[serde(default)]
    test_status: bool,
    #[serde(default)]
    download: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    #[allow(
        dead_code,
        reason = "part of the path; this server has one node whatever it is called"
    )]
    node: String,
    #[serde(default)]
    start: u64,
    #[serde(default = "fifty")]
    limit: u64,
    store: Option<String>,
    #[serde(default)]
    running: bool,
    #[serde(default)]
    errors: bool,
    userfilter: Option<String>,
    since: Option<i64>,
    until: Option<i64>,
    typefilter: Option<String>,
    #[serde(default)]
    statusfilter: Vec<String>,
}

fn fifty() -> u64 {
    50
}

/// Whether a task is the caller's own, or its token's.
fn is_own(who: &AuthId, info: &TaskInfo) -> bool {
    info.upid.auth_id.parse().is_ok_and(|owner| who.owns_as(&owner))
}

/// A task that the caller may know of.
fn find(tasks: &Tasks, call: &Call, upid: &Upid, privilege: Privileges) -> ApiResult<TaskInfo> {
    let info = tasks.info(upid);
    if !info
        .as_ref()
        .is_some_and(|info| call.who().is_ok_and(|who| is_own(who, info)))
    {
        call.require("/system/tasks", privilege)?;
    }
    info.ok_or_else(|| ApiError::not_found("no such task"))
}

fn status(info: &TaskInfo) -> Value {
    let upid = &info.upid;
    let (user, token) = match upid.auth_id.split_once('!') {
        Some((user, token)) => (user, Some(token)),
        None => (upid.auth_id.as_str(), None),
    };
    let mut status = json!({
        "upid": upid,
        "node": upid.node,
        "pid": upid.pid,
        "pstart": upid.pstart,
        "starttime": upid.start,
        "type": upid.worker_type,
        "id": upid.worker_id,
        "user": user,
        "status": "running",
    });
    if let Some(token) = token {
        status["tokenid"] = token.into();
    }
    if let Some((at, end)) = &info.end {
        status["status"] = "stopped".into();
        status["exitstatus"] = end.text().into();
        status["endtime"] = at.as_second().into();
    }
    status
}

fn entry(info: &TaskInfo) -> Value {
    let upid = &info.upid;
    let mut entry = Map::new();
    entry.insert("upid".into(), upid.to_string().into());
    entry.insert("node".into(), upid.node.clone().into());
    entry.insert("pid".into(), upid.pid.into());
    entry.insert("pstart".into(), upid.pstart.into());
    entry.insert("starttime".into(), upid.start.into());
    entry.insert("worker_type".into(), upid.worker_type.clone().into());
    entry.insert("worker_id".into(), upid.worker_id.clone().into());
    entry.insert("user".into(), upid.auth_id.clone().into());
    if let Some((at, end)) = &info.end {
        entry.insert("endtime".into(), at.as_second().into());
        entry.insert("status".into(), end.text().into());
    }
    Value::Object(entry)
}

fn list(tasks: &Tasks, call: &Call, wanted: &Wanted) -> ApiResult<Answer> {
    let who = call.who()?;
    let sees_all = call.privileges("/system/tasks")?.contains(Privileges::SYS_AUDIT);
    let of_store = |info: &TaskInfo, store: &str| {
        let id = info.upid.worker_id.as_deref().unwrap_or_default();
        id == store
            || id
                .strip_prefix(store)
                .is_some_and(|rest| rest.starts_with([':', '/']))
    };
    let fits_state = |info: &TaskInfo, state: &String| match info.end.as_ref().map(|(_, end)| end) {
        None => false,
        Some(super::End::Ok) => state == "ok",
        Some(super::End::Warnings(_)) => state == "warning",
        Some(super::End::Error(_)) => state == "error",
        Some(super::End::Unknown) => state == "unknown",
    };
    let fits = |info: &TaskInfo| {
        (sees_all || is_own(who, info))
            && (!wanted.running || info.end.is_none())
            && (!wanted.errors || info.end.as_ref().is_some_and(|(_, end)| end.is_error()))
            && wanted.store.as_deref().is_none_or(|store| of_store(info, store))
            && wanted
                .userfilter
                .as_deref()
                .is_none_or(|part| info.upid.auth_id.contains(part))
            && wanted
                .typefilter
                .as_deref()
                .is_none_or(|part| info.upid.worker_type.contains(part))
            && wanted.since.is_none_or(|since| info.upid.start >= since)
            && wanted.until.is_none_or(|until| info.upid.start <= until)
            && (wanted.statusfilter.is_empty()
                || wanted.statusfilter.iter().any(|state| fits_state(info, state)))
    };
    let found: Vec<TaskInfo> = tasks.list().into_iter().filter(fits).collect();
    let limit = if wanted.limit == 0 {
        MAX_LIST
    } else {
        wanted.limit.min(MAX_LIST)
    };
    let skip = usize::try_from(wanted.start).unwrap_or(usize::MAX);
    let page: Vec<Value> = found
        .iter()
        .skip(skip)
        .take(usize::try_from(limit).unwrap_or(usize::MAX))
        .map(entry)
        .collect();
    Ok(Answer::data(page)?.with("total", found.len()))
}

fn log(tasks: &Tasks, call: &Call, wanted: &Page) -> ApiResult<Answer> {
    find(tasks, call, &wanted.upid, Privileges::SYS_AUDIT)?;
    let limit = if wanted.download { 0 } else { wanted.limit };
    let page = tasks
        .log(&wanted.upid, wanted.start, limit)
        .map_err(|error| ApiError::internal(format!("the log cannot be read: {error}")))?
        .ok_or_else(|| ApiError::not_found("no such task"))?;
    if wanted.download {
        let text: String = page.lines.iter().map(|(_, line)| format!("{line}\n")).collect();
        return Ok(Answer::bytes(text));
    }
    let lines: Vec<Value> = page.lines.iter().map(|(n, t)| json!({"n": n, "t": t})).collect();
    let mut answer = Answer::data(lines)?.with("total", page.total).with("success", 1);
    if wanted.test_status {
        answer = answer.with("active", page.active);
    }
    Ok(answer)
}
