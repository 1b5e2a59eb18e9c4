//! The backup server, driven by Relight's own client over TLS on loopback: what taking in images costs it, whether what is
//! read in order was read ahead, also from object storage with latency, and how quickly it lists.

mod lab;
mod latency;
mod listing;
pub mod reading;
mod tables;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use serde_json::Value;

use self::lab::{Lab, Server};
use self::latency::SlowLine;
use self::tables::{Ingest, Listed, Read, ServerRecord};
use crate::data;
use crate::failure::{Doing, Failure, Result};
use crate::machine::Machine;
use crate::measure;

/// What to measure.
#[derive(clap::Args)]
pub struct Options {
    /// Directory for data and repositories, on the disk that is to be measured.
    #[arg(long)]
    work: PathBuf,
    /// Directory for the records.
    #[arg(long)]
    results: PathBuf,
    /// Directory of the relight program.
    #[arg(long)]
    relight: PathBuf,
    /// GiB of the image of the single backup; each of the four that run at once has a quarter of it.
    #[arg(long, default_value_t = 4.0)]
    gib: f64,
    /// Object storage that is read through a slow line: s3://BUCKET/PREFIX?endpoint=http://HOST:PORT, with credentials in
    /// the variables of the AWS tools.
    #[arg(long)]
    s3: Option<String>,
    /// How long an answer of it takes longer, in milliseconds.
    #[arg(long, default_value_t = 30)]
    latency: u64,
    /// Snapshots in the repository that is listed.
    #[arg(long, default_value_t = 1000)]
    snapshots: u64,
    /// Groups they are in.
    #[arg(long, default_value_t = 200)]
    groups: u64,
}

/// Clients that back up at once.
const PARALLEL: u64 = 4;
/// The VM that is backed up alone.
const ALONE: u64 = 100;

/// Measures everything, records it and prints the tables.
pub fn run(options: &Options) -> Result<ExitCode> {
    let work = options.work.join("server");
    if work.exists() {
        fs::remove_dir_all(&work).doing(|| format!("remove {}", work.display()))?;
    }
    for directory in [&work, &options.results] {
        fs::create_dir_all(directory).doing(|| format!("create {}", directory.display()))?;
    }
    let work = fs::canonicalize(&work).doing(|| format!("resolve {}", work.display()))?;
    let program = fs::canonicalize(options.relight.join("relight"))
        .doing(|| format!("find relight in {}", options.relight.display()))?;
    let mut record = ServerRecord {
        started: format!("{:.0}", jiff::Timestamp::now()),
        machine: Machine::look(&work)?,
        ingests: Vec::new(),
        reads: Vec::new(),
        listed: None,
    };
    let bytes = ((options.gib * f64::from(1 << 30)) as u64).next_multiple_of(4 << 20);
    eprintln!("# making images");
    let image = make_image(&work, ALONE, bytes)?;
    let quarters =
        (1..=PARALLEL).map(|vm| make_image(&work, vm, (bytes / PARALLEL).next_multiple_of(4 << 20)));
    let quarters = quarters.collect::<Result<Vec<_>>>()?;
    let sources = [
        std::slice::from_ref(&image),
        std::slice::from_ref(&image),
        &quarters,
    ];
    let names = ["first backup", "unchanged backup", "four first backups at once"];

    let lab = Lab::new(&work.join("local"), &program, None)?;
    for (name, images) in names.into_iter().zip(sources) {
        rustix::fs::sync();
        // A new process each time: the peak of its memory is of this alone.
        let server = lab.start()?;
        record.ingests.push(ingest(&lab, &server, name, images)?);
        server.stop()?;
    }
    let server = lab.start()?;
    lab.drop_from_page_cache()?;
    record.reads.push(read(&lab, &server, "local disk")?);
    server.stop()?;
    drop(lab);

    if let Some(location) = &options.s3 {
        let line = SlowLine::before(location, Duration::from_millis(options.latency))?;
        let lab = Lab::new(&work.join("s3"), &program, Some(line.location()))?;
        let server = lab.start()?;
        ingest(&lab, &server, "", std::slice::from_ref(&quarters[0]))?;
        server.stop()?;
        let server = lab.start()?;
        let name = format!("object storage, {} ms away", options.latency);
        record.reads.push(read(&lab, &server, &name)?);
        server.stop()?;
    }

    let lab = Lab::new(&work.join("many"), &program, None)?;
    eprintln!("# making {} snapshots", options.snapshots);
    listing::fill(&lab, options.snapshots, options.groups)?;
    let server = lab.start()?;
    let seconds = listing::measure(&server)?;
    record.listed = Some(Listed {
        snapshots: options.snapshots,
        groups: options.groups,
        seconds,
    });
    server.stop()?;

    fs::remove_dir_all(&work).doing(|| format!("remove {}", work.display()))?;
    let path = options
        .results
        .join(format!("server-{}.json", record.started.replace(':', "")));
    let json = serde_json::to_string_pretty(&record).doing(|| "write the record".to_owned())?;
    fs::write(&path, json).doing(|| format!("write {}", path.display()))?;
    eprintln!("# recorded in {}", path.display());
    print!("{}", tables::render(&record));
    Ok(ExitCode::SUCCESS)
}

