//! `--thaw DAYS`: makes what a command needs readable where it lies in a cold storage class.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use relight_model::size::ByteSize;
use relight_repo::control::Control;
use relight_repo::read::ChunkReader;
use relight_repo::thaw::{self, Needed, Report};
use serde::Serialize;

use crate::cancel;
use crate::context::Global;
use crate::failure::Result;
use crate::steps::Steps;

/// The option.
#[derive(Debug, Clone, Default, Args)]
pub struct ThawOptions {
    /// Ask the storage to make what lies in a cold class readable for so many days, and go on once all of it is; until
    /// then, say how much is and end with exit code 3
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub thaw: Option<u32>,
}

/// How far the packs that are needed have come.
#[derive(Debug, Serialize)]
pub struct Thawing {
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot: Option<String>,
    days: u32,
    #[serde(flatten)]
    report: Report,
}

impl Thawing {
    /// Whether everything can be read.
    pub fn is_ready(&self) -> bool {
        self.report.is_ready()
    }
}

/// Asks for everything that is needed to be readable for so many days. `snapshot` is the one it is all of.
pub fn request(
    global: &Global,
    reader: &Arc<ChunkReader>,
    snapshot: Option<String>,
    needed: &[Needed],
    days: u32,
) -> Result<Thawing> {
    let keep = Duration::from_secs(u64::from(days) * 24 * 3600);
    let (cancelled, steps) = (cancel::flag(), Steps::new(global));
    let control = Control {
        cancelled: &cancelled,
        progress: &steps,
    };
    let report = thaw::request(reader, needed, keep, control)?;
    Ok(Thawing {
        snapshot,
        days,
        report,
    })
}

/// In words.
pub fn words(thawing: &Thawing, out: &mut String) {
    let report = &thawing.report;
    out.push_str(&format!(
        "{} data packs ({}) are needed: {} can be read now, {} are being thawed\n",
        report.packs,
        ByteSize(report.bytes),
        report.ready,
        report.in_progress
    ));
    if report.missing > 0 {
        out.push_str(&format!(
            "  {} are not there: run `relight verify`\n",
            report.missing
        ));
    }
    out.push_str(if report.is_ready() {
        "Everything can be read.\n"
    } else {
        "This takes the storage minutes to days, by its class and tier. Run the same command again: it goes on as soon as\n\
         everything can be read.\n"
    });
}
