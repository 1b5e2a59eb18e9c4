//! How each kind of workload is captured and restored. Knows nothing of HTTP, users or schedules.

pub mod bring_back;
pub mod error;
pub mod files;
pub mod image;
pub mod kind;
pub mod log;
pub mod parts;
pub mod rehearse;
pub mod stream;

pub use error::{Result, WorkloadError};
