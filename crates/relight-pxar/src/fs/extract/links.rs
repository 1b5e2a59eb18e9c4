//! Further names of files.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, linkat};

use super::jobs::Job;
use super::place::{Conflict, Placing, resolve};
use super::report::LossKind;
use super::selection::Standing;
use super::shared::{LateLink, Shared, Temporary, add, lock};
use super::target::{component, find, split};
use crate::fs::progress::count;
use crate::fs::stat::FileStat;

/// Makes links; remembers the directory of the last target, since neighbours are often linked together.
#[derive(Default)]
pub(super) struct Linker {
    last: Option<(Vec<u8>, OwnedFd)>,
}

/// What became of a link.
enum Linked {
    Made,
    Existed,
    Skipped,
    /// The first name is not there to be linked, or cannot be.
    NotYet,
}

impl Linker {
    /// Gives a file of the archive, which is done by now, a further name. Where its first name is not in the target, the
    /// link is kept for the end.
    pub fn link(
        &mut self,
        shared: &Shared<'_>,
        job: &Job<'_>,
        target_position: u64,
        target: &[u8],
        fresh: bool,
    ) {
        match self.try_link(shared, job, target_position, target, fresh) {
            Ok(Linked::Made) => {
                add(&shared.counters.hardlinks, 1);
                count(&shared.progress.others, 1);
            }
            Ok(Linked::Existed) => add(&shared.counters.complete, 1),
            Ok(Linked::Skipped) => add(&shared.counters.skipped, 1),
            Ok(Linked::NotYet) => {
                lock(&shared.late_links).push(LateLink {
                    target_position,
                    path: job.path.clone(),
                    directory: job.directory.to_vec(),
                    name: job.place.name.to_bytes().to_vec(),
                });
            }
            Err(error) => shared.lose(&job.path, LossKind::Conflict, &error),
        }
    }

    fn try_link(
        &mut self,
        shared: &Shared<'_>,
        job: &Job<'_>,
        target_position: u64,
        target: &[u8],
        fresh: bool,
    ) -> io::Result<Linked> {
        if shared.options.selection.standing(target) != Standing::Inside {
            return Ok(Linked::NotYet);
        }
        let (directory, name) = split(target);
        let name = match shared.misplaced(target_position) {
            None => match component(name) {
                Ok(name) => name,
                Err(_) => return Ok(Linked::NotYet),
            },
            Some(Some(name)) => name,
            Some(None) => return Ok(Linked::NotYet),
        };
        let Ok(target_dir) = self.directory(shared, shared.place_of_directory(directory)) else {
            return Ok(Linked::NotYet);
        };
        let Ok(target_stat) = FileStat::at(target_dir, &name) else {
            return Ok(Linked::NotYet);
        };
        if target_stat.is_dir() {
            return Ok(Linked::NotYet);
        }
        let mut place = job.place.clone();
        if !fresh {
            let existing = FileStat::at(job.dir.as_fd(), &place.name);
            if existing.is_ok_and(|stat| stat.identity() == target_stat.identity()) {
                return Ok(Linked::Existed);
            }
            match resolve(
                shared,
                job.dir.as_fd(),
                &place.name,
                &job.path,
                Some(target_stat.mtime),
                |_, _| false,
            )? {
                Conflict::Put(found) => place = found,
                Conflict::Complete(_) => return Ok(Linked::Existed),
                Conflict::Skip => return Ok(Linked::Skipped),
            }
        }
        let placing = Placing {
            shared,
            dir: job.dir.as_fd(),
            place: &place,
            path: &job.path,
            directory: &job.directory,
            metadata: &job.metadata,
            strip_acl: false,
        };
        match make_link(&placing, target_dir, &name) {
            Ok(()) => Ok(Linked::Made),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
            // The file system has no links, or no more for this file.
            Err(_) => Ok(Linked::NotYet),
        }
    }

    fn directory(&mut self, shared: &Shared<'_>, path: Vec<u8>) -> io::Result<BorrowedFd<'_>> {
        if self.last.as_ref().is_none_or(|(last, _)| *last != path) {
            let fd = find(shared.root.as_fd(), &path)?;
            self.last = Some((path, fd));
        }
        self.last
            .as_ref()
            .map(|(_, fd)| fd.as_fd())
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// Links the object `name` in `target_dir` to its further place.
pub(super) fn make_link(
    placing: &Placing<'_, '_>,
    target_dir: BorrowedFd<'_>,
    name: &CStr,
) -> io::Result<()> {
    let place = placing.place;
    if !place.replace {
        // A link is there whole or not at all, so it needs no temporary name.
        return Ok(linkat(
            target_dir,
            name,
            placing.dir,
            place.name.as_c_str(),
            AtFlags::empty(),
        )?);
    }
    let temporary = placing.shared.temporary();
    linkat(
        target_dir,
        name,
        placing.dir,
        temporary.as_c_str(),
        AtFlags::empty(),
    )?;
    placing.settle(Temporary::new(placing.dir, temporary))
}
