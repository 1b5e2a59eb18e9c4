//! One collection from begin to end.

use std::collections::HashSet;
use std::sync::Arc;

use super::CollectOptions;
use super::atlas::Atlas;
use super::decide::{Decision, decide};
use super::figures::{Plan, Report};
use super::mark::Marker;
use super::survey::{Survey, is_older};
use crate::control::Control;
use crate::error::{RepoError, Result};
use crate::id::PackId;
use crate::lease::Lease;
use crate::pack::PackKind;
use crate::repository::Repository;
use crate::session::announce::{KEPT, Presence};
use crate::suspects;

/// A collection, or the plan of one.
pub(super) struct Pass<'a> {
    pub repository: &'a Arc<Repository>,
    pub options: &'a CollectOptions,
    pub control: Control<'a>,
    /// None: nothing is changed.
    pub lease: Option<&'a Lease>,
    presence: Option<&'a Presence>,
    /// Key of its own announcement.
    pub own: Option<String>,
    /// Records it has written.
    pub records: usize,
}

/// What is known before anything is changed.
struct Found {
    survey: Survey,
    atlas: Atlas,
    decision: Decision,
    plan: Plan,
}

impl<'a> Pass<'a> {
    pub fn new(
        repository: &'a Arc<Repository>,
        options: &'a CollectOptions,
        control: Control<'a>,
        work: Option<(&'a Lease, &'a Presence)>,
    ) -> Self {
        Self {
            repository,
            options,
            control,
            lease: work.map(|(lease, _)| lease),
            presence: work.map(|(_, presence)| presence),
            own: work.map(|(_, presence)| presence.key()),
            records: 0,
        }
    }

    /// Checks that this collection may still change things; gives its generation.
    pub fn fence(&self) -> Result<u64> {
        let (Some(lease), Some(presence)) = (self.lease, self.presence) else {
            return Err(RepoError::LeaseLost);
        };
        presence.pulse().check()?;
        lease.check()?;
        Ok(lease.generation())
    }

    /// Finds what there is to do.
    pub fn plan(&self) -> Result<Plan> {
        let survey = self.survey()?;
        let mut plan = Plan::default();
        self.orphans(&survey, &mut plan);
        Ok(self.find(survey, plan)?.plan)
    }

    fn find(&self, survey: Survey, mut plan: Plan) -> Result<Found> {
        let repository = self.repository;
        plan.snapshots = survey.snapshots.len() as u64;
        plan.sessions = survey.alive.len() as u64;
        survey.packs.values().for_each(|pack| plan.packs.add(pack.size));
        let atlas = Atlas::new(repository, &survey, suspects::load(repository.vault())?)?;
        let marker = Marker::new(repository, &atlas, self.control)?;
        let damage = marker.mark(&survey.roots)?;
        plan.damaged = damage.count;
        if let (Some(first), false) = (damage.first, self.options.despite_damage) {
            return Err(RepoError::CollectionUnsafe {
                count: usize::try_from(damage.count).unwrap_or(usize::MAX),
                first: first.to_string(),
            });
        }
        // After the others: what both need must be all right.
        marker.mark(&survey.faint_roots)?;
        drop(marker);
        let decision = decide(repository, &survey, &atlas, self.options, &mut plan)?;
        Ok(Found {
            survey,
            atlas,
            decision,
            plan,
        })
    }

    /// Does it.
    pub fn collect(mut self) -> Result<Report> {
        let mut report = Report::default();
        let mut plan = Plan::default();
        let survey = self.survey()?;
        report.given_up = survey.evicted;
        let orphans = self.orphans(&survey, &mut plan);
        let unreadable = self.adopt(&orphans, &survey, &mut report)?;
        if report.adopted > 0 {
            self.repository.refresh()?;
        }
        let Found {
            mut survey,
            atlas,
            decision,
            plan,
        } = self.find(survey, plan)?;
        report.found = plan;
        self.control.check()?;

        let mut dead: Vec<(PackKind, PackId)> = Vec::new();
        for number in &decision.dead {
            let line = atlas.packs[*number as usize].line;
            report.condemned.add(line.size);
            dead.push((line.kind, line.id));
        }
        if report.found.damaged == 0 {
            // Nothing is missing, so nothing that is needed lies in them.
            let old = |(_, id): &(PackKind, PackId)| {
                let pack = survey.packs.get(id);
                pack.is_some_and(|pack| is_older(survey.now, pack.modified, KEPT))
            };
            dead.extend(unreadable.into_iter().filter(old));
        }
        if !dead.is_empty() {
            self.condemn(dead)?;
        }
        let kept = self.move_all(&atlas, &decision, &mut report)?;
        self.delete_all(&mut survey, &decision, &kept, &mut report)?;
        self.tidy(&mut survey, &atlas, &mut report)?;
        Ok(report)
    }

    fn delete_all(
        &self,
        survey: &mut Survey,
        decision: &Decision,
        kept: &HashSet<PackId>,
        report: &mut Report,
    ) -> Result<()> {
        let mut records = std::mem::take(&mut survey.records);
        for (number, stored) in records.iter_mut().enumerate() {
            if decision.delete.contains(&number) {
                self.delete(stored, kept, survey, report)?;
            } else {
                self.note_readers(stored, survey)?;
            }
        }
        survey.records = records;
        Ok(())
    }

    /// Compacts the index and clears away.
    fn tidy(&mut self, survey: &mut Survey, atlas: &Atlas, report: &mut Report) -> Result<()> {
        let gone: HashSet<PackId> = survey
            .records
            .iter()
            .flat_map(|stored| stored.record.gone.iter().map(|(_, id)| *id))
            .collect();
        let (mut useless, mut all) = (0u64, 0u64);
        atlas.for_each(|pack, _, _| {
            all += 1;
            useless += u64::from(gone.contains(&atlas.packs[pack as usize].line.id));
        });
        self.compact(&gone, useless * 4 > all, report)?;
        self.repository.refresh()?;
        let mentioned: HashSet<PackId> = self.repository.index().packs().into_keys().collect();
        self.clear_records(survey, &mentioned)?;
        self.merge_records(survey)?;
        self.clear_leftovers(survey, &mentioned, report)
    }
}
