//! `relight restore --thaw DAYS`: makes what the restore needs readable where it lies in a cold storage class.

use std::sync::Arc;
use std::time::Duration;

use relight_model::size::ByteSize;
use relight_repo::control::Control;
use relight_repo::read::ChunkReader;
use relight_repo::snapshot::Snapshot;
use relight_repo::thaw::{self, Needed};
use relight_workloads::files;
use serde::Serialize;

use super::Wanted;
use crate::cancel;
use crate::failure::Result;

/// How far the packs that a restore needs have come.
#[derive(Debug, Serialize)]
pub(super) struct Thawing {
    snapshot: String,
    days: u32,
    #[serde(flatten)]
    report: thaw::Report,
}

impl Thawing {
    /// Whether the restore can go ahead.
    pub fn is_ready(&self) -> bool {
        self.report.is_ready()
    }
}

/// Asks for everything that is needed to be readable for so many days.
pub(super) fn request(
    reader: &Arc<ChunkReader>,
    snapshot: &Snapshot,
    wanted: &[Wanted<'_>],
    days: u32,
) -> Result<Thawing> {
    let mut needed = Vec::new();
    for item in wanted {
        needed.push(match item {
            Wanted::Whole(archive) => Needed::whole(archive.root),
            Wanted::Tree(tree, selection) => Needed {
                root: tree.payload.root,
                ranges: files::payload_ranges(reader, tree, selection)?,
            },
        });
    }
    let keep = Duration::from_secs(u64::from(days) * 24 * 3600);
    let report = thaw::request(reader, &needed, keep, Control::quiet(&cancel::flag()))?;
    Ok(Thawing {
        snapshot: snapshot.id.to_string(),
        days,
        report,
    })
}

/// In words.
pub(super) fn words(thawing: &Thawing, out: &mut String) {
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
    if report.is_ready() {
        out.push_str("Everything can be read. Restore it without --thaw, or with --thaw and --to DIR.\n");
    } else {
        out.push_str(
            "This takes the storage minutes to days, by its class and tier. Run the same command again until\n\
             everything can be read; with --to DIR or --onto DEVICE it then goes on and restores.\n",
        );
    }
}
