//! `relight restore`: brings back a snapshot or parts of it.

mod production;
mod server;
mod words;

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clap::{Args, ValueEnum};
use relight_pbs::access::Action;
use relight_pbs::formats::crypt::CryptKey;
use relight_pxar::fs::extract::ConflictPolicy;
use relight_pxar::fs::progress::Progress;
use relight_repo::read::ChunkReader;
use relight_repo::snapshot::{Archive, Snapshot};
use relight_repo::thaw::Needed;
use relight_workloads::bring_back::{self, Choice, Folder, Report, Watch, bring_back};
use relight_workloads::parts::{Wanted, wanted};
use relight_workloads::{files, image};

use crate::approved::{Served, with_leave};
use crate::client_key::{self, ClientKeyOptions};
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::progress::Meter;
use crate::server_access::ServerOptions;
use crate::target;
use crate::thaw::{self, ThawOptions};
use crate::{cancel, output};
use words::{exit, words};

/// Options of `restore`.
#[derive(Debug, Args)]
pub struct Options {
    /// Short id, `latest`, or WORKLOAD@TIME
    snapshot: String,
    /// What of it: `NAME/path`, the original path, or the name of an image [default: everything]
    #[arg(value_name = "PATH")]
    paths: Vec<OsString>,
    /// Directory to restore into; each tree and image gets its name in it
    #[arg(long, value_name = "DIR", required_unless_present_any = ["onto", "thaw"])]
    to: Option<PathBuf>,
    /// Write one image over this block device or existing file, zeros included. What is there is lost
    #[arg(long, value_name = "DEVICE", conflicts_with = "to")]
    onto: Option<PathBuf>,
    /// What happens where a file exists already
    #[arg(long, value_enum, default_value_t = Conflict::Fail)]
    conflict: Conflict,
    /// Restore again what is there already with the right size and time, as an interrupted restore leaves it
    #[arg(long)]
    no_resume: bool,
    /// Do not read back what was written
    #[arg(long)]
    no_verify: bool,
    /// Wait in the end until everything is on disk
    #[arg(long)]
    sync: bool,
    #[command(flatten)]
    client_key: ClientKeyOptions,
    #[command(flatten)]
    server: ServerOptions,
    #[command(flatten)]
    thaw: ThawOptions,
}

/// What happens where a file exists already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Conflict {
    /// Leave what exists
    Skip,
    /// Put the restored file in its place
    Replace,
    /// Restore it under another name
    Rename,
    /// Stop
    Fail,
}

impl Conflict {
    fn name(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Replace => "replace",
            Self::Rename => "rename",
            Self::Fail => "fail",
        }
    }

    fn policy(self) -> ConflictPolicy {
        match self {
            Self::Skip => ConflictPolicy::Skip,
            Self::Replace => ConflictPolicy::Replace,
            Self::Rename => ConflictPolicy::Rename,
            Self::Fail => ConflictPolicy::Fail,
        }
    }
}

/// Brings it back.
pub fn run(global: &Global, options: &Options) -> Result<Exit> {
    if let Some(address) = &options.server.server {
        return server::run(global, options, address);
    }
    let repository = global.open_to_read()?;
    let snapshot = target::snapshot(&repository, &options.snapshot)?;
    let key = options.client_key.key()?;
    let reader = client_key::checked_reader(repository, [&snapshot], key.clone())?;
    let paths: Vec<&[u8]> = options.paths.iter().map(|path| path.as_bytes()).collect();
    let wanted = wanted(&snapshot, &paths)?;
    if let Some(days) = options.thaw.thaw {
        let needed = needed(&reader, &wanted)?;
        let thawing = thaw::request(global, &reader, Some(snapshot.id.to_string()), &needed, days)?;
        let has_target = options.to.is_some() || options.onto.is_some();
        if !thawing.is_ready() || !has_target {
            output::result(global, &thawing, thaw::words);
            return Ok(if thawing.is_ready() {
                Exit::Done
            } else {
                Exit::Incomplete
            });
        }
    }
    let bring_back = || match (&options.onto, &options.to) {
        (Some(device), _) => onto(global, options, &reader, &snapshot, &wanted, device),
        (None, Some(directory)) => {
            let choice = options.choice();
            let source = Source {
                reader: &reader,
                snapshot: &snapshot,
                key: key.as_deref(),
            };
            restore(global, source, &wanted, directory, choice)
        }
        (None, None) => Err(Failure::Usage("say where to restore with --to DIR".into())),
    };
    let asked = |served: &Served| options.over_production(served, &snapshot);
    let report = with_leave(global, Action::Restore, asked, bring_back)?;
    output::result(global, &report, words);
    Ok(exit(&report))
}

