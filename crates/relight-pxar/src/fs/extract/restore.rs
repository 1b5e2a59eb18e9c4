//! The way through the archive, and the directories on it.

use std::collections::HashSet;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::items::{Item, ItemKind, Items, Step};
use super::jobs::{self, Job, c_name};
use super::place::join;
use super::pool::{CloseOnDrop, Pool};
use super::report::{LossKind, RestoreReport};
use super::selection::Standing;
use super::shared::{Closing, DirHandle, Seal, Shared, add, lock};
use super::source::{ArchiveSource, ContentSource};
use super::target::{Made, find, make, remove_leftovers, split};
use super::{ExtractOptions, RestoreError, late, verify};
use crate::DecodeError;
use crate::fs::apply;
use crate::fs::dir_chain::DirChain;
use crate::fs::inode_flags::SEALING;
use crate::fs::progress::{Progress, count};
use crate::fs::stat::FileStat;
use crate::metadata::Metadata;

/// Objects handed to writers at a time.
const BATCH_ITEMS: usize = 64;
/// Directories that objects handed to writers at a time are in: each is kept open until they are done.
const BATCH_DIRECTORIES: usize = 16;
/// Bytes of content handed to writers at a time.
const BATCH_BYTES: usize = 512 * 1024;

/// A directory of the archive on the way from the root to the entry under work.
pub(super) struct Level {
    item: Item,
    standing: Standing,
    /// Length of its path in the archive.
    path_length: usize,
    /// Its path below the target.
    pub directory: Arc<[u8]>,
    state: LevelState,
}

/// How far a directory has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LevelState {
    /// Not made yet: nothing in it is known to be wanted.
    Pending,
    /// It cannot be made, which was reported; nothing in it is restored.
    Lost,
    Made {
        fresh: bool,
        inherits_acl: bool,
    },
}

impl Level {
    /// It was made by this restore, so no name in it is taken.
    pub fn is_fresh(&self) -> bool {
        matches!(self.state, LevelState::Made { fresh: true, .. })
    }

    pub fn inherits_acl(&self) -> bool {
        matches!(
            self.state,
            LevelState::Made {
                inherits_acl: true,
                ..
            }
        )
    }
}

/// Opens the entries of an archive the way that suits the selection.
pub(super) fn open_items<'s>(
    source: &'s dyn ArchiveSource,
    options: &ExtractOptions,
) -> Result<Items<'s>, DecodeError> {
    match source.random_access() {
        Some(archive) if !options.selection.is_all() => Items::random(archive),
        _ => Items::sequential(source.metadata()?),
    }
}

/// See [`super::extract`].
pub(super) fn run(
    source: &dyn ArchiveSource,
    target: impl FnOnce() -> io::Result<Made>,
    options: &ExtractOptions,
    progress: &Progress,
    cancel: &AtomicBool,
) -> Result<RestoreReport, RestoreError> {
    let root_error = |source| RestoreError::Target {
        path: Vec::new(),
        source,
    };
    let mut items = open_items(source, options)?;
    let mut content = source.content().ok();
    let made = target().map_err(root_error)?;
    if options.resume && !made.fresh {
        remove_leftovers(made.fd.as_fd(), c".");
    }
    let root = made.fd.try_clone().map_err(root_error)?;
    let shared = Arc::new(Shared::new(options, progress, cancel, root));
    let pool = Pool::new();
    std::thread::scope(|scope| {
        for _ in 0..options.writers.max(1) {
            scope.spawn(|| jobs::work(&shared, &pool));
        }
        // The restorer goes first and lets go of its directories; the writers do so when they are done.
        let _close = CloseOnDrop(&pool);
        let mut restorer = Restorer::new(&shared, &pool, made)?;
        restorer.walk(&mut items, content.as_deref_mut())
    })?;
    shared.verdict()?;
    late::restore(&shared, source)?;
    seal(&shared);
    shared.verdict()?;
    if options.sync {
        rustix::fs::syncfs(&shared.root).map_err(|error| root_error(error.into()))?;
    }
    if options.verifies_late() {
        verify::run(&shared, source)?;
    }
    shared.verdict()?;
    match Arc::try_unwrap(shared) {
        Ok(shared) => Ok(shared.finish()),
        // Directories hold it until their metadata is set, and all of them are closed by now.
        Err(_) => Err(root_error(io::Error::other(
            "a directory of the target is still in use",
        ))),
    }
}

