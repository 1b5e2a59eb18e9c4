//! Retention: which snapshots stay, why, and what keeps a mistake or a wrong clock from deleting the rest.
//!
//! # The rules
//!
//! Each workload is judged on its own, newest snapshot first. Rules are applied in the order `keep-last`,
//! `keep-within`, `keep-hourly`, `keep-daily`, `keep-weekly` (ISO 8601 weeks), `keep-monthly`, `keep-yearly`; periods
//! are those of the time zone that is passed in.
//!
//! - `keep-last N` keeps the N newest snapshots.
//! - `keep-within SPAN` keeps everything no older than SPAN before the *newest* snapshot. It is counted from there
//!   and not from now, so that a workload whose backups have stopped does not lose the points it has.
//! - `keep-daily N` (hourly, weekly…) walks the periods that have a snapshot, newest first, keeps the newest
//!   snapshot of each, and stops after N periods **that no earlier rule had covered**. A period is covered when a
//!   snapshot in it is kept by an earlier rule. So `keep-daily 7, keep-weekly 4` keeps seven days and then four more
//!   weeks.
//!
//! That a covered period is not counted is how Proxmox Backup Server counts, and a policy brought over from there
//! must not delete what it kept there; restic and borg differ among themselves. Unlike there, the newest snapshot
//! of a covered period is kept too. This is what makes rules predictable: **adding a rule, or raising its number,
//! never removes a snapshot that was kept before**. (Where it does not hold, adding `keep-daily 1` can remove a month's
//! last point, because a week's point that now covers the month ends the month's claim.) The price is at most one
//! more snapshot where a week straddles two months or years.
//!
//! # What is never removed
//!
//! - Anything under an empty policy.
//! - Protected snapshots. They are kept and do not take part in the rules: they neither count nor cover.
//! - Snapshots dated later than now plus the permitted skew. They do not take part either, so that a forged or wrong
//!   date cannot crowd real snapshots out, and an alarm names them.
//! - The newest good snapshot of a workload, unless that is forced.
//! - Where the newest snapshot of a period is not good (damaged, incomplete), the newest good one of the period is
//!   kept beside it.
//!
//! A [`Plan`] also carries [`Alarm`]s, for a clock that has jumped and for an unusual share of removals; a plan with
//! alarms is not to be executed before someone has looked at it.

mod copy;
mod named;
mod period;
mod plan;
mod policy;
mod within;

pub use copy::to_copy;
pub use named::takes_last_good;
pub use plan::{Alarm, Candidate, Decision, GroupPlan, Guards, Judged, Plan, Reason, plan};
pub use policy::{Policy, PolicyError, RuleKind};
pub use within::{Within, WithinError};
