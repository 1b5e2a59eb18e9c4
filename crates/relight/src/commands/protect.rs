//! `relight protect`, `relight unprotect`, `relight notes`: what may change about a snapshot.

use clap::Args;
use relight_pbs::access::Action;
use relight_repo::snapshot::{Marks, Snapshot};
use serde::Serialize;

use crate::approved::{Asked, Served, with_leave};
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::{output, target};

/// Notes are for a few words, not for files.
const MOST: usize = 16 << 10;

/// Options of `protect` and `unprotect`.
#[derive(Debug, Args)]
pub struct Options {
    /// Short ids, `latest`, or WORKLOAD@TIME
    #[arg(required = true, value_name = "SNAPSHOT")]
    pub snapshots: Vec<String>,
}

/// Options of `notes`.
#[derive(Debug, Args)]
pub struct NotesOptions {
    /// Short id, `latest`, or WORKLOAD@TIME
    snapshot: String,
    /// The new notes; without them, those there are shown
    text: Option<String>,
    /// Remove the notes
    #[arg(long, conflicts_with = "text")]
    clear: bool,
}

#[derive(Serialize)]
struct Marked {
    snapshot: String,
    short_id: String,
    #[serde(flatten)]
    marks: Marks,
}

/// Protects snapshots from being forgotten, or no longer.
pub fn run(global: &Global, options: &Options, protected: bool) -> Result<Exit> {
    let repository = global.open_to_read()?;
    // All of them are looked up before the first is changed.
    let snapshots = options
        .snapshots
        .iter()
        .map(|given| target::snapshot(&repository, given));
    let snapshots = snapshots.collect::<Result<Vec<_>>>()?;
    let mut before = Vec::new();
    for snapshot in &snapshots {
        before.push((snapshot, repository.marks(snapshot.id)?));
    }
    let asked = |served: &Served| Ok((!protected).then(|| lowered(served, &before)).flatten());
    let marked = with_leave(global, Action::Delete, asked, || {
        let change = |(snapshot, marks): &(&Snapshot, Marks)| {
            let marks = Marks {
                protected,
                ..marks.clone()
            };
            repository.set_marks(snapshot.id, &marks)?;
            Ok(Marked {
                snapshot: snapshot.id.to_string(),
                short_id: snapshot.id.short(),
                marks,
            })
        };
        before.iter().map(change).collect::<Result<Vec<_>>>()
    })?;
    output::result(global, &marked, |marked, out| {
        for one in marked {
            let word = if protected {
                "protected"
            } else {
                "not protected any more"
            };
            out.push_str(&format!("Snapshot {} is {word}.\n", one.short_id));
        }
    });
    Ok(Exit::Done)
}

/// What one person alone may not be enough for: what is protected may be forgotten then.
fn lowered(served: &Served, before: &[(&Snapshot, Marks)]) -> Option<Asked> {
    let mut snapshots: Vec<&Snapshot> = before
        .iter()
        .filter(|(_, marks)| marks.protected)
        .map(|(snapshot, _)| *snapshot)
        .collect();
    snapshots.sort_by_key(|snapshot| (&snapshot.workload, snapshot.time, snapshot.id));
    snapshots.dedup_by_key(|snapshot| snapshot.id);
    let each = |show: fn(&Snapshot) -> String| {
        snapshots
            .iter()
            .map(|snapshot| show(snapshot))
            .collect::<Vec<_>>()
    };
    (!snapshots.is_empty()).then(|| Asked {
        path: served.place(snapshots.iter().map(|snapshot| snapshot.workload.as_str())),
        subject: format!(
            "take the protection away from recovery points of {}: {}",
            served.repository,
            each(|snapshot| format!("{} of {}", snapshot.workload, snapshot.time)).join(", ")
        ),
        exact: each(|snapshot| snapshot.id.to_string()).join("\n"),
    })
}

/// Shows or changes the notes of a snapshot.
pub fn notes(global: &Global, options: &NotesOptions) -> Result<Exit> {
    let text = if options.clear {
        Some("")
    } else {
        options.text.as_deref()
    };
    if let Some(text) = text {
        let is_odd = |char: char| char.is_control() && char != '\n' && char != '\t';
        if text.len() > MOST || text.contains(is_odd) {
            return Err(Failure::Usage(format!(
                "notes are at most {MOST} bytes of text without control characters"
            )));
        }
    }
    let repository = global.open_to_read()?;
    let snapshot = target::snapshot(&repository, &options.snapshot)?;
    let mut marks = repository.marks(snapshot.id)?;
    if let Some(text) = text {
        marks.notes = text.to_string();
        repository.set_marks(snapshot.id, &marks)?;
    }
    let marked = Marked {
        snapshot: snapshot.id.to_string(),
        short_id: snapshot.id.short(),
        marks,
    };
    output::result(global, &marked, |marked, out| {
        match marked.marks.notes.as_str() {
            "" => out.push_str(&format!("Snapshot {} has no notes.\n", marked.short_id)),
            notes => out.push_str(&format!("{notes}\n")),
        };
    });
    Ok(Exit::Done)
}