/// Sets append-only and immutable.
fn seal(shared: &Shared<'_>) {
    for Seal {
        path,
        place,
        metadata,
    } in std::mem::take(&mut *lock(&shared.seals))
    {
        let (directory, name) = split(&place);
        let opened = find(shared.root.as_fd(), directory).and_then(|dir| {
            use rustix::fs::{Mode, OFlags, openat};
            let flags =
                OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
            let name = if name.is_empty() {
                c".".to_owned()
            } else {
                c_name(name)
            };
            let fd = openat(&dir, name.as_c_str(), flags, Mode::empty())?;
            let stat = FileStat::of(&fd)?;
            let same = stat.is_dir() == (Metadata::file_type(&metadata) == crate::format::mode::DIRECTORY);
            if same {
                Ok(fd)
            } else {
                Err(io::ErrorKind::NotFound.into())
            }
        });
        match opened {
            Ok(fd) => {
                let mut problems = Vec::new();
                apply::seal(fd.as_fd(), &metadata, &mut problems);
                shared.lose_metadata(&path, problems);
            }
            Err(error) => shared.lose(
                &path,
                LossKind::Metadata(crate::fs::metadata::Part::Flags),
                &error,
            ),
        }
    }
}

/// Walks through the archive.
pub(super) struct Restorer<'r, 'a> {
    pub shared: &'r Arc<Shared<'a>>,
    pool: &'r Pool<Job<'a>>,
    chain: DirChain<DirHandle<'a>>,
    pub levels: Vec<Level>,
    /// Path in the archive of the entry under work.
    pub path: Vec<u8>,
    batch: Vec<Job<'a>>,
    batch_bytes: usize,
    batch_directories: usize,
    root: Option<(bool, bool)>,
    missing: HashSet<Vec<u8>>,
}

impl<'r, 'a> Restorer<'r, 'a> {
    fn new(shared: &'r Arc<Shared<'a>>, pool: &'r Pool<Job<'a>>, target: Made) -> Result<Self, RestoreError> {
        let Made {
            fd,
            fresh,
            inherits_acl,
            ..
        } = target;
        let chain = DirChain::new(DirHandle::from(fd)).map_err(|source| RestoreError::Target {
            path: Vec::new(),
            source,
        })?;
        let missing = shared.options.selection.iter().map(<[u8]>::to_vec).collect();
        Ok(Self {
            shared,
            pool,
            chain,
            levels: Vec::new(),
            path: Vec::new(),
            batch: Vec::new(),
            batch_bytes: 0,
            batch_directories: 0,
            root: Some((fresh, inherits_acl)),
            missing,
        })
    }

    fn walk(
        &mut self,
        items: &mut Items<'_>,
        mut content: Option<&mut (dyn ContentSource + '_)>,
    ) -> Result<(), RestoreError> {
        let selection = &self.shared.options.selection;
        while !self.shared.stopped() {
            match items.next(selection)? {
                None => break,
                Some(Step::Leave) => self.leave(),
                Some(Step::Entry(item, standing)) => {
                    self.begin(&item.name);
                    if item.kind == ItemKind::Directory {
                        if !self.enter(item, standing) {
                            items.skip_directory()?;
                        }
                    } else {
                        self.entry(item, items, content.as_deref_mut());
                    }
                }
            }
        }
        self.flush();
        if !self.shared.stopped() {
            let mut missing: Vec<_> = std::mem::take(&mut self.missing).into_iter().collect();
            missing.sort_unstable();
            self.shared.report().not_found = missing;
        }
        Ok(())
    }

    fn begin(&mut self, name: &[u8]) {
        self.path
            .truncate(self.levels.last().map_or(0, |level| level.path_length));
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name);
        if !self.missing.is_empty() {
            self.missing.remove(&self.path);
        }
    }

    /// Goes into a directory of the archive. False where nothing in it is to be restored.
    fn enter(&mut self, item: Item, standing: Standing) -> bool {
        let state = match self.root.take() {
            Some((fresh, inherits_acl)) => LevelState::Made { fresh, inherits_acl },
            None => LevelState::Pending,
        };
        self.levels.push(Level {
            item,
            standing,
            path_length: self.path.len(),
            directory: Arc::from([]),
            state,
        });
        if standing == Standing::Inside && !self.make_levels() {
            self.levels.pop();
            return false;
        }
        true
    }

