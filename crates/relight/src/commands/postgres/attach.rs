//! `relight postgres attach`: looks whether a cluster can be protected, and writes down how it is reached.

use std::fs::OpenOptions;
use std::io::Write;

use clap::Args;
use relight_model::size::ByteSize;
use relight_postgres::Settings;
use relight_postgres::attach::{self, Examination, Level};
use serde::Serialize;

use super::name::ClusterName;
use super::source::SourceOptions;
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::output;

/// Options of `attach`.
#[derive(Debug, Args)]
pub struct Options {
    /// The cluster: `main` becomes the workload pg/main
    #[arg(value_name = "NAME")]
    name: ClusterName,
    #[command(flatten)]
    source: SourceOptions,
    /// Add it to the plan in the configuration, under this policy
    #[arg(long, value_name = "POLICY")]
    policy: Option<String>,
}

#[derive(Serialize)]
struct Report {
    workload: String,
    ready: bool,
    #[serde(flatten)]
    examination: Examination,
    /// Lines for the plan.
    plan: String,
    /// The file that they were added to.
    added_to: Option<String>,
}

/// Looks. Something has to be changed first: exit code 4, and nothing is written.
pub fn run(global: &Global, options: &Options) -> Result<Exit> {
    let workload = &options.name.0;
    let source = options.source.source(workload)?;
    let settings = Settings::new(&source.url)?;
    let examination = attach::examine(&settings)?;
    let ready = examination.level() < Level::Problem;
    let policy = options.policy.as_deref().unwrap_or("POLICY");
    let plan = format!(
        "[[workload]]\nname = {}\npolicy = {}\nmethod = \"base-backup\"\nsize = {}\nsource = {{ url = {} }}\n",
        toml(workload.as_str()),
        toml(policy),
        toml(&size(examination.facts.bytes)),
        toml(&source.url),
    );
    let mut added_to = None;
    if ready && options.policy.is_some() {
        if options.source.planned(workload)?.is_some() {
            return Err(Failure::Usage(format!(
                "the plan in {} says already how {workload} is read: change it there",
                options.source.config.path().display()
            )));
        }
        let path = options.source.config.path();
        add(path, &plan)?;
        added_to = Some(path.display().to_string());
    }
    let report = Report {
        workload: workload.to_string(),
        ready,
        examination,
        plan,
        added_to,
    };
    output::result(global, &report, words);
    Ok(if ready { Exit::Done } else { Exit::Damage })
}

/// Adds lines to the plan, if it can be read with them.
fn add(path: &std::path::Path, lines: &str) -> Result<()> {
    let before = std::fs::read_to_string(path).map_err(Failure::io(format!("read {}", path.display())))?;
    let after = format!("{before}\n{lines}");
    relight_model::plan::Plan::parse(&after).map_err(|error| {
        Failure::Usage(format!(
            "the plan would not be in order, nothing was changed: {error}"
        ))
    })?;
    let mut file = OpenOptions::new()
        .append(true)
        .open(path)
        .map_err(Failure::io(format!("open {}", path.display())))?;
    file.write_all(format!("\n{lines}").as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(Failure::io(format!("write {}", path.display())))
}

fn size(bytes: u64) -> String {
    format!("{}MiB", (bytes >> 20).max(1))
}

fn toml(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{escaped}\"")
}

fn words(report: &Report, out: &mut String) {
    let facts = &report.examination.facts;
    out.push_str(&format!(
        "{} at {}: {} in databases\n",
        report.workload,
        report.examination.server,
        ByteSize(facts.bytes)
    ));
    for finding in &report.examination.findings {
        let mark = match finding.level {
            Level::Good => "  ok     ",
            Level::Advice => "  advice ",
            Level::Problem => "  CHANGE ",
        };
        out.push_str(&format!("{mark} {}: {}\n", finding.subject, finding.found));
        if let Some(change) = &finding.change {
            out.push_str(&format!("           {change}\n"));
        }
    }
    match (&report.added_to, report.ready) {
        (Some(path), _) => out.push_str(&format!("Added to the plan in {path}.\n")),
        (None, true) => out.push_str(&format!(
            "It can be protected. For the plan (or run this again with --policy):\n\n{}",
            report.plan
        )),
        (None, false) => out.push_str("It cannot be protected before what is marked CHANGE is changed.\n"),
    }
}
