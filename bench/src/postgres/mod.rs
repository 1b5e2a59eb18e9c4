//! PostgreSQL: Relight beside pgBackRest and Barman on one cluster, with two processes each.
//!
//! Every piece leaves what it made, so that the next can be run later: on a machine that others use as well, a piece is
//! repeated until it was quiet.

mod cluster;
mod load;
mod log;
mod record;
mod rounds;
mod tools;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use self::cluster::{Cluster, Server};
use self::record::{Measure, PostgresRecord};
use self::tools::{Tool, ToolName};
use crate::failure::{Doing, Failure, Result};
use crate::machine::Machine;
use crate::measure::Cost;

/// What to measure.
#[derive(clap::Args)]
pub struct Options {
    /// Only these pieces; what they need from earlier ones must have been made [default: all, then clean up]
    pieces: Vec<Piece>,
    /// Directory for the cluster and the repositories, on the disk that is to be measured. About 25 GiB at full size.
    #[arg(long)]
    work: PathBuf,
    /// Directory for the records.
    #[arg(long)]
    results: PathBuf,
    /// Directory of the relight program.
    #[arg(long)]
    relight: PathBuf,
    /// Rows of so many MiB, for a cluster that is a little larger.
    #[arg(long, default_value_t = 4100)]
    mib: u64,
    /// Log to archive and to replay.
    #[arg(long, default_value_t = 2048)]
    wal_mib: u64,
    /// Only these tools.
    #[arg(long, value_delimiter = ',')]
    tools: Vec<ToolName>,
    /// Directory of the server's programs.
    #[arg(long, default_value = "/usr/lib/postgresql/15/bin")]
    server: PathBuf,
}

/// A piece of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Piece {
    /// Make the cluster.
    Prepare,
    /// First backup.
    First,
    /// Two backups each after 1 % of the rows changed, at random and side by side.
    Changed,
    /// Restore of the newest backup.
    Restore,
    /// Make a log of 2 GiB, and archive it.
    Archive,
    /// Restore to a point in time behind that log.
    Recover,
    /// Receive it from the server.
    Receive,
    /// Stop the cluster and remove everything.
    Clean,
}

const ALL: [Piece; 8] = [
    Piece::Prepare,
    Piece::First,
    Piece::Restore,
    Piece::Changed,
    Piece::Archive,
    Piece::Recover,
    Piece::Receive,
    Piece::Clean,
];

/// What one piece leaves for the next.
#[derive(Default, Serialize, Deserialize)]
struct State {
    started: String,
    measures: Vec<Measure>,
    failures: BTreeMap<String, String>,
    /// Bytes of the cluster's files.
    cluster_bytes: u64,
    /// What is in the tables, as far as sums can tell.
    fingerprint: String,
    /// The first segment of the log that a restore of any newest backup needs.
    first_segment: String,
    log: Option<log::Log>,
}

/// What all pieces work on.
struct Lab {
    root: PathBuf,
    cluster: Cluster,
    tools: Vec<Tool>,
    state: State,
    mib: u64,
    wal_mib: u64,
}

