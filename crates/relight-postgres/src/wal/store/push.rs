//! Puts files of a log into the repository.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::Timestamp;
use relight_repo::session::{ArchiveWriter, Session};
use relight_repo::snapshot::{Archive, ArchiveKind, Snapshot, SnapshotSpec};

use super::catalog::Catalog;
use super::{LogStore, merge};
use crate::wal::attributes::{self, Note};
use crate::wal::error::{Result, WalError};
use crate::wal::history::{History, MAX_HISTORY};
use crate::wal::name::WalName;
use crate::wal::summary::{Cluster, Summary};
use crate::wal::windows::KnownGap;

/// Files whose chunks are still being worked on while the next is read; each takes the memory of a chunk.
const UNDER_WAY: usize = 3;
/// No remark about a base backup is longer.
const MAX_REMARK: usize = 64 << 10;

/// A file to put into the repository.
#[derive(Debug, Clone)]
pub struct NewFile {
    /// Its name.
    pub name: WalName,
    /// Its content.
    pub bytes: Vec<u8>,
    /// The system identifier of the cluster it comes from, if known otherwise than by its content: histories do not
    /// tell.
    pub system: Option<u64>,
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It was stored, and is durable.
    Stored,
    /// It was there already, with the same content.
    Known,
}

/// A file that was looked at: it is what its name says.
pub struct Checked {
    file: NewFile,
    cluster: Option<Cluster>,
    note: Note,
}

/// Files that are put into the repository together: durable, all of them, when [`Push::commit`] returns.
pub struct Push<'a> {
    store: &'a LogStore,
    catalog: Catalog,
    cluster: Option<Cluster>,
    /// Goes before the session, which waits for its workers, and they for the last who may give them work.
    under_way: VecDeque<ArchiveWriter>,
    session: Option<Session>,
    names: BTreeSet<WalName>,
    archives: Vec<Archive>,
    attributes: BTreeMap<String, String>,
    last: Option<Timestamp>,
    gaps: usize,
}

impl LogStore {
    /// Puts files into the repository, all or none. When this returns, they are durable.
    ///
    /// # Errors
    /// [`WalError::NotWal`], [`WalError::OtherContent`], [`WalError::OtherCluster`], [`WalError::OtherMajor`],
    /// [`WalError::OtherSegmentSize`]: a file was refused, and none was stored. Errors of the repository.
    pub fn push(&self, files: Vec<NewFile>) -> Result<Vec<Pushed>> {
        let mut push = self.begin_push()?;
        let pushed = files
            .into_iter()
            .map(|file| push.add(file))
            .collect::<Result<_>>()?;
        push.commit()?;
        Ok(pushed)
    }

    /// Begins to put files into the repository.
    pub fn begin_push(&self) -> Result<Push<'_>> {
        let catalog = self.catalog()?;
        Ok(Push {
            store: self,
            cluster: catalog.cluster,
            catalog,
            under_way: VecDeque::new(),
            session: None,
            names: BTreeSet::new(),
            archives: Vec::new(),
            attributes: BTreeMap::new(),
            last: None,
            gaps: 0,
        })
    }
}

impl Push<'_> {
    /// Adds a file. One that is refused leaves the others as they are.
    ///
    /// # Errors
    /// As [`LogStore::push`].
    pub fn add(&mut self, file: NewFile) -> Result<Pushed> {
        self.add_checked(Checked::of(file)?)
    }

    /// The same with a file that was looked at before.
    pub fn add_checked(&mut self, checked: Checked) -> Result<Pushed> {
        let mut cluster = self.cluster;
        self.store.check_cluster(&checked, &mut cluster)?;
        let Checked { file, note, .. } = checked;
        if self.catalog.files.contains_key(&file.name) {
            self.store.compare(&self.catalog, &file)?;
            return Ok(Pushed::Known);
        }
        let kind = match file.name {
            WalName::Segment(_) | WalName::Partial(_) => ArchiveKind::Stream,
            WalName::History(_) | WalName::Backup(..) => ArchiveKind::Blob,
        };
        let name = file.name.to_string();
        if self.names.contains(&file.name) {
            return Err(WalError::Refused(format!("{name} was given twice")));
        }
        let mut writer = self.session()?.archive(&name, kind)?;
        writer.write(&file.bytes)?;
        writer.cut()?;
        self.names.insert(file.name);
        self.under_way.push_back(writer);
        self.finish_until(UNDER_WAY)?;
        attributes::set_note(&mut self.attributes, file.name, &note);
        self.last = self.last.max(note.times.last_commit);
        self.cluster = cluster;
        Ok(Pushed::Stored)
    }

    /// Says whose log it is, where no file does.
    pub fn set_cluster(&mut self, cluster: Cluster) {
        self.cluster.get_or_insert(cluster);
    }

    /// Takes note of a hole in the log whose cause is known.
    pub fn add_gap(&mut self, gap: &KnownGap) {
        if let Ok(json) = serde_json::to_string(gap) {
            self.attributes
                .insert(format!("{}{}", attributes::GAP, self.gaps), json);
            self.gaps += 1;
        }
    }

    fn session(&mut self) -> Result<&Session> {
        let session = match self.session.take() {
            Some(session) => session,
            None => Session::begin(self.store.repository.clone(), self.store.cancelled.clone())?,
        };
        Ok(self.session.insert(session))
    }

    /// Waits for the oldest files until no more than `left` are under way.
    fn finish_until(&mut self, left: usize) -> Result<()> {
        while self.under_way.len() > left
            && let Some(writer) = self.under_way.pop_front()
        {
            self.archives.push(writer.finish()?);
        }
        Ok(())
    }

    /// Publishes what was added. When this returns, it is durable.
    pub fn commit(mut self) -> Result<()> {
        self.finish_until(0)?;
        if self.archives.is_empty() && self.gaps == 0 {
            return Ok(());
        }
        self.session()?;
        let (store, catalog) = (self.store, &self.catalog);
        let Some(session) = &self.session else {
            return Ok(());
        };
        let mut attributes = attributes::of_log(self.cluster.as_ref());
        attributes.extend(self.attributes);
        let spec = SnapshotSpec {
            workload: store.workload.to_string(),
            time: self.last,
            host: store.repository.options().host.clone(),
            attributes,
            ..SnapshotSpec::default()
        };
        let snapshot = session.publish(spec, self.archives)?;
        store.look_again(catalog, &snapshot)?;
        // What was pushed is durable: that snapshots could not be merged this time is no failure.
        if let Err(error) = merge::merge(store, session) {
            tracing::warn!(%error, "small snapshots of the log were not merged; the next push tries again");
        }
        Ok(())
    }
}

