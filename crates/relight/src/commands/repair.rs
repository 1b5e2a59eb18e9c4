//! `relight repair`: puts damaged things in order again.

use clap::{Args, Subcommand};
use relight_model::size::ByteSize;
use relight_repo::PackId;
use relight_repo::control::Control;
use relight_repo::repair::{self, IndexReport, PackOptions, PackReport};
use serde::Serialize;

use super::verify::report;
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::other::FromKeys;
use crate::steps::Steps;
use crate::{cancel, output};

/// What to repair.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make the index anew from the packs
    Index,
    /// Bring damaged packs back by their parity, and lost chunks from copies
    Packs(PacksOptions),
}

/// Options of `repair packs`.
#[derive(Debug, Args)]
pub struct PacksOptions {
    /// A repository that may have copies of what is lost; may be given several times
    #[arg(long, value_name = "REPO")]
    from: Vec<String>,
    /// A pack to look at besides those that are known to be damaged
    #[arg(long, value_name = "ID")]
    pack: Vec<String>,
    #[command(flatten)]
    keys: FromKeys,
}

/// Repairs it.
pub fn run(global: &Global, command: &Command) -> Result<Exit> {
    match command {
        Command::Index => index(global),
        Command::Packs(options) => packs(global, options),
    }
}

fn index(global: &Global) -> Result<Exit> {
    let (storage, opened) = global.unlock()?;
    let (cancelled, steps) = (cancel::flag(), Steps::new(global));
    let control = Control {
        cancelled: &cancelled,
        progress: &steps,
    };
    let report = repair::index(storage, opened.into_keys(), global.open_options()?, control)?;
    drop(steps);
    output::result(global, &report, index_words);
    Ok(if report.kept.is_empty() && report.missing.is_empty() {
        Exit::Done
    } else {
        Exit::Damage
    })
}

fn index_words(report: &IndexReport, out: &mut String) {
    out.push_str(&format!(
        "The new index has {} chunks in {} packs; {} packs are new to it.\n",
        report.chunks, report.packs, report.new_packs
    ));
    out.push_str(&format!(
        "  {} segments written, {} replaced\n",
        report.written, report.replaced
    ));
    for bad in &report.bad_segments {
        out.push_str(&format!(
            "  segment {} was {}: {}\n",
            bad.segment,
            bad.damage.word(),
            bad.detail
        ));
    }
    for kept in &report.kept {
        let known = if kept.known {
            "what the old index knew of it was kept"
        } else {
            "what is in it is not known"
        };
        out.push_str(&format!(
            "pack {} is {}: {}; {known}\n",
            kept.pack,
            kept.damage.word(),
            kept.detail
        ));
    }
    for pack in &report.missing {
        out.push_str(&format!("pack {pack} is not there\n"));
    }
    if !report.kept.is_empty() || !report.missing.is_empty() {
        out.push_str(
            "Next: `relight verify` tells what that means for snapshots, `relight repair packs` repairs.\n",
        );
    }
}

/// What was repaired and what is left.
#[derive(Serialize)]
struct Repaired {
    rebuilt: Vec<PackId>,
    good: Vec<PackId>,
    beyond_parity: Vec<(PackId, String)>,
    parity_written: Vec<PackId>,
    fetched_chunks: u64,
    fetched_bytes: u64,
    fetch_errors: Vec<String>,
    /// What is still wrong.
    rest: report::Report,
}

fn packs(global: &Global, options: &PacksOptions) -> Result<Exit> {
    let id = |text: &String| {
        text.parse::<PackId>()
            .map_err(|_| Failure::Usage(format!("{text:?} is no pack; `relight verify` names them")))
    };
    let mut how = PackOptions {
        packs: options.pack.iter().map(id).collect::<Result<_>>()?,
        from: Vec::new(),
    };
    let repository = global.open()?;
    for location in &options.from {
        how.from
            .push(global.open_other(location, || options.keys.provider())?);
    }
    let (cancelled, steps) = (cancel::flag(), Steps::new(global));
    let control = Control {
        cancelled: &cancelled,
        progress: &steps,
    };
    let report = repair::packs(&repository, &how, control)?;
    drop(steps);
    let PackReport {
        rebuilt,
        good,
        beyond_parity,
        parity_written,
        fetched_chunks,
        fetched_bytes,
        fetch_errors,
        rest,
    } = report;
    let rest = report::Report::new(repository, rest, &cancelled)?;
    let repaired = Repaired {
        rebuilt,
        good,
        beyond_parity,
        parity_written,
        fetched_chunks,
        fetched_bytes,
        fetch_errors,
        rest,
    };
    output::result(global, &repaired, packs_words);
    // A damaged pack that nothing needs any more is left to the next collection.
    Ok(if repaired.rest.restorable {
        Exit::Done
    } else {
        repaired.rest.exit()
    })
}

fn packs_words(repaired: &Repaired, out: &mut String) {
    out.push_str(&format!(
        "{} packs were brought back by their parity.\n",
        repaired.rebuilt.len()
    ));
    if repaired.fetched_chunks > 0 {
        out.push_str(&format!(
            "{} chunks, {}, were fetched from copies.\n",
            repaired.fetched_chunks,
            ByteSize(repaired.fetched_bytes)
        ));
    }
    if !repaired.parity_written.is_empty() {
        out.push_str(&format!(
            "{} packs were given new parity.\n",
            repaired.parity_written.len()
        ));
    }
    for (pack, why) in &repaired.beyond_parity {
        out.push_str(&format!("parity could not help pack {pack}: {why}\n"));
    }
    for error in &repaired.fetch_errors {
        out.push_str(&format!("a copy could not be used: {error}\n"));
    }
    report::words(&repaired.rest, out);
}
