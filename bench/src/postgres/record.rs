//! What the benchmark leaves behind, its tables, and the aims held against it.

use std::collections::BTreeMap;
use std::fmt::Write;

use clap::ValueEnum;
use relight_model::ByteSize;
use serde::{Deserialize, Serialize};

use super::Piece;
use super::tools::ToolName;
use crate::aims::Judged;
use crate::machine::Machine;
use crate::report::{Table, aims_table};

/// What a tool took for a step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measure {
    pub piece: Piece,
    pub step: String,
    pub tool: String,
    /// From start to end.
    pub seconds: f64,
    /// Processor seconds of the tool and its children; 0 where the server runs it.
    pub cpu: f64,
    /// The largest resident set of any of its processes, in bytes.
    pub peak: u64,
    /// Bytes that the rate is over.
    pub bytes: u64,
    /// Bytes by which the repository grew.
    pub added: u64,
}

/// Everything about a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PostgresRecord {
    /// When the cluster was made, RFC 3339.
    pub started: String,
    /// What it ran on.
    pub machine: Machine,
    /// Versions of all programs.
    pub versions: BTreeMap<String, String>,
    /// Bytes of the cluster.
    pub cluster_bytes: u64,
    /// Bytes of the log that was archived and replayed.
    pub wal_bytes: u64,
    /// What was measured.
    pub measures: Vec<Measure>,
    /// What went wrong.
    pub failures: BTreeMap<String, String>,
}

const RELIGHT: &str = "relight";

/// Whether the aims are held against it: it compresses as Relight does.
fn is_peer(tool: &str) -> bool {
    [ToolName::PgBackRest.name(), ToolName::Barman.name()].contains(&tool)
}

impl PostgresRecord {
    fn of<'a>(&'a self, piece: Piece, step: &'a str) -> impl Iterator<Item = &'a Measure> {
        self.measures
            .iter()
            .filter(move |measure| measure.piece == piece && measure.step == step)
    }

    /// How many times better Relight is than the best peer, by a figure of which less is better.
    fn ratio(&self, piece: Piece, step: &str, figure: impl Fn(&Measure) -> f64) -> Option<(f64, String)> {
        let own = self.of(piece, step).find(|measure| measure.tool == RELIGHT)?;
        let best = self
            .of(piece, step)
            .filter(|measure| is_peer(&measure.tool))
            .min_by(|a, b| figure(a).total_cmp(&figure(b)))?;
        Some((figure(best) / figure(own), best.tool.clone()))
    }

    /// Steps of a piece in the order in which they were taken.
    fn steps(&self, piece: Piece) -> Vec<&str> {
        let mut steps: Vec<&str> = Vec::new();
        for measure in self.measures.iter().filter(|measure| measure.piece == piece) {
            if !steps.contains(&measure.step.as_str()) {
                steps.push(&measure.step);
            }
        }
        steps
    }

    /// Bytes of a tool's repository after all backups.
    fn repository(&self, tool: &str) -> Option<u64> {
        let backups: Vec<u64> = self
            .measures
            .iter()
            .filter(|measure| measure.tool == tool && matches!(measure.piece, Piece::First | Piece::Changed))
            .map(|measure| measure.added)
            .collect();
        (backups.len() == 5).then(|| backups.iter().sum())
    }

    /// The whole report.
    pub fn render(&self) -> String {
        let mut out = format!("# Measured {}\n\n{}", self.started, self.machine.describe());
        for (name, version) in &self.versions {
            let _ = writeln!(out, "- {name}: {version}");
        }
        let (cluster, log) = (ByteSize(self.cluster_bytes), ByteSize(self.wal_bytes));
        let _ = writeln!(out, "- cluster: {cluster}; log: {log}\n");
        let mut table = Table::new(&[
            "step",
            "tool",
            "wall",
            "MB/s",
            "CPU s",
            "peak memory",
            "repository grew by",
            "best peer : it",
        ]);
        for piece in Piece::value_variants() {
            for step in self.steps(*piece) {
                self.rows(*piece, step, &mut table);
            }
        }
        out.push_str(&table.render());
        let judged = self.judge();
        if !judged.is_empty() {
            let _ = writeln!(out, "\n## Aims\n\n{}", aims_table(&judged));
        }
        for (what, why) in &self.failures {
            let _ = writeln!(out, "- failed: {what}: {why}");
        }
        out
    }

