//! `relight collect`: frees the space of what no snapshot needs.

use clap::Args;
use relight_model::duration::TimeSpan;
use relight_model::size::ByteSize;
use relight_repo::collect::{self, Amount, CollectOptions, Plan, Report};
use relight_repo::control::Control;
use serde::Serialize;

use crate::context::Global;
use crate::exit::Exit;
use crate::failure::Result;
use crate::steps::Steps;
use crate::{cancel, output};

/// Options of `collect`.
#[derive(Debug, Args)]
pub struct Options {
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
    /// How long packs are kept after they were written and after nothing needs them [default: 1d]. 0 is safe, too;
    /// restores that are running then look for some chunks twice
    #[arg(long, value_name = "DURATION")]
    grace: Option<TimeSpan>,
    /// Writers that were not heard of for this long are given up [default: 1d]
    #[arg(long, value_name = "DURATION")]
    session_timeout: Option<TimeSpan>,
    /// Rewrite packs of which more than this many percent are useless
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100), default_value_t = 20)]
    max_waste: u8,
    /// Read at most this much in order to rewrite packs
    #[arg(long, value_name = "SIZE")]
    max_rewrite: Option<ByteSize>,
    /// Rewrite data packs also in a storage class of their own, where reading may cost money
    #[arg(long)]
    rewrite_cold: bool,
    /// Go on though there is no snapshot at all, which frees everything
    #[arg(long)]
    allow_empty: bool,
    /// Go on though chunks that snapshots need are missing or damaged; what only they refer to may be freed
    #[arg(long)]
    despite_damage: bool,
}

#[derive(Serialize)]
struct Planned {
    dry_run: bool,
    #[serde(flatten)]
    plan: Plan,
}

/// Frees it.
pub fn run(global: &Global, options: &Options) -> Result<Exit> {
    let defaults = CollectOptions::default();
    let how = CollectOptions {
        grace: options.grace.map_or(defaults.grace, TimeSpan::duration),
        session_timeout: options
            .session_timeout
            .map_or(defaults.session_timeout, TimeSpan::duration),
        max_waste: options.max_waste,
        max_rewrite: options.max_rewrite.map(|size| size.0),
        rewrite_classed: options.rewrite_cold,
        allow_empty: options.allow_empty,
        despite_damage: options.despite_damage,
        ..defaults
    };
    let repository = global.open()?;
    let (cancelled, steps) = (cancel::flag(), Steps::new(global));
    let control = Control {
        cancelled: &cancelled,
        progress: &steps,
    };
    if options.dry_run {
        let plan = collect::plan(&repository, &how, control)?;
        drop(steps);
        output::result(global, &Planned { dry_run: true, plan }, |planned, out| {
            planned_words(&planned.plan, out)
        });
        return Ok(Exit::Done);
    }
    let report = collect::collect(&repository, &how, control)?;
    drop(steps);
    output::result(global, &report, words);
    let damaged =
        report.found.damaged + report.found.lost + report.unreadable + report.unreadable_orphans > 0;
    Ok(if damaged { Exit::Damage } else { Exit::Done })
}

fn amount(amount: Amount) -> String {
    let packs = if amount.packs == 1 { "pack" } else { "packs" };
    format!("{} {packs}, {}", amount.packs, ByteSize(amount.bytes))
}

fn found(plan: &Plan, out: &mut String) {
    out.push_str(&format!(
        "{} snapshots need {} chunks, {}, of {}; {} are of no use.\n",
        plan.snapshots,
        plan.live_chunks,
        ByteSize(plan.live_bytes),
        amount(plan.packs),
        ByteSize(plan.waste)
    ));
    if plan.sessions > 0 {
        out.push_str(&format!("  {} other writers are at work\n", plan.sessions));
    }
    let lines = [
        ("too young, or of a running writer: left alone", plan.young),
        ("of these are needed by no snapshot now", plan.young_waste),
        ("in no index: of a writer that was interrupted", plan.orphans),
        ("condemned earlier, waiting for the grace to end", plan.waiting),
    ];
    for (what, packs) in lines {
        if packs.packs > 0 {
            out.push_str(&format!("  {} {what}\n", amount(packs)));
        }
    }
    if plan.incoherent > 0 {
        out.push_str(&format!(
            "  {} packs of which the local index does not hold all: left alone; delete the cache and try again\n",
            plan.incoherent
        ));
    }
    if plan.lost + plan.damaged > 0 {
        out.push_str(&format!(
            "  {} packs are not there and {} chunks that are needed are missing or damaged: run `relight verify`\n",
            plan.lost, plan.damaged
        ));
    }
}

fn planned_words(plan: &Plan, out: &mut String) {
    found(plan, out);
    let lines = [
        ("would be deleted", plan.delete),
        ("would be condemned", plan.condemn),
        ("would be rewritten", plan.rewrite),
    ];
    for (what, packs) in lines {
        out.push_str(&format!("  {} {what}\n", amount(packs)));
    }
    out.push_str("Nothing was changed.\n");
}

/// For people.
pub(crate) fn words(report: &Report, out: &mut String) {
    found(&report.found, out);
    let lines = [
        ("deleted", report.deleted),
        ("condemned: a later collection deletes them", report.condemned),
        ("written, to which others were moved", report.written),
        ("kept by object lock", report.kept_by_lock),
    ];
    for (what, packs) in lines {
        if packs.packs > 0 || what == "deleted" {
            out.push_str(&format!("  {} {what}\n", amount(packs)));
        }
    }
    let counts = [
        (
            "packs could not be rewritten because something in them cannot be read",
            report.unreadable,
        ),
        (
            "packs of interrupted writers were taken into the index",
            report.adopted,
        ),
        (
            "packs of interrupted writers cannot be read",
            report.unreadable_orphans,
        ),
        ("writers were given up", report.given_up),
    ];
    for (what, count) in counts {
        if count > 0 {
            out.push_str(&format!("  {count} {what}\n"));
        }
    }
}
