//! Records that a claim rests on, by their numbers.

use std::collections::VecDeque;

use jiff::Timestamp;
use serde::Serialize;

use crate::evidence::Body;

/// No longer text of a record is quoted, in characters. The record itself has all of it.
const LONGEST: usize = 240;

/// One record of the evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Citation {
    /// Its number.
    pub sequence: u64,
    /// When it was written.
    pub time: Timestamp,
    /// What it says, in short.
    pub what: String,
}

impl Citation {
    /// Of a record, with what it says in other words than its own.
    pub fn new(body: &Body, what: impl AsRef<str>) -> Self {
        Self {
            sequence: body.sequence,
            time: body.time,
            what: shortened(what.as_ref()),
        }
    }
}

/// A text that is not too long to be quoted.
pub(super) fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Some records of which the newest are named, and all are counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Cited {
    /// How many there are.
    pub count: u64,
    /// The newest of them, in their order.
    pub records: VecDeque<Citation>,
}

impl Cited {
    /// Adds one; so many are named at most.
    pub fn add(&mut self, citation: Citation, most: usize) {
        self.count += 1;
        self.records.push_back(citation);
        if self.records.len() > most {
            self.records.pop_front();
        }
    }

    /// Adds those of another.
    pub fn merge(&mut self, other: &Self, most: usize) {
        self.count += other.count;
        self.records.extend(other.records.iter().cloned());
        self.records.make_contiguous().sort_by_key(|one| one.sequence);
        while self.records.len() > most {
            self.records.pop_front();
        }
    }

    /// The numbers of those that are named.
    pub fn numbers(&self) -> impl Iterator<Item = u64> {
        self.records.iter().map(|one| one.sequence)
    }
}
