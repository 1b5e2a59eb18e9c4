//! The report as headings, paragraphs and tables, for whatever prints it.

mod deeds;
mod estate;
mod evidence;
mod times;

use deeds::{activity, reading};
use estate::{exercise, gaps, repositories, unprotected, workloads};
use evidence::{claims, controls, summary};
use times::Times;

use super::Report;

/// How something is to be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Good,
    Partly,
    Bad,
    Quiet,
}

/// A piece of text.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    pub text: String,
    pub tone: Tone,
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        let tone = Tone::Plain;
        Self { text, tone }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

fn toned(text: impl Into<String>, tone: Tone) -> Cell {
    let text = text.into();
    Cell { text, tone }
}

/// What a section consists of.
#[derive(Debug, Clone)]
pub(super) enum Block {
    Heading(String),
    Paragraph(Cell),
    Facts(Vec<(&'static str, Cell)>),
    Table {
        heading: Vec<&'static str>,
        /// How wide the columns are beside each other.
        widths: Vec<u8>,
        rows: Vec<Vec<Cell>>,
    },
}

#[derive(Debug, Clone)]
pub(super) struct Section {
    pub title: &'static str,
    pub blocks: Vec<Block>,
}

#[derive(Debug, Clone)]
pub(super) struct Document {
    pub title: String,
    pub subtitle: String,
    /// On each page: what the report rests on.
    pub footer: String,
    pub sections: Vec<Section>,
}

/// The report, in the time zone of its plan.
pub(super) fn document(report: &Report) -> Document {
    let times = Times::of(report);
    let head = match (&report.chain.verified.broken, &report.chain.verified.head) {
        (Some(broken), _) => format!("EVIDENCE NOT WHOLE from record {}", broken.sequence),
        (None, Some(head)) => format!("Evidence {head}"),
        (None, None) => "No evidence".to_owned(),
    };
    let (from, to) = (times.day(report.period.from), times.last_day(report.period.to));
    Document {
        title: "Backup and recovery: compliance report".to_owned(),
        subtitle: format!("{from} to {to}"),
        footer: head,
        sections: vec![
            summary(report, &times),
            controls(report),
            claims(report, &times),
            workloads(report, &times),
            gaps(report, &times),
            unprotected(report),
            exercise(report, &times),
            repositories(report, &times),
            activity(report, &times),
            reading(report),
        ],
    }
}
