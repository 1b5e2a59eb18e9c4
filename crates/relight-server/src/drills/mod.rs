//! Drills: a recovery point is restored into a sandbox, started, probed, timed, and thrown away.
//!
//! ```text
//! pick ─ restore ─ start ─ probe ─┬─ (spoil ─ probe again) ─ tear down
//! └──────── measured ─────────────┘
//! ```
//!
//! What each step means is for the kind of workload to say ([`relight_workloads::rehearse`]). Here is what is the same for all:
//! the order, the clock, the sandbox, the negative control, and that everything is torn down whatever happens.

mod code;
mod drill;
mod exercise;
mod sandbox;

pub use code::{Code, Failed};
pub use drill::{DrillRequest, Drilled, drill};
pub use exercise::{ExerciseRequest, exercise};
pub use sandbox::{Sandbox, sweep};
