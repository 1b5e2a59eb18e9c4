//! Saves file trees.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use relight_pxar::fs::capture::{CaptureOptions, CaptureReport, Previous, capture};
use relight_pxar::fs::progress::Progress;
use relight_repo::read::ChunkReader;
use relight_repo::session::Session;
use relight_repo::snapshot::{Archive, Snapshot};

use super::content::archive_read;
use super::padding::is_padded;
use super::reuse::Reuse;
use super::sink::SessionSink;
use super::{Tree, files_attribute, links_attribute, live_attribute, path_attribute, trees};
use crate::error::Result;

/// Length of the header before each file's content.
const HEADER_SIZE: u64 = relight_pxar::format::HEADER_SIZE;

/// A tree to be saved.
#[derive(Debug, Clone)]
pub struct TreeSource {
    /// Its name in the snapshot; see [`super::name_for`].
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
}

/// How the capture of one tree went.
#[derive(Debug, Clone)]
pub struct TreeReport {
    /// The tree.
    pub source: TreeSource,
    /// What the capture tells.
    pub report: CaptureReport,
}

/// Archives of saved trees, attributes for the snapshot, and how it went with each tree.
pub type Saved = (Vec<Archive>, BTreeMap<String, String>, Vec<TreeReport>);

/// Saves trees as archives of a session; they become a snapshot when the caller publishes them. Gives the archives,
/// the attributes that belong to the snapshot, and a report for each tree.
///
/// What is unchanged since `parent` is taken over without being read.
pub fn back_up(
    session: &Session,
    sources: &[TreeSource],
    options: &CaptureOptions,
    parent: Option<&Snapshot>,
    progress: &Progress,
    cancelled: &AtomicBool,
) -> Result<Saved> {
    let reader = Arc::new(ChunkReader::new(session.repository().clone())?);
    let (mut archives, mut attributes, mut reports) = (Vec::new(), BTreeMap::new(), Vec::new());
    for source in sources {
        let path = source.path.display().to_string();
        let earlier = parent.and_then(|snapshot| previous(&reader, snapshot, source));
        let reuse = earlier
            .as_ref()
            .map(|tree| Reuse::new(&reader, tree.payload.root));
        let previous = match earlier.and_then(|tree| Some((tree.metadata, tree.stat?))) {
            Some((metadata, stat)) => Some(Previous {
                metadata: Box::new(archive_read(&reader, metadata.root)?),
                stats: Box::new(archive_read(&reader, stat.root)?),
            }),
            None => None,
        };
        let mut sink = SessionSink::new(session, &source.name, reuse)?;
        let report = capture(&source.path, options, previous, &mut sink, progress, cancelled)?;
        archives.extend(sink.finish()?);
        attributes.insert(path_attribute(&source.name), path);
        attributes.insert(live_attribute(&source.name), report.bytes.to_string());
        attributes.insert(files_attribute(&source.name), report.counts.files.to_string());
        attributes.insert(links_attribute(&source.name), report.counts.hardlinks.to_string());
        reports.push(TreeReport {
            source: source.clone(),
            report,
        });
    }
    Ok((archives, attributes, reports))
}

/// The same tree in an earlier snapshot, if it is worth taking over.
fn previous<'a>(reader: &ChunkReader, parent: &'a Snapshot, source: &TreeSource) -> Option<Tree<'a>> {
    let path = source.path.display().to_string();
    let tree = trees(parent).into_iter().find(|tree| tree.path == Some(&path))?;
    let number = |attribute: String| parent.attributes.get(&attribute)?.parse::<u64>().ok();
    // Each file has a header in the payload, which counts in trees of many empty ones.
    let headers = number(files_attribute(tree.name))
        .unwrap_or(0)
        .saturating_mul(HEADER_SIZE);
    let live = number(live_attribute(tree.name))?.saturating_add(headers);
    (!is_padded(reader, tree.payload.root, live)).then_some(tree)
}
