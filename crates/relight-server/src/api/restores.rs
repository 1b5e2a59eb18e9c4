//! `/restores`: parts of a recovery point back to a folder of the server, in two steps: a plan that is looked at, and the word
//! that it is to be done just so.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::digest::SHA256;
use http::{Method, StatusCode};
use jiff::Timestamp;
use relight_model::objective::forecast::{Measurement, forecast};
use relight_model::plan::Method as Captured;
use relight_model::schedule::{JobId, RunKind};
use relight_model::{ByteSize, TimeSpan};
use relight_pbs::access::{Action, Guarded, Pass, Privileges};
use relight_pbs::service::http::{Answer, ApiError, ApiResult, Call};
use relight_workloads::bring_back::{Folder, Survey, is_over, survey};
use relight_workloads::files::browse::printable;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::operation::{Operation, Place, Table};
use super::point::{Point, one, refused};
use super::sight::Sight;
use super::{Desk, drills, failed, paths, schema};
use crate::evidence::detail::Ended;
use crate::kinds;
use crate::runs::Code;
use crate::runs::restores::{Existing, Restore};
use crate::state::{NewRun, RunFilter};

/// So many paths at once.
const PATHS: usize = 1_000;
/// Says that something is to go where it came from.
const ORIGINAL: &str = "original";
/// So many drills and restores are asked how fast they were.
const MEASURED: usize = 20;
/// Of what moved less, the time says nothing about speed.
const WORTH_MEASURING: u64 = 1 << 20;

