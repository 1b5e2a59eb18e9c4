//! Entries that are not directories.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use super::content::{self, ContentFailure};
use super::items::{Item, ItemKind, Items};
use super::jobs::{Job, Work, c_name, file_done};
use super::place::{Conflict, Place, Placing, is_complete, resolve, seal_later};
use super::report::LossKind;
use super::restore::Restorer;
use super::shared::add;
use super::source::{ContentSource, Piece};
use super::sparse::SparseWriter;
use super::verify;
use crate::entry::ContentPlace;
use crate::fs::progress::count;

/// Contents up to this size are read into memory and written by another thread; larger ones are written as they come.
const SMALL: u64 = 256 * 1024;

impl Restorer<'_, '_> {
    /// Restores the entry under work.
    pub(super) fn entry(
        &mut self,
        item: Item,
        items: &mut Items<'_>,
        source: Option<&mut (dyn ContentSource + '_)>,
    ) {
        if !self.make_levels() {
            return;
        }
        let dir = match self.current() {
            Ok(dir) => dir,
            Err(error) => {
                self.shared.lose(&self.path, LossKind::Object, &error);
                self.shared.misplace(item.position, None);
                return;
            }
        };
        let Some(level) = self.levels.last() else { return };
        let fresh = level.is_fresh();
        let strip_acl = level.inherits_acl();
        let directory = Arc::clone(&level.directory);
        let Item {
            name,
            position,
            metadata,
            kind,
        } = item;
        let name = c_name(&name);
        if let ItemKind::Hardlink {
            target_position,
            target,
        } = kind
        {
            let place = Place { name, replace: false };
            let path = self.path.clone();
            let work = Work::Link {
                target_position,
                target,
                fresh,
            };
            self.push(Job {
                dir,
                place,
                path,
                directory,
                metadata,
                strip_acl,
                position,
                work,
            });
            return;
        }
        let place = if fresh {
            Place { name, replace: false }
        } else {
            let complete = |name: &std::ffi::CStr, stat: &crate::fs::stat::FileStat| {
                is_complete(dir.as_fd(), name, stat, &kind, &metadata)
            };
            match resolve(
                self.shared,
                dir.as_fd(),
                &name,
                &self.path,
                Some(metadata.mtime),
                complete,
            ) {
                Ok(Conflict::Put(place)) => {
                    if place.name != name {
                        self.shared.misplace(position, Some(place.name.clone()));
                    }
                    place
                }
                Ok(Conflict::Complete(found)) => {
                    add(&self.shared.counters.complete, 1);
                    self.passed_over(&kind);
                    seal_later(self.shared, &self.path, &directory, &found, &metadata);
                    if found != name {
                        self.shared.misplace(position, Some(found));
                    }
                    return;
                }
                Ok(Conflict::Skip) => {
                    add(&self.shared.counters.skipped, 1);
                    self.shared.misplace(position, None);
                    self.passed_over(&kind);
                    return;
                }
                Err(error) => {
                    self.shared.lose(&self.path, LossKind::Conflict, &error);
                    self.shared.misplace(position, None);
                    return;
                }
            }
        };
        let work = match kind {
            ItemKind::File { size, content } if size > SMALL => {
                // What comes before it in the archive need not wait for it.
                self.flush();
                let path = self.path.clone();
                self.shared.progress.set_current_path(&path);
                let placing = Placing {
                    shared: self.shared,
                    dir: dir.as_fd(),
                    place: &place,
                    path: &path,
                    directory: &directory,
                    metadata: &metadata,
                    strip_acl,
                };
                if let Err(failure) = write_large(&placing, position, size, content, items, source) {
                    lose(&placing, position, failure);
                }
                return;
            }
            ItemKind::File { size, content } => {
                let mut bytes = Vec::with_capacity(size as usize);
                let result = content::read(
                    &|| self.shared.stopped(),
                    items,
                    source,
                    content,
                    size,
                    &mut |piece| {
                        match piece {
                            Piece::Bytes(part) => bytes.extend_from_slice(part),
                            Piece::Zeros(length) => bytes.resize(bytes.len() + length as usize, 0),
                        }
                        Ok(())
                    },
                );
                match result {
                    Ok(()) => Work::File(bytes),
                    Err(ContentFailure::Stopped) => return,
                    Err(ContentFailure::Archive(error) | ContentFailure::Write(error)) => {
                        self.shared
                            .report()
                            .losses
                            .push(&self.path, LossKind::Content, error);
                        self.shared.misplace(position, None);
                        return;
                    }
                }
            }
            kind => Work::Other(kind),
        };
        let path = self.path.clone();
        self.push(Job {
            dir,
            place,
            path,
            directory,
            metadata,
            strip_acl,
            position,
            work,
        });
    }

    fn passed_over(&self, kind: &ItemKind) {
        if let ItemKind::File { size, .. } = kind {
            count(&self.shared.progress.files, 1);
            count(&self.shared.progress.bytes, *size);
        } else {
            count(&self.shared.progress.others, 1);
        }
    }
}

/// Writes a content as it comes.
fn write_large(
    placing: &Placing<'_, '_>,
    position: u64,
    size: u64,
    content: ContentPlace,
    items: &mut Items<'_>,
    source: Option<&mut (dyn ContentSource + '_)>,
) -> Result<(), ContentFailure> {
    let shared = placing.shared;
    let (file, temporary) = placing.create_file().map_err(ContentFailure::Write)?;
    let mut writer = SparseWriter::new(&file, shared.options.verify);
    content::read(&|| shared.stopped(), items, source, content, size, &mut |piece| {
        let length = match piece {
            Piece::Bytes(bytes) => bytes.len() as u64,
            Piece::Zeros(length) => length,
        };
        writer.write(piece)?;
        count(&shared.progress.bytes, length);
        Ok(())
    })?;
    let finish = || -> io::Result<Option<u64>> {
        let (_, hash) = writer.finish()?;
        let at_once = hash.filter(|_| shared.options.verifies_at_once());
        let at_once = at_once.map(|hash| verify::holds(shared, &file, size, hash));
        placing.finish_file(&file, temporary)?;
        if let Some(result) = at_once {
            verify::tell(shared, placing.path, result);
        }
        Ok(hash.filter(|_| shared.options.verifies_late()))
    };
    let hash = finish().map_err(ContentFailure::Write)?;
    file_done(shared, position, size, hash);
    Ok(())
}

fn lose(placing: &Placing<'_, '_>, position: u64, failure: ContentFailure) {
    placing.shared.misplace(position, None);
    match failure {
        ContentFailure::Archive(error) => {
            placing
                .shared
                .report()
                .losses
                .push(placing.path, LossKind::Content, error);
        }
        ContentFailure::Write(error) => placing.lose(&error),
        ContentFailure::Stopped => {}
    }
}
