//! `relight postgres check`: proves the whole chain from the server's log to the repository.

use std::time::{Duration, Instant};

use clap::Args;
use jiff::Timestamp;
use relight_model::duration::TimeSpan;
use relight_postgres::Lsn;
use relight_postgres::attach::{self, Level};
use relight_postgres::protocol::{Connection, Mode, literal};
use relight_postgres::wal::store::LogStore;
use relight_postgres::wal::{SegmentName, Timeline, WalName};
use relight_repo::RepoError;
use serde::Serialize;

use super::name::ClusterName;
use super::source::SourceOptions;
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::{cancel, output};

/// Options of `check`.
#[derive(Debug, Args)]
pub struct Options {
    /// The cluster
    #[arg(value_name = "NAME")]
    name: ClusterName,
    #[command(flatten)]
    source: SourceOptions,
    /// How long to wait for the segment to arrive in the repository
    #[arg(long, value_name = "DURATION", default_value = "60s")]
    timeout: TimeSpan,
}

#[derive(Serialize)]
struct Report {
    workload: String,
    problems: Vec<String>,
    point: String,
    lsn: Lsn,
    segment: String,
    arrived: bool,
    seconds: f64,
}

/// Marks the log, has the server close the segment, and waits for it. It does not arrive: exit code 4.
pub fn run(global: &Global, options: &Options) -> Result<Exit> {
    let workload = &options.name.0;
    let settings = options.source.settings(workload)?;
    let repository = global.open()?;
    let examination = attach::examine(&settings)?;
    let problems: Vec<String> = examination
        .findings
        .iter()
        .filter(|finding| finding.level == Level::Problem)
        .map(|finding| format!("{}: {}", finding.subject, finding.found))
        .collect();
    if examination.facts.standby {
        return Err(Failure::Usage(format!(
            "{} is a standby, which writes no log of its own: check with its primary",
            examination.server
        )));
    }
    let mut connection = Connection::open(&settings, Mode::Queries)?;
    let point = format!("relight check {}", Timestamp::now());
    let lsn: Lsn = connection
        .value(&format!(
            "SELECT pg_catalog.pg_create_restore_point({})",
            literal(&point)
        ))?
        .parse()
        .map_err(|error: relight_postgres::lsn::LsnError| Failure::Damaged(error.to_string()))?;
    let timeline: u32 = connection
        .value("SELECT timeline_id FROM pg_catalog.pg_control_checkpoint()")?
        .parse()
        .map_err(|_| Failure::Damaged("the server does not say on which timeline it is".into()))?;
    connection.value("SELECT pg_catalog.pg_switch_wal()")?;
    let store = LogStore::new(repository, workload.clone(), cancel::flag());
    let began = Instant::now();
    let (segment, arrived) = loop {
        let catalog = store.catalog()?;
        // The point's record ends there: it may be the first byte of the next segment.
        let segment = SegmentName::at(
            Timeline(timeline),
            Lsn(lsn.0.saturating_sub(1)),
            catalog.segment_size(),
        );
        if catalog.files.contains_key(&WalName::Segment(segment)) {
            break (segment, true);
        }
        if began.elapsed() > options.timeout.0 {
            break (segment, false);
        }
        if cancel::flag().load(std::sync::atomic::Ordering::Relaxed) {
            return Err(RepoError::Cancelled.into());
        }
        std::thread::sleep(Duration::from_millis(500));
    };
    let report = Report {
        workload: workload.to_string(),
        problems,
        point,
        lsn,
        segment: segment.to_string(),
        arrived,
        seconds: began.elapsed().as_secs_f64(),
    };
    output::result(global, &report, words);
    Ok(if arrived && report.problems.is_empty() {
        Exit::Done
    } else {
        Exit::Damage
    })
}

fn words(report: &Report, out: &mut String) {
    for problem in &report.problems {
        out.push_str(&format!("CHANGE {problem}\n"));
    }
    if report.arrived {
        out.push_str(&format!(
            "{}: the log arrives. Segment {} with the point at {} was in the repository after {:.1} s.\n",
            report.workload, report.segment, report.lsn, report.seconds
        ));
    } else {
        out.push_str(&format!(
            "{}: segment {} did not arrive in {:.0} s. See that the receiver runs or that archive_command is set, and what \
             the server's log says about it.\n",
            report.workload, report.segment, report.seconds
        ));
    }
}
