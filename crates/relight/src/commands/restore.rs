//! `relight restore`: brings back a snapshot or parts of it.

mod report;
mod server;

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clap::{Args, ValueEnum};
use relight_pbs::formats::crypt::CryptKey;
use relight_pxar::fs::extract::{ConflictPolicy, ExtractOptions, Selection};
use relight_pxar::fs::progress::Progress;
use relight_repo::read::ChunkReader;
use relight_repo::snapshot::{Archive, Snapshot};
use relight_repo::thaw::Needed;
use relight_workloads::files::{self, Tree};
use relight_workloads::image;

use crate::client_key::{self, BLOB, ClientKeyOptions};
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::progress::Meter;
use crate::server_access::ServerOptions;
use crate::target::{self, Target};
use crate::thaw::{self, ThawOptions};
use crate::{cancel, output};
use report::{Report, words};

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
    let wanted = wanted(&snapshot, &options.paths)?;
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
    let report = match (&options.onto, &options.to) {
        (Some(device), _) => onto(global, options, &reader, &snapshot, &wanted, device)?,
        (None, Some(directory)) => {
            let choice = options.choice();
            let source = Source {
                reader: &reader,
                snapshot: &snapshot,
                key: key.as_deref(),
            };
            restore(global, source, &wanted, directory, choice)?
        }
        (None, None) => return Err(Failure::Usage("say where to restore with --to DIR".into())),
    };
    output::result(global, &report, words);
    Ok(report.exit())
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

