//! `relight report`: what the evidence proves.

mod over_api;

use std::ffi::OsString;
use std::fs;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use relight_server::config::Config;
use relight_server::evidence::Head;
use relight_server::report::{Collector, ControlVerdict, Report, Subject, html, oscal, pdf, standing};
use relight_server::state::State;
use serde::Serialize;

use super::plan;
use super::plan::words::Moment;
use crate::api::ApiOptions;
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::output;
use crate::server_state::{ConfigOptions, record};

/// Which report.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Hold the evidence of a period against the plan and the controls of CIS v8, NIST SP 800-53 and 800-171 and ISO 27001
    Compliance(Options),
}

/// Options of `report compliance`.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    config: ConfigOptions,
    #[command(flatten)]
    server: ApiOptions,
    /// First day of the period, such as 2026-01-01, or a time
    #[arg(long, value_name = "DATE")]
    from: Edge,
    /// Its last day, or a time when it ends [default: now]
    #[arg(long, value_name = "DATE")]
    to: Option<Edge>,
    /// What to write. May be given several times if a folder is named with -o
    #[arg(long, value_name = "FORMAT", value_enum)]
    format: Vec<Format>,
    /// The file to write, or a folder for files named by the period [default: standard output]
    #[arg(long, short = 'o', value_name = "FILE|DIR")]
    output: Option<PathBuf>,
    /// End with exit code 4 too if a control is not proven
    #[arg(long)]
    strict: bool,
    /// A head of the evidence that was noted earlier, NUMBER:HASH; see `relight evidence verify`. May be given several times
    #[arg(long, value_name = "HEAD")]
    noted: Vec<Head>,
}

/// How a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One page that needs nothing else
    Html,
    /// For paper and archives, with the JSON attached
    Pdf,
    /// All of it, for programs
    Json,
    /// OSCAL assessment results, as JSON
    Oscal,
}

impl Format {
    const fn ending(self) -> &'static str {
        match self {
            Self::Html => "html",
            Self::Pdf => "pdf",
            Self::Json => "json",
            Self::Oscal => "oscal.json",
        }
    }
}

/// A day, or a time.
#[derive(Debug, Clone, Copy)]
enum Edge {
    Day(Date),
    Time(Moment),
}

impl FromStr for Edge {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<Date>() {
            Ok(day) if !text.contains(['T', ' ', ':']) => Ok(Self::Day(day)),
            _ => text.parse().map(Self::Time),
        }
    }
}

impl Edge {
    fn at(self, zone: &TimeZone, ends: bool) -> Result<Timestamp> {
        let words = |error: jiff::Error| Failure::Usage(error.to_string());
        match self {
            Self::Time(moment) => moment.at(zone).map_err(Failure::Usage),
            Self::Day(day) => {
                let day = if ends { day.tomorrow().map_err(words)? } else { day };
                Ok(day.to_zoned(zone.clone()).map_err(words)?.timestamp())
            }
        }
    }
}

/// Makes one.
pub fn run(global: &Global, command: &Command) -> Result<Exit> {
    match command {
        Command::Compliance(options) => compliance(global, options),
    }
}

fn compliance(global: &Global, options: &Options) -> Result<Exit> {
    if options.format.len() > 1 && !options.output.as_deref().is_some_and(Path::is_dir) {
        return Err(Failure::Usage(
            "several formats need a folder: name one that is there with -o".into(),
        ));
    }
    if let Some(api) = options.server.open()? {
        return over_api::compliance(global, options, &api);
    }
    let text = plan::read(&options.config)?;
    let plan = plan::parse(&options.config, &text)?;
    let config = Config::parse(options.config.path(), &text)?;
    let now = Timestamp::now();
    let from = options.from.at(&plan.time_zone, false)?;
    let to = options.to.map_or(Ok(now), |to| to.at(&plan.time_zone, true))?;
    if from >= to || from > now {
        return Err(Failure::Usage(
            "the period ends before it begins, or begins in the future".into(),
        ));
    }
    let state = State::open(&config.server.state)?;
    let signer = state.signer()?;
    let subject = Subject::new(signer.server(), signer.public_key(), &text, (from, to), now);
    let mut collector = Collector::new(&plan, subject);
    let verified = state.read_evidence(options.noted.clone(), |body| collector.take(body))?;
    let report = collector.finish(verified, standing(&config.repositories));
    if let Err(error) = record(&state, format!("report compliance from {from} to {to}")) {
        output::remark(
            global,
            &format!("that the report was made could not be recorded: {error}"),
        );
    }
    let files = write(options, &report)?;
    match (files.is_empty(), options.format.is_empty()) {
        (true, false) => {}
        (true, true) if global.json => output::result(global, &report, |_, _| ()),
        _ => {
            let shown = Shown {
                files,
                controls: report.controls.iter().map(Line::of).collect(),
            };
            output::result(global, &shown, |shown, out| words(shown, &report, out));
        }
    }
    let broken = report.chain.verified.broken.is_some() || report.count(ControlVerdict::Contradicted) > 0;
    let unproven = report.count(ControlVerdict::Satisfied) < report.controls.len();
    Ok(match broken || options.strict && unproven {
        true => Exit::Damage,
        false => Exit::Done,
    })
}