/// Backs these images up, all at once.
fn ingest(lab: &Lab, server: &Server, name: &str, images: &[PathBuf]) -> Result<Ingest> {
    eprintln!("# {name}");
    let before = server.processor()?;
    let began = Instant::now();
    let clients: Vec<_> = images
        .iter()
        .map(|image| {
            let log = lab.root().join(format!("{}.log", vm(image)));
            let mut command = lab.client(
                server,
                &[
                    "backup",
                    "--workload",
                    &format!("vm/{}", vm(image)),
                    "--json",
                    "--quiet",
                ],
            );
            command.arg("--image").arg(image);
            std::thread::spawn(move || {
                let _ = fs::remove_file(&log);
                let cost = measure::run(&mut command, &log)?;
                Ok((cost, log))
            })
        })
        .collect();
    let mut client = measure::Cost::default();
    let mut stored = 0;
    for thread in clients {
        let (cost, log) = thread.join().map_err(|_| Failure::new("a client panicked"))??;
        client = client.then(cost);
        stored += report(&log)?["stored_bytes"].as_u64().unwrap_or(0);
    }
    let wall = began.elapsed();
    let size = |path: &PathBuf| fs::metadata(path).map(|data| data.len());
    let bytes = images
        .iter()
        .map(size)
        .sum::<std::io::Result<u64>>()
        .doing(|| "look at the images".to_owned())?;
    Ok(Ingest {
        name: name.to_owned(),
        bytes,
        sent: stored,
        seconds: wall.as_secs_f64(),
        client_cpu: (client.user + client.system).as_secs_f64(),
        client_peak: client.peak_rss,
        server_cpu: server.processor()?.saturating_sub(before).as_secs_f64(),
        server_peak: server.peak()?,
    })
}

/// Reads an image back, one chunk after the other, as the original's client does.
fn read(lab: &Lab, server: &Server, from: &str) -> Result<Read> {
    eprintln!("# reading from {from}");
    let before = server.processor()?;
    let log = lab.root().join("read.log");
    let own = std::env::current_exe().doing(|| "find this program".to_owned())?;
    let mut command = Command::new(own);
    command.arg("read-from-server").args(server.words());
    let cost = measure::run(&mut command, &log)?;
    let outcome = report(&log)?;
    let (chunks, ahead) = listing::read_ahead(server)?;
    Ok(Read {
        from: from.to_owned(),
        bytes: outcome["bytes"].as_u64().unwrap_or(0),
        seconds: outcome["seconds"].as_f64().unwrap_or(cost.wall.as_secs_f64()),
        client_cpu: (cost.user + cost.system).as_secs_f64(),
        server_cpu: server.processor()?.saturating_sub(before).as_secs_f64(),
        server_peak: server.peak()?,
        chunks,
        ahead,
    })
}

/// What a command printed as JSON: from the first brace on.
fn report(log: &Path) -> Result<Value> {
    let text = fs::read_to_string(log).doing(|| format!("read {}", log.display()))?;
    let json = text.find('{').map_or("", |at| &text[at..]);
    serde_json::from_str(json).doing(|| format!("read {}", log.display()))
}

/// The image of a VM, in a folder that has its number.
fn make_image(work: &Path, vm: u64, bytes: u64) -> Result<PathBuf> {
    let folder = work.join(vm.to_string());
    fs::create_dir(&folder).doing(|| format!("create {}", folder.display()))?;
    let image = folder.join("disk.raw");
    data::write_disk(&image, bytes, vm)?;
    Ok(image)
}

/// The VM whose image it is.
fn vm(image: &Path) -> String {
    let folder = image.parent().and_then(Path::file_name);
    folder
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}
