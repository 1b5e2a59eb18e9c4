//! `/restores/cluster`: a database cluster to a moment, into a new folder of the server, in two steps like other restores; and the
//! windows from which the moment is chosen.

use std::path::Path;

use aws_lc_rs::digest::SHA256;
use http::{Method, StatusCode};
use relight_model::ByteSize;
use relight_model::plan::Method as Captured;
use relight_pbs::access::{Pass, Privileges};
use relight_pbs::service::http::{Answer, ApiError, ApiResult, Call};
use relight_postgres::PostgresError;
use relight_postgres::kind::Source;
use relight_postgres::restore::{Goal, Needed, Stored, goal_time, refuse_tablespaces, user_and_group};
use relight_workloads::bring_back::Folder;
use relight_workloads::kind::{Subject, Work};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::operation::{Operation, Place, Table};
use super::point::{places, unreadable};
use super::restores::{expected, place, require_room, start, target_refused};
use super::sight::Sight;
use super::{Desk, schema};
use crate::kinds;
use crate::runs::restores::{Cluster, Existing, Restore};

pub(super) fn operations(table: &mut Table<'_>) {
    let windows = schema::object(vec![
        ("repository", schema::text()),
        ("windows", schema::maybe(schema::windows())),
    ]);
    let list = Operation::get(
        "/api/v1/workloads/{name}/windows",
        "From when to when a workload that keeps a log can be recovered to any moment, by repository; needs Datastore.Read",
        schema::list(windows),
    )
    .with("name", Place::Path, schema::text(), "such as pg%2Fmain");
    table.add(list, list_windows);
    let asked = |operation: Operation| {
        operation
            .with("workload", Place::Body, schema::text(), "such as pg/main")
            .with(
                "goal",
                Place::Body,
                schema::text(),
                "latest, immediate (the end of the newest base backup), or a time with its offset, such as 2026-11-23T07:15:00Z",
            )
            .with(
                "to",
                Place::Body,
                schema::text(),
                "the data directory: a new or empty folder below one of the roots of the configuration",
            )
    };
    let plan = Operation::of(
        Method::POST,
        "/api/v1/restores/cluster/plan",
        "What restoring a PostgreSQL cluster to a moment would do; refused with what can be recovered if the moment is not in a \
         window. Nothing is changed; needs Datastore.Read and Restore.Place",
        schema::object(vec![
            ("digest", schema::text()),
            ("workload", schema::text()),
            ("repository", schema::text()),
            ("snapshot", schema::text()),
            ("time", schema::time()),
            ("goal", schema::text()),
            (
                "window",
                schema::maybe(schema::object(vec![
                    ("from", schema::time()),
                    ("to", schema::time()),
                ])),
            ),
            ("to", schema::text()),
            ("files", schema::count()),
            ("bytes", schema::count()),
            ("log-bytes", schema::count()),
            ("free", schema::maybe(schema::count())),
            ("forecast-seconds", schema::maybe(json!({"type": "number"}))),
            ("forecast-rests-on", schema::count()),
            ("warnings", schema::list(schema::text())),
        ]),
    );
    table.add(asked(plan), plan_only);
    let confirm = Operation::of(
        Method::POST,
        "/api/v1/restores/cluster",
        "Restore the cluster as it was planned; refused with 409 if the plan would be another one by now",
        schema::object(vec![("run", schema::count())]),
    );
    let confirm = asked(confirm).with(
        "digest",
        Place::Body,
        schema::text(),
        "that of the plan that was looked at",
    );
    table.add(confirm, begin);
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct One {
    name: String,
}

fn list_windows(desk: &Desk, call: &Call, one: One) -> ApiResult<Answer> {
    let (workload, repositories) = places(desk, call, &one.name)?;
    let planned = desk.board.planned();
    let method = planned
        .plan
        .workload(&workload)
        .and_then(|entry| kinds::method(&planned.plan, entry));
    let Some(log) = method.and_then(kinds::of).and_then(|kind| kind.log()) else {
        return Answer::data(json!([]));
    };
    let mut list: Vec<Value> = Vec::new();
    for repository in &repositories {
        let Some(datastore) = desk.context.datastores.get(repository) else {
            continue;
        };
        let windows = log
            .windows(&datastore.repository(), &workload)
            .map_err(|error| unreadable(repository, &error))?;
        list.push(json!({"repository": repository, "windows": windows}));
    }
    Answer::data(list)
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    workload: String,
    goal: String,
    to: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Confirmed {
    workload: String,
    goal: String,
    to: String,
    digest: String,
}

struct Planned {
    restore: Restore,
    goal: Goal,
    needed: Needed,
    free: Option<u64>,
    digest: String,
    warnings: Vec<String>,
}

impl Planned {
    fn bytes(&self) -> u64 {
        self.needed.bytes.saturating_add(self.needed.log)
    }
}

fn refused(error: PostgresError) -> ApiError {
    match error {
        PostgresError::Refused(why) => ApiError::bad_request(why),
        other => {
            tracing::warn!("planning to restore a cluster: {other}");
            ApiError::internal(format!("the cluster's backups cannot be read: {other}"))
        }
    }
}

fn goal_of(text: &str) -> ApiResult<Goal> {
    match text {
        "latest" => Ok(Goal::Latest),
        "immediate" => Ok(Goal::Immediate),
        time => goal_time(time).map(Goal::Time).map_err(refused),
    }
}

fn plan(desk: &Desk, call: &Call, asked: &Asked) -> ApiResult<Planned> {
    let (workload, repositories) = places(desk, call, &asked.workload)?;
    let running = desk.board.planned();
    let sight = Sight::new(call, &running.plan);
    let entry = running.plan.workload(&workload);
    let entry = entry
        .filter(|entry| kinds::method(&running.plan, entry) == Some(Captured::BaseBackup))
        .ok_or_else(|| {
            ApiError::bad_request(format!(
                "{workload} is no PostgreSQL cluster: restore its files instead"
            ))
        })?;
    let goal = goal_of(&asked.goal)?;
    let mut found = None;
    let mut why = None;
    // The policy's own repository first; a copy, where that cannot help.
    for repository in repositories {
        sight.require_at(&repository, &workload, Privileges::RESTORE_PLACE)?;
        let Some(datastore) = desk.context.datastores.get(&repository) else {
            continue;
        };
        let work = Work::quiet();
        let needed =
            Stored::of(&datastore.repository(), &workload, &work).and_then(|stored| stored.needed(&goal));
        match needed {
            Ok(needed) => {
                found = Some((repository, needed));
                break;
            }
            Err(error) => why = why.or(Some(error)),
        }
    }
    let Some((repository, needed)) = found else {
        return Err(why.map_or_else(
            || ApiError::bad_request(format!("no repository with backups of {workload} is open")),
            refused,
        ));
    };
    refuse_tablespaces(&needed.tablespaces).map_err(refused)?;
    let (root, below) = place(desk, &asked.to)?;
    if below.to_str().is_none_or(str::is_empty) {
        return Err(target_refused(
            "a cluster gets a folder of its own below one of the roots",
        ));
    }
    let folder = Folder::below_if_there(&root, &below).map_err(target_refused)?;
    if let Some(folder) = &folder {
        require_empty(folder)?;
    }
    let free = match &folder {
        Some(folder) => folder.free().ok(),
        None => Folder::below_if_there(&root, Path::new(""))
            .ok()
            .flatten()
            .and_then(|root| root.free().ok()),
    };
    let mut warnings = Vec::new();
    let bytes = needed.bytes.saturating_add(needed.log);
    if let Some(free) = free.filter(|free| *free < bytes) {
        warnings.push(format!(
            "There is not enough room: {} are free, {} are needed.",
            ByteSize(free),
            ByteSize(bytes)
        ));
    }
    let subject = Subject::of(entry);
    let user = Source::of(&subject).ok().and_then(|source| source.user);
    let owner = owner(user.as_deref(), &mut warnings)?;
    warnings.push(
        "No server is started. Start one of the same major version with this folder as its data directory: it replays the log, and \
         then works. Its archiving is off."
            .into(),
    );
    let restore = Restore {
        workload,
        repository,
        snapshot: needed.snapshot.to_string(),
        paths: Vec::new(),
        root,
        below,
        existing: Existing::Skip,
        cluster: Some(Cluster {
            goal: goal.clone(),
            owner,
        }),
        bytes: needed.bytes,
    };
    let text = format!("{restore:?}");
    Ok(Planned {
        digest: hex::encode(aws_lc_rs::digest::digest(&SHA256, text.as_bytes())),
        restore,
        goal,
        needed,
        free,
        warnings,
    })
}

/// Who the files belong to: the user of the plan, or else the system's own one, if this process may give files away.
fn owner(user: Option<&str>, warnings: &mut Vec<String>) -> ApiResult<Option<(u32, u32)>> {
    if !rustix::process::geteuid().is_root() {
        warnings.push(
            "The server does not run as root: the cluster's files belong to the user of the server.".into(),
        );
        return Ok(None);
    }
    let name = user.unwrap_or("postgres");
    let found = user_and_group(name).map_err(refused)?;
    if found.is_none() {
        warnings.push(format!(
            "There is no user {name} here (user in the workload's source): the files belong to root, and a server runs only once they \
             are given to its user."
        ));
    }
    Ok(found)
}

fn require_empty(folder: &Folder) -> ApiResult<()> {
    let mut entries = std::fs::read_dir(folder.path()).map_err(target_refused)?;
    if entries.next().is_some() {
        return Err(target_refused(format!(
            "{} is not empty: a cluster is restored to a new folder only; name another one",
            folder.shown().display()
        )));
    }
    Ok(())
}

fn plan_only(desk: &Desk, call: &Call, asked: Asked) -> ApiResult<Answer> {
    let planned = plan(desk, call, &asked)?;
    let (expected, rests_on) = expected(desk, call, &planned.restore)?;
    let Planned { restore, needed, .. } = &planned;
    Answer::data(json!({
        "digest": planned.digest,
        "workload": restore.workload,
        "repository": restore.repository,
        "snapshot": restore.snapshot,
        "time": needed.consistent,
        "goal": planned.goal.to_string(),
        "window": needed.window.map(|(from, to)| json!({"from": from, "to": to})),
        "to": restore.root.join(&restore.below).display().to_string(),
        "files": needed.files,
        "bytes": needed.bytes,
        "log-bytes": needed.log,
        "free": planned.free,
        "forecast-seconds": expected.map(|expected| expected.as_secs_f64()),
        "forecast-rests-on": rests_on,
        "warnings": planned.warnings,
    }))
}

fn begin(desk: &Desk, call: &Call, confirmed: Confirmed) -> ApiResult<Answer> {
    let asked = Asked {
        workload: confirmed.workload,
        goal: confirmed.goal,
        to: confirmed.to,
    };
    let planned = plan(desk, call, &asked)?;
    if planned.digest != confirmed.digest {
        return Err(ApiError::new(
            StatusCode::CONFLICT,
            "what would be done is not what was planned any more: there is another base backup by now; look at the new plan",
        ));
    }
    require_room(planned.free, planned.bytes())?;
    start(desk, call, planned.restore, Pass(None), &asked)
}
