//! The space of what no snapshot needs is given back.

use relight_pbs::sync::DEFAULT_OWNER;

use super::{Done, repository_of};
use crate::evidence::detail::Figures;
use crate::runs::code::{Code, RunFailure};
use crate::runs::context::{Context, Planned};
use crate::runs::task::Task;

pub(super) fn run(context: &Context, _: &Planned, task: &Task) -> Result<Done, RunFailure> {
    let name = repository_of(task)?;
    let datastore = context.datastore(name)?;
    // Clients of the protocol see it among the tasks, as they expect of a garbage collection.
    let failed =
        |error: &dyn std::fmt::Display| RunFailure::new(Code::Internal, format!("begin a task: {error}"));
    let who = DEFAULT_OWNER.parse().map_err(|error| failed(&error))?;
    let shown = context
        .tasks
        .begin("garbage_collection", Some(name), &who)
        .map_err(|error| failed(&error))?;
    let log = |line: &str| {
        shown.log(line);
        task.note(line);
    };
    let result = datastore.collect(&shown.upid().to_string(), &log, &task.work.cancelled);
    shown.end(result.as_ref().map(drop).map_err(ToString::to_string));
    let status = result?;
    Ok(Done {
        figures: Figures {
            stored: Some(status.removed_bytes),
            ..Figures::default()
        },
        ..Done::default()
    })
}
