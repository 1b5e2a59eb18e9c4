//! A workload's snapshots are read and compared with their digests.

use std::collections::HashSet;

use jiff::SignedDuration;
use relight_repo::SnapshotId;
use relight_repo::snapshot::Verification;
use relight_repo::verify::{Options, Scope, verify};

use super::{Done, workload_of};
use crate::evidence::detail::Figures;
use crate::runs::code::{Code, RunFailure};
use crate::runs::context::{Context, Planned};
use crate::runs::task::{Steps, Task};

/// What was found good so short ago is not read again: workloads share packs, and are verified one after the other.
const LATELY: SignedDuration = SignedDuration::from_hours(12);

pub(super) fn run(context: &Context, planned: &Planned, task: &Task) -> Result<Done, RunFailure> {
    let name = workload_of(task)?;
    let (_, policy) = planned.workload(name)?;
    let datastore = context.datastore(&policy.repository.value)?;
    let mut points = datastore.snapshots()?;
    // Pieces of the log are needed for a recovery too.
    points.retain(|(body, _)| body.snapshot.workload == name.as_str());
    if points.is_empty() {
        return Err(RunFailure::new(
            Code::Nothing,
            format!("there is no snapshot of {name} that could be verified"),
        ));
    }
    let repository = datastore.repository();
    let ids: Vec<SnapshotId> = points.iter().map(|(body, _)| body.snapshot.id).collect();
    let options = Options {
        scope: Scope::Snapshots(ids),
        unless_checked_since: repository.now().checked_sub(LATELY).ok(),
    };
    let steps = Steps::throttled(task);
    let report = verify(&repository, &options, task.control(&steps))?;
    if report.cancelled {
        return Err(RunFailure::new(
            Code::Cancelled,
            "cancelled; what was read until then need not be read again",
        ));
    }
    let bad: HashSet<SnapshotId> = report
        .affected
        .iter()
        .map(|affected| affected.snapshot)
        .chain(report.manifests.iter().map(|manifest| manifest.snapshot))
        .collect();
    let now = repository.now();
    for (body, marks) in points.iter().filter(|(body, _)| !body.snapshot.is_log()) {
        let id = body.snapshot.id;
        let mut marks = marks.clone().unwrap_or_default();
        marks.verification = Some(Verification {
            time: now,
            good: !bad.contains(&id),
            task: format!("run {}", task.run.number),
        });
        repository.set_marks(id, &marks)?;
    }
    for affected in &report.affected {
        let archives: Vec<String> = affected
            .archives
            .iter()
            .map(|archive| format!("{} ({} bytes)", archive.name, archive.bytes))
            .collect();
        let (id, time) = (affected.snapshot.short(), affected.time);
        task.note(&format!(
            "{id} of {time} cannot be restored completely: {}",
            archives.join(", ")
        ));
    }
    let failure = (!bad.is_empty()).then(|| {
        let message = format!(
            "{} of {} snapshots cannot be restored completely; `relight verify` names the files, `relight repair packs` heals \
             what parity or a copy can, and the next backup stores again what the workload still has",
            bad.len(),
            points.len()
        );
        RunFailure::new(Code::Damage, message)
    });
    Ok(Done {
        figures: Figures {
            read: Some(report.figures.bytes),
            snapshots: Some(points.len() as u64),
            damaged: Some(report.findings.len() as u64),
            ..Figures::default()
        },
        failure,
        ..Done::default()
    })
}
