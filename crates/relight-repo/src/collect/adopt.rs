//! Takes packs into the index that no segment mentions: those of writers that died before they wrote one.

use super::decide::is_young;
use super::figures::{Plan, Report};
use super::mark::is_damage;
use super::pass::Pass;
use super::survey::Survey;
use crate::condemned;
use crate::error::{RepoError, Result};
use crate::id::PackId;
use crate::index::segment::MAX_ENTRIES;
use crate::index::{PackLine, Segment};
use crate::pack::PackKind;
use crate::pack::reader::read_toc;
use crate::storage::StorageError;

impl Pass<'_> {
    /// Packs that no segment mentions and no running session can be about to.
    pub(super) fn orphans(&self, survey: &Survey, plan: &mut Plan) -> Vec<PackId> {
        let known = self.repository.index().packs();
        let condemned = condemned::states(&survey.records);
        let mut orphans: Vec<PackId> = Vec::new();
        for (id, pack) in &survey.packs {
            if known.contains_key(id) || condemned.contains_key(id) {
                continue;
            }
            plan.orphans.add(pack.size);
            if !is_young(survey, self.options, pack.modified) {
                orphans.push(*id);
            }
        }
        orphans.sort_unstable();
        orphans
    }

    /// Writes index segments for them. Returns those that cannot be read.
    pub(super) fn adopt(
        &self,
        orphans: &[PackId],
        survey: &Survey,
        report: &mut Report,
    ) -> Result<Vec<(PackKind, PackId)>> {
        let repository = self.repository;
        let (mut segment, mut unreadable) = (Segment::default(), Vec::new());
        for id in orphans {
            self.control.check()?;
            let Some(pack) = survey.packs.get(id) else {
                continue;
            };
            let read = read_toc(
                repository.storage(),
                repository.id(),
                repository.keys(),
                pack.kind,
                *id,
                pack.size,
            );
            match read {
                Ok((header, records)) => {
                    let line = PackLine {
                        id: *id,
                        kind: pack.kind,
                        key: header.key,
                        size: pack.size,
                    };
                    segment.add_pack(line, &records);
                    report.adopted += 1;
                }
                Err(RepoError::Storage(StorageError::Cold { .. })) => unreadable.push((pack.kind, *id)),
                Err(error) if is_damage(&error) => unreadable.push((pack.kind, *id)),
                Err(error) => return Err(error),
            }
            if segment.entries.len() >= MAX_ENTRIES / 2 {
                self.store_segment(std::mem::take(&mut segment))?;
            }
        }
        self.store_segment(segment)?;
        report.unreadable_orphans += unreadable.len() as u64;
        Ok(unreadable)
    }
}
