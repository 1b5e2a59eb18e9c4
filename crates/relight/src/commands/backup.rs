//! `relight backup`: saves files, disk images or a stream as a new snapshot.

mod server;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use jiff::Timestamp;
use relight_model::duration::TimeSpan;
use relight_model::size::{ByteSize, Rate};
use relight_model::workload::Workload;
use relight_pxar::exclude::Pattern;
use relight_pxar::fs::capture::CaptureOptions;
use relight_pxar::fs::progress::Progress;
use relight_repo::Repository;
use relight_repo::session::Session;
use relight_repo::snapshot::{Archive, Snapshot, SnapshotSpec};
use relight_workloads::files::{self, TreeReport, TreeSource};
use relight_workloads::{image, stream};
use serde::Serialize;

use crate::context::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::progress::Meter;
use crate::{cancel, output};

/// Options of `backup`.
#[derive(Debug, Args)]
pub struct Options {
    /// Directories and files to save with all their metadata
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// A disk image or block device to save
    #[arg(long, value_name = "FILE")]
    image: Vec<PathBuf>,
    /// Save what comes on standard input under this name
    #[arg(long, value_name = "NAME")]
    stdin: Option<String>,
    /// What it is a recovery point of, as KIND/NAME [default: host/ and the name of this host]
    #[arg(long, short)]
    workload: Option<Workload>,
    /// Leave out what matches, as in a .pxarexclude file
    #[arg(long, short, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// Do not heed .pxarexclude files
    #[arg(long)]
    ignore_exclude_files: bool,
    /// Also save what is mounted below the paths
    #[arg(long)]
    all_file_systems: bool,
    /// Promise to keep the snapshot for so long (30d, 8w): it is recorded, and in a repository that locks objects nobody
    /// can delete what the snapshot needs before
    #[arg(long, value_name = "DURATION")]
    retain: Option<TimeSpan>,
    /// Read everything again, even what did not change since the last snapshot
    #[arg(long)]
    full: bool,
    #[command(flatten)]
    server: Box<server::SaveOptions>,
}

/// What a backup did.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// The new snapshot.
    pub snapshot: String,
    /// Its short name.
    pub short_id: String,
    /// The workload.
    pub workload: String,
    /// Bytes of all archives.
    pub logical_bytes: u64,
    /// Bytes that were new to the repository.
    pub added_bytes: u64,
    /// Bytes by which the repository grew.
    pub stored_bytes: u64,
    /// Bytes of content that were read; what was unchanged was not.
    pub read_bytes: u64,
    /// Regular files in it.
    pub files: u64,
    /// Of these taken over without being read.
    pub unchanged_files: u64,
    /// Seconds from the begin to the publication.
    pub seconds: f64,
    /// What is not saved as it should be: path and reason.
    pub problems: Vec<String>,
    /// How many such there were, also those that are not named.
    pub problem_count: u64,
    /// Where other file systems begin, which were not entered.
    pub mount_points: Vec<String>,
    /// Exclude patterns that matched nothing.
    pub unmatched_patterns: Vec<String>,
}

/// Saves it.
pub fn run(global: &Global, options: &Options) -> Result<Exit> {
    let plan = plan(options)?;
    let report = match &options.server.access.server {
        Some(address) => server::save(global, address, &options.server, &plan)?,
        None => save(global, &global.open()?, &plan)?,
    };
    output::result(global, &report, words);
    Ok(if report.problem_count == 0 {
        Exit::Done
    } else {
        Exit::Incomplete
    })
}

/// What is to be saved, checked.
pub struct Plan {
    trees: Vec<TreeSource>,
    images: Vec<(String, PathBuf)>,
    stdin: Option<String>,
    workload: Option<Workload>,
    capture: CaptureOptions,
    retain: Option<TimeSpan>,
    full: bool,
}

impl Plan {
    /// These directories, as a workload.
    pub fn of_trees(paths: &[PathBuf], workload: Option<Workload>) -> Result<Self> {
        Ok(Self {
            trees: files::tree_sources(paths)?,
            images: Vec::new(),
            stdin: None,
            workload,
            capture: CaptureOptions::default(),
            retain: None,
            full: false,
        })
    }

    /// Leaves out what matches, in every tree.
    pub fn exclude(&mut self, patterns: Vec<Pattern>) {
        self.capture.exclude.extend(patterns);
    }

    /// What is left out.
    pub fn excluded(&self) -> &[Pattern] {
        &self.capture.exclude
    }

    /// The trees.
    pub fn trees(&self) -> &[TreeSource] {
        &self.trees
    }
}