    /// Makes the directories on the way that are not made yet. False where one cannot be made.
    pub fn make_levels(&mut self) -> bool {
        for index in 0..self.levels.len() {
            match self.levels[index].state {
                LevelState::Made { .. } => continue,
                LevelState::Lost => return false,
                LevelState::Pending => {}
            }
            let path = self.path[..self.levels[index].path_length].to_vec();
            match self.make_level(index, &path) {
                Ok(true) => {}
                Ok(false) => {
                    self.levels[index].state = LevelState::Lost;
                    self.shared.misplace(self.levels[index].item.position, None);
                    return false;
                }
                Err(error) => {
                    let kind = match error.kind() {
                        io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty => LossKind::Conflict,
                        _ => LossKind::Object,
                    };
                    self.shared.lose(&path, kind, &error);
                    self.levels[index].state = LevelState::Lost;
                    self.shared.misplace(self.levels[index].item.position, None);
                    return false;
                }
            }
        }
        true
    }

    fn make_level(&mut self, index: usize, path: &[u8]) -> io::Result<bool> {
        let parent = self.current()?;
        let outer = &self.levels[index - 1];
        let outer_directory = Arc::clone(&outer.directory);
        let inherits = outer.inherits_acl();
        let level = &self.levels[index];
        let name = c_name(&level.item.name);
        let own = level.standing == Standing::Inside;
        let Some(made) = make(self.shared, parent.as_fd(), inherits, &name, path, own)? else {
            add(&self.shared.counters.skipped, 1);
            return Ok(false);
        };
        let directory: Arc<[u8]> = join(&outer_directory, made.name.to_bytes()).into();
        if made.name != name {
            self.shared.move_directory(path, &directory);
            self.shared
                .misplace(self.levels[index].item.position, Some(made.name.clone()));
        }
        self.chain
            .push(&made.name, DirHandle::from(made.fd), made.stat.identity());
        let level = &mut self.levels[index];
        level.directory = directory;
        level.state = LevelState::Made {
            fresh: made.fresh,
            inherits_acl: made.inherits_acl,
        };
        count(&self.shared.progress.directories, 1);
        self.shared.progress.set_current_path(path);
        Ok(true)
    }

    /// The directory under work. Where it has to be opened again, the writers first let go of it: two of it at once
    /// would not know when nothing works in it any more.
    pub fn current(&mut self) -> io::Result<Arc<DirHandle<'a>>> {
        if !self.chain.is_open() {
            self.flush();
            self.pool.drain();
        }
        self.chain.current().map(Arc::clone)
    }

    /// Leaves a directory; it gets its metadata when the writers are done in it.
    fn leave(&mut self) {
        let Some(level) = self.levels.pop() else { return };
        let LevelState::Made { fresh, .. } = level.state else {
            return;
        };
        let path = self.path[..level.path_length.min(self.path.len())].to_vec();
        let wanted = match level.standing {
            // A directory on the way to something wanted is made like the original, but an existing one is not touched.
            Standing::Above | Standing::Outside => fresh,
            Standing::Inside => true,
        };
        let is_root = self.levels.is_empty();
        if wanted && (!is_root || (self.shared.options.root_metadata && level.standing == Standing::Inside)) {
            let metadata = level.item.metadata;
            if metadata.flags & SEALING != 0 {
                let sealed = Metadata {
                    flags: metadata.flags,
                    mode: metadata.mode,
                    ..Metadata::default()
                };
                let place = level.directory.to_vec();
                lock(&self.shared.seals).push(Seal {
                    path: path.clone(),
                    place,
                    metadata: sealed,
                });
            }
            match self.current() {
                Ok(handle) => {
                    let shared = Arc::clone(self.shared);
                    handle.close(Closing {
                        shared,
                        path,
                        metadata,
                        existed: !fresh,
                    });
                }
                Err(error) => self.shared.lose(&path, LossKind::Object, &error),
            }
        }
        self.chain.pop();
    }

    /// Hands an object to the writers.
    pub fn push(&mut self, job: Job<'a>) {
        self.batch_bytes += job.weight();
        let same_directory = self
            .batch
            .last()
            .is_some_and(|last| Arc::ptr_eq(&last.dir, &job.dir));
        self.batch_directories += usize::from(!same_directory);
        self.batch.push(job);
        if self.batch.len() >= BATCH_ITEMS
            || self.batch_directories >= BATCH_DIRECTORIES
            || self.batch_bytes >= BATCH_BYTES
        {
            self.flush();
        }
    }

    pub fn flush(&mut self) {
        let bytes = std::mem::take(&mut self.batch_bytes);
        self.batch_directories = 0;
        self.pool.push(std::mem::take(&mut self.batch), bytes);
    }
}
