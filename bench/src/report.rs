//! The tables, in Markdown, so that they read well in a terminal and can be kept as they are.

use std::fmt::Write;

use relight_model::{ByteSize, TimeSpan};

use crate::aims::{self, Judged};
use crate::record::{Record, Step};
use crate::tools::ToolName;

/// The whole report.
pub fn render(record: &Record) -> String {
    let mut out = String::new();
    machine(&mut out, record);
    for (&data, prepared) in &record.data {
        let _ = writeln!(
            out,
            "\n## {}: {} in {} files, {} changed before the third backup\n",
            data.name(),
            ByteSize(prepared.bytes),
            prepared.files,
            ByteSize(prepared.changed)
        );
        let mut table = Table::new(&[
            "step",
            "tool",
            "wall",
            "MB/s",
            "CPU s",
            "CPU s/GiB",
            "peak memory",
            "repository",
            "left to sync",
            "speed : best peer",
        ]);
        for step in Step::ALL {
            let best = record.best_peer(data, step);
            for tool in ToolName::ALL {
                let Some(median) = record.median(data, step, tool) else {
                    continue;
                };
                let through_all = step.goes_through_all();
                let rate = prepared.bytes as f64 / 1e6 / median.wall;
                let cpu_gib = median.cpu / (prepared.bytes as f64 / (1 << 30) as f64);
                table.row([
                    step.name().to_owned(),
                    tool.name().to_owned(),
                    seconds(median.wall),
                    if through_all {
                        format!("{rate:.0}")
                    } else {
                        String::new()
                    },
                    format!("{:.2}", median.cpu),
                    if through_all {
                        format!("{cpu_gib:.2}")
                    } else {
                        String::new()
                    },
                    ByteSize(median.peak_rss).to_string(),
                    ByteSize(median.repository).to_string(),
                    seconds(median.sync),
                    best.map_or_else(String::new, |(_, best)| format!("{:.2}", best.wall / median.wall)),
                ]);
            }
        }
        out.push_str(&table.render());
    }
    let judged = aims::judge(record);
    if !judged.is_empty() {
        out.push_str("\n## Aims\n\n");
        out.push_str(&aims_table(&judged));
    }
    if !record.failures.is_empty() {
        out.push_str("\n## Failures\n\n");
        for failed in &record.failures {
            let step = failed.step.map_or("making the repository", Step::name);
            let _ = writeln!(
                out,
                "- {} {}, {step}: {}",
                failed.data.name(),
                failed.tool.name(),
                failed.why
            );
        }
    }
    out
}

fn machine(out: &mut String, record: &Record) {
    let _ = writeln!(out, "# Measured {}\n", record.started);
    out.push_str(&record.machine.describe());
    let _ = writeln!(
        out,
        "- scale {}, median of {} repetitions",
        record.scale, record.repetitions
    );
    for (tool, version) in &record.versions {
        let _ = writeln!(out, "- {}: {version}", tool.name());
    }
}

/// Aims and what became of them.
pub fn aims_table(judged: &[Judged]) -> String {
    let mut table = Table::new(&["aim", "measured", "verdict"]);
    for aim in judged {
        let verdict = if aim.met { "met" } else { "missed" };
        table.row([aim.what.clone(), aim.measured.clone(), verdict.to_owned()]);
    }
    table.render()
}

fn seconds(seconds: f64) -> String {
    let span = std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default();
    TimeSpan(span).to_string()
}

/// A table with columns as wide as they must be.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub fn new(headings: &[&str]) -> Self {
        Self {
            rows: vec![headings.iter().map(|&heading| heading.to_owned()).collect()],
        }
    }

    /// Adds a row of as many cells as there are headings.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    /// The table as Markdown; cells that begin with a digit are aligned to the right.
    pub fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
                .max(3)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut out = String::new();
        for (index, row) in self.rows.iter().enumerate() {
            for (cell, &width) in row.iter().zip(&widths) {
                let numeric = cell.starts_with(|c: char| c.is_ascii_digit());
                let _ = if numeric {
                    write!(out, "| {cell:>width$} ")
                } else {
                    write!(out, "| {cell:<width$} ")
                };
            }
            out.push_str("|\n");
            if index == 0 {
                for &width in &widths {
                    let _ = write!(out, "| {:-<width$} ", "");
                }
                out.push_str("|\n");
            }
        }
        out
    }
}
