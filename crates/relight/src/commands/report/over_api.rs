//! `relight report compliance` of another host's server.

use std::io::{IsTerminal, Write};

use http::Method;
use serde::Deserialize;

use super::{Edge, Format, Options};
use crate::api::{Api, read};
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::output;

#[derive(Deserialize)]
struct Summary {
    whole: bool,
    controls: Vec<Control>,
    claims: Vec<Claim>,
    remarks: Vec<String>,
}

#[derive(Deserialize)]
struct Control {
    framework: String,
    id: String,
    verdict: String,
}

#[derive(Deserialize)]
struct Claim {
    id: String,
    reason: String,
}

fn day(edge: Edge) -> Result<String> {
    match edge {
        Edge::Day(day) => Ok(day.to_string()),
        Edge::Time(_) => Err(Failure::Usage(
            "from another host a period is of whole days: write them as 2026-01-31".into(),
        )),
    }
}

const fn name(format: Format) -> &'static str {
    match format {
        Format::Html => "html",
        Format::Pdf => "pdf",
        Format::Json => "json",
        Format::Oscal => "oscal",
    }
}

pub(super) fn compliance(global: &Global, options: &Options, api: &Api) -> Result<Exit> {
    if !options.noted.is_empty() {
        return Err(Failure::Usage(
            "--noted is for the server's own host; `relight evidence verify` on an export does the same"
                .into(),
        ));
    }
    let mut period = vec![("from", day(options.from)?)];
    if let Some(to) = options.to {
        period.push(("to", day(to)?));
    }
    let download = |format: Format| {
        let mut query = period.clone();
        query.push(("format", name(format).to_string()));
        api.call(Method::GET, "/reports/compliance/download", &query, None)
    };
    match (&options.output, options.format.as_slice()) {
        (Some(to), formats) => {
            let formats = if formats.is_empty() {
                &[Format::Html]
            } else {
                formats
            };
            for format in formats {
                let path = api.save(download(*format)?, to)?;
                output::remark(global, &format!("wrote {}", path.display()));
            }
        }
        (None, [format, ..]) => {
            let mut out = std::io::stdout().lock();
            if *format == Format::Pdf && out.is_terminal() {
                return Err(Failure::Usage(
                    "a PDF is nothing for a terminal: name a file with -o".into(),
                ));
            }
            api.copy(&mut download(*format)?, &mut out)?;
            let _ = out.flush();
            return Ok(Exit::Done);
        }
        (None, []) => {}
    }
    let data = api.get("/reports/compliance", &period)?;
    let summary: Summary = read(&data)?;
    output::result(global, &data, |_, out| words(&summary, out));
    let is = |verdict: &str| {
        summary
            .controls
            .iter()
            .filter(|control| control.verdict == verdict)
            .count()
    };
    use relight_server::report::ControlVerdict as Verdict;
    let broken = !summary.whole || is(Verdict::Contradicted.name()) > 0;
    let unproven = is(Verdict::Satisfied.name()) < summary.controls.len();
    Ok(match broken || options.strict && unproven {
        true => Exit::Damage,
        false => Exit::Done,
    })
}

fn words(summary: &Summary, out: &mut String) {
    let heading = ["FRAMEWORK", "CONTROL", "VERDICT"].map(String::from).to_vec();
    let rows = summary.controls.iter().map(|control| {
        vec![
            control.framework.clone(),
            control.id.clone(),
            control.verdict.clone(),
        ]
    });
    let rows: Vec<Vec<String>> = std::iter::once(heading).chain(rows).collect();
    output::table(&rows, &[], out);
    for claim in &summary.claims {
        out.push_str(&format!("{}: {}\n", claim.id, claim.reason));
    }
    for remark in &summary.remarks {
        out.push_str(&format!("({remark})\n"));
    }
}