fn plan(options: &Options) -> Result<Plan> {
    if options.paths.is_empty() && options.image.is_empty() && options.stdin.is_none() {
        return Err(Failure::Usage(
            "say what to save: paths, --image FILE or --stdin NAME".into(),
        ));
    }
    let mut exclude = Vec::new();
    for text in &options.exclude {
        let pattern = Pattern::parse(text.as_bytes()).map_err(|error| Failure::Usage(error.to_string()))?;
        exclude.push(pattern);
    }
    let trees = files::tree_sources(&options.paths)?;
    let mut taken: Vec<String> = trees.iter().map(|source| source.name.clone()).collect();
    let images = image::named(&options.image, taken.clone())?;
    taken.extend(images.iter().map(|(name, _)| name.clone()));
    if let Some(name) = &options.stdin
        && (files::name_for(Path::new(name), &taken) != *name || is_meaningful(name))
    {
        return Err(Failure::Usage(format!(
            "{name:?} cannot be the name of a stream: use letters, digits, '.', '_' and '-', and none that another \
             archive has"
        )));
    }
    Ok(Plan {
        trees,
        images,
        stdin: options.stdin.clone(),
        workload: options.workload.clone(),
        capture: CaptureOptions {
            one_file_system: !options.all_file_systems,
            exclude,
            exclude_files: !options.ignore_exclude_files,
            ..CaptureOptions::default()
        },
        retain: options.retain,
        full: options.full,
    })
}

/// Whether a stream of this name would pass for something else.
fn is_meaningful(name: &str) -> bool {
    let endings = [
        image::IMAGE,
        files::METADATA,
        files::PAYLOAD,
        files::STAT,
        files::WHOLE,
    ];
    endings.iter().any(|ending| name.ends_with(ending))
}

/// The workload that this host is.
pub fn this_host(repository: &Repository) -> Result<Workload> {
    host_workload(&repository.options().host)
}

/// The workload that a host of this name is.
fn host_workload(host: &str) -> Result<Workload> {
    let plain: String = host
        .chars()
        .map(|char| {
            if char.is_ascii_alphanumeric() || matches!(char, '.' | '_' | '-') {
                char
            } else {
                '-'
            }
        })
        .collect();
    let name = plain.trim_start_matches(['.', '-']);
    let name = if name.is_empty() { "localhost" } else { name };
    format!("host/{name}")
        .parse()
        .map_err(|_| Failure::Usage("give the workload with --workload".into()))
}

/// Saves what the plan says and publishes the snapshot.
pub fn save(global: &Global, repository: &Arc<Repository>, plan: &Plan) -> Result<Report> {
    let began = Instant::now();
    let cancelled = cancel::flag();
    let workload = match &plan.workload {
        Some(workload) => workload.clone(),
        None => this_host(repository)?,
    };
    let parent = if plan.full || (plan.trees.is_empty() && plan.images.is_empty()) {
        None
    } else {
        latest(repository, &workload)?
    };
    let retain_until = plan
        .retain
        .map(|span| retain_until(repository, span))
        .transpose()?;
    let session = Session::begin(repository.clone(), cancelled.clone())?;

    let progress = Arc::new(Progress::default());
    let done = Arc::new(AtomicU64::new(0));
    let meter = {
        let (progress, done) = (progress.clone(), done.clone());
        let bytes = {
            let progress = progress.clone();
            move || done.load(Ordering::Relaxed) + progress.bytes.load(Ordering::Relaxed)
        };
        let label = move || {
            let files = progress.files.load(Ordering::Relaxed);
            let path = String::from_utf8_lossy(&progress.current_path()).into_owned();
            if files > 0 {
                format!("{files} files  {path}")
            } else {
                path
            }
        };
        Meter::showing(global, bytes, expected(plan, parent.as_ref()), label)
    };

    let mut archives: Vec<Archive> = Vec::new();
    let mut attributes = BTreeMap::new();
    let mut read = 0;
    for (name, path) in &plan.images {
        let saved = image::back_up(&session, name, path, parent.as_ref(), &done, &cancelled)?;
        if !saved.unchanged {
            read += saved.archive.root.size;
        }
        archives.push(saved.archive);
        attributes.extend(saved.attributes);
    }
    if let Some(name) = &plan.stdin {
        let stream = stream::back_up(&session, name, &mut std::io::stdin().lock(), &done, &cancelled)?;
        read += stream.root.size;
        archives.push(stream);
    }
    let (trees, tree_attributes, reports) = files::back_up(
        &session,
        &plan.trees,
        &plan.capture,
        parent.as_ref(),
        &progress,
        &cancelled,
    )?;
    archives.extend(trees);
    attributes.extend(tree_attributes);

    let spec = SnapshotSpec {
        workload: workload.as_str().to_string(),
        host: repository.options().host.clone(),
        parent: parent.map(|parent| parent.id),
        attributes,
        incomplete: files::problems(&reports, 1000),
        retain_until,
        ..SnapshotSpec::default()
    };
    let snapshot = session.publish(spec, archives)?;
    drop(meter);
    Ok(report(
        &snapshot,
        &reports,
        done.load(Ordering::Relaxed),
        read,
        began.elapsed(),
    ))
}

