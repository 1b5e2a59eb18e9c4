//! Looks how far logs reach.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use relight_model::Workload;
use relight_workloads::log::Windows;

use super::record::Ledger;
use super::{Known, LOOK, kept};
use crate::runs::{Board, Context};

/// Looks over and over until it is cancelled.
pub(super) fn run(context: &Arc<Context>, board: &Board, cancelled: &dyn Fn() -> bool) {
    let mut ledger = Ledger::default();
    while !cancelled() {
        let began = Instant::now();
        look(context, board, &mut ledger);
        // A repository that is slow to answer, or costs money for each question, is asked less often.
        let pause = LOOK.max(began.elapsed() * 20).min(Duration::from_secs(600));
        while began.elapsed() < pause && !cancelled() {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    ledger.close(&context.state, Timestamp::now());
}

/// Looks once at all logs of the plan.
pub(super) fn look(context: &Context, board: &Board, ledger: &mut Ledger) {
    let planned = board.planned();
    let plan = &planned.plan;
    let mut names: Vec<&Workload> = Vec::new();
    for entry in &plan.workloads {
        let Some((log, repository)) = kept(plan, entry) else {
            continue;
        };
        let name = &entry.name.value;
        let found = context
            .datastore(&repository)
            .map_err(|failure| failure.message)
            .and_then(|datastore| {
                let windows = log.windows(&datastore.repository(), name);
                windows.map_err(|error| error.to_string())
            });
        if let Err(failure) = &found {
            tracing::warn!("how far the log of {name} reaches is not known: {failure}");
        }
        names.push(name);
        if let (Ok(windows), Some((_, policy))) = (&found, plan.policy_of(entry)) {
            ledger.see(
                &context.state,
                name,
                &repository,
                policy.permitted_exposure(),
                windows.as_ref(),
            );
        }
        board
            .logs
            .change(|all| take(all.entry(name.clone()).or_default(), found));
    }
    board
        .logs
        .change(|all| all.retain(|name, _| names.contains(&name)));
}

fn take(known: &mut Known, found: Result<Option<Windows>, String>) {
    match found {
        Ok(windows) => {
            known.failure = None;
            known.windows = windows.map(Arc::new);
        }
        Err(failure) => known.failure = Some(failure),
    }
}
