//! How the engine grows with chunks and snapshots, on repositories made for the purpose.

mod collect;
mod history;
mod open;
mod process;
mod synthetic;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use relight_model::ByteSize;
use relight_repo::collect::Amount;
use serde::Serialize;
use serde_json::Value;

use self::collect::Collected;
use self::open::Opened;
use self::synthetic::Place;
use crate::failure::{Doing, Result};
use crate::machine::Machine;
use crate::measure::{self, Cost};
use crate::report::Table;

/// What to measure.
#[derive(clap::Args)]
pub struct Options {
    /// Directory for the repositories.
    #[arg(long)]
    work: PathBuf,
    /// Chunks of the repository that is opened.
    #[arg(long, default_value_t = 10_000_000)]
    open_chunks: u64,
    /// Distinct chunks of the repository that is collected.
    #[arg(long, default_value_t = 1_000_000)]
    chunks: u64,
    /// Its snapshots; it is compared with one of as many chunks and ten snapshots.
    #[arg(long, default_value_t = 1_000)]
    snapshots: u64,
    /// Neighbouring chunks that change together.
    #[arg(long, default_value_t = 16)]
    burst: u64,
    /// Only this.
    #[arg(long, value_enum)]
    only: Option<What>,
}

/// A scale benchmark.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// Opening a repository of very many chunks.
    Open,
    /// Collecting one with a long history.
    Collect,
}

/// The share of the image that each snapshot changed.
const CHANGED: f64 = 0.01;

/// A part that runs in a process of its own, so that its memory can be told.
#[derive(clap::Subcommand)]
pub enum Part {
    /// Make a repository whose index has so many chunks.
    MakeOpen {
        /// Where.
        place: PathBuf,
        /// How many.
        chunks: u64,
    },
    /// Make a repository with a history.
    MakeHistory {
        /// Where.
        place: PathBuf,
        /// Distinct chunks.
        chunks: u64,
        /// Snapshots.
        snapshots: u64,
        /// Chunks that change together.
        burst: u64,
    },
    /// Open it, so that there is a local cache of its index.
    FillCache {
        /// Where.
        place: PathBuf,
    },
    /// Collect it.
    Collect {
        /// Where.
        place: PathBuf,
    },
    /// Open a repository and look chunks up.
    Open {
        /// Where.
        place: PathBuf,
    },
}

/// Runs one part; its result goes to standard output.
pub fn run_part(part: &Part) -> Result<Value> {
    match part {
        Part::MakeOpen { place, chunks } => {
            let place = Place::under(place);
            place.initialise()?;
            synthetic::add_data_packs(
                &place,
                open::SEED,
                chunks.div_ceil(synthetic::CHUNKS_A_PACK),
                false,
            )?;
            Ok(Value::Null)
        }
        &Part::MakeHistory {
            ref place,
            chunks,
            snapshots,
            burst,
        } => {
            history::History {
                chunks,
                snapshots,
                changed: CHANGED,
                burst,
            }
            .make(place)?;
            Ok(Value::Null)
        }
        Part::FillCache { place } => Place::under(place).open().map(|_| Value::Null),
        Part::Collect { place } => to_json(&collect::measure(&Place::under(place))?),
        Part::Open { place } => to_json(&open::measure(&Place::under(place))?),
    }
}

fn to_json(value: &impl Serialize) -> Result<Value> {
    serde_json::to_value(value).doing(|| "write the result".to_owned())
}

/// Measures everything and prints the tables.
pub fn run(options: &Options) -> Result<ExitCode> {
    let work = options.work.join("scale");
    remove(&work)?;
    fs::create_dir_all(&work).doing(|| format!("create {}", work.display()))?;
    let machine = Machine::look(&work)?;
    println!(
        "# {}, {} cores, {}, kernel {}\n",
        machine.cpu, machine.cores, machine.disk, machine.kernel
    );
    if options.only.is_none_or(|only| only == What::Open) {
        opening(&work, options.open_chunks)?;
    }
    if options.only.is_none_or(|only| only == What::Collect) {
        collecting(&work, options)?;
    }
    remove(&work)?;
    Ok(ExitCode::SUCCESS)
}

