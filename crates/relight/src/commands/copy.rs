//! `relight copy`: copies snapshots to another repository.

use std::sync::Arc;

use clap::Args;
use relight_model::size::ByteSize;
use relight_model::workload::Workload;
use relight_repo::control::Control;
use relight_repo::copy::{self, CopyReport};
use relight_repo::read::ChunkReader;

use crate::context::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::other::ToKeys;
use crate::steps::Steps;
use crate::thaw::{self, ThawOptions};
use crate::{cancel, output, target};

/// Options of `copy`.
#[derive(Debug, Args)]
pub struct Options {
    /// Short ids, `latest`, or WORKLOAD@TIME [default: all]
    #[arg(value_name = "SNAPSHOT")]
    snapshots: Vec<String>,
    /// The other repository: a directory or s3://BUCKET/PREFIX
    #[arg(long, value_name = "REPO")]
    to: String,
    /// Only snapshots of this workload
    #[arg(long, short, conflicts_with = "snapshots")]
    workload: Option<Workload>,
    #[command(flatten)]
    keys: ToKeys,
    #[command(flatten)]
    thaw: ThawOptions,
}

/// Copies them.
pub fn run(global: &Global, options: &Options) -> Result<Exit> {
    let source = global.open_to_read()?;
    let snapshots = if options.snapshots.is_empty() {
        let (mut all, broken) = source.snapshots()?;
        for (id, error) in &broken {
            output::remark(
                global,
                &format!("snapshot {id} cannot be read and is not copied: {error}"),
            );
        }
        if let Some(workload) = &options.workload {
            all.retain(|snapshot| snapshot.workload == workload.as_str());
            if all.is_empty() {
                return Err(Failure::Usage(format!(
                    "there is no snapshot of {workload}; nothing was copied"
                )));
            }
        }
        all
    } else {
        let one = |given: &String| target::snapshot(&source, given);
        options.snapshots.iter().map(one).collect::<Result<_>>()?
    };
    let other = global.open_other(&options.to, || options.keys.provider())?;
    if other.id() == source.id() {
        return Err(Failure::Usage(format!(
            "{} is this repository, or a copy of all its objects: name another one, or make one with `relight init {}`",
            options.to, options.to
        )));
    }
    let (cancelled, steps) = (cancel::flag(), Steps::new(global));
    let control = Control {
        cancelled: &cancelled,
        progress: &steps,
    };
    if let Some(days) = options.thaw.thaw {
        let reader = Arc::new(ChunkReader::new(source.clone())?);
        let needed = copy::needed(&reader, &other, &snapshots, control)?;
        let thawing = thaw::request(global, &reader, None, &needed, days)?;
        if !thawing.is_ready() {
            drop(steps);
            output::result(global, &thawing, thaw::words);
            return Ok(Exit::Incomplete);
        }
    }
    let report = copy::copy(&source, &other, &snapshots, control)?;
    drop(steps);
    output::result(global, &report, words);
    Ok(match (report.failed.is_empty(), report.cancelled) {
        (false, _) => Exit::Damage,
        (true, true) => Exit::Cancelled,
        (true, false) => Exit::Done,
    })
}

fn words(report: &CopyReport, out: &mut String) {
    for copied in &report.copied {
        out.push_str(&format!(
            "{} is {} there: {}, {} new, {} stored\n",
            copied.source.short(),
            copied.target.short(),
            ByteSize(copied.logical),
            ByteSize(copied.added),
            ByteSize(copied.stored)
        ));
    }
    for (snapshot, error) in &report.failed {
        out.push_str(&format!("{} was not copied: {error}\n", snapshot.short()));
    }
    out.push_str(&format!(
        "{} copied, {} were there already.\n",
        report.copied.len(),
        report.skipped.len()
    ));
    if report.cancelled {
        out.push_str("Stopped; what was read so far is used by the next copy.\n");
    }
}
