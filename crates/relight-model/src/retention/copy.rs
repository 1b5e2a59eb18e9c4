//! Which snapshots a copy in another repository lacks.

use std::collections::HashSet;
use std::hash::Hash;

use jiff::tz::TimeZone;

use super::plan::{Candidate, Guards, plan};
use super::policy::Policy;

/// The snapshots of `source` that are to be copied, oldest first: those that the copy's own `policy` would keep if it had
/// all of them, and that are not `there` yet.
///
/// Copying everything and forgetting most of it later would move and lock data for nothing, and would look like a mass
/// deletion (see [`Alarm::ManyRemovals`](super::Alarm)). `I` identifies a snapshot in both repositories alike.
pub fn to_copy<I: Clone + Eq + Hash>(
    policy: &Policy,
    zone: &TimeZone,
    guards: &Guards,
    source: &[Candidate<I>],
    there: &[Candidate<I>],
) -> Vec<I> {
    let copied: HashSet<&I> = there.iter().map(|candidate| &candidate.id).collect();
    let missing = source.iter().filter(|candidate| !copied.contains(&candidate.id));
    let together = plan(policy, zone, guards, there.iter().chain(missing).cloned());
    let mut wanted: Vec<&Candidate<I>> = together
        .kept()
        .filter(|kept| !copied.contains(&kept.id))
        .collect();
    wanted.sort_by_key(|candidate| (candidate.time, candidate.sequence));
    wanted.into_iter().map(|candidate| candidate.id.clone()).collect()
}