pub(super) fn operations(table: &mut Table<'_>) {
    let asked = |operation: Operation| {
        operation
            .with("workload", Place::Body, schema::text(), "such as vm/100")
            .with("snapshot", Place::Body, schema::text(), "the recovery point's id")
            .with(
                "paths",
                Place::Body,
                schema::list(schema::text()),
                "what of it, as the list of files tells it; nothing is everything",
            )
            .with(
                "to",
                Place::Body,
                schema::text(),
                "a folder at or below one of the roots of the configuration; it is made if it is not there",
            )
            .with(
                "existing",
                Place::Body,
                schema::one_of(&Existing::NAMES),
                "what becomes of files that are there under the same name",
            )
    };
    let survey = schema::object(vec![
        ("files", schema::count()),
        ("folders", schema::count()),
        ("others", schema::count()),
        ("bytes", schema::count()),
        ("existing", schema::count()),
        ("newer", schema::count()),
        ("names", schema::list(schema::text())),
        ("complete", schema::truth()),
    ]);
    let plan = Operation::of(
        Method::POST,
        "/api/v1/restores/plan",
        "What a restore would do: how much comes back, what is in its way, whether there is room, how long it will take. \
         Nothing is changed; needs Datastore.Read and Restore.Place",
        schema::object(vec![
            ("digest", schema::text()),
            ("workload", schema::text()),
            ("repository", schema::text()),
            ("snapshot", schema::text()),
            ("time", schema::time()),
            ("paths", schema::list(schema::text())),
            ("to", schema::text()),
            ("existing", schema::text()),
            ("survey", survey),
            ("free", schema::maybe(schema::count())),
            ("forecast-seconds", schema::maybe(json!({"type": "number"}))),
            ("forecast-rests-on", schema::count()),
            ("warnings", schema::list(schema::text())),
        ]),
    );
    table.add(asked(plan), plan_only);
    let confirm = Operation::of(
        Method::POST,
        "/api/v1/restores",
        "Restore as it was planned; refused with 409 if the plan would be another one by now",
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

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    workload: String,
    snapshot: String,
    #[serde(default)]
    paths: Vec<String>,
    to: String,
    existing: Existing,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Confirmed {
    workload: String,
    snapshot: String,
    #[serde(default)]
    paths: Vec<String>,
    to: String,
    existing: Existing,
    digest: String,
}

/// What would be done, and what is known of it.
struct Planned {
    restore: Restore,
    time: Timestamp,
    survey: Survey,
    free: Option<u64>,
    digest: String,
    /// What the point is not, that it should be.
    warnings: Vec<String>,
    /// Where the workload itself lies, if it is restored there.
    production: Option<String>,
}

pub(super) fn target_refused(why: impl std::fmt::Display) -> ApiError {
    ApiError::bad_request(format!("{}: {why}", Code::Target))
}

/// The root that a place lies below, and the rest of its path.
pub(super) fn place(desk: &Desk, to: &str) -> ApiResult<(PathBuf, PathBuf)> {
    if to == ORIGINAL {
        return Err(ApiError::new(
            StatusCode::CONFLICT,
            format!(
                "{}: the server does not know the machine that this came from: restore to a folder of the server, or on that machine \
                 with `relight restore`",
                Code::Target
            ),
        ));
    }
    let roots = &desk.restore.roots;
    if roots.is_empty() {
        return Err(target_refused(
            "the configuration names no place to restore to: write [restore] roots = [\"/srv/restore\"] and restart the server, or \
             download what you need",
        ));
    }
    let to = Path::new(to);
    let plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
    if !to.is_absolute() || !to.components().all(plain) {
        return Err(target_refused(format!(
            "{:?} is no place: write a whole path without ..",
            to.display().to_string()
        )));
    }
    let below = roots
        .iter()
        .find_map(|root| Some((root.clone(), to.strip_prefix(root).ok()?.to_path_buf())));
    below.ok_or_else(|| {
        let roots: Vec<String> = roots.iter().map(|root| root.display().to_string()).collect();
        target_refused(format!(
            "{} is not below what the configuration permits: {}",
            to.display(),
            roots.join(", ")
        ))
    })
}

fn plan(desk: &Desk, call: &Call, asked: &Asked) -> ApiResult<Planned> {
    let point = one(desk, call, &asked.workload, &asked.snapshot, None)?;
    let running = desk.board.planned();
    let sight = Sight::new(call, &running.plan);
    sight.require_at(&point.repository, &point.workload, Privileges::RESTORE_PLACE)?;
    point.require_readable()?;
    if asked.paths.len() > PATHS {
        return Err(ApiError::bad_request(format!(
            "{} paths are more than {PATHS}: restore the folder that they are in",
            asked.paths.len()
        )));
    }
    let mut wanted: Vec<Vec<u8>> = asked
        .paths
        .iter()
        .map(|path| paths::bytes(path))
        .collect::<ApiResult<_>>()?;
    // An empty path is the whole recovery point.
    if wanted.iter().any(|path| path.iter().all(|byte| *byte == b'/')) {
        wanted.clear();
    }
    let (root, below) = place(desk, &asked.to)?;
    let folder = Folder::below_if_there(&root, &below).map_err(target_refused)?;
    let view = desk.open.view(&point);
    let survey = survey(&view, &wanted, folder.as_ref()).map_err(refused)?;
    let free = match &folder {
        Some(folder) => folder.free().ok(),
        None => Folder::below_if_there(&root, Path::new(""))
            .ok()
            .flatten()
            .and_then(|root| root.free().ok()),
    };
    let mut warnings = warnings(&point, &survey, free, asked.existing);
    let target = root.join(&below);
    let mut made_of = view.trees().iter().filter_map(|tree| tree.path.as_deref());
    let production = made_of.find(|path| is_over(&target, Path::new(path)));
    let production = production.map(str::to_owned);
    if let Some(path) = &production {
        sight.require_at(&point.repository, &point.workload, Privileges::RESTORE_PRODUCTION)?;
        warnings.insert(0, format!("This is production: the backup was made of {path}."));
    }
    let restore = Restore {
        workload: point.workload.clone(),
        repository: point.repository.clone(),
        snapshot: point.snapshot().id.to_string(),
        paths: wanted,
        root,
        below,
        existing: asked.existing,
        cluster: None,
        bytes: survey.bytes,
    };
    Ok(Planned {
        digest: digest(&restore, &survey),
        time: point.snapshot().time,
        restore,
        survey,
        free,
        warnings,
        production,
    })
}

fn warnings(point: &Point, survey: &Survey, free: Option<u64>, existing: Existing) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(free) = free.filter(|free| *free < survey.bytes) {
        warnings.push(format!(
            "There is not enough room: {} are free, {} are needed.",
            ByteSize(free),
            ByteSize(survey.bytes)
        ));
    }
    match (survey.existing, existing) {
        (0, _) => {}
        (count, Existing::Overwrite) => warnings.push(format!(
            "{count} files that are there are overwritten, {} of them as new as what comes, or newer.",
            survey.newer
        )),
        (count, Existing::KeepNewer) => warnings.push(format!(
            "{} files that are there are overwritten, because they are older; {} stay.",
            count.saturating_sub(survey.newer),
            survey.newer
        )),
        (count, Existing::Skip) => {
            warnings.push(format!("{count} files are there already and stay as they are."))
        }
    }
    if !survey.complete {
        warnings.push("There is more than was counted; the figures are the least.".into());
    }
    if let [first, rest @ ..] = point.snapshot().incomplete.as_slice() {
        warnings.push(format!(
            "The backup was not complete: {first}, and {} more.",
            rest.len()
        ));
    }
    let bad =
        |marks: &relight_repo::snapshot::Marks| marks.verification.as_ref().is_some_and(|found| !found.good);
    if point.marks.as_ref().is_some_and(bad) {
        warnings.push(
            "The last verification found damage in this recovery point: some of it cannot be restored."
                .into(),
        );
    }
    if kinds::of_snapshot(point.snapshot()).is_some_and(|kind| kind.method() == Captured::BaseBackup) {
        warnings.push(
            "These are the files of a PostgreSQL base backup: no working cluster without its log. Restore the cluster instead."
                .into(),
        );
    }
    if !rustix::process::geteuid().is_root() {
        warnings.push(
            "The server does not run as root: what is restored belongs to the user of the server, and owners are not set.".into(),
        );
    }
    warnings
}

/// By which a plan is known. Room and forecast change all the time, and are no part of it.
fn digest(restore: &Restore, survey: &Survey) -> String {
    let counted = survey.complete.then_some((
        survey.files,
        survey.folders,
        survey.others,
        survey.bytes,
        survey.existing,
        survey.newer,
    ));
    let text = format!("{restore:?} {counted:?}");
    hex::encode(aws_lc_rs::digest::digest(&SHA256, text.as_bytes()))
}

/// How long it will take, from what was measured: drills of the workload, or else restores from the same repository.
pub(super) fn expected(desk: &Desk, call: &Call, restore: &Restore) -> ApiResult<(Option<Duration>, usize)> {
    let (found, _) = drills::visible(desk, call, Some(restore.workload.as_str()), None, MEASURED)?;
    let measured = |detail: crate::evidence::detail::DrillDetail| {
        let measured = detail.measurement()?;
        (measured.size.0 >= WORTH_MEASURING).then_some(Measurement {
            rest: TimeSpan::default(),
            ..measured
        })
    };
    let mut known: Vec<Measurement> = found
        .iter()
        .filter_map(drills::detail)
        .filter_map(measured)
        .collect();
    if known.is_empty() {
        let filter = RunFilter {
            kind: Some(RunKind::Restore),
            outcome: Some(Ended::Good),
            limit: u32::try_from(MEASURED).ok(),
            ..RunFilter::default()
        };
        let runs = desk.gate.state().runs(&filter).map_err(failed)?;
        let here = runs
            .iter()
            .filter(|run| run.repository.as_deref() == Some(&restore.repository));
        known.extend(here.filter_map(|run| {
            let took = Duration::try_from(run.ended?.duration_since(run.started)).ok()?;
            let size = run.figures.size.filter(|size| *size >= WORTH_MEASURING)?;
            Some(Measurement {
                at: run.started,
                size: ByteSize(size),
                restore: TimeSpan(took),
                rest: TimeSpan::default(),
            })
        }));
    }
    let found = forecast(&known, ByteSize(restore.bytes), TimeSpan::default());
    Ok((found.map(|found| found.expected.0), known.len()))
}

fn plan_only(desk: &Desk, call: &Call, asked: Asked) -> ApiResult<Answer> {
    let planned = plan(desk, call, &asked)?;
    let (expected, rests_on) = expected(desk, call, &planned.restore)?;
    let Planned { restore, survey, .. } = &planned;
    let data: Value = json!({
        "digest": planned.digest,
        "workload": restore.workload,
        "repository": restore.repository,
        "snapshot": restore.snapshot,
        "time": planned.time,
        "paths": restore.paths.iter().map(|path| printable(path)).collect::<Vec<_>>(),
        "to": restore.root.join(&restore.below).display().to_string(),
        "existing": restore.existing,
        "survey": survey,
        "free": planned.free,
        "forecast-seconds": expected.map(|expected| expected.as_secs_f64()),
        "forecast-rests-on": rests_on,
        "warnings": planned.warnings,
    });
    Answer::data(data)
}

/// Leave to restore where the workload itself lies, if that is what is asked for.
fn over_production(call: &Call, planned: &Planned) -> ApiResult<Pass> {
    let Some(path) = &planned.production else {
        return Ok(Pass(None));
    };
    let restore = &planned.restore;
    let parts: Vec<String> = restore.paths.iter().map(|path| printable(path)).collect();
    let subject = format!(
        "restore {} of {} as of {} to {}, where {path} is in production; files that are there: {}; {} would be in the way",
        if parts.is_empty() {
            "everything".to_owned()
        } else {
            parts.join(", ")
        },
        restore.workload,
        planned.time,
        restore.root.join(&restore.below).display(),
        serde_json::to_value(restore.existing)
            .unwrap_or_default()
            .as_str()
            .unwrap_or_default(),
        planned.survey.existing
    );
    let place = crate::roles::workload_path(&restore.repository, &restore.workload);
    let guarded = Guarded {
        action: Action::Restore,
        path: &place,
        subject: &subject,
        exact: &planned.digest,
        reason: None,
    };
    Ok(call.access().approved(call.who()?, &guarded)?)
}

fn begin(desk: &Desk, call: &Call, confirmed: Confirmed) -> ApiResult<Answer> {
    let asked = Asked {
        workload: confirmed.workload,
        snapshot: confirmed.snapshot,
        paths: confirmed.paths,
        to: confirmed.to,
        existing: confirmed.existing,
    };
    let planned = plan(desk, call, &asked)?;
    if planned.digest != confirmed.digest {
        return Err(ApiError::new(
            StatusCode::CONFLICT,
            "what would be done is not what was planned any more: the target has changed meanwhile; look at the new plan",
        ));
    }
    require_room(planned.free, planned.survey.bytes)?;
    let pass = over_production(call, &planned)?;
    start(desk, call, planned.restore, pass, &asked)
}

/// Goes on only if there is room for it, as far as that is known.
pub(super) fn require_room(free: Option<u64>, needed: u64) -> ApiResult<()> {
    match free.filter(|free| *free < needed) {
        None => Ok(()),
        Some(free) => Err(ApiError::bad_request(format!(
            "{}: there is not enough room: {} are free, {} are needed",
            Code::Full,
            ByteSize(free),
            ByteSize(needed)
        ))),
    }
}

/// Begins a restore that was looked at. What was asked for is kept, so that it can be asked for again.
pub(super) fn start(
    desk: &Desk,
    call: &Call,
    restore: Restore,
    pass: Pass,
    asked: &impl Serialize,
) -> ApiResult<Answer> {
    let asked = serde_json::to_string(asked).map_err(|error| ApiError::internal(error.to_string()))?;
    let now = Timestamp::now();
    let new = NewRun {
        job: JobId::restore(&restore.workload),
        repository: Some(restore.repository.clone()),
        due: now,
        started: now,
        attempt: 1,
        requested: false,
    };
    let begun = desk
        .gate
        .state()
        .begin_asked_run(&new, &call.who()?.to_string(), &asked);
    let run = begun.map_err(|error| {
        desk.gate.give_back(pass, now);
        failed(error)
    })?;
    let number = run.number;
    desk.board.restores.add(run, restore);
    Answer::data(json!({"run": number}))
}
