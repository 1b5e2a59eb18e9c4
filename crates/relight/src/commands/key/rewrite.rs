//! `relight key uses` and `relight key rewrite`: what is sealed under which data key, and bringing all of it under the
//! current one.

use std::sync::Arc;

use clap::Args;
use relight_model::duration::TimeSpan;
use relight_model::size::ByteSize;
use relight_repo::Repository;
use relight_repo::collect::CollectOptions;
use relight_repo::control::Control;
use relight_repo::rewrite::{self, KeyUse, RewriteReport};

use crate::commands::collect;
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::Result;
use crate::steps::Steps;
use crate::{cancel, output};

/// Options of `key rewrite`, and of `key rotate --rewrite`.
#[derive(Debug, Args)]
pub struct Options {
    /// Packs younger than this are left for the next time, and old ones are kept so long beside the new [default: 1d]
    #[arg(long, value_name = "DURATION")]
    grace: Option<TimeSpan>,
}

/// Shows what is sealed under which key.
pub fn uses(global: &Global) -> Result<Exit> {
    let repository = global.open_to_read()?;
    let (cancelled, steps) = (cancel::flag(), Steps::new(global));
    let control = Control {
        cancelled: &cancelled,
        progress: &steps,
    };
    let uses = rewrite::key_use(&repository, control)?;
    drop(steps);
    output::result(global, &uses, |uses, out| table(uses, out));
    let whole = uses.iter().all(|one| one.held || one.is_unused());
    Ok(if whole { Exit::Done } else { Exit::Damage })
}

/// Seals everything again under the current key.
pub fn run(global: &Global, options: &Options) -> Result<Exit> {
    let report = run_on(global, options, &global.open()?)?;
    output::result(global, &report, words);
    Ok(Exit::Done)
}

/// The same for a repository that is open.
pub fn run_on(global: &Global, options: &Options, repository: &Arc<Repository>) -> Result<RewriteReport> {
    let defaults = CollectOptions::default();
    let how = CollectOptions {
        grace: options.grace.map_or(defaults.grace, TimeSpan::duration),
        // Whatever it costs to read them: they are to be sealed again.
        rewrite_classed: true,
        ..defaults
    };
    let (cancelled, steps) = (cancel::flag(), Steps::new(global));
    let control = Control {
        cancelled: &cancelled,
        progress: &steps,
    };
    Ok(rewrite::rewrite(repository, &how, control)?)
}

/// For people.
pub fn words(report: &RewriteReport, out: &mut String) {
    out.push_str(&format!("{} small objects were sealed again.\n", report.objects));
    collect::words(&report.collection, out);
    table(&report.keys, out);
    let old = report
        .keys
        .iter()
        .filter(|one| !one.current && !one.is_unused())
        .count();
    out.push_str(match old {
        0 => "Everything is sealed under the current key.\n",
        _ => {
            "What is left under old keys is too young to be rewritten, or lies in packs that are deleted when their grace \
             ends: run `relight key rewrite` again then.\n"
        }
    });
}

fn table(uses: &[KeyUse], out: &mut String) {
    let heading = [
        "DATA KEY",
        "STATE",
        "DATA PACKS",
        "METADATA PACKS",
        "BYTES",
        "SNAPSHOTS",
        "OTHERS",
    ];
    let row = |one: &KeyUse| {
        let state = match (one.current, one.held) {
            (true, _) => "current",
            (false, true) => "old",
            (false, false) => "LOST",
        };
        vec![
            one.key.clone(),
            state.to_string(),
            one.data_packs.to_string(),
            one.metadata_packs.to_string(),
            ByteSize(one.bytes).to_string(),
            one.snapshots.to_string(),
            (one.segments + one.others).to_string(),
        ]
    };
    let rows: Vec<_> = std::iter::once(heading.map(String::from).to_vec())
        .chain(uses.iter().map(row))
        .collect();
    output::table(&rows, &[2, 3, 4, 5, 6], out);
    let lost: Vec<&str> = uses
        .iter()
        .filter(|one| !one.held && !one.is_unused())
        .map(|one| one.key.as_str())
        .collect();
    if !lost.is_empty() {
        out.push_str(&format!(
            "The keyring lacks {}: what is sealed under it is lost unless another key of yours opens a keyring that has \
             it. `relight verify` names the snapshots and files.\n",
            lost.join(", ")
        ));
    }
}
