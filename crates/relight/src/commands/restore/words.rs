//! What a restore did, in words.

use std::time::Duration;

use relight_model::duration::TimeSpan;
use relight_model::size::{ByteSize, Rate};
use relight_workloads::bring_back::Report;

use crate::exit::Exit;

/// The exit code that says it.
pub fn exit(report: &Report) -> Exit {
    if report.problem_count == 0 {
        Exit::Done
    } else {
        Exit::Incomplete
    }
}

/// For people.
pub fn words(report: &Report, out: &mut String) {
    let span = Duration::from_secs_f64(report.seconds);
    let elapsed = TimeSpan(Duration::from_millis(span.as_millis() as u64));
    let rate = Rate::of(report.bytes, span).map_or(String::new(), |rate| format!(", {rate}"));
    out.push_str(&format!(
        "Restored {} files and {} directories, {} in {elapsed}{rate}, to {}\n",
        report.files,
        report.directories,
        ByteSize(report.bytes),
        report.target
    ));
    if report.verified > 0 {
        out.push_str(&format!(
            "  {} files read back and found as they were written\n",
            report.verified
        ));
    }
    for (count, what) in [
        (report.complete, "were complete already"),
        (
            report.skipped,
            "left out because something exists under their name",
        ),
        (report.replaced, "took the place of something else"),
        (report.renamed.len() as u64, "restored under another name"),
    ] {
        if count > 0 {
            out.push_str(&format!("  {count} {what}\n"));
        }
    }
    for problem in report.problems.iter().take(50) {
        out.push_str(&format!("  not restored as it was saved: {problem}\n"));
    }
    if report.problem_count > 50 {
        out.push_str(&format!("  and {} more\n", report.problem_count - 50));
    }
}
