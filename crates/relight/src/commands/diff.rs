//! `relight diff`: what changed between two snapshots.

use std::ffi::OsString;

use clap::Args;
use relight_workloads::files::browse::{Kind, View};
use relight_workloads::files::compare::{self, Attribute, Change, Difference};
use serde::Serialize;

use crate::client_key::ClientKeyOptions;
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::Result;
use crate::rows::Rows;
use crate::shown::{PathText, bytes};
use crate::{cancel, target};

/// Options of `diff`.
#[derive(Debug, Args)]
pub struct Options {
    /// The earlier snapshot: short id, `latest`, or WORKLOAD@TIME
    #[arg(value_name = "A")]
    left: String,
    /// The later snapshot
    #[arg(value_name = "B")]
    right: String,
    /// Only what is at or below this path
    path: Option<OsString>,
    /// Compare contents also where size and modification time are the same
    #[arg(long)]
    content: bool,
    #[command(flatten)]
    client_key: ClientKeyOptions,
}

#[derive(Serialize)]
struct Head {
    left: String,
    right: String,
}

#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    path: PathText,
    kind: Kind,
    change: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    former_kind: Option<Kind>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    content: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attributes: Vec<Attribute>,
}

/// How many there are of each.
#[derive(Default, Serialize)]
struct Totals {
    added: u64,
    removed: u64,
    content_changed: u64,
    attributes_changed: u64,
    type_changed: u64,
}

/// Shows it.
pub fn run(global: &Global, options: &Options) -> Result<Exit> {
    let repository = global.open_to_read()?;
    let left = target::snapshot(&repository, &options.left)?;
    let right = target::snapshot(&repository, &options.right)?;
    let head = Head {
        left: left.id.to_string(),
        right: right.id.to_string(),
    };
    let reader = options.client_key.reader(repository, [&left, &right])?;
    let (left, right) = (View::new(reader.clone(), left), View::new(reader, right));
    let how = compare::Options {
        contents: options.content,
        cancelled: cancel::flag(),
    };
    let path = options.path.as_deref().map(bytes);
    if let Some(path) = path {
        // A wrong path is told before anything is printed.
        if left.find(path)?.is_none() {
            right.at(path)?;
        }
    }
    let (mut rows, mut totals) = (Rows::begin(global, &head, "differences"), Totals::default());
    compare::compare(&left, &right, path, &how, &mut |difference| {
        let row = row(difference, &mut totals);
        rows.row(&row, line);
        Ok(())
    })?;
    rows.end(&Tail { totals }, |tail| words(&tail.totals));
    Ok(Exit::Done)
}

#[derive(Serialize)]
struct Tail {
    totals: Totals,
}

fn row(difference: Difference, totals: &mut Totals) -> Row {
    let Difference { path, kind, change } = difference;
    let mut row = Row {
        path: PathText::new(path),
        kind,
        change: "modified",
        former_kind: None,
        content: false,
        attributes: Vec::new(),
    };
    match change {
        Change::Added => {
            row.change = "added";
            totals.added += 1;
        }
        Change::Removed => {
            row.change = "removed";
            totals.removed += 1;
        }
        Change::Type(former) => {
            row.change = "type";
            row.former_kind = Some(former);
            totals.type_changed += 1;
        }
        Change::Modified { content, attributes } => {
            totals.content_changed += u64::from(content);
            totals.attributes_changed += u64::from(!content);
            (row.content, row.attributes) = (content, attributes);
        }
    }
    row
}

fn line(row: &Row) -> String {
    let mark = match (row.change, row.content) {
        ("added", _) => '+',
        ("removed", _) => '-',
        ("type", _) => 'T',
        (_, true) => 'M',
        (_, false) => 'm',
    };
    let slash = if row.kind == Kind::Directory { "/" } else { "" };
    let mut what = Vec::new();
    if let Some(former) = row.former_kind {
        what.push(format!("was a {former}, is a {}", row.kind));
    }
    what.extend(row.attributes.iter().map(|attribute| attribute.to_string()));
    let what = if what.is_empty() {
        String::new()
    } else {
        format!("  ({})", what.join(", "))
    };
    format!("{mark} {}{slash}{what}", row.path.printable())
}

fn words(totals: &Totals) -> String {
    let Totals {
        added,
        removed,
        content_changed,
        attributes_changed,
        type_changed,
    } = totals;
    if added + removed + content_changed + attributes_changed + type_changed == 0 {
        return "No differences.\n".into();
    }
    let mut parts = vec![
        format!("{added} added"),
        format!("{removed} removed"),
        format!("{content_changed} with other content"),
        format!("{attributes_changed} with other attributes"),
    ];
    if *type_changed > 0 {
        parts.push(format!("{type_changed} of another type"));
    }
    parts.join(", ") + "\n"
}
