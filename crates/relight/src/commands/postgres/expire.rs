//! `relight postgres expire`: lets go of the log that nothing needs any more.

use clap::Args;
use jiff::SignedDuration;
use relight_model::duration::TimeSpan;
use relight_pbs::access::Action;
use relight_postgres::wal::name::WalName;
use relight_postgres::wal::retention::Promise;
use relight_postgres::wal::store::{Expiry, LogStore};
use relight_server::runs;
use serde::Serialize;

use super::name::ClusterName;
use crate::approved::{Asked, Served, with_leave};
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::{cancel, output};

/// Options of `expire`.
#[derive(Debug, Args)]
pub struct Options {
    /// The cluster
    #[arg(value_name = "NAME")]
    name: ClusterName,
    /// Any moment of so much time back stays recoverable, such as 14d; without it, all that the base backups can be
    /// brought to
    #[arg(long, value_name = "SPAN")]
    point_in_time: Option<TimeSpan>,
    /// Do it. Without this, it is shown what would go
    #[arg(long)]
    apply: bool,
}

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    expiry: Expiry,
    applied: bool,
}

/// Shows it, and does it if that was asked for.
pub fn run(global: &Global, options: &Options) -> Result<Exit> {
    let repository = global.open()?;
    let point_in_time = options
        .point_in_time
        .map(|span| SignedDuration::try_from(span.duration()))
        .transpose();
    let promise = Promise {
        point_in_time: point_in_time.map_err(|_| Failure::Usage("--point-in-time is too long".into()))?,
        now: repository.now(),
    };
    let store = LogStore::new(repository, options.name.0.clone(), cancel::flag());
    // Which base backups stay is decided by `forget`; what is there stays here.
    let expiry = if options.apply {
        let asked = |served: &Served| early(served, &store, &promise);
        with_leave(global, Action::Delete, asked, || {
            Ok(store.expire(&promise, &|_| true)?)
        })?
    } else {
        store.plan_expiry(&promise, &|_| true)?
    };
    let report = Report {
        expiry,
        applied: options.apply,
    };
    output::result(global, &report, words);
    Ok(Exit::Done)
}

/// What one person alone may not be enough for: everything that the plan of the server would not let go of by itself.
fn early(served: &Served, store: &LogStore, promise: &Promise) -> Result<Option<Asked>> {
    let mut files = store.plan_expiry(promise, &|_| true)?.files;
    if let Some(point_in_time) = runs::promised(&served.config, store.workload())? {
        let planned = Promise {
            point_in_time,
            now: promise.now,
        };
        let due = store.plan_expiry(&planned, &|_| true)?.files;
        files.retain(|file| !due.contains(file));
    }
    let (Some(first), Some(last)) = (files.first(), files.last()) else {
        return Ok(None);
    };
    let workload = store.workload().as_str();
    Ok(Some(Asked {
        path: served.place([workload]),
        subject: format!(
            "let go of {} files of the log of {workload}, {first} to {last}, that the plan keeps",
            files.len()
        ),
        exact: files
            .iter()
            .map(WalName::to_string)
            .collect::<Vec<_>>()
            .join("\n"),
    }))
}

fn words(report: &Report, out: &mut String) {
    let expiry = &report.expiry;
    match (expiry.files.first(), expiry.files.last()) {
        (Some(first), Some(last)) => {
            let count = expiry.files.len();
            out.push_str(&format!(
                "{count} files of the log, {first} to {last}, are needed by no base backup.\n"
            ));
        }
        _ => out.push_str("All of the log is needed.\n"),
    }
    let (forget, replace) = (expiry.forget.len(), expiry.replace.len());
    if forget + replace > 0 {
        let (were, hint) = match report.applied {
            true => ("were", "`relight collect` frees the space"),
            false => ("would be", "nothing was changed; --apply does it"),
        };
        out.push_str(&format!(
            "{forget} snapshots of the log {were} forgotten and {replace} replaced by smaller ones; {hint}.\n"
        ));
    }
}
