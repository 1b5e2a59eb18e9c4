//! The aims that this project has set itself, held against what was measured.

use crate::data::DataSet;
use crate::record::{Record, Step};
use crate::tools::ToolName;

/// An aim and what became of it.
pub struct Judged {
    /// The aim.
    pub what: String,
    /// What was measured.
    pub measured: String,
    /// Whether it was reached.
    pub met: bool,
}

const RELIGHT: ToolName = ToolName::Relight;
/// The most memory of any backup or restore.
const MEMORY: u64 = 300 << 20;

/// All aims for which there is a measurement.
pub fn judge(record: &Record) -> Vec<Judged> {
    let mut judged = Vec::new();
    for &data in record.data.keys() {
        for step in [Step::FirstBackup, Step::Restore, Step::Verify] {
            judged.extend(against_best(record, data, step, 3.0));
        }
    }
    judged.extend(against_best(record, DataSet::Tree, Step::UnchangedBackup, 2.0));
    judged.extend(image_rate(record));
    judged.extend(image_cpu(record));
    judged.extend(time_a_file(record));
    judged.extend(memory(record));
    judged
}

fn against_best(record: &Record, data: DataSet, step: Step, times: f64) -> Option<Judged> {
    let own = record.median(data, step, RELIGHT)?;
    let (tool, best) = record.best_peer(data, step)?;
    let ratio = best.wall / own.wall;
    Some(Judged {
        what: format!(
            "{}, {}: at least {times} times the best peer",
            data.name(),
            step.name()
        ),
        measured: format!("{ratio:.2} times {}", tool.name()),
        met: ratio >= times,
    })
}

fn image_rate(record: &Record) -> Option<Judged> {
    let own = record.median(DataSet::Image, Step::FirstBackup, RELIGHT)?;
    let rate = record.data.get(&DataSet::Image)?.bytes as f64 / 1e6 / own.wall;
    Some(Judged {
        what: "image, first backup: at least 500 MB/s on two cores".to_owned(),
        measured: format!("{rate:.0} MB/s on {} cores", record.machine.cores),
        met: rate >= 500.0,
    })
}

fn image_cpu(record: &Record) -> Option<Judged> {
    let own = record.median(DataSet::Image, Step::FirstBackup, RELIGHT)?;
    let gib = record.data.get(&DataSet::Image)?.bytes as f64 / (1_u64 << 30) as f64;
    let seconds = own.cpu / gib;
    Some(Judged {
        what: "image, first backup: under 2.5 processor seconds a GiB".to_owned(),
        measured: format!("{seconds:.2} s/GiB"),
        met: seconds < 2.5,
    })
}

fn time_a_file(record: &Record) -> Option<Judged> {
    let own = record.median(DataSet::Tree, Step::UnchangedBackup, RELIGHT)?;
    let micros = own.wall * 1e6 / record.data.get(&DataSet::Tree)?.files as f64;
    Some(Judged {
        what: "tree, unchanged backup: under 20 µs a file".to_owned(),
        measured: format!("{micros:.1} µs a file"),
        met: micros < 20.0,
    })
}

fn memory(record: &Record) -> Option<Judged> {
    let bounded = |step: Step| !matches!(step, Step::Verify | Step::Collect);
    let own = record
        .samples
        .iter()
        .filter(|sample| sample.tool == RELIGHT && bounded(sample.step));
    let worst = own.max_by_key(|sample| sample.peak_rss_bytes)?;
    Some(Judged {
        what: "every backup and restore: under 300 MiB of memory".to_owned(),
        measured: format!(
            "at most {} ({}, {})",
            relight_model::ByteSize(worst.peak_rss_bytes),
            worst.data.name(),
            worst.step.name()
        ),
        met: worst.peak_rss_bytes < MEMORY,
    })
}
