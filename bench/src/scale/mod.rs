//! How the engine grows with chunks and snapshots, on repositories made for the purpose.

mod history;
mod open;
mod process;
mod synthetic;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use relight_model::ByteSize;
use serde::Serialize;
use serde_json::Value;

use self::open::Opened;
use self::synthetic::Place;
use crate::failure::{Doing, Result};
use crate::machine::Machine;
use crate::measure;
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
    /// Open it and look chunks up.
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
    opening(&work, options.open_chunks)?;
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

/// Runs one part in a process of its own and returns what it says.
fn part(work: &Path, arguments: &[&std::ffi::OsStr]) -> Result<Value> {
    let own = std::env::current_exe().doing(|| "find this program".to_owned())?;
    let log = work.join("part.log");
    remove(&log)?;
    measure::run(Command::new(own).arg("scale-part").args(arguments), &log)?;
    let text = fs::read_to_string(&log).doing(|| "read the part's result".to_owned())?;
    serde_json::from_str(text.lines().last().unwrap_or_default())
        .doing(|| "read the part's result".to_owned())
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
