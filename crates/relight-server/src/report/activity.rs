//! Who did what: changes, denials, log-ins, restores, use of keys.

use std::collections::BTreeMap;

use serde::Serialize;

use super::cited::{Citation, Cited, shortened};
use crate::evidence::{Body, Kind, Outcome};

/// So many records of a kind are listed.
const MOST: usize = 100;
/// So many names are counted one by one.
const MOST_NAMES: usize = 200;
/// Who is not known, or one of too many.
const UNKNOWN: &str = "unknown";
const OTHERS: &str = "others";

/// What was done of one kind.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Deeds {
    /// The newest of them.
    pub done: Cited,
    /// How many each one did.
    pub by: BTreeMap<String, u64>,
}

impl Deeds {
    fn add(&mut self, body: &Body) {
        let who = shortened(body.who.as_deref().unwrap_or(UNKNOWN));
        let known = self.by.len() < MOST_NAMES || self.by.contains_key(&who);
        let name = if known { who.clone() } else { OTHERS.to_owned() };
        *self.by.entry(name).or_default() += 1;
        let outcome = match body.outcome {
            Outcome::Done => "",
            Outcome::Failed => " (failed)",
            Outcome::Denied => " (denied)",
        };
        let what = format!("{who}: {}{outcome}", body.what);
        self.done.add(Citation::new(body, what), MOST);
    }
}

/// Who did what in the period.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Activity {
    /// What was changed.
    pub changes: Deeds,
    /// What was refused.
    pub denials: Deeds,
    /// Log-ins that were refused.
    pub failed_logins: Deeds,
    /// Log-ins.
    pub logins: u64,
    /// What was read out of snapshots.
    pub restores: Deeds,
    /// What keys were used for.
    pub keys: Deeds,
    /// When the server was started and stopped, and got another configuration.
    pub server: Cited,
}

impl Activity {
    /// A record of the period.
    pub(super) fn take(&mut self, body: &Body) {
        match body.kind {
            Kind::Change | Kind::Approval => self.changes.add(body),
            Kind::Denial => self.denials.add(body),
            Kind::Login if body.outcome == Outcome::Done => self.logins += 1,
            Kind::Login => self.failed_logins.add(body),
            Kind::Restore => self.restores.add(body),
            Kind::Key => self.keys.add(body),
            Kind::Server => self.server.add(Citation::new(body, &body.what), MOST),
            Kind::Run | Kind::Drill | Kind::Log => {}
        }
    }
}
