//! Recovery points that are gone early: over the page, the API or the protocol, by a command on the host, or with the storage. How
//! a workload stands goes by the newest one that is there, and not by the newest backup that was made.

use std::collections::HashSet;

use jiff::Timestamp;
use relight_model::Workload;
use relight_model::plan::Plan;

use crate::error::Result;
use crate::state::State;

/// So many are looked at first: mostly the newest one is there.
const FEW: u32 = 4;
/// And so many at a time, if those were all gone.
const MANY: u32 = 1000;

/// Notes which of the newest recovery points of the workloads of a repository are gone, or there again. `there` is what is in it, as
/// it was listed after all backups that ended before a time had published theirs.
///
/// # Errors
/// The state cannot be read or written.
pub(crate) fn settle(
    state: &State,
    plan: &Plan,
    repository: &str,
    there: &HashSet<String>,
    before: Timestamp,
) -> Result<()> {
    let known = state.gone_points()?.into_iter();
    let again: Vec<String> = known
        .filter(|(snapshot, _, at)| at == repository && there.contains(snapshot))
        .map(|(snapshot, ..)| snapshot)
        .collect();
    if !again.is_empty() {
        state.unset_gone(&again)?;
    }
    for entry in &plan.workloads {
        let policy = plan.policy_of(entry).map(|(_, policy)| policy);
        if policy.is_some_and(|policy| policy.repository.value == repository) {
            settle_one(state, &entry.name.value, repository, there, before)?;
        }
    }
    Ok(())
}

/// The same for one workload, of which no more than `there` is in the repository.
///
/// # Errors
/// As [`settle`].
pub(crate) fn settle_one(
    state: &State,
    workload: &Workload,
    repository: &str,
    there: &HashSet<String>,
    before: Timestamp,
) -> Result<()> {
    let mut limit = FEW;
    loop {
        let newest = state.newest_points(workload, repository, before, limit)?;
        let is_gone = |snapshot: &&String| !there.contains(*snapshot);
        let gone: Vec<String> = newest.iter().take_while(is_gone).cloned().collect();
        if gone.is_empty() {
            return Ok(());
        }
        tracing::warn!(
            "{workload}: the newest recovery points in {repository} are gone: {}",
            gone[..gone.len().min(3)].join(", ")
        );
        state.set_gone(workload, repository, &gone)?;
        if gone.len() < newest.len() {
            return Ok(());
        }
        limit = MANY;
    }
}

#[cfg(test)]
mod tests {
    use relight_model::schedule::JobId;

    use super::*;
    use crate::evidence::detail::{Ended, Figures};
    use crate::standing::History;
    use crate::standing::tests::{House, at};
    use crate::state::{Remembered, RunEnd};

    /// A backup that made a snapshot of this name.
    fn backup(house: &House, hours: i64, snapshot: &str) {
        let end = RunEnd {
            number: house.begin(JobId::backup(&house.vm), hours),
            ended: at(hours + 1),
            outcome: Ended::Good,
            code: None,
            message: None,
            snapshot: Some(snapshot.into()),
            figures: Figures::default(),
        };
        house.state.end_run(&end, &Remembered::default(), &[]).unwrap();
    }

    #[test]
    fn how_a_workload_stands_goes_by_what_is_there() {
        let house = House::new();
        let mut followed = History::default();
        let newest = |history: &mut History| {
            history.follow(&house.state, &house.plan).unwrap();
            let standing = history.standings(&house.plan, at(100)).remove(0);
            standing.newest.and_then(|point| point.snapshot)
        };
        let list = |there: &[&str], before: i64| {
            let there = there.iter().map(|one| (*one).to_owned()).collect();
            settle(&house.state, &house.plan, "main", &there, at(before)).unwrap();
        };
        for (day, name) in ["a", "b", "c", "d"].into_iter().enumerate() {
            backup(&house, 24 * i64::try_from(day).unwrap(), name);
        }
        assert_eq!(newest(&mut followed).as_deref(), Some("d"));
        // What ended after the list was made is not missed in it.
        list(&["a", "b", "c"], 70);
        assert_eq!(newest(&mut followed).as_deref(), Some("d"));
        list(&["b"], 100);
        // Whoever looks for the first time sees the same.
        for history in [&mut followed, &mut History::default()] {
            assert_eq!(newest(history).as_deref(), Some("b"));
        }
        list(&[], 100);
        for history in [&mut followed, &mut History::default()] {
            assert_eq!(newest(history), None);
        }
        // A storage that was away for a while.
        list(&["a", "b", "c", "d"], 100);
        for history in [&mut followed, &mut History::default()] {
            assert_eq!(newest(history).as_deref(), Some("d"));
        }
        backup(&house, 96, "e");
        assert_eq!(newest(&mut followed).as_deref(), Some("e"));
    }
}
