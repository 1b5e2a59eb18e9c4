//! Writes down how far logs reached, so that it can be said later how much could have been lost at any time.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use relight_model::{TimeSpan, Workload};
use relight_workloads::log::Windows;

use crate::evidence::detail::{LogDetail, details};
use crate::evidence::{Kind, NewEvidence, Outcome};
use crate::standing::between;
use crate::state::State;

/// So long a time one record is about, at most.
const RECORD: SignedDuration = SignedDuration::from_hours(1);

/// A time of which it is known how far the log reached.
#[derive(Debug, Clone)]
struct Stretch {
    detail: LogDetail,
    /// Whether what could be lost was within what is permitted.
    within: bool,
}

/// What was seen and is not written down yet.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    open: HashMap<Workload, Stretch>,
}

impl Ledger {
    /// It was looked how far the log of a workload reaches.
    pub fn see(
        &mut self,
        state: &State,
        name: &Workload,
        repository: &str,
        permitted: Option<TimeSpan>,
        windows: Option<&Windows>,
    ) {
        let reached =
            windows.and_then(|windows| Some((windows.looked, windows.reaches?, windows.gaps.len())));
        let Some((now, reached, gaps)) = reached else {
            if let Some(stretch) = self.open.remove(name) {
                write(state, vec![stretch.detail]);
            }
            return;
        };
        let is_within = |exposure: TimeSpan| permitted.is_none_or(|permitted| exposure <= permitted);
        let here = between(reached, now);
        let Some(stretch) = self.open.get_mut(name) else {
            let detail = LogDetail {
                workload: name.clone(),
                repository: repository.to_owned(),
                from: now,
                to: now,
                reached_before: reached,
                reached,
                exposure: here,
                gaps: gaps as u64,
            };
            let within = is_within(here);
            self.open.insert(name.clone(), Stretch { detail, within });
            return;
        };
        let detail = &mut stretch.detail;
        // Until just now only that was known to be there which was there at the last look.
        let most = between(detail.reached, now).max(here);
        let turns = stretch.within != is_within(most);
        if turns {
            // What is within and what is not are two records.
            write(state, vec![detail.clone()]);
            detail.from = detail.to;
            detail.reached_before = detail.reached;
            detail.exposure = TimeSpan::default();
            stretch.within = !stretch.within;
        }
        detail.to = now;
        detail.reached = reached;
        detail.exposure = detail.exposure.max(most);
        detail.gaps = gaps as u64;
        if now.duration_since(detail.from) >= RECORD {
            write(state, vec![detail.clone()]);
            detail.from = now;
            detail.reached_before = reached;
            detail.exposure = here;
            stretch.within = is_within(here);
        }
    }

    /// The server stops.
    pub fn close(self, state: &State, now: Timestamp) {
        let left = self.open.into_values().map(|stretch| stretch.detail);
        // A clock that was set back must not make a record that ends before it begins.
        let left: Vec<LogDetail> = left
            .filter(|detail| detail.to <= now && detail.from < detail.to)
            .collect();
        write(state, left);
    }
}

fn write(state: &State, all: Vec<LogDetail>) {
    let records: Vec<NewEvidence> = all
        .iter()
        .filter(|detail| detail.from <= detail.to)
        .map(|detail| NewEvidence {
            time: detail.to,
            kind: Kind::Log,
            who: None,
            what: format!(
                "the log of {} reached {}; since {} at worst {} could have been lost",
                detail.workload, detail.reached, detail.from, detail.exposure
            ),
            outcome: Outcome::Done,
            detail: details(detail),
        })
        .collect();
    if records.is_empty() {
        return;
    }
    if let Err(error) = state.add_evidence(&records) {
        tracing::error!("{error}: how far logs reached is not written down");
    }
}