/// Parts of one tree, or a whole archive.
enum Wanted<'a> {
    /// These paths of the tree.
    Tree(Tree<'a>, Selection),
    /// An image or stream.
    Whole(&'a Archive),
}

fn wanted<'a>(snapshot: &'a Snapshot, paths: &[OsString]) -> Result<Vec<Wanted<'a>>> {
    let targets = if paths.is_empty() {
        target::everything(snapshot)
    } else {
        paths
            .iter()
            .map(|path| target::find(snapshot, path.as_bytes()))
            .collect::<Result<_>>()?
    };
    let mut trees: Vec<(Tree<'a>, Vec<Vec<u8>>)> = Vec::new();
    let mut wanted = Vec::new();
    for target in targets {
        match target {
            Target::Whole(archive) => wanted.push(Wanted::Whole(archive)),
            Target::InTree(tree, path) => match trees.iter_mut().find(|(other, _)| other.name == tree.name) {
                Some((_, paths)) => paths.push(path),
                None => trees.push((tree, vec![path])),
            },
        }
    }
    wanted.extend(
        trees
            .into_iter()
            .map(|(tree, paths)| Wanted::Tree(tree, Selection::paths(paths))),
    );
    Ok(wanted)
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

/// How it is done.
#[derive(Debug, Clone, Copy)]
struct Choice {
    /// What happens where a file exists already.
    pub conflict: ConflictPolicy,
    /// Pass over what is complete.
    pub resume: bool,
    /// Read back what was written.
    pub verify: bool,
    /// Wait until everything is on disk.
    pub sync: bool,
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
    let cancelled = cancel::flag();
    let progress = Arc::new(Progress::default());
    let done = Arc::new(AtomicU64::new(0));
    let mut report = Report {
        snapshot: snapshot.id.to_string(),
        target: directory.display().to_string(),
        ..Report::default()
    };
    std::fs::create_dir_all(directory).map_err(Failure::io(format!("make {}", directory.display())))?;
    let meter = meter(global, &progress, &done, total(snapshot, wanted));
    for item in wanted {
        match item {
            Wanted::Tree(tree, selection) => {
                let options = ExtractOptions {
                    selection: selection.clone(),
                    conflict: choice.conflict,
                    resume: choice.resume,
                    verify: choice.verify,
                    sync: choice.sync,
                    ..ExtractOptions::default()
                };
                let target = directory.join(tree.name);
                let restored = files::restore(reader, tree, &target, &options, &progress, &cancelled)?;
                report.add(tree.name, &restored);
            }
            Wanted::Whole(archive) => {
                whole(source, archive, directory, choice, &done, &mut report)?;
            }
        }
    }
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

fn total(snapshot: &Snapshot, wanted: &[Wanted<'_>]) -> u64 {
    let size = |item: &Wanted<'_>| match item {
        Wanted::Whole(archive) => Some(archive.root.size),
        Wanted::Tree(tree, selection) if selection.is_all() => {
            files::live_bytes(snapshot, Path::new(tree.path.unwrap_or_default()))
        }
        Wanted::Tree(..) => None,
    };
    wanted.iter().map(size).sum::<Option<u64>>().unwrap_or(0)
}

/// Restores an image or stream under its name.
fn whole(
    source: Source<'_>,
    archive: &Archive,
    directory: &Path,
    choice: Choice,
    done: &AtomicU64,
    report: &mut Report,
) -> Result<()> {
    // A small file comes back as it was before its client packed it.
    let content = client_key::blob_content(source.reader, archive, source.key)?;
    let original = match &content {
        Some(_) => archive.name.strip_suffix(BLOB).unwrap_or(&archive.name),
        None => &archive.name,
    };
    let Some((temporary, path)) = whole_name(directory, original, choice, report)? else {
        return Ok(());
    };
    let bytes = match content {
        Some(content) => {
            write_small(&temporary, &content, choice.sync)?;
            done.fetch_add(archive.root.size, Ordering::Relaxed);
            content.len() as u64
        }
        None => {
            image::restore(
                source.reader,
                archive,
                &temporary,
                image::Target::NewFile,
                image::After {
                    check: choice.verify,
                    sync: choice.sync,
                },
                done,
                &cancel::flag(),
            )?;
            archive.root.size
        }
    };
    put_in_place(&temporary, &path)?;
    report.files += 1;
    report.bytes += bytes;
    report.verified += u64::from(choice.verify);
    Ok(())
}

/// Where something is restored to under its name, and the temporary name that it has until it is whole. None if it is
/// left out because something of that name exists.
fn whole_name(
    directory: &Path,
    original: &str,
    choice: Choice,
    report: &mut Report,
) -> Result<Option<(PathBuf, PathBuf)>> {
    let mut name = original.to_string();
    let taken = |name: &str| directory.join(name).symlink_metadata().is_ok();
    if taken(&name) {
        match choice.conflict {
            ConflictPolicy::Skip => {
                report.skipped += 1;
                return Ok(None);
            }
            ConflictPolicy::Replace => report.replaced += 1,
            ConflictPolicy::Rename => {
                let names = (1..).map(|number| match number {
                    1 => format!("{original}.restored"),
                    _ => format!("{original}.restored-{number}"),
                });
                name = names.into_iter().find(|name| !taken(name)).unwrap_or(name);
                report.renamed.push((original.to_string(), name.clone()));
            }
            ConflictPolicy::Fail => {
                return Err(Failure::Usage(format!(
                    "{} exists: choose another directory, or say with --conflict whether to skip, replace or rename",
                    directory.join(&name).display()
                )));
            }
        }
    }
    // Under its own name only when it is whole.
    let temporary = directory.join(format!(".relight-restore.{}.{name}", std::process::id()));
    Ok(Some((temporary, directory.join(&name))))
}

fn put_in_place(temporary: &Path, path: &Path) -> Result<()> {
    std::fs::rename(temporary, path).map_err(|error| {
        let _ = std::fs::remove_file(temporary);
        Failure::Io(format!("put what was restored at {}", path.display()), error)
    })
}

fn write_small(path: &Path, content: &[u8], sync: bool) -> Result<()> {
    let failed = || Failure::io(format!("write {}", path.display()));
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(failed())?;
    let written = file
        .write_all(content)
        .and_then(|()| if sync { file.sync_all() } else { Ok(()) });
    if written.is_err() {
        let _ = std::fs::remove_file(path);
    }
    written.map_err(failed())
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
