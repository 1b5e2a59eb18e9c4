//! `relight dump`: writes something of a snapshot to standard output or a file.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use clap::{Args, ValueEnum};
use relight_pxar::EntryKind;
use relight_pxar::fs::extract::Selection;
use relight_repo::thaw::Needed;
use relight_workloads::files;
use relight_workloads::files::browse::{Place, View, printable};
use relight_workloads::files::export::{self, Format};

use crate::client_key::{self, ClientKeyOptions};
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::progress::Meter;
use crate::shown::bytes;
use crate::thaw::{self, ThawOptions};
use crate::{cancel, output, target};

/// Options of `dump`.
#[derive(Debug, Args)]
pub struct Options {
    /// Short id, `latest`, or WORKLOAD@TIME
    snapshot: String,
    /// A file, folder, image or stream in it; `/` is all of it
    path: OsString,
    /// A folder becomes an archive of this format; with it, a single file as well
    #[arg(long, value_enum)]
    format: Option<Archive>,
    /// Write to this new file instead of standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    client_key: ClientKeyOptions,
    #[command(flatten)]
    thaw: ThawOptions,
}

/// The format of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Archive {
    /// POSIX tar with all metadata
    Tar,
    /// Zip
    Zip,
}

impl Options {
    /// What is read, in words.
    pub fn told(&self) -> String {
        format!("read {} of {}", self.path.to_string_lossy(), self.snapshot)
    }
}

/// Writes it.
pub fn run(global: &Global, options: &Options) -> Result<Exit> {
    let repository = global.open_to_read()?;
    let snapshot = target::snapshot(&repository, &options.snapshot)?;
    let key = options.client_key.key()?;
    // What gives a lost key back is not encrypted with it.
    let needs_key = bytes(&options.path) != client_key::SEALED_KEY.as_bytes();
    let reader = match (&key, needs_key) {
        (None, false) => client_key::reader(repository, None)?,
        _ => client_key::checked_reader(repository, [&snapshot], key.clone())?,
    };
    let view = View::new(reader, snapshot);
    let place = view.at(bytes(&options.path))?;
    let format = match options.format {
        Some(Archive::Tar) => Some(Format::Tar),
        Some(Archive::Zip) => Some(Format::Zip),
        None => is_folder(&place).then_some(Format::Tar),
    };
    if let Some(days) = options.thaw.thaw {
        let id = view.snapshot().id.to_string();
        let thawing = thaw::request(global, view.reader(), Some(id), &needed(&view, &place)?, days)?;
        if !thawing.is_ready() {
            // Standard output is for what is dumped.
            eprint!("{}", output::text(global, &thawing, thaw::words));
            return Ok(Exit::Incomplete);
        }
    }
    // A small file is given as it was before its client packed it.
    let small = match &place {
        Place::Archive(archive) => client_key::blob_content(view.reader(), archive, key.as_deref())?,
        _ => None,
    };
    let write = |format, out: &mut dyn Write, done: &AtomicU64| match &small {
        Some(content) => {
            let written = out.write_all(content).and_then(|()| out.flush());
            written.map(|()| Exit::Done).map_err(Failure::io("write it"))
        }
        None => write(global, &view, &place, format, out, done),
    };
    let done = Arc::new(AtomicU64::new(0));
    let label = printable(bytes(&options.path));
    let meter = |total| Meter::start(global, done.clone(), total, move || label.clone());
    if let Some(path) = &options.output {
        let made = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path);
        let mut file = made.map_err(Failure::io(format!("make {}", path.display())))?;
        let meter = meter(size(&view, &place));
        let written = write(format, &mut file, &done).and_then(|exit| {
            file.sync_all()
                .map(|()| exit)
                .map_err(Failure::io(format!("write {}", path.display())))
        });
        drop(meter);
        if written.is_err() {
            // Half a file under its final name would look like a whole one.
            let _ = std::fs::remove_file(path);
        }
        return written;
    }
    let terminal = io::stdout().is_terminal();
    if terminal && small.is_none() && (format.is_some() || matches!(place, Place::Archive(_))) {
        return Err(binary());
    }
    // Not locked for good: a progress line shares the terminal only where this goes elsewhere.
    let mut out = Guarded {
        out: raw_stdout()?,
        text_only: terminal,
        refused: false,
    };
    let meter = (!terminal).then(|| meter(size(&view, &place)));
    let written = write(format, &mut out, &done);
    drop(meter);
    if out.refused { Err(binary()) } else { written }
}

