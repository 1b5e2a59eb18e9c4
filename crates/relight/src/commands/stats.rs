//! `relight stats`: what the repository holds, and what each workload takes up.

use clap::Args;
use relight_model::size::ByteSize;
use relight_repo::control::Control;
use relight_repo::stats::{self, Stats, WorkloadStats};

use crate::context::Global;
use crate::exit::Exit;
use crate::failure::Result;
use crate::steps::Steps;
use crate::{cancel, output};

/// Options of `stats`.
#[derive(Debug, Args)]
pub struct Options {}

/// Counts it.
pub fn run(global: &Global, _: &Options) -> Result<Exit> {
    let repository = global.open_to_read()?;
    let (cancelled, steps) = (cancel::flag(), Steps::new(global));
    let control = Control {
        cancelled: &cancelled,
        progress: &steps,
    };
    let stats = stats::stats(&repository, control)?;
    drop(steps);
    output::result(global, &stats, words);
    let whole = stats.missing + stats.unreadable == 0;
    Ok(if whole { Exit::Done } else { Exit::Damage })
}

/// How many times more there would be: `3.2 x`.
fn ratio(more: u64, less: u64) -> String {
    match less {
        0 => "-".into(),
        less => format!("{:.1} x", more as f64 / less as f64),
    }
}

fn words(stats: &Stats, out: &mut String) {
    let size = |bytes: u64| ByteSize(bytes).to_string();
    let heading = [
        "WORKLOAD",
        "SNAPSHOTS",
        "NEWEST",
        "LOGICAL",
        "DEDUPLICATED",
        "STORED",
        "EXCLUSIVE",
    ];
    let row = |figures: &WorkloadStats| {
        vec![
            figures.workload.clone(),
            figures.snapshots.to_string(),
            size(figures.newest),
            size(figures.logical),
            size(figures.needed.content),
            size(figures.needed.stored),
            size(figures.exclusive.stored),
        ]
    };
    let all = vec![
        "all".to_string(),
        stats.snapshots.to_string(),
        String::new(),
        size(stats.logical),
        size(stats.needed.content),
        size(stats.needed.stored),
        String::new(),
    ];
    let rows = std::iter::once(heading.map(String::from).to_vec()).chain(stats.workloads.iter().map(row));
    let rows: Vec<_> = rows.chain([all]).collect();
    output::table(&rows, &[1, 2, 3, 4, 5, 6], out);
    out.push_str(&format!(
        "\n{} chunks; deduplication {}, compression {}; {} are shared by several workloads.\n",
        stats.needed.chunks,
        ratio(stats.logical, stats.needed.content),
        ratio(stats.needed.content, stats.needed.stored),
        size(stats.shared.stored)
    ));
    out.push_str(&format!(
        "The storage holds {}: data {}, metadata {}, index {}, parity {}.\n",
        size(stats.total),
        size(stats.data_packs),
        size(stats.metadata_packs),
        size(stats.index),
        size(stats.parity)
    ));
    let packs = stats.data_packs + stats.metadata_packs;
    if let Some(useless) = packs
        .checked_sub(stats.needed.stored)
        .filter(|bytes| *bytes > packs / 50)
    {
        out.push_str(&format!(
            "  {} of the packs are of no use; `relight collect` frees them\n",
            size(useless)
        ));
    }
    if stats.approximate {
        out.push_str("  Too many different workloads share chunks: figures of single ones are too low.\n");
    }
    if stats.missing + stats.unreadable > 0 {
        out.push_str(&format!(
            "{} chunks are missing and {} manifests and lists cannot be read: run `relight verify`\n",
            stats.missing, stats.unreadable
        ));
    }
}
