//! Decides what becomes of each pack.

use std::collections::{BTreeMap, HashSet};

use super::CollectOptions;
use super::atlas::{Atlas, Pack, Weight};
use super::figures::Plan;
use super::records;
use super::survey::{Survey, has_age};
use crate::error::{RepoError, Result};
use crate::id::PackId;
use crate::index::PackState;
use crate::pack::PackKind;
use crate::pack::format::{ENTRY, HEADER, TAG, TRAILER};
use crate::repository::Repository;
use crate::storage::Millis;

/// Bytes of a pack that do not depend on what is in it.
const FIXED: u64 = (HEADER + TAG + TRAILER) as u64;
/// Small packs of about one size are merged when there are this many.
const MERGED_FROM: usize = 8;

/// What becomes of the packs, by their numbers in the atlas.
#[derive(Debug, Default)]
pub(super) struct Decision {
    /// Condemned packs that hold chunks which are needed and lie in no other pack.
    pub rescue: Vec<u32>,
    /// Packs to be condemned because nothing in them is needed.
    pub dead: Vec<u32>,
    /// Packs to be condemned once what is needed in them has been moved.
    pub rewrite: Vec<u32>,
    /// Records (by number in the survey) of which all packs may be deleted, after the rescue.
    pub delete: Vec<usize>,
}

/// Whether a pack written then may belong to a running session, or is younger than the grace.
pub(super) fn is_young(survey: &Survey, options: &CollectOptions, modified: Millis) -> bool {
    let of_session = |since| modified >= since || !has_age(since, modified, options.clock_skew);
    let session = survey.oldest_session.filter(|_| options.wait_for_sessions);
    session.is_some_and(of_session) || !has_age(survey.now, modified, options.grace)
}

/// Whether the index holds exactly what is in the pack (or a multiple of it, if several segments speak of it).
fn is_coherent(pack: &Pack, weight: &Weight) -> bool {
    let held = pack.line.size.saturating_sub(FIXED);
    held > 0 && weight.held >= held && weight.held.is_multiple_of(held)
}

/// Bytes of a pack that go to chunks that are not needed there.
fn waste(pack: &Pack, weight: &Weight) -> u64 {
    let held = pack.line.size.saturating_sub(FIXED);
    held.saturating_sub(weight.live_bytes + weight.live * ENTRY as u64)
}

/// Weighs everything and decides.
pub(super) fn decide(
    repository: &Repository,
    survey: &Survey,
    atlas: &Atlas,
    options: &CollectOptions,
    plan: &mut Plan,
) -> Result<Decision> {
    let weights = atlas.weigh();
    let mut decision = Decision::default();
    let mut candidates: BTreeMap<PackKind, Vec<u32>> = BTreeMap::new();
    for (number, (pack, weight)) in atlas.packs.iter().zip(&weights).enumerate() {
        let number = number as u32;
        plan.live_chunks += weight.live;
        plan.live_bytes += weight.live_bytes;
        match pack.state {
            PackState::Gone => continue,
            PackState::Condemned => {
                if weight.live > 0 {
                    plan.rescue += weight.live;
                    decision.rescue.push(number);
                }
                continue;
            }
            PackState::Live => {}
        }
        if pack.lost {
            plan.lost += 1;
            // What was in it lies elsewhere, or is not needed: what is known of it can be cleared away.
            if plan.damaged == 0 && (pack.doubtful || pack.damaged) {
                decision.dead.push(number);
            }
        } else if !pack.listed || is_young(survey, options, pack.modified) {
            plan.young.add(pack.line.size);
            if pack.listed && weight.live == 0 {
                plan.young_waste.add(pack.line.size);
            }
        } else if !is_coherent(pack, weight) {
            plan.incoherent += 1;
            tracing::warn!(pack = %pack.line.id, "the index does not hold all of a pack; it is left alone");
        } else {
            plan.waste += waste(pack, weight);
            if weight.live == 0 {
                plan.condemn.add(pack.line.size);
                decision.dead.push(number);
            } else if !weight.hurt {
                candidates.entry(pack.line.kind).or_default().push(number);
            }
        }
    }
    let classed = repository.settings().data_class.is_some() && !options.rewrite_classed;
    for (kind, packs) in candidates {
        if kind == PackKind::Metadata || !classed {
            choose_rewrites(
                repository,
                kind,
                &packs,
                atlas,
                &weights,
                options,
                &mut decision.rewrite,
            );
        }
    }
    limit(&mut decision.rewrite, atlas, &weights, options);
    for number in &decision.rewrite {
        plan.rewrite.add(atlas.packs[*number as usize].line.size);
        plan.moved += weights[*number as usize].live_bytes;
    }
    decide_deletions(survey, options, &mut decision, plan);
    if survey.snapshots.is_empty()
        && !options.allow_empty
        && !(decision.dead.is_empty() && decision.delete.is_empty())
    {
        return Err(RepoError::CollectionWouldEmpty {
            packs: survey.packs.len(),
        });
    }
    Ok(decision)
}

