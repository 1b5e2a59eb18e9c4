//! `relight key retire`: drops old data keys that nothing needs any more.

use clap::Args;
use relight_keys::KeyId;
use relight_repo::Repository;
use relight_repo::control::Control;
use relight_repo::retire::{self, Kept, Need, RetireReport};

use crate::context::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::steps::Steps;
use crate::{cancel, output};

/// Options of `key retire`.
#[derive(Debug, Args)]
pub struct Options {
    /// Data keys, as `key uses` shows them [default: all old ones]
    #[arg(value_name = "KEY")]
    keys: Vec<String>,
}

/// Drops them.
pub fn run(global: &Global, options: &Options) -> Result<Exit> {
    let number = |text: &String| {
        text.parse::<KeyId>()
            .map_err(|_| Failure::Usage(format!("{text:?} is no data key; `relight key uses` shows them")))
    };
    let wanted = options.keys.iter().map(number).collect::<Result<Vec<_>>>()?;
    let (storage, opened) = global.unlock()?;
    let mut how = global.open_options()?;
    // What another, lost key seals does not matter here.
    how.lost_keys = true;
    let repository = Repository::open(storage, opened.keys().clone(), how)?;
    let (cancelled, steps) = (cancel::flag(), Steps::new(global));
    let control = Control {
        cancelled: &cancelled,
        progress: &steps,
    };
    let report = retire::retire(&repository, &opened, &wanted, control)?;
    drop(steps);
    output::result(global, &report, words);
    Ok(if report.kept.is_empty() {
        Exit::Done
    } else {
        Exit::Incomplete
    })
}

fn words(report: &RetireReport, out: &mut String) {
    for key in &report.retired {
        out.push_str(&format!(
            "Data key {key} is gone: nothing was sealed under it any more.\n"
        ));
    }
    for kept in &report.kept {
        out.push_str(&format!(
            "Data key {} is still needed: {}.\n",
            kept.key,
            needs(kept)
        ));
    }
    let writers = report
        .kept
        .iter()
        .any(|kept| kept.needs.contains_key(&Need::Writers));
    if writers {
        out.push_str("Let the writers that began before the key was replaced end, or give dead ones up with `relight collect`.\n");
    }
    let others = |kept: &Kept| kept.needs.keys().any(|need| *need != Need::Writers);
    if report.kept.iter().any(others) {
        out.push_str(
            "`relight key rewrite` seals what is there again under the current key; packs that it has replaced go when \
             their grace ends, and locked ones when their lock does. Nothing was changed for these keys.\n",
        );
    }
    if report.retired.is_empty() && report.kept.is_empty() {
        out.push_str("There is no old data key.\n");
    }
}

fn needs(kept: &Kept) -> String {
    let need = |(need, count): (&Need, &u64)| {
        let what = match need {
            Need::Packs => "packs",
            Need::Snapshots => "manifests or notes of snapshots",
            Need::Index => "parts of the index",
            Need::Writers => "announcements of writers",
            Need::Records => "records of verifications, collections or groups",
            Need::Unknown => "packs that may need any key, as their headers cannot be read",
        };
        format!("{count} {what}")
    };
    kept.needs.iter().map(need).collect::<Vec<_>>().join(", ")
}