#[derive(Serialize)]
struct Shown<'r> {
    files: Vec<PathBuf>,
    controls: Vec<Line<'r>>,
}

#[derive(Serialize)]
struct Line<'r> {
    framework: &'static str,
    id: &'r str,
    verdict: ControlVerdict,
    reason: &'r str,
}

impl<'r> Line<'r> {
    fn of(control: &'r relight_server::report::Control) -> Self {
        Self {
            framework: control.framework.title(),
            id: control.id,
            verdict: control.verdict,
            reason: &control.reason,
        }
    }
}

fn words(shown: &Shown<'_>, report: &Report, out: &mut String) {
    let heading = ["FRAMEWORK", "CONTROL", "VERDICT"].map(String::from).to_vec();
    let rows = shown.controls.iter().map(|line| {
        vec![
            line.framework.to_owned(),
            line.id.to_owned(),
            line.verdict.name().to_owned(),
        ]
    });
    let rows: Vec<Vec<String>> = std::iter::once(heading).chain(rows).collect();
    output::table(&rows, &[], out);
    for claim in &report.claims {
        out.push_str(&format!("{}: {}\n", claim.id, claim.reason));
    }
    for remark in &report.remarks {
        out.push_str(&format!("({remark})\n"));
    }
    for file in &shown.files {
        out.push_str(&format!("Wrote {}.\n", file.display()));
    }
}

/// Writes what was asked for; the files that were written.
fn write(options: &Options, report: &Report) -> Result<Vec<PathBuf>> {
    let Some(output) = &options.output else {
        let Some(format) = options.format.first() else {
            return Ok(Vec::new());
        };
        let mut out = std::io::stdout().lock();
        if *format == Format::Pdf && out.is_terminal() {
            return Err(Failure::Usage(
                "a PDF is nothing for a terminal: name a file with -o".into(),
            ));
        }
        // A reader that went away (`| head`) is no reason to complain.
        let _ = out.write_all(&rendered(*format, report)?);
        return Ok(Vec::new());
    };
    let formats = match options.format.as_slice() {
        [] => &[Format::Html],
        formats => formats,
    };
    let mut files = Vec::new();
    for format in formats {
        let path = match output.is_dir() {
            true => output.join(name(report, *format)),
            false => output.clone(),
        };
        replace(&path, &rendered(*format, report)?)?;
        files.push(path);
    }
    Ok(files)
}

/// `compliance-2026-01-01-2026-12-31.html`
fn name(report: &Report, format: Format) -> String {
    let zone = TimeZone::get(&report.period.time_zone).unwrap_or(TimeZone::UTC);
    let day = |time: Timestamp| zone.to_datetime(time).date();
    // The end is no part of the period.
    let last = report.period.to.checked_sub(jiff::SignedDuration::from_nanos(1));
    let last = last.unwrap_or(report.period.to);
    format!(
        "compliance-{}-{}.{}",
        day(report.period.from),
        day(last),
        format.ending()
    )
}

/// A file is there whole or as it was before.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut beside = path
        .file_name()
        .map(OsString::from)
        .ok_or_else(|| Failure::Usage(format!("{} is no name of a file", path.display())))?;
    beside.push(format!(".{}.new", std::process::id()));
    let beside = path.with_file_name(beside);
    let written = fs::File::create(&beside).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    });
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written.map_err(Failure::io(format!("write {}", path.display())))
}

fn rendered(format: Format, report: &Report) -> Result<Vec<u8>> {
    let failed = |error: String| Failure::Usage(format!("the report cannot be written: {error}"));
    match format {
        Format::Html => {
            let mut text = String::new();
            html::write(report, &mut text).map_err(|error| failed(error.to_string()))?;
            Ok(text.into_bytes())
        }
        Format::Pdf => pdf::write(report).map_err(|error| failed(error.to_string())),
        Format::Json => json(report),
        Format::Oscal => json(&oscal::document(report)),
    }
}

fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    let failed = |error: serde_json::Error| Failure::Usage(format!("the report cannot be written: {error}"));
    let mut json = serde_json::to_vec_pretty(value).map_err(failed)?;
    json.push(b'\n');
    Ok(json)
}
