//! What the scale benchmarks leave behind, their tables, and the aims held against them.

use std::fmt::Write;

use relight_model::ByteSize;
use relight_repo::collect::Amount;
use serde::{Deserialize, Serialize};

use super::FEW;
use super::collect::Collected;
use super::open::Opened;
use crate::aims::Judged;
use crate::machine::Machine;
use crate::report::{Table, aims_table};

/// Where the local index of an opening came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum From {
    /// There was none: it was made from what is in storage.
    Storage,
    /// From the disk: nothing of it was in the page cache.
    Disk,
    /// From the page cache.
    Memory,
}

impl From {
    const fn name(self) -> &'static str {
        match self {
            Self::Storage => "without a local cache",
            Self::Disk => "with it, from disk",
            Self::Memory => "with it, from memory",
        }
    }
}

/// One opening of a large repository.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Opening {
    /// Where the local index came from.
    pub from: From,
    /// What it cost.
    #[serde(flatten)]
    pub opened: Opened,
}

/// One collection of a long history.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Collection {
    /// Snapshots of the history.
    pub snapshots: u64,
    /// Its distinct chunks.
    pub chunks: u64,
    /// The first, second or third one after it was made.
    pub number: u32,
    /// Processor seconds of the process, opening included.
    pub cpu_seconds: f64,
    /// The largest resident set of the process.
    pub peak_rss_bytes: u64,
    /// What it cost and did.
    #[serde(flatten)]
    pub collected: Collected,
}

/// Everything about a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ScaleRecord {
    /// When it began, RFC 3339.
    pub started: String,
    /// What it ran on.
    pub machine: Machine,
    /// Openings of a large repository.
    pub openings: Vec<Opening>,
    /// Collections of long and short histories.
    pub collections: Vec<Collection>,
}

/// The whole report.
pub fn render(record: &ScaleRecord) -> String {
    let mut out = format!("# Measured {}\n\n", record.started);
    out.push_str(&record.machine.describe());
    if !record.openings.is_empty() {
        let _ = write!(
            out,
            "\n## Opening a large repository\n\n{}",
            openings(&record.openings)
        );
    }
    if !record.collections.is_empty() {
        let _ = write!(
            out,
            "\n## Collecting a long history\n\n{}",
            collections(&record.collections)
        );
    }
    let _ = write!(out, "\n## Aims\n\n{}", aims_table(&judge(record)));
    out
}

fn openings(openings: &[Opening]) -> String {
    let mut table = Table::new(&[
        "opening",
        "chunks",
        "seconds",
        "own memory",
        "mapped files",
        "peak",
        "unknown chunk",
        "disk read by 10⁶ of them",
        "known chunk",
    ]);
    for Opening { from, opened } in openings {
        table.row([
            from.name().to_owned(),
            opened.chunks.to_string(),
            format!("{:.3}", opened.open_seconds),
            ByteSize(opened.open_memory.anonymous).to_string(),
            ByteSize(opened.open_memory.files).to_string(),
            ByteSize(opened.open_memory.peak).to_string(),
            format!("{:.0} ns", opened.unknown_nanos),
            format!(
                "{} ({} faults)",
                ByteSize(opened.unknown_disk_read),
                opened.unknown_major_faults
            ),
            format!("{:.0} ns", opened.known_nanos),
        ]);
    }
    table.render()
}

fn collections(collections: &[Collection]) -> String {
    let mut table = Table::new(&[
        "snapshots",
        "chunks",
        "collection",
        "seconds",
        "CPU s",
        "peak memory",
        "of it own",
        "condemned",
        "deleted",
        "rewritten",
        "live chunks and nodes",
    ]);
    for collection in collections {
        let Collected {
            report,
            memory,
            seconds,
            ..
        } = &collection.collected;
        let packs = |amount: &Amount| format!("{} packs", amount.packs);
        table.row([
            collection.snapshots.to_string(),
            collection.chunks.to_string(),
            collection.number.to_string(),
            format!("{seconds:.2}"),
            format!("{:.2}", collection.cpu_seconds),
            ByteSize(collection.peak_rss_bytes).to_string(),
            ByteSize(memory.anonymous).to_string(),
            packs(&report.condemned),
            packs(&report.deleted),
            ByteSize(report.found.moved).to_string(),
            report.found.live_chunks.to_string(),
        ]);
    }
    table.render()
}

fn judge(record: &ScaleRecord) -> Vec<Judged> {
    let mut judged = Vec::new();
    for Opening { from, opened } in &record.openings {
        judged.push(Judged {
            what: format!("opening {}: under 1 s and 256 MiB", from.name()),
            measured: format!(
                "{:.3} s, {}",
                opened.open_seconds,
                ByteSize(opened.open_memory.peak)
            ),
            met: opened.open_seconds < 1.0 && opened.open_memory.peak < 256 << 20,
        });
        judged.push(Judged {
            what: format!("a million look-ups of unknown chunks {}: no I/O", from.name()),
            measured: ByteSize(opened.unknown_disk_read).to_string(),
            met: opened.unknown_disk_read == 0,
        });
    }
    for long in record
        .collections
        .iter()
        .filter(|collection| collection.snapshots != FEW)
    {
        let seconds = long.collected.seconds;
        judged.push(Judged {
            what: format!("collection {} of the long history: under 5 s", long.number),
            measured: format!("{seconds:.2} s"),
            met: seconds < 5.0,
        });
        let few = record
            .collections
            .iter()
            .find(|few| few.snapshots == FEW && few.number == long.number);
        if let Some(few) = few {
            let ratio = seconds / few.collected.seconds;
            judged.push(Judged {
                what: format!(
                    "collection {}: within 2 times that of {FEW} snapshots",
                    long.number
                ),
                measured: format!("{ratio:.2} times"),
                met: ratio <= 2.0,
            });
        }
    }
    judged
}