/// Packs of one kind that are worth being rewritten.
fn choose_rewrites(
    repository: &Repository,
    kind: PackKind,
    packs: &[u32],
    atlas: &Atlas,
    weights: &[Weight],
    options: &CollectOptions,
    chosen: &mut Vec<u32>,
) {
    let size = |number: &u32| atlas.packs[*number as usize].line.size;
    let live = |number: &u32| weights[*number as usize].live_bytes;
    let waste = |number: &u32| waste(&atlas.packs[*number as usize], &weights[*number as usize]);
    let percent = match kind {
        PackKind::Data => options.max_waste,
        // Everything but reading content goes through them.
        PackKind::Metadata => options.max_waste / 2,
    };
    let total_live: u64 = packs.iter().map(live).sum();
    let mut total_waste: u64 = packs.iter().map(waste).sum();
    let allowed = total_live / 100 * u64::from(percent);
    // Those first of which the least has to be moved for what is won.
    let mut order: Vec<u32> = packs.to_vec();
    order.sort_by_key(|number| {
        let cost = u128::from(live(number)) << 32;
        (
            cost / u128::from(waste(number).max(1)),
            atlas.packs[*number as usize].line.id,
        )
    });
    // What is needed of damaged packs is good, but who knows for how long.
    let current = repository.keys().current().id();
    let must_go = |number: &&u32| {
        let pack = &atlas.packs[**number as usize];
        pack.damaged || (options.reseal && pack.line.key != current)
    };
    let mut taken: HashSet<u32> = packs.iter().filter(must_go).copied().collect();
    total_waste -= taken.iter().map(waste).sum::<u64>();
    for number in &order {
        if total_waste <= allowed {
            break;
        }
        if taken.insert(*number) {
            total_waste -= waste(number);
        }
    }
    // Every session ends with a pack that is not full. Merging those of about one size writes each byte only a few
    // times, however many sessions there are.
    let full = match kind {
        PackKind::Data => repository.options().data_pack,
        PackKind::Metadata => repository.options().metadata_pack,
    } as u64;
    let mut small: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for number in packs {
        if size(number) < full / 2 && !taken.contains(number) {
            small
                .entry(size(number).max(1).ilog2() / 2)
                .or_default()
                .push(*number);
        }
    }
    for (_, group) in small {
        if group.len() >= MERGED_FROM {
            taken.extend(group);
        }
    }
    chosen.extend(order.into_iter().filter(|number| taken.contains(number)));
}

/// Leaves away what is more than the operator allows to be read.
fn limit(rewrite: &mut Vec<u32>, atlas: &Atlas, weights: &[Weight], options: &CollectOptions) {
    if let Some(most) = options.max_rewrite {
        let mut read = 0u64;
        rewrite.retain(|number| {
            read = read.saturating_add(weights[*number as usize].live_bytes);
            read <= most
        });
    }
    // Neighbours in time are neighbours in the new packs.
    rewrite.sort_by_key(|number| {
        let pack = &atlas.packs[*number as usize];
        (pack.line.kind, pack.modified, pack.line.id)
    });
}

fn decide_deletions(survey: &Survey, options: &CollectOptions, decision: &mut Decision, plan: &mut Plan) {
    let size = |id: &PackId| survey.packs.get(id).map_or(0, |pack| pack.size);
    for (number, stored) in survey.records.iter().enumerate() {
        if stored.record.packs.is_empty() {
            continue;
        }
        let due = records::may_delete(stored, survey, options);
        let amount = if due { &mut plan.delete } else { &mut plan.waiting };
        stored
            .record
            .packs
            .iter()
            .for_each(|(_, id)| amount.add(size(id)));
        if due {
            decision.delete.push(number);
        }
    }
}
