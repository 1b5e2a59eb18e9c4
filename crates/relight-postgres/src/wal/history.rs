//! Where timelines come from: history files, and the tree that they make.
//! Source: PostgreSQL's `src/backend/access/transam/timeline.c`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::error::{Result, WalError};
use super::name::Timeline;
use crate::lsn::Lsn;

/// No history file is larger.
pub const MAX_HISTORY: u64 = 1 << 20;

/// One step in the history of a timeline: it left this one there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The timeline that was left.
    pub from: Timeline,
    /// Where: what that timeline wrote from here on does not belong to the history.
    pub at: Lsn,
    /// The server's words about why.
    pub why: String,
}

/// The history of one timeline: its ancestors, the oldest first. Timeline 1 has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// Whose history.
    pub timeline: Timeline,
    /// How it came to be.
    pub steps: Vec<Step>,
}

impl History {
    /// Reads a history file.
    ///
    /// # Errors
    /// [`WalError::BadHistory`] where a line is not one, or where timelines or positions go back.
    pub fn parse(timeline: Timeline, bytes: &[u8]) -> Result<Self> {
        let wrong = |line: usize, why: &str| WalError::BadHistory {
            timeline: timeline.0,
            line,
            why: why.into(),
        };
        if bytes.len() as u64 > MAX_HISTORY {
            return Err(wrong(0, "it is larger than 1 MiB"));
        }
        let mut steps: Vec<Step> = Vec::new();
        for (number, line) in (1..).zip(bytes.split(|&byte| byte == b'\n')) {
            // Reasons hold names of restore points in the database's encoding, whatever that is.
            let line = String::from_utf8_lossy(line);
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut words = line.splitn(3, char::is_whitespace).map(str::trim);
            let parent = words.next().and_then(|word| word.parse().ok());
            let at = words.next().and_then(|word| word.parse::<Lsn>().ok());
            let (Some(parent), Some(at)) = (parent, at) else {
                return Err(wrong(number, "a line is a timeline, a position and a reason"));
            };
            if steps
                .last()
                .is_some_and(|last| last.from.0 >= parent || last.at > at)
            {
                return Err(wrong(number, "timelines and positions must ascend"));
            }
            steps.push(Step {
                from: Timeline(parent),
                at,
                why: words.next().unwrap_or_default().to_string(),
            });
        }
        match steps.last() {
            Some(last) if last.from >= timeline => {
                Err(wrong(0, "a timeline cannot come from itself or a later one"))
            }
            _ => Ok(Self { timeline, steps }),
        }
    }

    /// Where the timeline begins, and on which one; none of timeline 1.
    pub fn origin(&self) -> Option<&Step> {
        self.steps.last()
    }
}

/// All timelines whose history is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    histories: BTreeMap<Timeline, History>,
}

impl Tree {
    /// Takes a history in.
    pub fn insert(&mut self, history: History) {
        self.histories.insert(history.timeline, history);
    }

    /// Where a timeline begins and on which one; none of timeline 1, and of those whose history is not known.
    pub fn origin(&self, timeline: Timeline) -> Option<&Step> {
        self.histories.get(&timeline)?.origin()
    }

    /// Whether it is known where a timeline comes from.
    pub fn knows(&self, timeline: Timeline) -> bool {
        timeline.0 == 1 || self.histories.contains_key(&timeline)
    }

    /// How a recovery gets to the end of `timeline`: each timeline on the way with the position at which it is left
    /// (none for the last), the oldest first.
    pub fn path(&self, timeline: Timeline) -> Vec<(Timeline, Option<Lsn>)> {
        let steps = self
            .histories
            .get(&timeline)
            .map_or(&[][..], |history| &history.steps);
        let earlier = steps.iter().map(|step| (step.from, Some(step.at)));
        earlier.chain([(timeline, None)]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_is_read_and_its_tree_leads_back_to_the_first_timeline() {
        let text = b"1\t0/A000198\tno recovery target specified\n\n# a remark\n2\t0/B0001C0\tbefore 2026-01-01 00:00:00+00\n";
        let history = History::parse(Timeline(3), text).unwrap();
        assert_eq!(history.origin().unwrap().from, Timeline(2));
        assert_eq!(history.origin().unwrap().at, Lsn(0xb00_01c0));
        assert_eq!(history.steps[0].why, "no recovery target specified");
        let mut tree = Tree::default();
        tree.insert(history);
        let path = tree.path(Timeline(3));
        let expected = vec![
            (Timeline(1), Some(Lsn(0xa00_0198))),
            (Timeline(2), Some(Lsn(0xb00_01c0))),
            (Timeline(3), None),
        ];
        assert_eq!(path, expected);
        assert!(tree.knows(Timeline(1)) && !tree.knows(Timeline(2)));
    }

    #[test]
    fn histories_that_go_back_are_refused() {
        for wrong in [
            &b"2\t0/1\tx\n1\t0/2\ty\n"[..],
            b"1\t0/2\tx\n2\t0/1\ty\n",
            b"3\t0/1\tx\n",
            b"one\t0/1\n",
            b"1\n",
        ] {
            assert!(History::parse(Timeline(3), wrong).is_err());
        }
    }
}
