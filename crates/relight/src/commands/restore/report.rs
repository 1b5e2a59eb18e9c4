//! What a restore did.

use std::time::Duration;

use relight_model::duration::TimeSpan;
use relight_model::size::{ByteSize, Rate};
use relight_pxar::fs::extract::RestoreReport;
use serde::Serialize;

use crate::exit::Exit;

/// What a restore did.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// The snapshot.
    pub snapshot: String,
    /// Where to.
    pub target: String,
    /// Regular files written.
    pub files: u64,
    /// Directories made.
    pub directories: u64,
    /// Bytes of content written, holes included.
    pub bytes: u64,
    /// Files that were complete already.
    pub complete: u64,
    /// Files left out because something exists under their name.
    pub skipped: u64,
    /// Files that took the place of something else.
    pub replaced: u64,
    /// Files under another name: the one they have in the snapshot, the new one.
    pub renamed: Vec<(String, String)>,
    /// Files read back and found as written.
    pub verified: u64,
    /// What is not restored as it was saved.
    pub problems: Vec<String>,
    /// How many such there are, also those that are not named.
    pub problem_count: u64,
    /// Seconds it took.
    pub seconds: f64,
}

impl Report {
    /// The exit code that says it.
    pub fn exit(&self) -> Exit {
        if self.problem_count == 0 {
            Exit::Done
        } else {
            Exit::Incomplete
        }
    }

    /// Adds what became of the tree of that name.
    pub fn add(&mut self, tree: &str, restored: &RestoreReport) {
        let name = |path: &[u8]| format!("{tree}/{}", String::from_utf8_lossy(path));
        self.files += restored.files;
        self.directories += restored.directories;
        self.bytes += restored.bytes;
        self.complete += restored.complete;
        self.skipped += restored.skipped;
        self.replaced += restored.replaced;
        self.verified += restored.verified;
        let renamed = restored.renamed.iter();
        self.renamed
            .extend(renamed.map(|(path, new)| (name(path), String::from_utf8_lossy(new).into_owned())));
        self.problem_count += restored.losses.total() + restored.not_found.len() as u64;
        let lost = |loss: &relight_pxar::fs::extract::Loss| {
            let detail = if loss.detail.is_empty() {
                String::new()
            } else {
                format!(" ({})", loss.detail)
            };
            format!("{}: {}{detail}", name(&loss.path), loss.kind)
        };
        self.problems.extend(restored.losses.iter().map(lost));
        self.problems.extend(
            restored
                .not_found
                .iter()
                .map(|path| format!("{}: not in the snapshot", name(path))),
        );
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
