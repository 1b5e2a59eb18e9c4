//! Puts files of a log into the repository.

use std::collections::BTreeMap;

use jiff::Timestamp;
use relight_repo::session::Session;
use relight_repo::snapshot::{ArchiveKind, Snapshot, SnapshotSpec};

use super::catalog::Catalog;
use super::{LogStore, merge};
use crate::wal::attributes::{self, Note};
use crate::wal::error::{Result, WalError};
use crate::wal::history::{History, MAX_HISTORY};
use crate::wal::name::WalName;
use crate::wal::summary::{Cluster, Summary};
use crate::wal::windows::KnownGap;

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

/// A file that was looked at.
struct Checked {
    file: NewFile,
    cluster: Option<Cluster>,
    note: Note,
}

impl LogStore {
    /// Puts files into the repository, all or none. When this returns, they are durable.
    ///
    /// # Errors
    /// [`WalError::NotWal`], [`WalError::OtherContent`], [`WalError::OtherCluster`], [`WalError::OtherMajor`],
    /// [`WalError::OtherSegmentSize`]: a file was refused, and none was stored. Errors of the repository.
    pub fn push(&self, files: Vec<NewFile>) -> Result<Vec<Pushed>> {
        self.push_with(files, &[])
    }

    /// Also takes note of holes in the log whose cause is known.
    pub fn push_with(&self, files: Vec<NewFile>, gaps: &[KnownGap]) -> Result<Vec<Pushed>> {
        let catalog = self.catalog()?;
        let mut cluster = catalog.cluster;
        let mut checked = Vec::with_capacity(files.len());
        for file in files {
            let file = check(file)?;
            self.check_cluster(&file, &mut cluster)?;
            checked.push(file);
        }
        let mut pushed = Vec::with_capacity(checked.len());
        let mut new = Vec::new();
        for file in checked {
            if catalog.files.contains_key(&file.file.name) {
                self.compare(&catalog, &file.file)?;
                pushed.push(Pushed::Known);
            } else {
                pushed.push(Pushed::Stored);
                new.push(file);
            }
        }
        if new.is_empty() && gaps.is_empty() {
            return Ok(pushed);
        }
        let session = Session::begin(self.repository.clone(), self.cancelled.clone())?;
        let snapshot = self.publish(&session, &new, cluster, gaps)?;
        self.look_again(&catalog, &snapshot)?;
        // What was pushed is durable: that snapshots could not be merged this time is no failure.
        if let Err(error) = merge::merge(self, &session) {
            tracing::warn!(%error, "small snapshots of the log were not merged; the next push tries again");
        }
        Ok(pushed)
    }

    fn publish(
        &self,
        session: &Session,
        files: &[Checked],
        cluster: Option<Cluster>,
        gaps: &[KnownGap],
    ) -> Result<Snapshot> {
        let mut attributes = attributes::of_log(cluster.as_ref());
        let mut archives = Vec::with_capacity(files.len());
        let mut last: Option<Timestamp> = None;
        for Checked { file, note, .. } in files {
            let kind = match file.name {
                WalName::Segment(_) | WalName::Partial(_) => ArchiveKind::Stream,
                WalName::History(_) | WalName::Backup(..) => ArchiveKind::Blob,
            };
            let mut writer = session.archive(&file.name.to_string(), kind)?;
            writer.write(&file.bytes)?;
            archives.push(writer.finish()?);
            attributes::set_note(&mut attributes, file.name, note);
            last = last.max(note.times.last_commit);
        }
        for (number, gap) in gaps.iter().enumerate() {
            set_gap(&mut attributes, number, gap);
        }
        let spec = SnapshotSpec {
            workload: self.workload.to_string(),
            time: last,
            host: self.repository.options().host.clone(),
            attributes,
            ..SnapshotSpec::default()
        };
        Ok(session.publish(spec, archives)?)
    }

    /// Publishes as if `before` were what was found before.
    #[cfg(test)]
    pub(super) fn publish_for_test(
        &self,
        session: &Session,
        before: &Catalog,
        files: Vec<NewFile>,
    ) -> Result<()> {
        let checked = files.into_iter().map(check).collect::<Result<Vec<_>>>()?;
        let snapshot = self.publish(session, &checked, None, &[])?;
        self.look_again(before, &snapshot)
    }

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

/// Takes note of a hole.
pub(super) fn set_gap(attributes: &mut BTreeMap<String, String>, number: usize, gap: &KnownGap) {
    if let Ok(json) = serde_json::to_string(gap) {
        attributes.insert(format!("{}{number}", attributes::GAP), json);
    }
}

/// Looks whether a file is what its name says.
fn check(file: NewFile) -> Result<Checked> {
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
    Ok(Checked { file, cluster, note })
}
