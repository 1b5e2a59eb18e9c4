//! `relight map`: shows one disk image of a snapshot as a read-only file or network block device.

use std::path::PathBuf;

use clap::Args;
use relight_mount::nbd::{Address, Server};
use relight_mount::{Image, MountOptions};
use relight_repo::snapshot::{Archive, ArchiveKind, Snapshot};
use relight_workloads::image::IMAGE;
use serde::Serialize;

use crate::client_key::ClientKeyOptions;
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::{cancel, output, target};

/// Options of `map`.
#[derive(Debug, Args)]
pub struct Options {
    /// Short id, `latest`, or WORKLOAD@TIME
    pub snapshot: String,
    /// Which image, with or without .img; not needed if the snapshot has one
    archive: Option<String>,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    client_key: ClientKeyOptions,
}

/// Where it is shown.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Place {
    /// As a block device: unix:PATH or tcp:127.0.0.1:PORT (port 0 chooses a free one)
    #[arg(long, value_name = "ADDRESS")]
    nbd: Option<Address>,
    /// As a file in this empty directory
    #[arg(long, value_name = "DIR")]
    file: Option<PathBuf>,
}

#[derive(Serialize)]
struct Report {
    snapshot: String,
    archive: String,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    uri: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
}

/// Shows it until it is unmounted, or somebody asks to stop.
pub fn run(global: &Global, options: &Options) -> Result<Exit> {
    let repository = global.open_to_read()?;
    let snapshot = target::snapshot(&repository, &options.snapshot)?;
    let archive = choose(&snapshot, options.archive.as_deref())?;
    let reader = options.client_key.reader(repository, [&snapshot])?;
    let image = Image::over(reader, &snapshot, &archive.name)?;
    let mut report = Report {
        snapshot: snapshot.id.to_string(),
        archive: archive.name.clone(),
        size: image.size(),
        uri: None,
        file: None,
    };
    if let Some(address) = &options.place.nbd {
        let server = Server::bind(image, address)?;
        report.uri = Some(server.address().uri());
        tell(global, &report);
        server.run(&cancel::flag())?;
    } else if let Some(directory) = &options.place.file {
        let mounted = relight_mount::mount::image(&image, directory, &MountOptions::default())?;
        report.file = std::fs::read_dir(mounted.path())
            .ok()
            .and_then(|mut entries| entries.next()?.ok())
            .map(|entry| entry.path());
        tell(global, &report);
        mounted.wait(&cancel::flag())?;
    }
    Ok(Exit::Done)
}

fn tell(global: &Global, report: &Report) {
    output::result(global, report, |report, out| {
        let place = report
            .uri
            .clone()
            .or_else(|| Some(report.file.as_ref()?.display().to_string()));
        let place = place.unwrap_or_default();
        out.push_str(&format!("{} is at {place} until Ctrl-C.\n", report.archive));
    });
}

/// The image that is meant: by its name, or the only one.
fn choose<'a>(snapshot: &'a Snapshot, name: Option<&str>) -> Result<&'a Archive> {
    let is_image = |archive: &&Archive| archive.kind == ArchiveKind::Image;
    let images = || snapshot.archives.iter().filter(is_image);
    let known = || {
        images()
            .map(|archive| archive.name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let short = snapshot.id.short();
    if let Some(name) = name {
        let meant =
            |archive: &&Archive| archive.name == name || archive.name.strip_suffix(IMAGE) == Some(name);
        // A stream may hold a disk as well; it has to be named.
        let whole = |archive: &&Archive| is_image(archive) || archive.kind == ArchiveKind::Stream;
        let found = images()
            .find(meant)
            .or_else(|| snapshot.archives.iter().filter(whole).find(meant));
        return found.ok_or_else(|| {
            Failure::Usage(match images().count() {
                0 => format!("snapshot {short} has no image {name}, nor any other"),
                _ => format!("snapshot {short} has no image {name}; it has {}", known()),
            })
        });
    }
    match images().collect::<Vec<_>>().as_slice() {
        [only] => Ok(only),
        [] => Err(Failure::Usage(format!(
            "snapshot {short} has no disk image; `relight mount` shows the files of a tree"
        ))),
        _ => Err(Failure::Usage(format!(
            "snapshot {short} has several images; name one of {}",
            known()
        ))),
    }
}