impl Options {
    /// Whether it is read here, and not by way of a server, which keeps evidence itself.
    pub fn is_of_repository(&self) -> bool {
        self.server.server.is_none()
    }

    /// What is restored and to where, in words.
    pub fn told(&self) -> String {
        let paths: Vec<_> = self.paths.iter().map(|path| path.to_string_lossy()).collect();
        let to = self.to.as_ref().or(self.onto.as_ref());
        let to = to.map_or_else(String::new, |to| format!(" to {}", to.display()));
        format!("restored {} {}{to}", self.snapshot, paths.join(" "))
    }

    fn choice(&self) -> Choice {
        Choice {
            conflict: self.conflict.policy(),
            resume: !self.no_resume,
            verify: !self.no_verify,
            sync: self.sync,
        }
    }
}

/// What is read of the archives.
fn needed(reader: &Arc<ChunkReader>, wanted: &[Wanted<'_>]) -> Result<Vec<Needed>> {
    let of = |item: &Wanted<'_>| match item {
        Wanted::Whole(archive) => Ok(Needed::whole(archive.root)),
        Wanted::Tree(tree, selection) => Ok(Needed {
            root: tree.payload.root,
            ranges: files::payload_ranges(reader, tree, selection)?,
        }),
    };
    wanted.iter().map(of).collect()
}

/// What is restored from.
#[derive(Clone, Copy)]
struct Source<'a> {
    reader: &'a Arc<ChunkReader>,
    snapshot: &'a Snapshot,
    key: Option<&'a CryptKey>,
}

/// Restores into a directory.
fn restore(
    global: &Global,
    source: Source<'_>,
    wanted: &[Wanted<'_>],
    directory: &Path,
    choice: Choice,
) -> Result<Report> {
    let Source { reader, snapshot, .. } = source;
    let began = Instant::now();
    let progress = Arc::new(Progress::default());
    let done = Arc::new(AtomicU64::new(0));
    let mut report = Report {
        snapshot: snapshot.id.to_string(),
        target: directory.display().to_string(),
        ..Report::default()
    };
    let folder = Folder::open(directory)?;
    let total = bring_back::size(snapshot, wanted).unwrap_or(0);
    let meter = meter(global, &progress, &done, total);
    let watch = Watch {
        progress: &progress,
        done: &done,
        cancelled: &cancel::flag(),
    };
    let unpack = |archive: &Archive| client_key::blob_content(reader, archive, source.key);
    bring_back(reader, wanted, &folder, choice, &unpack, watch, &mut report)?;
    drop(meter);
    report.seconds = began.elapsed().as_secs_f64();
    Ok(report)
}

fn meter(global: &Global, progress: &Arc<Progress>, done: &Arc<AtomicU64>, total: u64) -> Meter {
    let (bytes, label) = (progress.clone(), progress.clone());
    let done = done.clone();
    Meter::showing(
        global,
        move || done.load(Ordering::Relaxed) + bytes.bytes.load(Ordering::Relaxed),
        total,
        move || {
            let files = label.files.load(Ordering::Relaxed);
            let path = String::from_utf8_lossy(&label.current_path()).into_owned();
            if files > 0 {
                format!("{files} files  {path}")
            } else {
                path
            }
        },
    )
}

/// Writes one image over a device or file.
fn onto(
    global: &Global,
    options: &Options,
    reader: &Arc<ChunkReader>,
    snapshot: &Snapshot,
    wanted: &[Wanted<'_>],
    device: &Path,
) -> Result<Report> {
    let [Wanted::Whole(archive)] = wanted else {
        return Err(Failure::Usage("--onto takes exactly one image: name it".into()));
    };
    let began = Instant::now();
    let done = Arc::new(AtomicU64::new(0));
    let meter = Meter::start(global, done.clone(), archive.root.size, String::new);
    let after = image::After {
        check: !options.no_verify,
        sync: true,
    };
    image::restore(
        reader,
        archive,
        device,
        image::Target::Overwrite,
        after,
        &done,
        &cancel::flag(),
    )?;
    drop(meter);
    Ok(Report {
        snapshot: snapshot.id.to_string(),
        target: device.display().to_string(),
        files: 1,
        bytes: archive.root.size,
        verified: u64::from(!options.no_verify),
        seconds: began.elapsed().as_secs_f64(),
        ..Report::default()
    })
}
