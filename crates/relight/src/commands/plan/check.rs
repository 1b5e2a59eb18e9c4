//! `relight plan check`: what is wrong with the plan.

use std::fmt::Display;
use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use relight_model::check::{self, Facts, Finding, Severity};
use relight_model::plan::{Plan, PlanErrors, Problem};
use relight_server::config::Config;
use relight_server::state::State;
use relight_server::{kinds, runs};
use serde::Serialize;

use super::{over_api, place, read};
use crate::api::ApiOptions;
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::Result;
use crate::output;
use crate::server_state::ConfigOptions;

/// Options of `plan check`.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    config: ConfigOptions,
    #[command(flatten)]
    server: ApiOptions,
    /// Of another host's server: not the plan that it has, but this file, as if it were put in its place
    #[arg(long, value_name = "FILE", requires = "server")]
    pub file: Option<PathBuf>,
    /// Warnings make the command end with exit code 4 too
    #[arg(long)]
    pub strict: bool,
}

/// What is judged without, where nothing has run yet.
const NOT_MEASURED: &str = "no measured times yet: how long runs and restores take was not judged";
/// What is no fault, and has to be known.
pub const ALONE: &str = "nothing needs a second person here: whoever may can delete recovery points and shorten their retention alone; \
                     [approvals] changes that (docs/access.md)";
/// Code of workloads that the server cannot capture as the plan says.
const CAPTURE: &str = "RL125";

#[derive(Serialize)]
struct Report {
    file: String,
    /// Whether it can be read as a plan.
    readable: bool,
    /// Why not, by place.
    problems: Vec<Problem>,
    /// Why the server refuses it, though it can be read as a plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
    workloads: usize,
    policies: usize,
    findings: Vec<Finding>,
    /// Workloads that the server cannot capture as the plan says (RL125), by place.
    capture: Vec<Problem>,
    errors: usize,
    warnings: usize,
    advice: usize,
    /// How many workloads have measured times.
    measured: usize,
    remarks: Vec<&'static str>,
}

/// Checks it.
pub fn run(global: &Global, options: &Options) -> Result<Exit> {
    if let Some(api) = options.server.open()? {
        return over_api::check(global, options, &api);
    }
    let text = read(&options.config)?;
    let mut report = Report {
        file: options.config.path().display().to_string(),
        readable: true,
        problems: Vec::new(),
        refused: None,
        workloads: 0,
        policies: 0,
        findings: Vec::new(),
        capture: Vec::new(),
        errors: 0,
        warnings: 0,
        advice: 0,
        measured: 0,
        remarks: Vec::new(),
    };
    match Plan::parse(&text) {
        Ok(plan) => {
            // Words of the server are its own to judge.
            let server = Config::parse(options.config.path(), &text);
            let now = Timestamp::now();
            let facts = match &server {
                Ok(server) => facts(server, &plan, now)?,
                Err(_) => Facts::at(now),
            };
            if server
                .as_ref()
                .is_ok_and(|server| server.approvals.required.is_empty())
            {
                report.remarks.push(ALONE);
            }
            report.refused = server.err().map(|error| error.to_string());
            report.measured = facts.workloads.len();
            report.workloads = plan.workloads.len();
            report.policies = plan.policies.len();
            report.findings = check::check(&plan, &facts);
            report.capture = kinds::problems(&plan)
                .into_iter()
                .map(|(at, message)| Problem { at, message })
                .collect();
            if report.measured == 0 {
                report.remarks.push(NOT_MEASURED);
            }
        }
        Err(PlanErrors(problems)) => {
            report.readable = false;
            report.problems = problems;
        }
    }
    let count = |severity| {
        let of = |finding: &&Finding| finding.severity == severity;
        report.findings.iter().filter(of).count()
    };
    (report.errors, report.warnings, report.advice) = (
        count(Severity::Error),
        count(Severity::Warning) + report.capture.len(),
        count(Severity::Advice),
    );
    let unreadable = !report.readable || report.refused.is_some();
    let broken = report.errors > 0 || options.strict && report.warnings > 0;
    output::result(global, &report, |report, out| words(options, report, out));
    Ok(match (unreadable, broken) {
        (true, _) => Exit::Failed,
        (false, true) => Exit::Damage,
        (false, false) => Exit::Done,
    })
}

/// What the server has measured, if it has ever run. Nothing is made or changed.
pub fn facts(config: &Config, plan: &Plan, now: Timestamp) -> Result<Facts> {
    if !State::is_there(&config.server.state) {
        return Ok(Facts::at(now));
    }
    Ok(runs::facts(&State::open(&config.server.state)?, plan, now)?)
}

/// A remark of the checker.
pub fn remark(
    place: &str,
    severity: &impl Display,
    code: &impl Display,
    subject: &str,
    reason: &str,
    fix: &str,
) -> String {
    format!("{place}: {severity} {code}: {subject}: {reason}\n    fix: {fix}")
}

fn words(options: &Options, report: &Report, out: &mut String) {
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    for Problem { at, message } in &report.problems {
        line(format!("{}: error: {message}", place(&options.config, *at)));
    }
    if !report.readable {
        let count = counted(report.problems.len(), "error");
        line(format!("The plan cannot be read: {count}."));
        return;
    }
    for finding in &report.findings {
        let Finding {
            code,
            severity,
            at,
            subject,
            reason,
            fix,
        } = finding;
        let place = place(&options.config, *at);
        line(remark(&place, severity, code, subject, reason, fix));
    }
    for Problem { at, message } in &report.capture {
        line(format!(
            "{}: warning {CAPTURE}: {message}",
            place(&options.config, *at)
        ));
    }
    if let Some(why) = &report.refused {
        line(format!("The server refuses this file: {why}"));
    }
    let of = format!(
        "{} under {}",
        counted(report.workloads, "workload"),
        if report.policies == 1 {
            "1 policy".into()
        } else {
            format!("{} policies", report.policies)
        }
    );
    line(match (report.errors, report.warnings, report.advice) {
        (0, 0, 0) if report.workloads == 0 => "There is no plan in this file: it names no workload.".into(),
        (0, 0, 0) => format!("Nothing is wrong with the plan: {of}."),
        (errors, warnings, advice) => format!(
            "{of}: {}, {}, {advice} advice.",
            counted(errors, "error"),
            counted(warnings, "warning")
        ),
    });
    for remark in &report.remarks {
        line(format!("({remark})"));
    }
}

pub fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}
