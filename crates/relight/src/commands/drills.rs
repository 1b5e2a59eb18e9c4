//! `relight drills`: recovery tests that were done, and what they measured.

use clap::Args;
use relight_model::workload::Workload;
use relight_server::evidence::detail::DrillDetail;
use relight_server::evidence::{Body, Kind};
use relight_server::state::EvidenceFilter;

use crate::api::{ApiOptions, parameter, read};
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::Result;
use crate::server_state::ConfigOptions;
use crate::{output, shown};

/// Options of `drills`.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    config: ConfigOptions,
    #[command(flatten)]
    server: ApiOptions,
    /// Of this workload only
    #[arg(long, short)]
    workload: Option<Workload>,
    /// So many at most, the newest ones
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50)]
    limit: u32,
}

/// Lists them.
pub fn run(global: &Global, options: &Options) -> Result<Exit> {
    let mut records = match options.server.open()? {
        Some(api) => {
            let query: Vec<_> = parameter("workload", options.workload.as_ref())
                .into_iter()
                .collect();
            let data = api.newest("/drills", &query, None, options.limit)?;
            data.iter().map(read::<Body>).collect::<Result<_>>()?
        }
        None => options.config.state()?.evidence(&EvidenceFilter {
            kind: Some(Kind::Drill),
            drilled: options.workload.as_ref().map(ToString::to_string),
            limit: Some(options.limit),
            ..EvidenceFilter::default()
        })?,
    };
    records.reverse();
    output::result(global, &records, |records, out| table(records, out));
    Ok(Exit::Done)
}

fn table(records: &[Body], out: &mut String) {
    if records.is_empty() {
        out.push_str("There is no such drill.\n");
        return;
    }
    let heading = ["WHEN", "WORKLOAD", "OUTCOME", "POINT", "TOOK", "PROMISED", "WHY"]
        .map(String::from)
        .to_vec();
    let rows: Vec<_> = std::iter::once(heading)
        .chain(records.iter().map(cells))
        .collect();
    output::table(&rows, &[4, 5], out);
}

fn cells(record: &Body) -> Vec<String> {
    let when = shown::local(record.time);
    let Ok(drill) = serde_json::from_value::<DrillDetail>(record.detail.clone().into()) else {
        // The exercise of everything, for example.
        return vec![when, record.what.clone()];
    };
    let time = |span: Option<relight_model::TimeSpan>| {
        let rounded = |span: relight_model::TimeSpan| {
            relight_model::TimeSpan(std::time::Duration::from_millis(span.0.as_millis() as u64)).to_string()
        };
        span.map_or_else(|| "-".into(), rounded)
    };
    vec![
        when,
        drill.workload.to_string(),
        if drill.is_good() { "passed" } else { "FAILED" }.into(),
        drill.point.map_or_else(|| "-".into(), shown::local),
        time(drill.measured),
        time(drill.promised),
        match (&drill.code, &drill.message) {
            (Some(code), Some(message)) => format!("{code} {message}"),
            _ => drill.verdict.to_string(),
        },
    ]
}
