//! `relight restore`: brings back a snapshot or parts of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use clap::Args;
use relight_repo::read::ChunkReader;
use relight_workloads::image::{self, Target};
use serde::Serialize;

use crate::context::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::progress::Meter;
use crate::{cancel, output, target};

/// Options of `restore`.
#[derive(Debug, Args)]
pub struct Options {
    /// Short id, `latest`, or WORKLOAD@TIME
    snapshot: String,
    /// Where to: a directory
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

#[derive(Serialize)]
struct Report {
    bytes: u64,
}

/// Brings it back.
pub fn run(global: &Global, options: &Options) -> Result<Exit> {
    let repository = global.open()?;
    let snapshot = target::snapshot(&repository, &options.snapshot)?;
    let reader = Arc::new(ChunkReader::new(repository)?);
    let done = Arc::new(AtomicU64::new(0));
    std::fs::create_dir_all(&options.to).map_err(Failure::io(format!("make {}", options.to.display())))?;
    let meter = Meter::start(global, done.clone(), snapshot.size(), String::new);
    for archive in &snapshot.archives {
        if archive.name.ends_with(image::IMAGE) {
            let path = options.to.join(&archive.name);
            image::restore(&reader, archive, &path, Target::NewFile, true, &done, &cancel::flag())?;
        }
    }
    drop(meter);
    let report = Report { bytes: done.load(std::sync::atomic::Ordering::Relaxed) };
    output::result(global, &report, |report, out| out.push_str(&format!("{} bytes\n", report.bytes)));
    Ok(Exit::Done)
}
