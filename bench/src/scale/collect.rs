//! Collections of a repository with a long history.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use relight_repo::collect::{self, CollectOptions, Report};
use relight_repo::control::Control;
use serde::{Deserialize, Serialize};

use super::process::{self, Memory};
use super::synthetic::Place;
use crate::failure::{Doing, Result};

/// What a collection cost, and what it did.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Collected {
    /// Opening the repository, in seconds.
    pub open_seconds: f64,
    /// The collection, in seconds.
    pub seconds: f64,
    /// Memory at the end.
    pub memory: Memory,
    /// What it found and did.
    pub report: Report,
}

/// Collects without grace.
pub fn measure(place: &Place) -> Result<Collected> {
    let started = Instant::now();
    let repository = Arc::new(place.open()?);
    let open_seconds = started.elapsed().as_secs_f64();
    let options = CollectOptions {
        grace: Duration::ZERO,
        ..CollectOptions::default()
    };
    let cancelled = AtomicBool::new(false);
    let started = Instant::now();
    let report =
        collect::collect(&repository, &options, Control::quiet(&cancelled)).doing(|| "collect".to_owned())?;
    Ok(Collected {
        open_seconds,
        seconds: started.elapsed().as_secs_f64(),
        memory: process::memory(),
        report,
    })
}