/// Measures what was asked for, records it and prints the tables.
pub fn run(options: &Options) -> Result<ExitCode> {
    let mut lab = Lab::open(options)?;
    let all = options.pieces.is_empty();
    let pieces = if all { &ALL[..] } else { &options.pieces };
    for piece in pieces.iter().filter(|piece| **piece != Piece::Clean) {
        eprintln!("# {piece:?}");
        match piece {
            Piece::Prepare => lab.prepare()?,
            Piece::First => lab.first()?,
            Piece::Changed => lab.changed()?,
            Piece::Restore => lab.restore()?,
            Piece::Archive => lab.archive()?,
            Piece::Recover => lab.recover()?,
            Piece::Receive => lab.receive()?,
            Piece::Clean => {}
        }
        lab.save()?;
    }
    let record = PostgresRecord {
        started: lab.state.started.clone(),
        machine: Machine::look(&lab.root)?,
        versions: lab.versions()?,
        cluster_bytes: lab.state.cluster_bytes,
        wal_bytes: lab.state.log.as_ref().map_or(0, |log| log.bytes),
        measures: lab.state.measures.clone(),
        failures: lab.state.failures.clone(),
    };
    if pieces.contains(&Piece::Clean) {
        lab.cluster.server.stop()?;
        fs::remove_dir_all(&lab.root).doing(|| format!("remove {}", lab.root.display()))?;
    }
    fs::create_dir_all(&options.results).doing(|| format!("create {}", options.results.display()))?;
    let path = options
        .results
        .join(format!("postgres-{}.json", record.started.replace(':', "")));
    let json = serde_json::to_string_pretty(&record).doing(|| "write the record".to_owned())?;
    fs::write(&path, json).doing(|| format!("write {}", path.display()))?;
    eprintln!("# recorded in {}", path.display());
    print!("{}", record.render());
    Ok(if record.failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

impl Lab {
    fn open(options: &Options) -> Result<Self> {
        let root = options.work.join("postgres");
        fs::create_dir_all(&root).doing(|| format!("create {}", root.display()))?;
        let root = fs::canonicalize(&root).doing(|| format!("resolve {}", root.display()))?;
        let server = Server::new(&options.server, &root.join("data"), &root.join("socket"), 5499)?;
        server.give(&root)?;
        let program = fs::canonicalize(options.relight.join("relight"))
            .doing(|| format!("find relight in {}", options.relight.display()))?;
        let wanted: Vec<ToolName> = if options.tools.is_empty() {
            ToolName::ALL.to_vec()
        } else {
            options.tools.clone()
        };
        let tools = wanted
            .into_iter()
            .map(|name| Tool::new(name, &root, &program, &server))
            .collect();
        let path = root.join("state.json");
        let mut state: State = match fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).doing(|| format!("read {}", path.display()))?,
            Err(_) => State::default(),
        };
        if state.started.is_empty() {
            state.started = format!("{:.0}", jiff::Timestamp::now());
        }
        let cluster = Cluster { server };
        if root.join("data/PG_VERSION").exists() && !cluster.server.is_running() {
            cluster.server.start(&[])?;
        }
        Ok(Self {
            tools,
            cluster,
            root,
            state,
            mib: options.mib,
            wal_mib: options.wal_mib,
        })
    }

    fn save(&self) -> Result<()> {
        let path = self.root.join("state.json");
        let json = serde_json::to_string_pretty(&self.state).doing(|| "write the state".to_owned())?;
        fs::write(&path, json).doing(|| format!("write {}", path.display()))
    }

    fn prepare(&mut self) -> Result<()> {
        self.cluster.server.stop_if_running()?;
        for entry in fs::read_dir(&self.root)
            .doing(|| "look into the work folder".to_owned())?
            .flatten()
        {
            if entry.path().is_dir() {
                fs::remove_dir_all(entry.path()).doing(|| format!("remove {}", entry.path().display()))?;
            }
        }
        self.cluster.make(self.mib)?;
        self.state = State {
            started: format!("{:.0}", jiff::Timestamp::now()),
            ..State::default()
        };
        self.settle()
    }

    /// Everything is on disk, and nothing is left to be done later.
    fn settle(&mut self) -> Result<()> {
        self.state.fingerprint = self.cluster.server.fingerprint()?;
        self.cluster.server.sql("CHECKPOINT")?;
        self.state.cluster_bytes = size_of(&self.root.join("data"), &["pg_wal"])?;
        Ok(())
    }

    /// Takes note of what a tool took for a step.
    fn note(&mut self, piece: Piece, step: &str, tool: &str, cost: Cost, bytes: u64, added: u64) {
        let measure = Measure {
            piece,
            step: step.to_owned(),
            tool: tool.to_owned(),
            seconds: cost.wall.as_secs_f64(),
            cpu: (cost.user + cost.system).as_secs_f64(),
            peak: cost.peak_rss,
            bytes,
            added,
        };
        eprintln!("#   {step}, {tool}: {:.2} s", measure.seconds);
        self.state.failures.remove(&format!("{step}, {tool}"));
        self.state
            .measures
            .retain(|old| (old.piece, &old.step, &old.tool) != (piece, &measure.step, &measure.tool));
        self.state.measures.push(measure);
    }

    /// Keeps what went wrong for the report.
    fn note_failure(&mut self, step: &str, tool: ToolName, failure: &Failure) {
        eprintln!("#   {step}, {}: {failure}", tool.name());
        self.state
            .failures
            .insert(format!("{step}, {}", tool.name()), failure.to_string());
    }

    fn versions(&self) -> Result<BTreeMap<String, String>> {
        let mut versions = BTreeMap::new();
        for tool in &self.tools {
            versions.insert(tool.name.name().to_owned(), tool.version()?);
        }
        versions.insert("PostgreSQL".to_owned(), self.cluster.server.version()?);
        Ok(versions)
    }
}

/// Bytes of all files below a folder, each counted once however many names it has. Folders with one of the names in
/// `but` are left out.
fn size_of(folder: &Path, but: &[&str]) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let (mut total, mut seen) = (0, std::collections::HashSet::new());
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.doing(|| format!("look into {}", folder.display()))?,
        };
        for entry in entries.flatten() {
            let Ok(meta) = entry.path().symlink_metadata() else {
                continue;
            };
            if meta.is_dir() {
                if !but.iter().any(|name| entry.file_name().to_str() == Some(name)) {
                    folders.push(entry.path());
                }
            } else if meta.is_file() && seen.insert((meta.dev(), meta.ino())) {
                total += meta.len();
            }
        }
    }
    Ok(total)
}
