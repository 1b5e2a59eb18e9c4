//! The plan of another host's server.

use http::Method;
use jiff::Timestamp;
use relight_model::check::{Facts, WorkloadFacts};
use relight_model::plan::{Plan, PlanErrors};
use relight_model::{ByteSize, TimeSpan, Workload};
use serde::Deserialize;
use serde_json::{Value, json};

use super::check::{ALONE, Options, counted, remark};
use crate::api::{Api, read};
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::output;

/// What the checker says of a text.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Looked {
    problems: Vec<Problem>,
    findings: Vec<Finding>,
    total_findings: usize,
    /// What another text changes; not of the one that is there.
    #[serde(default)]
    difference: Vec<Line>,
}

#[derive(Deserialize)]
struct Problem {
    line: usize,
    column: usize,
    message: String,
}

#[derive(Deserialize)]
struct Finding {
    code: String,
    severity: String,
    line: usize,
    column: usize,
    subject: String,
    reason: String,
    fix: String,
}

#[derive(Deserialize)]
struct Line {
    sign: String,
    line: usize,
    text: String,
}

#[derive(Deserialize)]
struct Page {
    lines: Vec<String>,
    digest: String,
}

/// So often it is read again when somebody writes it meanwhile.
const TRIES: usize = 5;

/// All of its text, without what is secret in it, and its digest.
pub fn text(api: &Api) -> Result<(String, String)> {
    for _ in 0..TRIES {
        if let Some(found) = pages(api)? {
            return Ok(found);
        }
    }
    Err(Failure::Usage("the plan changes all the time: try again".into()))
}

/// The same. None: it was changed between two pages.
fn pages(api: &Api) -> Result<Option<(String, String)>> {
    let (mut text, mut digest, mut from) = (String::new(), None, 1);
    loop {
        let query = [("from-line", from.to_string())];
        let mut whole = api.whole(api.call(Method::GET, "/plan", &query, None)?)?;
        let page: Page = read(&whole["data"].take())?;
        if digest.get_or_insert_with(|| page.digest.clone()) != &page.digest {
            return Ok(None);
        }
        for line in page.lines {
            text.push_str(&line);
            text.push('\n');
        }
        match whole["next"].as_u64() {
            Some(next) if next > from => from = next,
            _ => return Ok(Some((text, digest.unwrap_or_default()))),
        }
    }
}

/// The plan that it has.
pub fn plan(api: &Api) -> Result<Plan> {
    let (text, _) = text(api)?;
    Plan::parse(&text).map_err(|PlanErrors(problems)| {
        let lines: Vec<String> = problems
            .iter()
            .map(|problem| format!("plan:{}: {}", problem.at, problem.message))
            .collect();
        Failure::Usage(format!("the plan cannot be read:\n{}", lines.join("\n")))
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Measured {
    workload: Workload,
    size: Option<u64>,
    backup_takes: Option<TimeSpan>,
}

/// What it has measured, by which runs are foreseen.
pub fn facts(api: &Api, now: Timestamp) -> Result<Facts> {
    let mut facts = Facts::at(now);
    for value in api.all("/plan/measured", &[])? {
        let known: Measured = read(&value)?;
        let of = WorkloadFacts {
            size: known.size.map(ByteSize),
            backup_time: known.backup_takes,
            ..WorkloadFacts::default()
        };
        facts.workloads.insert(known.workload, of);
    }
    Ok(facts)
}

/// Has a text looked at. Nothing is changed.
pub fn look(api: &Api, text: &str) -> Result<Value> {
    api.ask(Method::POST, "/plan/check", Some(&json!({"text": text})))
}

pub(super) fn check(global: &Global, options: &Options, api: &Api) -> Result<Exit> {
    let data = match &options.file {
        Some(path) => {
            let text = std::fs::read_to_string(path);
            look(
                api,
                &text.map_err(Failure::io(format!("read {}", path.display())))?,
            )?
        }
        None => api.get("/plan", &[])?,
    };
    let looked: Looked = read(&data)?;
    let beside = api.whole(api.call(Method::GET, "/approvals", &[("limit", "1".into())], None)?)?;
    let alone = beside["required"].as_array().is_some_and(Vec::is_empty);
    output::result(global, &data, |_, out| {
        words(&looked, out);
        let lines = &looked.difference;
        if !lines.is_empty() {
            out.push_str(&format!(
                "What it would change: {}.\n",
                counted(lines.len(), "line")
            ));
            difference(&looked, out);
        }
        if alone {
            out.push_str(&format!("({ALONE})\n"));
        }
    });
    let count = |severity: &str| {
        looked
            .findings
            .iter()
            .filter(|one| one.severity == severity)
            .count()
    };
    let broken = count("error") > 0 || options.strict && count("warning") > 0;
    Ok(match (looked.is_readable(), broken) {
        (false, _) => Exit::Failed,
        (true, true) => Exit::Damage,
        (true, false) => Exit::Done,
    })
}

impl Looked {
    /// Whether the server takes it as a plan.
    pub fn is_readable(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Its lines that go and come.
pub fn difference(looked: &Looked, out: &mut String) {
    for Line { sign, line, text } in &looked.difference {
        out.push_str(&format!("{sign} {line:>4}: {text}\n"));
    }
}

/// Problems and remarks.
pub fn words(looked: &Looked, out: &mut String) {
    let mut say = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    for Problem {
        line,
        column,
        message,
    } in &looked.problems
    {
        say(format!("plan:{line}:{column}: error: {message}"));
    }
    if !looked.is_readable() {
        let count = counted(looked.problems.len(), "error");
        return say(format!("The plan cannot be read: {count}."));
    }
    for one in &looked.findings {
        let place = format!("plan:{}:{}", one.line, one.column);
        say(remark(
            &place,
            &one.severity,
            &one.code,
            &one.subject,
            &one.reason,
            &one.fix,
        ));
    }
    let (shown, all) = (looked.findings.len(), looked.total_findings);
    say(match all {
        0 => "Nothing is wrong with the plan.".into(),
        _ if shown < all => format!("{}; the worst {shown} are shown.", counted(all, "remark")),
        _ => format!("{}.", counted(all, "remark")),
    });
}