fn opening(work: &Path, chunks: u64) -> Result<()> {
    let root = work.join("open");
    fs::create_dir_all(&root).doing(|| format!("create {}", root.display()))?;
    eprintln!("# making a repository of {chunks} chunks");
    part(
        work,
        &[
            "make-open".as_ref(),
            root.as_os_str(),
            chunks.to_string().as_ref(),
        ],
    )?;
    let place = Place::under(&root);
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
    for what in [
        "without a local cache",
        "with it, from disk",
        "with it, from memory",
    ] {
        if what == "without a local cache" {
            remove(&place.cache)?;
        }
        if what != "with it, from memory" {
            place.drop_from_page_cache()?;
        }
        let opened: Opened = serde_json::from_value(part(work, &["open".as_ref(), root.as_os_str()])?)
            .doing(|| "read the result".to_owned())?;
        table.row([
            what.to_owned(),
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
    println!("## Opening a large repository\n\n{}", table.render());
    remove(&root)
}

fn collecting(work: &Path, options: &Options) -> Result<()> {
    let root = work.join("collect");
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
    for snapshots in [options.snapshots, 10] {
        fs::create_dir_all(&root).doing(|| format!("create {}", root.display()))?;
        let (chunks, burst) = (options.chunks, options.burst);
        eprintln!("# making a repository of {chunks} chunks and {snapshots} snapshots");
        let numbers = [chunks, snapshots, burst].map(|number| number.to_string());
        let mut arguments = vec!["make-history".as_ref(), root.as_os_str()];
        arguments.extend(numbers.iter().map(OsStr::new));
        part(work, &arguments)?;
        remove(&Place::under(&root).cache)?;
        // The first opening fills the local cache, as the server that collects has done long before.
        part(work, &["fill-cache".as_ref(), root.as_os_str()])?;
        for collection in ["first", "second", "third"] {
            let (value, cost) = part_with_cost(work, &["collect".as_ref(), root.as_os_str()])?;
            let collected: Collected =
                serde_json::from_value(value).doing(|| "read the result".to_owned())?;
            let report = &collected.report;
            let amount = |amount: &Amount| format!("{} packs", amount.packs);
            table.row([
                snapshots.to_string(),
                chunks.to_string(),
                collection.to_owned(),
                format!("{:.2}", collected.seconds),
                format!("{:.2}", (cost.user + cost.system).as_secs_f64()),
                ByteSize(cost.peak_rss).to_string(),
                ByteSize(collected.memory.anonymous).to_string(),
                amount(&report.condemned),
                amount(&report.deleted),
                ByteSize(report.found.moved).to_string(),
                report.found.live_chunks.to_string(),
            ]);
        }
        remove(&root)?;
    }
    println!("## Collecting a long history\n\n{}", table.render());
    Ok(())
}

/// Runs one part in a process of its own and returns what it says.
fn part(work: &Path, arguments: &[&OsStr]) -> Result<Value> {
    part_with_cost(work, arguments).map(|(value, _)| value)
}

/// The same, and what the process cost.
fn part_with_cost(work: &Path, arguments: &[&OsStr]) -> Result<(Value, Cost)> {
    let own = std::env::current_exe().doing(|| "find this program".to_owned())?;
    let log = work.join("part.log");
    remove(&log)?;
    let cost = measure::run(Command::new(own).arg("scale-part").args(arguments), &log)?;
    let text = fs::read_to_string(&log).doing(|| "read the part's result".to_owned())?;
    let value = serde_json::from_str(text.lines().last().unwrap_or_default())
        .doing(|| "read the part's result".to_owned())?;
    Ok((value, cost))
}

fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).doing(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