impl LogStore {
    fn check_cluster(&self, checked: &Checked, known: &mut Option<Cluster>) -> Result<()> {
        let (what, workload) = (checked.file.name.to_string(), self.workload.to_string());
        let systems = [checked.file.system, checked.cluster.map(|cluster| cluster.system)];
        if let Some(known) = known {
            if let Some(&found) = systems.iter().flatten().find(|system| **system != known.system) {
                return Err(WalError::OtherCluster {
                    what,
                    found,
                    known: known.system,
                    workload,
                });
            }
            let Some(cluster) = checked.cluster else {
                return Ok(());
            };
            if cluster.major != known.major {
                return Err(WalError::OtherMajor {
                    what,
                    found: cluster.major,
                    known: known.major,
                    workload,
                });
            }
            if cluster.segment_size != known.segment_size {
                return Err(WalError::OtherSegmentSize {
                    what,
                    found: cluster.segment_size.bytes(),
                    known: known.segment_size.bytes(),
                    workload,
                });
            }
        } else {
            *known = checked.cluster;
        }
        Ok(())
    }

    fn compare(&self, catalog: &Catalog, file: &NewFile) -> Result<()> {
        let there = self.fetch(catalog, file.name)?;
        if there.is_some_and(|there| there == file.bytes) {
            Ok(())
        } else {
            Err(WalError::OtherContent {
                name: file.name,
                workload: self.workload.to_string(),
            })
        }
    }

    /// Looks whether somebody else has stored other content under a name that this snapshot gives, since `before`.
    fn look_again(&self, before: &Catalog, mine: &Snapshot) -> Result<()> {
        let known = |id| {
            before
                .logs
                .iter()
                .chain(&before.backups)
                .any(|other| other.id == id)
        };
        for id in self.repository.snapshot_ids()? {
            if id == mine.id || known(id) {
                continue;
            }
            let Ok(other) = self.repository.snapshot(id) else {
                continue;
            };
            if !other.is_log() || other.workload != mine.workload {
                continue;
            }
            let differs = mine.archives.iter().find(|archive| {
                let there = other.archives.iter().find(|there| there.name == archive.name);
                there.is_some_and(|there| there.root != archive.root)
            });
            if let Some(archive) = differs {
                self.repository.forget(mine.id)?;
                return Err(WalError::OtherContent {
                    name: archive.name.parse()?,
                    workload: self.workload.to_string(),
                });
            }
        }
        Ok(())
    }
}

impl Checked {
    /// Looks whether a file is what its name says.
    ///
    /// # Errors
    /// [`WalError::NotWal`].
    pub fn of(file: NewFile) -> Result<Self> {
        let wrong = |why: &str| WalError::NotWal {
            name: file.name.to_string(),
            why: why.into(),
        };
        let (cluster, note) = match file.name {
            WalName::Segment(name) | WalName::Partial(name) => {
                let summary = Summary::of(name, &file.bytes)?;
                let size = summary.cluster.segment_size.bytes();
                if file.bytes.len() as u64 != size {
                    return Err(wrong(&format!(
                        "it has {} bytes instead of {size}",
                        file.bytes.len()
                    )));
                }
                if let (Some((at, why)), WalName::Segment(_)) = (&summary.broken, file.name) {
                    tracing::warn!(
                        "{name}: after {at} there are no good records ({why}); it is stored as it is, but a recovery will not \
                         get farther: make a new base backup"
                    );
                }
                // What follows the last record of a partial segment is of no interest to anybody.
                let broken = summary
                    .broken
                    .filter(|_| matches!(file.name, WalName::Segment(_)));
                let note = Note {
                    end: Some(summary.end),
                    times: summary.times,
                    broken,
                    ..Note::default()
                };
                (Some(summary.cluster), note)
            }
            WalName::History(timeline) => {
                if file.bytes.len() as u64 > MAX_HISTORY {
                    return Err(wrong("it is larger than 1 MiB"));
                }
                let steps = History::parse(timeline, &file.bytes)?.steps;
                let note = Note {
                    steps,
                    ..Note::default()
                };
                (None, note)
            }
            WalName::Backup(..) => {
                if file.bytes.len() > MAX_REMARK || !file.bytes.starts_with(b"START WAL LOCATION:") {
                    return Err(wrong("it does not begin as the remark about a base backup"));
                }
                (None, Note::default())
            }
        };
        Ok(Self { file, cluster, note })
    }
}