/// The end of a promise that begins now.
fn retain_until(repository: &Repository, span: TimeSpan) -> Result<Timestamp> {
    let until = repository.now().checked_add(span.0);
    until.map_err(|_| Failure::Usage(format!("--retain {span} is longer than any calendar")))
}

/// The newest snapshot of a workload.
pub fn latest(repository: &Repository, workload: &Workload) -> Result<Option<Snapshot>> {
    let (snapshots, _) = repository.snapshots()?;
    Ok(snapshots
        .into_iter()
        .rfind(|snapshot| snapshot.workload == workload.as_str()))
}

/// How many bytes there will be, as far as that can be told.
fn expected(plan: &Plan, parent: Option<&Snapshot>) -> u64 {
    let size = |path: &PathBuf| std::fs::metadata(path).map_or(0, |meta| meta.len());
    let images: u64 = plan.images.iter().map(|(_, path)| size(path)).sum();
    let live = |source: &TreeSource| parent.and_then(|parent| files::live_bytes(parent, &source.path));
    let trees: Option<u64> = plan.trees.iter().map(live).sum();
    match (plan.stdin.is_some(), trees) {
        (false, Some(trees)) => images + trees,
        _ => 0,
    }
}

fn report(snapshot: &Snapshot, reports: &[TreeReport], other: u64, read: u64, elapsed: Duration) -> Report {
    Report {
        snapshot: snapshot.id.to_string(),
        short_id: snapshot.id.short(),
        workload: snapshot.workload.clone(),
        added_bytes: snapshot.figures.added,
        stored_bytes: snapshot.figures.stored,
        ..report_of(reports, other, read, elapsed)
    }
}

/// What the sources say about a backup, wherever it went.
fn report_of(reports: &[TreeReport], other: u64, read: u64, elapsed: Duration) -> Report {
    let sum = |of: fn(&TreeReport) -> u64| reports.iter().map(of).sum::<u64>();
    let mount_point = |tree: &TreeReport, path: &Vec<u8>| {
        tree.source
            .path
            .join(String::from_utf8_lossy(path).as_ref())
            .display()
            .to_string()
    };
    Report {
        logical_bytes: other + sum(|tree| tree.report.bytes),
        read_bytes: read + sum(|tree| tree.report.bytes_read),
        files: sum(|tree| tree.report.counts.files),
        unchanged_files: sum(|tree| tree.report.unchanged_files),
        seconds: elapsed.as_secs_f64(),
        problems: files::problems(reports, 10_000),
        problem_count: sum(|tree| tree.report.problems.total()),
        mount_points: reports
            .iter()
            .flat_map(|tree| {
                tree.report
                    .mount_points
                    .iter()
                    .map(move |path| mount_point(tree, path))
            })
            .collect(),
        unmatched_patterns: reports
            .iter()
            .flat_map(|tree| tree.report.unmatched_patterns.iter().cloned())
            .collect(),
        ..Report::default()
    }
}

fn words(report: &Report, out: &mut String) {
    let rate = Rate::of(report.logical_bytes, Duration::from_secs_f64(report.seconds));
    let elapsed = TimeSpan(Duration::from_millis((report.seconds * 1000.0) as u64));
    out.push_str(&format!("Snapshot {} of {}\n", report.short_id, report.workload));
    let rate = rate.map_or(String::new(), |rate| format!(", {rate}"));
    out.push_str(&format!(
        "  {} in {elapsed}{rate}\n",
        ByteSize(report.logical_bytes)
    ));
    out.push_str(&format!(
        "  {} new, {} stored after compression\n",
        ByteSize(report.added_bytes),
        ByteSize(report.stored_bytes)
    ));
    if report.files > 0 {
        out.push_str(&format!(
            "  {} files, {} unchanged and not read\n",
            report.files, report.unchanged_files
        ));
    }
    for path in &report.mount_points {
        out.push_str(&format!(
            "  not entered: {path} (another file system; --all-file-systems saves it)\n"
        ));
    }
    for pattern in &report.unmatched_patterns {
        out.push_str(&format!("  warning: the pattern {pattern} matched nothing\n"));
    }
    for problem in report.problems.iter().take(50) {
        out.push_str(&format!("  not saved as it is: {problem}\n"));
    }
    if report.problem_count > 50 {
        out.push_str(&format!("  and {} more\n", report.problem_count - 50));
    }
}
