//! `relight restore --server`: brings back a snapshot of a server that speaks the Proxmox Backup protocol.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use relight_pbs::client::{Content, ReaderSession, ServerAddress};
use relight_pxar::fs::extract::{ExtractOptions, RestoreError, Selection, extract};
use relight_pxar::fs::progress::Progress;
use relight_repo::RepoError;
use relight_workloads::bring_back::{Choice, Report, put_in_place, whole_name, write_small};
use relight_workloads::image::{After, ImageFile, Target};
use relight_workloads::{WorkloadError, image};
use tokio::runtime::Runtime;

use super::{Options, exit, meter, words};
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::remote::{self, Item};
use crate::{cancel, output, server_access};

/// Brings it back.
pub fn run(global: &Global, options: &Options, address: &ServerAddress) -> Result<Exit> {
    if options.thaw.thaw.is_some() {
        return Err(Failure::Usage(
            "--thaw is for repositories; a server gives what it has".into(),
        ));
    }
    let runtime = server_access::runtime()?;
    let (client, name) = options.server.snapshot(&runtime, address, &options.snapshot)?;
    let session = runtime.block_on(client.reader(name.clone(), options.client_key.key()?))?;
    let wanted = wanted(&session, &options.paths)?;
    let source = Remote {
        runtime: &runtime,
        session: &session,
        done: Arc::default(),
        cancelled: cancel::flag(),
    };
    let began = Instant::now();
    let mut report = Report {
        snapshot: name.to_string(),
        ..Report::default()
    };
    match (&options.onto, &options.to) {
        (Some(device), _) => {
            let [(Item::Image(image), _)] = wanted.as_slice() else {
                return Err(Failure::Usage("--onto takes exactly one image: name it".into()));
            };
            report.target = device.display().to_string();
            let after = After {
                check: !options.no_verify,
                sync: true,
            };
            let progress = Arc::new(Progress::default());
            let shown = meter(global, &progress, &source.done, remote::size(&session, &[image]));
            report.bytes = source.image(image, device, Target::Overwrite, after)?;
            drop(shown);
            (report.files, report.verified) = (1, u64::from(after.check));
        }
        (None, Some(directory)) => {
            report.target = directory.display().to_string();
            let choice = options.choice();
            source.all(global, &wanted, directory, choice, &mut report)?;
        }
        (None, None) => return Err(Failure::Usage("say where to restore with --to DIR".into())),
    }
    report.seconds = began.elapsed().as_secs_f64();
    output::result(global, &report, words);
    Ok(exit(&report))
}

/// What is restored, and of trees which paths.
fn wanted(session: &ReaderSession, paths: &[OsString]) -> Result<Vec<(Item, Selection)>> {
    let items = remote::items(session.manifest());
    if paths.is_empty() {
        let all = items.into_iter().filter(|item| !item.is_catalog());
        return Ok(all.map(|item| (item, Selection::all())).collect());
    }
    let mut chosen: Vec<(Item, Vec<Vec<u8>>)> = Vec::new();
    for path in paths {
        let (item, below) = remote::find(session.manifest(), &items, path.as_bytes())?;
        match chosen.iter_mut().find(|(other, _)| *other == item) {
            Some((_, paths)) => paths.push(below),
            None => chosen.push((item, vec![below])),
        }
    }
    let select = |(item, paths)| (item, Selection::paths(paths));
    Ok(chosen.into_iter().map(select).collect())
}

struct Remote<'a> {
    runtime: &'a Runtime,
    session: &'a ReaderSession,
    done: Arc<AtomicU64>,
    cancelled: Arc<AtomicBool>,
}

impl Remote<'_> {
    fn all(
        &self,
        global: &Global,
        wanted: &[(Item, Selection)],
        directory: &Path,
        choice: Choice,
        report: &mut Report,
    ) -> Result<()> {
        std::fs::create_dir_all(directory).map_err(Failure::io(format!("make {}", directory.display())))?;
        let progress = Arc::new(Progress::default());
        let names: Vec<&str> = wanted.iter().map(|(item, _)| item.name()).collect();
        let is_whole = wanted.iter().all(|(_, selection)| selection.is_all());
        let total = if is_whole {
            remote::size(self.session, &names)
        } else {
            0
        };
        let shown = meter(global, &progress, &self.done, total);
        for (item, selection) in wanted {
            match item {
                Item::Tree(name) => {
                    let tree = self.runtime.block_on(self.session.tree(name))?;
                    let options = ExtractOptions {
                        selection: selection.clone(),
                        conflict: choice.conflict,
                        resume: choice.resume,
                        verify: choice.verify,
                        sync: choice.sync,
                        ..ExtractOptions::default()
                    };
                    let target = directory.join(name);
                    let restored = extract(&tree, &target, &options, &progress, &self.cancelled);
                    report.add(
                        name,
                        &restored.map_err(|error| match error {
                            RestoreError::Cancelled => Failure::from(RepoError::Cancelled),
                            other => WorkloadError::Restore(other).into(),
                        })?,
                    );
                }
                Item::Image(name) | Item::Stream(name) => {
                    let Some((temporary, path)) = whole_name(directory, name, choice.conflict, report)?
                    else {
                        continue;
                    };
                    let after = After {
                        check: choice.verify,
                        sync: choice.sync,
                    };
                    report.bytes += self.image(name, &temporary, Target::NewFile, after)?;
                    put_in_place(&temporary, &path)?;
                    report.files += 1;
                    report.verified += u64::from(choice.verify);
                }
                Item::Small(name) => {
                    let Some((temporary, path)) = whole_name(directory, name, choice.conflict, report)?
                    else {
                        continue;
                    };
                    let content = self.runtime.block_on(self.session.blob(name))?;
                    write_small(&temporary, &content, choice.sync)?;
                    put_in_place(&temporary, &path)?;
                    self.done.fetch_add(content.len() as u64, Ordering::Relaxed);
                    report.files += 1;
                    report.bytes += content.len() as u64;
                }
            }
        }
        drop(shown);
        Ok(())
    }

    /// Restores an image or stream to `path`, several chunks ahead. Gives its size.
    fn image(&self, name: &str, path: &Path, target: Target, after: After) -> Result<u64> {
        let archive = self.runtime.block_on(self.session.archive(name))?;
        let file = ImageFile::open(path, archive.size(), target, after)?;
        let write = || -> Result<()> {
            let mut pieces = archive.pieces();
            while let Some(piece) = self.runtime.block_on(pieces.next())? {
                if self.cancelled.load(Ordering::Relaxed) {
                    return Err(RepoError::Cancelled.into());
                }
                let content = match &piece.content {
                    Content::Bytes(bytes) => Some(&bytes[..]),
                    Content::Zeros(_) => None,
                };
                file.put(piece.offset, piece.length(), content)
                    .map_err(Failure::io(format!("write {}", path.display())))?;
                self.done.fetch_add(piece.length(), Ordering::Relaxed);
            }
            Ok(())
        };
        match write().and_then(|()| file.finish().map_err(Failure::from)) {
            Ok(()) => Ok(archive.size()),
            Err(failure) => {
                if target == image::Target::NewFile {
                    let _ = std::fs::remove_file(path);
                }
                Err(failure)
            }
        }
    }
}
