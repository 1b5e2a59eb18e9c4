//! What runs do, one file a kind.

mod backup;
mod cluster;
mod collect;
mod copy;
mod drill;
mod forget;
pub(super) mod restore;
mod verify;

use relight_model::schedule::RunKind;

use super::code::{Code, RunFailure};
use super::context::{Context, Planned};
use super::task::Task;
use crate::evidence::NewEvidence;
use crate::evidence::detail::{Ended, Figures};

/// What came of a run.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// The snapshot that was made.
    pub snapshot: Option<String>,
    /// What was done, in numbers.
    pub figures: Figures,
    /// Why that is not a success, though it was done.
    pub failure: Option<RunFailure>,
    /// Evidence beside that of the run itself.
    pub evidence: Vec<NewEvidence>,
}

impl Done {
    /// How the run ended.
    pub fn ended(&self) -> Ended {
        self.failure.as_ref().map_or(Ended::Good, |failure| failure.ended)
    }
}

impl From<RunFailure> for Done {
    fn from(failure: RunFailure) -> Self {
        Self {
            failure: Some(failure),
            ..Self::default()
        }
    }
}

/// Does what a run is for.
pub(super) fn run(context: &Context, planned: &Planned, task: &Task) -> Done {
    let done = match task.run.job.kind() {
        RunKind::Backup => backup::run(context, planned, task),
        RunKind::Copy => copy::run(context, planned, task),
        RunKind::Verify => verify::run(context, planned, task),
        RunKind::Forget => forget::run(context, planned, task),
        RunKind::Collect => collect::run(context, planned, task),
        RunKind::Drill => drill::one(context, planned, task),
        RunKind::Exercise => drill::everything(context, planned, task),
        // They are begun with what they are to do, which no plan says.
        RunKind::Restore => Err(RunFailure::new(
            Code::Internal,
            "nobody said what is to be restored",
        )),
    };
    done.unwrap_or_else(Done::from)
}

/// The workload that a run is about.
fn workload_of(task: &Task) -> Result<&relight_model::Workload, RunFailure> {
    let missing = || {
        RunFailure::new(
            Code::Internal,
            format!("the job {:?} names no workload", task.run.job),
        )
    };
    task.run.job.workload().ok_or_else(missing)
}

/// The repository that a run is about.
fn repository_of(task: &Task) -> Result<&str, RunFailure> {
    let missing = || {
        RunFailure::new(
            Code::Internal,
            format!("the job {:?} names no repository", task.run.job),
        )
    };
    task.run.job.repository().ok_or_else(missing)
}
