//! Parts of a recovery point are brought back to a folder of this host.

use std::sync::atomic::Ordering;

use jiff::Timestamp;
use relight_pxar::fs::progress::Progress;
use relight_repo::RepoError;
use relight_repo::snapshot::Archive;
use relight_workloads::WorkloadError;
use relight_workloads::bring_back::{Choice, Folder, Report, Watch, bring_back};
use relight_workloads::files::browse::printable;
use relight_workloads::parts::wanted;

use super::Done;
use crate::evidence::detail::{Figures, RestoreDetail, details};
use crate::evidence::{Kind, NewEvidence, Outcome};
use crate::runs::code::{Code, RunFailure};
use crate::runs::context::Context;
use crate::runs::restores::Restore;
use crate::runs::task::Task;
use crate::unpack::unpacked;

/// So many problems are told one by one.
const NAMED: usize = 200;

/// What went wrong with restoring, whose source is the repository, and whose target is this host.
pub(super) fn failure(error: WorkloadError) -> RunFailure {
    use relight_pxar::fs::extract::RestoreError;
    let is_full = |error: &std::io::Error| error.kind() == std::io::ErrorKind::StorageFull;
    let code = match &error {
        WorkloadError::Io { source, .. } | WorkloadError::Restore(RestoreError::Target { source, .. })
            if is_full(source) =>
        {
            Code::Full
        }
        WorkloadError::Repo(RepoError::Source(source)) if is_full(source) => Code::Full,
        WorkloadError::Io { .. }
        | WorkloadError::Refused(_)
        | WorkloadError::Restore(_)
        | WorkloadError::Repo(RepoError::Source(_)) => Code::Target,
        _ => return error.into(),
    };
    RunFailure::new(code, error.to_string())
}

pub(crate) fn run(context: &Context, task: &Task, restore: &Restore) -> Done {
    let mut report = Report::default();
    let outcome = match &restore.cluster {
        Some(cluster) => super::cluster::bring(context, task, restore, cluster, &mut report),
        None => bring(context, task, restore, &mut report),
    };
    let bytes = report.bytes;
    let target = restore.root.join(&restore.below);
    let failure = match outcome {
        Err(failure) => Some(failure),
        Ok(()) if report.problem_count > 0 => Some(RunFailure::new(
            Code::Incomplete,
            format!(
                "{} things are not restored as they were saved; the first: {}",
                report.problem_count,
                report.problems.first().map_or("not named", String::as_str)
            ),
        )),
        Ok(()) => None,
    };
    let detail = RestoreDetail {
        workload: restore.workload.to_string(),
        snapshot: restore.snapshot.clone(),
        repository: restore.repository.clone(),
        parts: restore.paths.iter().map(|path| printable(path)).collect(),
        target: Some(target.display().to_string()),
        bytes: Some(bytes),
    };
    let mut details = details(&detail);
    for (name, count) in [
        ("run", task.run.number),
        ("files", report.files),
        ("skipped", report.skipped),
        ("replaced", report.replaced),
        ("problems", report.problem_count),
    ] {
        details.insert(name.into(), count.into());
    }
    Done {
        snapshot: Some(restore.snapshot.clone()),
        figures: Figures {
            size: Some(bytes),
            ..Figures::default()
        },
        evidence: vec![NewEvidence {
            time: Timestamp::now(),
            kind: Kind::Restore,
            who: task.run.who.clone(),
            what: format!("restore of {} to {}", restore.workload, target.display()),
            outcome: match &failure {
                None => Outcome::Done,
                Some(_) => Outcome::Failed,
            },
            detail: details,
        }],
        failure,
    }
}

fn bring(context: &Context, task: &Task, restore: &Restore, report: &mut Report) -> Result<(), RunFailure> {
    let datastore = context.datastore(&restore.repository)?;
    let points = context.points(datastore, &restore.workload)?;
    let point = points
        .iter()
        .find(|(body, _)| body.snapshot.id.to_string() == restore.snapshot);
    let gone = || {
        RunFailure::new(
            Code::Nothing,
            format!("the recovery point {} is not there any more", restore.snapshot),
        )
    };
    let snapshot = &point.ok_or_else(gone)?.0.snapshot;
    let wanted = wanted(snapshot, &restore.paths).map_err(failure)?;
    let folder = Folder::below(&restore.root, &restore.below).map_err(failure)?;
    task.note(&format!(
        "restoring {} of {} to {}",
        match restore.paths.as_slice() {
            [] => "everything".to_owned(),
            [one] => printable(one),
            [first, ..] => format!("{} and {} more", printable(first), restore.paths.len() - 1),
        },
        snapshot.time,
        folder.shown().display()
    ));
    let work = &task.work;
    work.total.store(restore.bytes, Ordering::Relaxed);
    let progress = Progress::counting(work.done.clone());
    let reader = datastore.reader();
    let unpack = |archive: &Archive| unpacked(&reader, archive);
    let choice = Choice {
        conflict: restore.existing.policy(),
        // What is there with the right size and time is what an earlier try restored.
        resume: true,
        verify: true,
        sync: true,
    };
    let watch = Watch {
        progress: &progress,
        done: &work.done,
        cancelled: &work.cancelled,
    };
    let restored = bring_back(&reader, &wanted, &folder, choice, &unpack, watch, report);
    restored.map_err(failure)?;
    task.note(&format!(
        "{} files and {} folders, {}, read back and found as they were written",
        report.files,
        report.directories,
        relight_model::ByteSize(report.bytes)
    ));
    for (count, what) in [
        (report.complete, "were there already as they should be"),
        (
            report.skipped,
            "were left out, because something is there under their name",
        ),
        (report.replaced, "took the place of something else"),
    ] {
        if count > 0 {
            task.note(&format!("{count} {what}"));
        }
    }
    for problem in report.problems.iter().take(NAMED) {
        task.note(&format!("not as it was saved: {problem}"));
    }
    Ok(())
}
