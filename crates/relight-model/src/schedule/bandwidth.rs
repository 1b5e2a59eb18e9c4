//! How much runs may move at a time of day.

use jiff::Timestamp;

use super::{JobId, Schedule};
use crate::plan::{Plan, ResourceKind, Window};
use crate::size::Rate;

/// A limit of bandwidth.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    rate: Rate,
    window: Option<Window>,
    network: Option<String>,
    repository: Option<String>,
}

pub(super) fn rules(plan: &Plan) -> Vec<Rule> {
    let rules = plan.bandwidth.iter().map(|rule| Rule {
        rate: rule.rate.value,
        window: rule
            .window
            .as_ref()
            .and_then(|name| plan.windows.get(&name.value))
            .cloned(),
        network: rule.network.clone(),
        repository: rule.repository.as_ref().map(|at| at.value.clone()),
    });
    rules.collect()
}

impl Schedule {
    /// The strictest limit of bandwidth that holds for a job at `now`. All runs to which the same limit applies share it.
    pub fn rate_for(&self, id: &JobId, now: Timestamp) -> Option<Rate> {
        let resources = self.resources_of(id);
        let uses = |kind, name: &Option<String>| match name {
            None => true,
            Some(name) => resources
                .iter()
                .any(|((of, resource), _)| *of == kind && resource == name),
        };
        let applies = |rule: &&Rule| {
            uses(ResourceKind::Network, &rule.network)
                && uses(ResourceKind::Repository, &rule.repository)
                && rule
                    .window
                    .as_ref()
                    .is_none_or(|window| window.open_until(now, &self.zone).is_some())
        };
        self.bandwidth.iter().filter(applies).map(|rule| rule.rate).min()
    }
}