    fn rows(&self, piece: Piece, step: &str, table: &mut Table) {
        let best = self
            .of(piece, step)
            .filter(|measure| is_peer(&measure.tool))
            .map(|measure| measure.seconds)
            .min_by(f64::total_cmp);
        let order = |measure: &&Measure| {
            ToolName::ALL
                .iter()
                .position(|tool| tool.name() == measure.tool)
                .unwrap_or(usize::MAX)
        };
        let mut measures: Vec<&Measure> = self.of(piece, step).collect();
        measures.sort_by_key(order);
        for measure in measures {
            let shown = |there: bool, text: String| if there { text } else { String::new() };
            table.row([
                step.to_owned(),
                measure.tool.clone(),
                format!("{:.2} s", measure.seconds),
                format!("{:.0}", measure.bytes as f64 / 1e6 / measure.seconds),
                shown(measure.cpu > 0.0, format!("{:.1}", measure.cpu)),
                shown(measure.peak > 0, ByteSize(measure.peak).to_string()),
                shown(measure.added > 0, ByteSize(measure.added).to_string()),
                best.map_or_else(String::new, |best| format!("{:.2}", best / measure.seconds)),
            ]);
        }
    }

    fn judge(&self) -> Vec<Judged> {
        let mut judged = Vec::new();
        let mut against = |what: String, least: f64, ratio: Option<(f64, String)>| {
            if let Some((ratio, peer)) = ratio {
                judged.push(Judged {
                    what: format!("{what}: at least {least} times the best"),
                    measured: format!("{ratio:.2} times {peer}"),
                    met: ratio >= least,
                });
            }
        };
        let seconds = |measure: &Measure| measure.seconds;
        let added = |measure: &Measure| measure.added as f64;
        against(
            "first backup".to_owned(),
            1.5,
            self.ratio(Piece::First, "first backup", seconds),
        );
        for step in self.steps(Piece::Changed) {
            let ratio = self.ratio(Piece::Changed, step, seconds);
            against(format!("backup after {step}"), 2.0, ratio);
            let ratio = self.ratio(Piece::Changed, step, added);
            against(format!("its space, {step}"), 2.0, ratio);
        }
        let peers = ToolName::ALL.iter().filter(|tool| is_peer(tool.name()));
        let best = peers
            .filter_map(|tool| Some((self.repository(tool.name())?, tool.name())))
            .min();
        if let (Some(own), Some((best, peer))) = (self.repository(RELIGHT), best) {
            let ratio = best as f64 / own as f64;
            let what = format!(
                "space of five backups ({}, {peer} {})",
                ByteSize(own),
                ByteSize(best)
            );
            against(what, 2.0, Some((ratio, peer.to_owned())));
        }
        against(
            "restore".to_owned(),
            1.5,
            self.ratio(Piece::Restore, "restore", seconds),
        );
        let replay = |tool: &str| {
            let of = |measure: &&Measure| measure.tool == tool;
            self.of(Piece::Recover, "of it replay")
                .find(of)
                .map(|measure| measure.seconds)
        };
        if let (Some(own), Some(bound)) = (replay(RELIGHT), replay("cp")) {
            judged.push(Judged {
                what: "fetching the log is not the limit of replay".to_owned(),
                measured: format!("{:.2} of the time with a log that is only copied", own / bound),
                met: own <= bound * 1.05,
            });
        }
        judged
    }
}
