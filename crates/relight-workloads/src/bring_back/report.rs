//! What a restore did.

use relight_pxar::fs::extract::{Loss, RestoreReport};
use serde::Serialize;

use crate::files::browse::printable;

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
    /// Adds what became of the tree of that name.
    pub fn add(&mut self, tree: &str, restored: &RestoreReport) {
        let name = |path: &[u8]| format!("{tree}/{}", printable(path));
        self.files += restored.files;
        self.directories += restored.directories;
        self.bytes += restored.bytes;
        self.complete += restored.complete;
        self.skipped += restored.skipped;
        self.replaced += restored.replaced;
        self.verified += restored.verified;
        let renamed = restored.renamed.iter();
        self.renamed
            .extend(renamed.map(|(path, new)| (name(path), printable(new))));
        self.problem_count += restored.losses.total() + restored.not_found.len() as u64;
        let lost = |loss: &Loss| {
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
