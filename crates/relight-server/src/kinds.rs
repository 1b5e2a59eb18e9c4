//! The kinds of workloads that this server can capture. A new kind is a row here.

use relight_model::plan::{Method, Plan, WorkloadEntry};
use relight_postgres::kind::Clusters;
use relight_postgres::logical::{self, Dumps};
use relight_repo::snapshot::{ArchiveKind, Snapshot};
use relight_workloads::files::{self, Files};
use relight_workloads::image::Images;
use relight_workloads::kind::{Kind, Subject};

/// The registry.
static KINDS: &[&dyn Kind] = &[&Files, &Images, &Clusters, &Dumps];

/// The kind that captures by this method, if there is one.
pub fn of(method: Method) -> Option<&'static dyn Kind> {
    KINDS.iter().copied().find(|kind| kind.method() == method)
}

/// The kind that brings back what is in a snapshot, whoever made it: clients that push their backups tell no method.
pub fn of_snapshot(snapshot: &Snapshot) -> Option<&'static dyn Kind> {
    if logical::is_dump(snapshot) {
        return of(Method::Dump);
    }
    if snapshot
        .attributes
        .keys()
        .any(|name| name.starts_with("postgres."))
    {
        return of(Method::BaseBackup);
    }
    let has_images = || {
        snapshot
            .archives
            .iter()
            .any(|archive| archive.kind == ArchiveKind::Image)
    };
    match files::trees(snapshot).is_empty() {
        false => of(Method::Files),
        true if has_images() => of(Method::Image),
        true => None,
    }
}

/// The method by which a workload is captured: its own, or its policy's.
pub fn method(plan: &Plan, entry: &WorkloadEntry) -> Option<Method> {
    let own = entry.method.as_ref().map(|method| method.value);
    own.or_else(|| Some(plan.policy_of(entry)?.1.method.as_ref()?.value))
}

/// What is wrong with how the plan says that workloads are captured: workload and reason. Nothing is touched.
pub fn problems(plan: &Plan) -> Vec<(relight_model::plan::Position, String)> {
    let mut problems = Vec::new();
    for entry in &plan.workloads {
        let Some((_, policy)) = plan.policy_of(entry) else {
            continue;
        };
        if policy.pushed {
            continue;
        }
        let name = &entry.name.value;
        let kind = match method(plan, entry) {
            None => {
                let why = format!(
                    "{name}: nothing says how it is captured: give it or its policy a method, or write pushed = true in \
                     the policy if clients send its backups"
                );
                problems.push((entry.name.at, why));
                continue;
            }
            Some(method) => match of(method) {
                Some(kind) => kind,
                None => {
                    let known: Vec<&str> = KINDS.iter().map(|kind| kind.method().name()).collect();
                    let why = format!(
                        "{name}: this version cannot capture by the method {method} ({} it can); its runs will fail",
                        known.join(", ")
                    );
                    problems.push((entry.name.at, why));
                    continue;
                }
            },
        };
        if let Err(error) = kind.check(&Subject::of(entry)) {
            let at = entry.source.as_ref().map_or(entry.name.at, |source| source.at);
            problems.push((at, error.to_string()));
        }
        if let (Some(probe), Some(rehearse)) = (&entry.probe, kind.rehearse())
            && let Err(error) = rehearse.check_probe(&Subject::of(entry))
        {
            problems.push((probe.at, error.to_string()));
        }
    }
    problems
}
