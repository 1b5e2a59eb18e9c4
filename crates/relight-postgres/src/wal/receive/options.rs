//! How to receive.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use relight_model::workload::Workload;
use relight_workloads::log::Following;

use crate::connect::Settings;

/// An alarm is raised when the server keeps more bytes for a slot, if nothing else is said.
pub const ALARM: u64 = 1 << 30;
/// Bytes that may wait on this machine, if nothing else is said.
const SPOOL: u64 = 1 << 30;

/// How to receive.
#[derive(Debug, Clone)]
pub struct Options {
    /// How the server is reached.
    pub settings: Settings,
    /// Name of the slot.
    pub slot: String,
    /// Make the slot if there is none.
    pub create_slot: bool,
    /// Folder for what was received and is not in the repository yet.
    pub spool: PathBuf,
    /// Bytes that may wait there; beyond it the server waits.
    pub limit: u64,
    /// What is new is stored at least this often.
    pub every: Duration,
    /// An alarm is raised when the server keeps more than so many bytes for the slot.
    pub alarm: u64,
    /// Who is told how it goes.
    pub following: Option<Arc<Following>>,
}

impl Options {
    /// As it is done if nothing else is said.
    pub fn new(settings: Settings, workload: &Workload, spool: PathBuf) -> Self {
        Self {
            settings,
            slot: slot_name(workload),
            create_slot: true,
            spool,
            limit: SPOOL,
            every: Duration::from_millis(500),
            alarm: ALARM,
            following: None,
        }
    }

    /// Tells what is wrong about something, or that nothing is.
    pub(super) fn tell(&self, about: &'static str, words: Option<String>) {
        if let Some(following) = &self.following {
            following.alarm(about, words);
        }
    }
}

/// The slot of a workload: its name in the letters that the names of slots may have.
pub fn slot_name(workload: &Workload) -> String {
    let allowed = |letter: char| match letter.to_ascii_lowercase() {
        letter if letter.is_ascii_alphanumeric() => letter,
        _ => '_',
    };
    let name: String = workload.name().chars().map(allowed).collect();
    let mut slot = format!("relight_{name}");
    slot.truncate(63);
    slot
}
