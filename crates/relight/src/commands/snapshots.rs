//! `relight snapshots`: lists what can be brought back.

use clap::Args;
use jiff::tz::TimeZone;
use relight_model::size::ByteSize;
use relight_pbs::client::ServerAddress;
use relight_pbs::formats::ids::{NameError, Namespace};
use relight_repo::RepoError;
use relight_repo::snapshot::Snapshot;
use serde::Serialize;

use crate::context::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::server_access::{RemoteSnapshot, ServerOptions};
use crate::{output, server_access};

/// Options of `snapshots`.
#[derive(Debug, Args)]
pub struct Options {
    /// Only those of this workload
    #[arg(long, short)]
    workload: Option<String>,
    #[command(flatten)]
    server: ServerOptions,
}

#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    snapshot: Snapshot,
    short_id: String,
    size: u64,
    protected: bool,
    notes: String,
}

#[derive(Serialize)]
struct Listing {
    snapshots: Vec<Row>,
    unreadable: Vec<Unreadable>,
}

#[derive(Serialize)]
struct Unreadable {
    id: String,
    error: String,
}

/// Lists them.
pub fn run(global: &Global, options: &Options) -> Result<Exit> {
    if let Some(address) = &options.server.server {
        return on_server(global, options, address);
    }
    let repository = global.open_to_read()?;
    let (snapshots, broken) = repository.snapshots()?;
    let marked = repository.marked()?;
    let wanted = |snapshot: &Snapshot| {
        options
            .workload
            .as_ref()
            .is_none_or(|name| *name == snapshot.workload)
    };
    let mut rows = Vec::new();
    for snapshot in snapshots.into_iter().filter(wanted) {
        let marks = match marked
            .contains(&snapshot.id)
            .then(|| repository.marks(snapshot.id))
        {
            Some(Ok(marks)) => marks,
            // Notes that cannot be read hide no snapshot.
            Some(Err(error @ (RepoError::KeyMissing { .. } | RepoError::Damaged { .. }))) => {
                tracing::warn!(snapshot = %snapshot.id, error = %error, "its notes cannot be read");
                Default::default()
            }
            Some(Err(error)) => return Err(error.into()),
            None => Default::default(),
        };
        rows.push(Row {
            short_id: snapshot.id.short(),
            size: snapshot.size(),
            protected: marks.protected,
            notes: marks.notes,
            snapshot,
        });
    }
    let unreadable = broken
        .into_iter()
        .map(|(id, error)| Unreadable {
            id: id.to_string(),
            error: error.to_string(),
        })
        .collect();
    let listing = Listing {
        snapshots: rows,
        unreadable,
    };
    output::result(global, &listing, words);
    Ok(if listing.unreadable.is_empty() {
        Exit::Done
    } else {
        Exit::Damage
    })
}

#[derive(Serialize)]
struct Remote {
    snapshots: Vec<RemoteSnapshot>,
}

/// Lists those of a server.
fn on_server(global: &Global, options: &Options, address: &ServerAddress) -> Result<Exit> {
    let runtime = server_access::runtime()?;
    let client = options.server.client(address, &Namespace::ROOT)?;
    let group = match &options.workload {
        Some(name) => Some(
            name.parse()
                .map_err(|error: NameError| Failure::Usage(error.to_string()))?,
        ),
        None => None,
    };
    let snapshots = server_access::list(&runtime, &client, group.as_ref())?;
    output::result(global, &Remote { snapshots }, |remote, out| {
        let heading = ["SNAPSHOT", "TIME", "SIZE", "OWNER", "REMARKS"]
            .map(String::from)
            .to_vec();
        let row = |row: &RemoteSnapshot| {
            let mut remarks = Vec::new();
            remarks.extend(row.unfinished.then(|| "unfinished".to_string()));
            remarks.extend(row.protected.then(|| "protected".to_string()));
            remarks.extend(row.key_fingerprint.as_ref().map(|key| {
                let short: String = key.chars().take(23).collect();
                format!("key {short}")
            }));
            remarks.extend(
                row.verification
                    .as_ref()
                    .map(|state| format!("verified: {state}")),
            );
            remarks.extend(row.notes.lines().next().map(String::from));
            let time = row.time.to_zoned(TimeZone::system());
            vec![
                row.snapshot.clone(),
                time.strftime("%Y-%m-%d %H:%M:%S").to_string(),
                ByteSize(row.size).to_string(),
                row.owner.clone(),
                remarks.join(", "),
            ]
        };
        let rows: Vec<_> = std::iter::once(heading)
            .chain(remote.snapshots.iter().map(row))
            .collect();
        output::table(&rows, &[2], out);
    });
    Ok(Exit::Done)
}

fn words(listing: &Listing, out: &mut String) {
    if listing.snapshots.is_empty() && listing.unreadable.is_empty() {
        out.push_str("There is no snapshot yet; make one with `relight backup`.\n");
        return;
    }
    let heading = ["ID", "TIME", "WORKLOAD", "SIZE", "ADDED", "REMARKS"]
        .map(String::from)
        .to_vec();
    let row = |row: &Row| {
        let mut remarks = Vec::new();
        if row.protected {
            remarks.push("protected".to_string());
        }
        if !row.snapshot.incomplete.is_empty() {
            remarks.push(format!("{} not saved as they are", row.snapshot.incomplete.len()));
        }
        if !row.notes.is_empty() {
            remarks.push(row.notes.lines().next().unwrap_or_default().to_string());
        }
        let time = row.snapshot.time.to_zoned(TimeZone::system());
        vec![
            row.short_id.clone(),
            time.strftime("%Y-%m-%d %H:%M:%S").to_string(),
            row.snapshot.workload.clone(),
            ByteSize(row.size).to_string(),
            ByteSize(row.snapshot.figures.stored).to_string(),
            remarks.join(", "),
        ]
    };
    let rows: Vec<_> = std::iter::once(heading)
        .chain(listing.snapshots.iter().map(row))
        .collect();
    output::table(&rows, &[3, 4], out);
    for broken in &listing.unreadable {
        out.push_str(&format!("{}  cannot be read: {}\n", broken.id, broken.error));
    }
}
