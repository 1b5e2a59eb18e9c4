//! How the engine grows with chunks and snapshots, on repositories made for the purpose.

mod collect;
mod history;
mod open;
mod process;
mod synthetic;
mod tables;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use serde::Serialize;
use serde_json::Value;

use self::synthetic::Place;
use self::tables::{Collection, From, Opening, ScaleRecord};
use crate::failure::{Doing, Result};
use crate::machine::Machine;
use crate::measure::{self, Cost};

/// What to measure.
#[derive(clap::Args)]
pub struct Options {
    /// Directory for the repositories.
    #[arg(long)]
    work: PathBuf,
    /// Directory for the records.
    #[arg(long)]
    results: PathBuf,
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

/// What a long history is compared with.
const FEW: u64 = 10;

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

/// Measures everything, records it and prints the tables.
pub fn run(options: &Options) -> Result<ExitCode> {
    let work = options.work.join("scale");
    remove(&work)?;
    for directory in [&work, &options.results] {
        fs::create_dir_all(directory).doing(|| format!("create {}", directory.display()))?;
    }
    let mut record = ScaleRecord {
        started: format!("{:.0}", jiff::Timestamp::now()),
        machine: Machine::look(&work)?,
        openings: Vec::new(),
        collections: Vec::new(),
    };
    if options.only.is_none_or(|only| only == What::Open) {
        record.openings = open_all(&work, options.open_chunks)?;
    }
    if options.only.is_none_or(|only| only == What::Collect) {
        for snapshots in [options.snapshots, FEW] {
            record.collections.extend(collect_all(&work, options, snapshots)?);
        }
    }
    remove(&work)?;
    let path = options
        .results
        .join(format!("scale-{}.json", record.started.replace(':', "")));
    let json = serde_json::to_string_pretty(&record).doing(|| "write the record".to_owned())?;
    fs::write(&path, json).doing(|| format!("write {}", path.display()))?;
    eprintln!("# recorded in {}", path.display());
    print!("{}", tables::render(&record));
    Ok(ExitCode::SUCCESS)
}

fn open_all(work: &Path, chunks: u64) -> Result<Vec<Opening>> {
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
    remove(&place.cache)?;
    let mut openings = Vec::new();
    for from in [From::Storage, From::Disk, From::Memory] {
        if from != From::Memory {
            place.drop_from_page_cache()?;
        }
        let (opened, _) = part(work, &["open".as_ref(), root.as_os_str()])?;
        let opened = serde_json::from_value(opened).doing(|| "read the result".to_owned())?;
        openings.push(Opening { from, opened });
    }
    remove(&root)?;
    Ok(openings)
}

fn collect_all(work: &Path, options: &Options, snapshots: u64) -> Result<Vec<Collection>> {
    let root = work.join("collect");
    fs::create_dir_all(&root).doing(|| format!("create {}", root.display()))?;
    let (chunks, burst) = (options.chunks, options.burst);
    eprintln!("# making a repository of {chunks} chunks and {snapshots} snapshots");
    let numbers = [chunks, snapshots, burst].map(|number| number.to_string());
    let mut arguments = vec!["make-history".as_ref(), root.as_os_str()];
    arguments.extend(numbers.iter().map(OsStr::new));
    part(work, &arguments)?;
    remove(&Place::under(&root).cache)?;
    // A server that collects has its local cache; what filling it costs is seen in the openings.
    part(work, &["fill-cache".as_ref(), root.as_os_str()])?;
    let mut collections = Vec::new();
    for number in 1..=3 {
        let (collected, cost) = part(work, &["collect".as_ref(), root.as_os_str()])?;
        collections.push(Collection {
            snapshots,
            chunks,
            number,
            cpu_seconds: (cost.user + cost.system).as_secs_f64(),
            peak_rss_bytes: cost.peak_rss,
            collected: serde_json::from_value(collected).doing(|| "read the result".to_owned())?,
        });
    }
    remove(&root)?;
    Ok(collections)
}

/// Runs one part in a process of its own and returns what it says and what it cost.
fn part(work: &Path, arguments: &[&OsStr]) -> Result<(Value, Cost)> {
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
