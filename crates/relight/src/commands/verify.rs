//! `relight verify`: checks that everything can be brought back, and says what cannot, down to the path.

pub(crate) mod report;
mod sealed;

use std::num::NonZeroU32;
use std::str::FromStr;
use std::sync::Arc;

use clap::Args;
use jiff::SignedDuration;
use relight_model::duration::TimeSpan;
use relight_repo::control::Control;
use relight_repo::verify::{self, Scope};

use crate::client_key::ClientKeyOptions;
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::steps::Steps;
use crate::{cancel, output, target};

/// Options of `verify`.
#[derive(Debug, Args)]
pub struct Options {
    /// A share, such as 1/30: what was not checked for the longest time. So many runs check everything
    #[arg(long, value_name = "1/N", conflicts_with_all = ["snapshot", "structure"])]
    share: Option<Share>,
    /// Only what this snapshot needs: short id, `latest`, or WORKLOAD@TIME
    #[arg(long, short, value_name = "SNAPSHOT", conflicts_with = "structure")]
    snapshot: Vec<String>,
    /// Only manifests, lists, index and that all packs are there; no content is read
    #[arg(long)]
    structure: bool,
    /// Do not read again what was found good within this time, such as 30d
    #[arg(long, value_name = "DURATION", conflicts_with = "structure")]
    unless_checked_within: Option<TimeSpan>,
    #[command(flatten)]
    client_key: ClientKeyOptions,
}

/// One of so many parts.
#[derive(Debug, Clone, Copy)]
struct Share(NonZeroU32);

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_prefix("1/").unwrap_or(text);
        number
            .parse()
            .map(Self)
            .map_err(|_| format!("{text:?} is no share: write 1/30 for a thirtieth"))
    }
}

/// Checks it.
pub fn run(global: &Global, options: &Options) -> Result<Exit> {
    let repository = global.open_to_read()?;
    let scope = match (options.share, options.snapshot.as_slice(), options.structure) {
        (Some(Share(runs)), _, _) => Scope::Share(runs),
        (None, [], true) => Scope::Structure,
        (None, [], false) => Scope::Everything,
        (None, given, _) => {
            let id = |given: &String| target::snapshot(&repository, given).map(|snapshot| snapshot.id);
            Scope::Snapshots(given.iter().map(id).collect::<Result<_>>()?)
        }
    };
    let since = match options.unless_checked_within {
        None => None,
        Some(span) => Some(past(repository.now(), span)?),
    };
    let key = options.client_key.key()?;
    let snapshots = match &scope {
        Scope::Snapshots(ids) => Some(ids.clone()),
        _ => None,
    };
    let structure = matches!(scope, Scope::Structure);
    let (cancelled, steps) = (cancel::flag(), Steps::new(global));
    let how = verify::Options {
        scope,
        unless_checked_since: since,
    };
    let control = Control {
        cancelled: &cancelled,
        progress: &steps,
    };
    let report = verify::verify(&repository, &how, control)?;
    drop(steps);
    let mut report = report::Report::new(Arc::clone(&repository), report, &cancelled)?;
    if let Some(key) = key
        && !report.is_cancelled()
    {
        report.sealed = Some(sealed::check(
            &repository,
            key,
            snapshots,
            !structure,
            &cancelled,
        )?);
    }
    output::result(global, &report, report::words);
    Ok(report.exit())
}

fn past(now: jiff::Timestamp, span: TimeSpan) -> Result<jiff::Timestamp> {
    let too_long = || Failure::Usage(format!("{span} is longer than there is time"));
    let span = SignedDuration::try_from(span.duration()).map_err(|_| too_long())?;
    now.checked_sub(span).map_err(|_| too_long())
}
