//! The command line.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::data::DataSet;
use crate::failure::{Doing, Failure, Result};
use crate::machine::Machine;
use crate::record::Record;
use crate::schedule::Schedule;
use crate::tools::{self, ToolName};
use crate::{postgres, report, same, scale, server};

/// Measures Relight beside restic, rustic and Borg on the same generated data in the same run.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Measure the tools beside each other.
    Compare(Compare),
    /// Measure how Relight alone grows with chunks and snapshots.
    Scale(scale::Options),
    /// Measure the backup server with Relight's own client.
    Server(server::Options),
    /// Measure Relight beside pgBackRest and Barman on a PostgreSQL cluster.
    Postgres(postgres::Options),
    /// Print the tables of a recorded run again.
    Report {
        /// The JSON file of the run.
        record: PathBuf,
    },
    /// Generate a set of data in a new directory.
    Generate {
        /// The set.
        data: DataSet,
        /// The directory.
        root: PathBuf,
        /// Of the full size.
        #[arg(long, default_value_t = 1.0, value_parser = parse_scale)]
        scale: f64,
    },
    /// Change about one percent of a generated set.
    Change {
        /// The set.
        data: DataSet,
        /// Its directory.
        root: PathBuf,
        /// The scale it was generated with.
        #[arg(long, default_value_t = 1.0, value_parser = parse_scale)]
        scale: f64,
    },
    /// Check that a restored tree is the same as its source.
    #[command(hide = true)]
    CheckRestored { source: PathBuf, target: PathBuf },
    /// Check that a disk image was restored.
    #[command(hide = true)]
    CheckRestoredImage { source: PathBuf, target: PathBuf },
    /// Check that one file was restored.
    #[command(hide = true)]
    CheckRestoredFile { source: PathBuf, target: PathBuf },
    /// Read an archive from a server as other clients do: one chunk after the other.
    #[command(hide = true)]
    ReadFromServer(server::reading::Options),
    /// One part of `scale`, in a process of its own.
    #[command(hide = true, subcommand)]
    ScalePart(scale::Part),
}

#[derive(clap::Args)]
struct Compare {
    /// Only these sets of data.
    #[arg(long, value_delimiter = ',')]
    only: Vec<DataSet>,
    /// Only these tools.
    #[arg(long, value_delimiter = ',')]
    tools: Vec<ToolName>,
    /// Size of the data, of the full size.
    #[arg(long, default_value_t = 1.0, value_parser = parse_scale)]
    scale: f64,
    /// How often each step is measured; the tables show medians.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    repetitions: u32,
    /// Directory for data and repositories, on the disk that is to be measured. About 25 GiB at full size.
    #[arg(long)]
    work: PathBuf,
    /// Directory for the records.
    #[arg(long)]
    results: PathBuf,
    /// Directory of the relight program that is measured.
    #[arg(long)]
    relight: Option<PathBuf>,
    /// Directories in which the peers are looked for before `PATH`.
    #[arg(long, value_delimiter = ':')]
    peers: Vec<PathBuf>,
}

fn parse_scale(text: &str) -> std::result::Result<f64, String> {
    match text.parse() {
        Ok(scale) if (0.0001..=100.0).contains(&scale) => Ok(scale),
        _ => Err("give a number from 0.0001 to 100".to_owned()),
    }
}

/// Does what the command line says.
pub fn run() -> Result<ExitCode> {
    match Arguments::parse().command {
        Action::Compare(options) => compare(&options),
        Action::Scale(options) => scale::run(&options),
        Action::Server(options) => server::run(&options),
        Action::Postgres(options) => postgres::run(&options),
        Action::ReadFromServer(options) => print_json(&server::reading::run(&options)?),
        Action::ScalePart(part) => print_json(&scale::run_part(&part)?),
        Action::Report { record } => {
            let text = fs::read_to_string(&record).doing(|| format!("read {}", record.display()))?;
            let record: Record =
                serde_json::from_str(&text).doing(|| format!("read {}", record.display()))?;
            print!("{}", report::render(&record));
            Ok(ExitCode::SUCCESS)
        }
        Action::Generate { data, root, scale } => {
            if root.exists() {
                return Err(Failure::new(format!(
                    "{} exists already: name a new directory",
                    root.display()
                )));
            }
            print_json(&data.generate(&root, scale)?)
        }
        Action::Change { data, root, scale } => print_json(&data.change(&root, scale)?),
        Action::CheckRestored { source, target } => {
            same::check(&source, &same::restored_root(&source, &target)).map(|()| ExitCode::SUCCESS)
        }
        Action::CheckRestoredImage { source, target } => {
            same::check_image(&source, &target).map(|()| ExitCode::SUCCESS)
        }
        Action::CheckRestoredFile { source, target } => {
            same::check_one(&source, &target).map(|()| ExitCode::SUCCESS)
        }
    }
}

fn print_json(value: &impl serde::Serialize) -> Result<ExitCode> {
    println!(
        "{}",
        serde_json::to_string(value).doing(|| "write the result".to_owned())?
    );
    Ok(ExitCode::SUCCESS)
}

fn compare(options: &Compare) -> Result<ExitCode> {
    let chosen = |data: &DataSet| options.only.is_empty() || options.only.contains(data);
    let only: Vec<DataSet> = DataSet::ALL.into_iter().filter(chosen).collect();
    let wanted = if options.tools.is_empty() {
        ToolName::ALL.to_vec()
    } else {
        options.tools.clone()
    };
    let mut found = Vec::new();
    for tool in wanted {
        let directories = match tool {
            ToolName::Relight => options.relight.as_slice(),
            _ => options.peers.as_slice(),
        };
        found.push((tool, tools::find_program(tool, directories)?));
    }
    let versions = found
        .iter()
        .map(|(tool, program)| Ok((*tool, tools::version(*tool, program)?)))
        .collect::<Result<_>>()?;
    for directory in [&options.work, &options.results] {
        fs::create_dir_all(directory).doing(|| format!("create {}", directory.display()))?;
    }
    let work = fs::canonicalize(&options.work).doing(|| format!("resolve {}", options.work.display()))?;
    let machine = Machine::look(&work)?;
    let started = jiff::Timestamp::now();
    let schedule = Schedule {
        data: only,
        tools: found,
        scale: options.scale,
        repetitions: options.repetitions,
        work,
    };
    let outcome = schedule.run()?;
    let record = Record {
        started: format!("{started:.0}"),
        machine,
        versions,
        scale: options.scale,
        repetitions: options.repetitions,
        data: outcome.data,
        samples: outcome.samples,
        failures: outcome.failures,
    };
    save(&record, &options.results)?;
    print!("{}", report::render(&record));
    Ok(if record.failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn save(record: &Record, results: &Path) -> Result<()> {
    let path = results.join(format!("{}.json", record.started.replace(':', "")));
    let json = serde_json::to_string_pretty(record).doing(|| "write the record".to_owned())?;
    fs::write(&path, json).doing(|| format!("write {}", path.display()))?;
    eprintln!("# recorded in {}", path.display());
    Ok(())
}
