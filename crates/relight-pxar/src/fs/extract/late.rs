//! Links whose first name is not in the target: it was not selected, was left out, or lies where it cannot be linked
//! from. The archive is read once more for the contents.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};

use super::RestoreError;
use super::content::{self, ContentFailure};
use super::items::{Item, ItemKind, Items, Step};
use super::jobs::{c_name, file_done};
use super::links::make_link;
use super::place::{Conflict, Place, Placing, is_complete, join, resolve};
use super::report::LossKind;
use super::selection::Selection;
use super::shared::{LateLink, Shared, add, lock};
use super::source::{ArchiveSource, ContentSource};
use super::sparse::SparseWriter;
use super::target::find;
use super::verify;
use crate::fs::apply::{Target, apply_time};
use crate::fs::stat::FileStat;

/// A file restored late, as the first of its links.
struct First {
    dir: OwnedFd,
    name: CString,
}

/// Restores the links kept for the end.
pub(super) fn restore(shared: &Shared<'_>, source: &dyn ArchiveSource) -> Result<(), RestoreError> {
    let mut wanted: HashMap<u64, Vec<LateLink>> = HashMap::new();
    for link in std::mem::take(&mut *lock(&shared.late_links)) {
        wanted.entry(link.target_position).or_default().push(link);
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let mut content = source.content().ok();
    if let Some(archive) = source.random_access() {
        let mut items = Items::random(archive)?;
        let mut groups: Vec<_> = wanted.into_iter().collect();
        groups.sort_unstable_by_key(|(position, _)| *position);
        for (position, links) in groups {
            if shared.stopped() {
                break;
            }
            match items.at(position) {
                Ok(item) => restore_group(shared, &item, links, &mut items, content.as_deref_mut()),
                Err(error) => {
                    let error = io::Error::other(error);
                    for link in links {
                        shared.lose(&link.path, LossKind::Object, &error);
                    }
                }
            }
        }
        return Ok(());
    }
    let mut items = Items::sequential(source.metadata().map_err(crate::DecodeError::from)?)?;
    let everything = Selection::all();
    while !wanted.is_empty() && !shared.stopped() {
        let Some(step) = items.next(&everything)? else {
            break;
        };
        let Step::Entry(item, _) = step else { continue };
        let Some(links) = wanted.remove(&item.position) else {
            continue;
        };
        restore_group(shared, &item, links, &mut items, content.as_deref_mut());
    }
    for link in wanted.into_values().flatten() {
        let error = io::Error::new(
            io::ErrorKind::InvalidData,
            "the archive has no entry where the link points",
        );
        shared.lose(&link.path, LossKind::Object, &error);
    }
    Ok(())
}

/// Restores the names of one file: the first with its content, the others linked to it.
fn restore_group(
    shared: &Shared<'_>,
    item: &Item,
    links: Vec<LateLink>,
    items: &mut Items<'_>,
    mut source: Option<&mut (dyn ContentSource + '_)>,
) {
    let mut first: Option<First> = None;
    for link in links {
        let result = find(shared.root.as_fd(), &link.directory).and_then(|dir| {
            let before = FileStat::of(&dir)?;
            let result = restore_one(
                shared,
                item,
                &link,
                &dir,
                &mut first,
                items,
                source.as_deref_mut(),
            );
            // The directory was complete, and is to look so again.
            let mut problems = Vec::new();
            apply_time(Target::Open(dir.as_fd()), before.mtime, &mut problems);
            shared.lose_metadata(&link.path, problems);
            result
        });
        if let Err(error) = result {
            shared.lose(&link.path, LossKind::Object, &error);
        }
    }
}

fn restore_one(
    shared: &Shared<'_>,
    item: &Item,
    link: &LateLink,
    dir: &OwnedFd,
    first: &mut Option<First>,
    items: &mut Items<'_>,
    source: Option<&mut (dyn ContentSource + '_)>,
) -> io::Result<()> {
    let name = c_name(&link.name);
    let complete = |name: &std::ffi::CStr, stat: &FileStat| {
        is_complete(dir.as_fd(), name, stat, &item.kind, &item.metadata)
    };
    let place = match resolve(
        shared,
        dir.as_fd(),
        &name,
        &link.path,
        Some(item.metadata.mtime),
        complete,
    )? {
        Conflict::Put(place) => place,
        Conflict::Complete(name) => {
            add(&shared.counters.complete, 1);
            first.get_or_insert(First {
                dir: dir.try_clone()?,
                name,
            });
            return Ok(());
        }
        Conflict::Skip => {
            add(&shared.counters.skipped, 1);
            return Ok(());
        }
    };
    let placing = Placing {
        shared,
        dir: dir.as_fd(),
        place: &place,
        path: &link.path,
        directory: &link.directory,
        metadata: &item.metadata,
        strip_acl: true,
    };
    if let Some(first) = first {
        if make_link(&placing, first.dir.as_fd(), &first.name).is_ok() {
            add(&shared.counters.hardlinks, 1);
            return Ok(());
        }
        let error = io::Error::new(io::ErrorKind::Unsupported, "the file system could not link it");
        shared.lose(&link.path, LossKind::LinkAsCopy, &error);
        return copy(&placing, first, item);
    }
    write(&placing, item, items, source)?;
    let Place { name, .. } = place;
    *first = Some(First {
        dir: dir.try_clone()?,
        name,
    });
    Ok(())
}

/// Writes the object itself.
fn write(
    placing: &Placing<'_, '_>,
    item: &Item,
    items: &mut Items<'_>,
    source: Option<&mut (dyn ContentSource + '_)>,
) -> io::Result<()> {
    let shared = placing.shared;
    let ItemKind::File { size, content } = item.kind else {
        placing.put_other(&item.kind)?;
        add(&shared.counters.others, 1);
        return Ok(());
    };
    let (file, temporary) = placing.create_file()?;
    let mut writer = SparseWriter::new(&file, shared.options.verify);
    match content::read(&|| shared.stopped(), items, source, content, size, &mut |piece| {
        writer.write(piece)
    }) {
        Ok(()) => {}
        Err(ContentFailure::Archive(error)) => {
            shared.lose(placing.path, LossKind::Content, &error);
            return Ok(());
        }
        Err(ContentFailure::Write(error)) => return Err(error),
        Err(ContentFailure::Stopped) => return Ok(()),
    }
    let (_, hash) = writer.finish()?;
    if let Some(hash) = hash.filter(|_| shared.options.verifies_at_once()) {
        verify::tell(shared, placing.path, verify::holds(shared, &file, size, hash));
    }
    placing.finish_file(&file, temporary)?;
    file_done(shared, item.position, size, None);
    if let Some(hash) = hash.filter(|_| shared.options.verifies_late()) {
        let place = join(placing.directory, placing.place.name.to_bytes());
        lock(&shared.late_hashes).push((place, hash));
    }
    Ok(())
}

/// Writes the object again from the one restored first.
fn copy(placing: &Placing<'_, '_>, first: &First, item: &Item) -> io::Result<()> {
    if !matches!(item.kind, ItemKind::File { .. }) {
        return placing.put_other(&item.kind);
    }
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::CLOEXEC;
    let from = rustix::fs::openat(
        &first.dir,
        first.name.as_c_str(),
        flags,
        rustix::fs::Mode::empty(),
    )?;
    let mut from = File::from(from);
    from.rewind()?;
    let (mut file, temporary) = placing.create_file()?;
    let mut buffer = vec![0; 256 * 1024];
    let mut size = 0;
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        file.write_all(&buffer[..count])?;
        size += count as u64;
    }
    placing.finish_file(&file, temporary)?;
    file_done(placing.shared, item.position, size, None);
    Ok(())
}
