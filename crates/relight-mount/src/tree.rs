//! Trees of files, opened when somebody looks into them.

mod links;
mod open;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use relight_pxar::DecodeError;
use relight_repo::SnapshotId;

pub use open::OpenTree;

use crate::content::Readers;
use crate::source::TreeSource;

/// Trees that are kept open.
const OPEN: usize = 128;

/// The trees that are open; of many the one that was not used for longest is let go of.
#[derive(Default)]
pub struct Trees {
    open: Mutex<HashMap<(SnapshotId, usize), Used>>,
}

struct Used {
    tree: Arc<OpenTree>,
    at: u64,
}

impl Trees {
    /// Opens a tree, or gives it if it is open.
    pub fn open(
        &self,
        readers: &Readers,
        key: (SnapshotId, usize),
        source: &Arc<TreeSource>,
    ) -> Result<Arc<OpenTree>, DecodeError> {
        let lock = || self.open.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let next = |open: &HashMap<_, Used>| open.values().map(|used| used.at).max().unwrap_or(0) + 1;
        {
            let mut open = lock();
            let now = next(&open);
            if let Some(used) = open.get_mut(&key) {
                used.at = now;
                return Ok(used.tree.clone());
            }
        }
        // Opening reads from storage.
        let tree = Arc::new(OpenTree::open(readers, source)?);
        let mut open = lock();
        if open.len() >= OPEN {
            let oldest = open.iter().min_by_key(|(_, used)| used.at).map(|(key, _)| *key);
            oldest.map(|key| open.remove(&key));
        }
        let at = next(&open);
        Ok(open.entry(key).or_insert(Used { tree, at }).tree.clone())
    }
}
