//! Which base backup a recovery begins with, and whether the log reaches where it is to go.

use relight_repo::SnapshotId;
use relight_repo::snapshot::Snapshot;

use super::target::{Goal, Timeline};
use crate::base::{About, is_base};
use crate::error::{PostgresError, Result};
use crate::lsn::Lsn;
use crate::wal::store::Catalog;
use crate::wal::tail::Tail;
use crate::wal::windows::{Base, Log, View, Window, view};

/// Where a recovery begins.
#[derive(Debug)]
pub struct Chosen<'a> {
    /// The base backup.
    pub snapshot: &'a Snapshot,
    /// What it tells.
    pub about: About,
    /// The window that the goal lies in; none if the base backup alone is restored.
    pub window: Option<Window>,
}

impl Chosen<'_> {
    /// The goal as the server is to be told. It stops behind a time when it sees a record that is later: at the last commit of
    /// the log it would wait in vain.
    pub fn goal(&self, goal: &Goal) -> Goal {
        match (goal, &self.window) {
            (Goal::Time(time), Some(window)) if *time >= window.to.time => Goal::Latest,
            _ => goal.clone(),
        }
    }

    /// The timeline as the server is to be told.
    pub fn timeline(&self) -> Timeline {
        match &self.window {
            Some(window) => Timeline::Number(window.timeline.0),
            None => Timeline::Current,
        }
    }
}

/// The base backup to begin with: the newest one from which the log reaches the goal. `snapshots` are all those of one
/// workload, its log among them. `wanted` is a base backup that somebody chose.
///
/// # Errors
/// The goal cannot be reached: says what can.
pub fn choose<'a>(
    snapshots: &'a [Snapshot],
    goal: &Goal,
    timeline: Timeline,
    wanted: Option<SnapshotId>,
) -> Result<Chosen<'a>> {
    choose_with(snapshots, &Tail::default(), goal, timeline, wanted)
}

/// The same where the newest log is replayed, too, which is in no snapshot yet.
///
/// # Errors
/// As [`choose`].
pub fn choose_with<'a>(
    snapshots: &'a [Snapshot],
    tail: &Tail,
    goal: &Goal,
    timeline: Timeline,
    wanted: Option<SnapshotId>,
) -> Result<Chosen<'a>> {
    let mut bases: Vec<(&Snapshot, About)> = Vec::new();
    for snapshot in snapshots.iter().filter(|snapshot| is_base(snapshot)) {
        if wanted.is_none_or(|wanted| wanted == snapshot.id) {
            bases.push((snapshot, About::of(snapshot)?));
        }
    }
    if bases.is_empty() {
        return Err(PostgresError::Refused(match wanted {
            Some(id) => format!("{} is no base backup of this cluster", id.short()),
            None => "there is no base backup of this cluster: make one with `relight postgres backup`".into(),
        }));
    }
    bases.sort_by_key(|(snapshot, about)| (about.stop_time, snapshot.published));
    if *goal == Goal::Immediate {
        let last = bases.pop();
        return last
            .map(|(snapshot, about)| Chosen {
                snapshot,
                about,
                window: None,
            })
            .ok_or_else(|| PostgresError::Refused("there is no base backup of this cluster".into()));
    }
    let about_bases: Vec<Base> = bases
        .iter()
        .filter_map(|(snapshot, _)| Base::of(snapshot))
        .collect();
    let mut log = Log::of(&Catalog::of(snapshots.to_vec()));
    tail.add_to(&mut log);
    let view = view(&log, &about_bases);
    let named;
    let goal = match goal {
        Goal::Name(name) => {
            named = Goal::Lsn(named_point(&view, name, timeline)?);
            &named
        }
        other => other,
    };
    let mut windows: Vec<&Window> = view
        .windows
        .iter()
        .filter(|window| match timeline {
            Timeline::Latest => true,
            Timeline::Current => bases
                .last()
                .is_some_and(|(_, about)| about.timeline == window.timeline.0),
            Timeline::Number(number) => window.timeline.0 == number,
        })
        .filter(|window| holds(window, goal))
        .collect();
    windows.sort_by_key(|window| (window.timeline, window.to.lsn));
    for window in windows.into_iter().rev() {
        let begins = bases
            .iter()
            .rev()
            .find(|(snapshot, about)| window.bases.contains(&snapshot.id) && precedes(about, goal));
        if let Some((snapshot, about)) = begins {
            return Ok(Chosen {
                snapshot,
                about: about.clone(),
                window: Some(window.clone()),
            });
        }
    }
    Err(PostgresError::Refused(format!(
        "{goal} cannot be reached. {}",
        words(&view)
    )))
}

fn holds(window: &Window, goal: &Goal) -> bool {
    match goal {
        Goal::Time(time) => window.from.time <= *time && *time <= window.to.time,
        Goal::Lsn(lsn) => window.from.lsn <= *lsn && *lsn <= window.to.lsn,
        Goal::Latest | Goal::Immediate | Goal::Transaction(_) | Goal::Name(_) => true,
    }
}

/// Whether the backup had ended before the goal.
fn precedes(about: &About, goal: &Goal) -> bool {
    match goal {
        Goal::Time(time) => about.stop_time <= *time,
        Goal::Lsn(lsn) => about.stop_lsn <= *lsn,
        Goal::Transaction(xid) => about.next_transaction <= *xid,
        Goal::Latest | Goal::Immediate | Goal::Name(_) => true,
    }
}

fn named_point(view: &View, name: &str, timeline: Timeline) -> Result<Lsn> {
    let mut points: Vec<_> = view
        .points
        .iter()
        .filter(|(on, point)| {
            point.name == name && !matches!(timeline, Timeline::Number(number) if number != on.0)
        })
        .collect();
    points.sort_by_key(|(on, point)| (*on, point.at));
    match points.last() {
        Some((_, point)) => Ok(point.at),
        None => {
            let known: Vec<&str> = view.points.iter().map(|(_, point)| point.name.as_str()).collect();
            let known = if known.is_empty() {
                "none".to_string()
            } else {
                known.join(", ")
            };
            Err(PostgresError::Refused(format!(
                "there is no restore point {name} in the log; it has {known}. {}",
                words(view)
            )))
        }
    }
}

/// What can be reached, in words.
fn words(view: &View) -> String {
    if view.windows.is_empty() {
        return "Nothing can be brought back: no base backup is complete".into();
    }
    let windows: Vec<String> = view
        .windows
        .iter()
        .map(|window| {
            format!(
                "from {} ({}) to {} ({}) on timeline {}",
                window.from.time, window.from.lsn, window.to.time, window.to.lsn, window.timeline.0
            )
        })
        .collect();
    format!("What can be brought back is {}", windows.join(", and "))
}
