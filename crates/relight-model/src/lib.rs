//! Pure values and rules: workload names, snapshot references, calendar events, retention, objectives, sizes and durations.
//!
//! No I/O, no clock of its own, no async: time and time zone are always passed in, so that every rule here is a
//! function that can be tested at any date. The one public name a concept has in code, command line, API and
//! configuration is defined here.

pub mod calendar;
pub mod check;
pub mod duration;
pub mod objective;
pub mod plan;
pub mod retention;
pub mod schedule;
pub mod size;
pub mod snapshot_ref;
pub mod workload;

pub use calendar::Event;
pub use duration::TimeSpan;
pub use size::{ByteSize, Rate};
pub use snapshot_ref::{PointInTime, SnapshotRef};
pub use workload::Workload;
