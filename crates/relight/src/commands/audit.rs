//! `relight audit`: what was denied and changed on the server, and by whom.

use clap::Args;
use relight_server::state::{Record, RecordFilter};
use serde::Serialize;

use crate::context::Global;
use crate::exit::Exit;
use crate::failure::Result;
use crate::output;
use crate::server_state::ConfigOptions;
use crate::shown;

/// Options of `audit`.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    config: ConfigOptions,
    /// Of this user or token only
    #[arg(long, value_name = "WHO")]
    who: Option<String>,
    /// Only what was denied
    #[arg(long)]
    denied: bool,
    /// From this time on, such as 2026-11-22T10:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<jiff::Timestamp>,
    /// So many at most, the newest ones
    #[arg(long, short = 'n', value_name = "N", default_value_t = 100)]
    limit: u32,
}

#[derive(Serialize)]
struct Row {
    time: jiff::Timestamp,
    who: Option<String>,
    from: Option<String>,
    what: String,
    parameters: String,
    status: u16,
    message: String,
}

impl From<Record> for Row {
    fn from(record: Record) -> Self {
        Self {
            time: record.time,
            who: record.who,
            from: record.peer,
            what: record.what,
            parameters: record.parameters,
            status: record.status,
            message: record.message,
        }
    }
}

/// Lists them, oldest first.
pub fn run(global: &Global, options: &Options) -> Result<Exit> {
    let filter = RecordFilter {
        since: options.since,
        who: options.who.clone(),
        denied: options.denied,
        limit: Some(options.limit),
    };
    let mut rows: Vec<Row> = options
        .config
        .state()?
        .records(&filter)?
        .into_iter()
        .map(Row::from)
        .collect();
    rows.reverse();
    output::result(global, &rows, |rows, out| {
        let heading = ["TIME", "WHO", "FROM", "STATUS", "WHAT"]
            .map(String::from)
            .to_vec();
        let cells = |row: &Row| {
            let what = [&row.what, &row.parameters, &row.message].map(|part| part.trim().to_string());
            let what: Vec<String> = what.into_iter().filter(|part| !part.is_empty()).collect();
            vec![
                shown::local(row.time),
                row.who.clone().unwrap_or_else(|| "-".into()),
                row.from.clone().unwrap_or_else(|| "-".into()),
                row.status.to_string(),
                what.join("  "),
            ]
        };
        let rows: Vec<_> = std::iter::once(heading).chain(rows.iter().map(cells)).collect();
        output::table(&rows, &[], out);
    });
    Ok(Exit::Done)
}