fn write(
    global: &Global,
    view: &View,
    place: &Place<'_>,
    format: Option<Format>,
    out: &mut dyn Write,
    done: &AtomicU64,
) -> Result<Exit> {
    let cancelled = cancel::flag();
    let Some(format) = format else {
        export::content(view, place, out, done, &cancelled)?;
        return Ok(Exit::Done);
    };
    let report = export::export(view, place, format, out, done, &cancelled)?;
    for (path, kind) in report.left_out.iter().take(20) {
        output::remark(
            global,
            &format!(
                "left out: {} (a {kind} has no place in this format)",
                printable(path)
            ),
        );
    }
    if let Some(more) = report.left_out.len().checked_sub(20).filter(|more| *more > 0) {
        output::remark(global, &format!("and {more} more"));
    }
    Ok(if report.left_out.is_empty() {
        Exit::Done
    } else {
        Exit::Incomplete
    })
}

/// What of the contents is read.
fn needed(view: &View, place: &Place<'_>) -> Result<Vec<Needed>> {
    Ok(match place {
        Place::Archive(archive) => vec![Needed::whole(archive.root)],
        Place::Root => {
            let trees = view.trees().iter().map(|tree| tree.payload.root);
            let others = view.archives().map(|archive| archive.root);
            trees.chain(others).map(Needed::whole).collect()
        }
        Place::Entry { tree, path, .. } => {
            let trees = files::trees(view.snapshot());
            let selection = Selection::paths([path.clone()]);
            let chosen = trees.iter().filter(|other| other.name == tree.name);
            let of = |tree: &files::Tree<'_>| -> Result<Needed> {
                Ok(Needed {
                    root: tree.payload.root,
                    ranges: files::payload_ranges(view.reader(), tree, &selection)?,
                })
            };
            chosen.map(of).collect::<Result<_>>()?
        }
    })
}

fn is_folder(place: &Place<'_>) -> bool {
    match place {
        Place::Root => true,
        Place::Entry { node, .. } => matches!(node.kind(), EntryKind::Directory),
        Place::Archive(_) => false,
    }
}

/// Bytes of content, where that is known at once.
fn size(view: &View, place: &Place<'_>) -> u64 {
    match place {
        Place::Archive(archive) => archive.root.size,
        Place::Root => view.trees().iter().map(|tree| tree.payload.root.size).sum(),
        Place::Entry { node, .. } => match node.kind() {
            EntryKind::File { size, .. } => size,
            _ => 0,
        },
    }
}

fn binary() -> Failure {
    Failure::Usage(
        "this is binary data, which would garble the terminal: send it to a program or name a file with --output".into(),
    )
}

/// Standard output without the buffer that cuts at lines.
fn raw_stdout() -> Result<File> {
    let copied = rustix::io::dup(io::stdout());
    Ok(copied
        .map_err(|error| Failure::Io("open standard output".into(), error.into()))?
        .into())
}

/// Lets binary data through unless it goes to a terminal.
struct Guarded {
    out: File,
    text_only: bool,
    refused: bool,
}

impl Write for Guarded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let harmless = |byte: &u8| !byte.is_ascii_control() || matches!(byte, b'\n' | b'\r' | b'\t');
        if self.text_only && !bytes.iter().all(harmless) {
            self.refused = true;
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
