//! File trees of this host, as a plan names them: `source = { paths = ["/srv/data"], exclude = ["*.tmp"] }`.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use relight_model::plan::Method;
use relight_pxar::exclude::Pattern;
use relight_pxar::fs::capture::CaptureOptions;
use relight_pxar::fs::progress::Progress;
use relight_repo::session::Session;
use relight_repo::snapshot::Snapshot;
use serde::Deserialize;

use super::{TreeReport, TreeSource, back_up, live_bytes, name_for};
use crate::error::{Result, WorkloadError};
use crate::kind::{Captured, Kind, Subject, Work};
use crate::rehearse::Rehearse;

/// So many problems are named in a snapshot.
const NAMED_PROBLEMS: usize = 1000;

/// File trees.
#[derive(Debug, Default)]
pub struct Files;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Source {
    /// Directories and files to save.
    paths: Vec<PathBuf>,
    /// What is left out, as in a `.pxarexclude` file.
    #[serde(default)]
    exclude: Vec<String>,
    /// Whether what is mounted below the paths is saved too.
    #[serde(default)]
    all_file_systems: bool,
    /// Whether `.pxarexclude` files are passed over.
    #[serde(default)]
    ignore_exclude_files: bool,
}

fn read(subject: &Subject) -> Result<(Source, Vec<Pattern>)> {
    let refused = |why: String| {
        WorkloadError::Refused(format!(
            "{}: source: {why}; write for instance source = {{ paths = [\"/srv/data\"] }}",
            subject.workload
        ))
    };
    let source: Source = subject.source.read().map_err(refused)?;
    if source.paths.is_empty() {
        return Err(refused("it names no paths".into()));
    }
    if let Some(path) = source.paths.iter().find(|path| !path.is_absolute()) {
        return Err(refused(format!("{} does not begin with /", path.display())));
    }
    let parse =
        |text: &String| Pattern::parse(text.as_bytes()).map_err(|error| refused(format!("exclude: {error}")));
    let exclude = source.exclude.iter().map(parse).collect::<Result<_>>()?;
    Ok((source, exclude))
}

/// What is left out of a subject's trees. Nothing is, if the plan does not say where they are.
pub(super) fn excluded(subject: &Subject) -> Result<Vec<Pattern>> {
    if subject.source.is_empty() {
        return Ok(Vec::new());
    }
    read(subject).map(|(_, exclude)| exclude)
}

/// The trees at these paths, each once, with names that tell them apart.
///
/// # Errors
/// A path is not there.
pub fn tree_sources(paths: &[PathBuf]) -> Result<Vec<TreeSource>> {
    let mut sources: Vec<TreeSource> = Vec::new();
    for path in paths {
        let path = std::fs::canonicalize(path).map_err(|source| WorkloadError::Io {
            action: "find",
            path: path.clone(),
            source,
        })?;
        if sources.iter().any(|source| source.path == path) {
            continue;
        }
        let taken: Vec<String> = sources.iter().map(|source| source.name.clone()).collect();
        sources.push(TreeSource {
            name: name_for(&path, &taken),
            path,
        });
    }
    Ok(sources)
}

/// What of these trees is not saved as it is, by path and reason; `most` at most.
pub fn problems(reports: &[TreeReport], most: usize) -> Vec<String> {
    let named = reports.iter().flat_map(|tree| {
        tree.report.problems.iter().map(|problem| {
            let path = String::from_utf8_lossy(&problem.path);
            let detail = if problem.detail.is_empty() {
                String::new()
            } else {
                format!(" ({})", problem.detail)
            };
            let root = tree.source.path.display().to_string();
            let root = root.trim_end_matches('/');
            format!("{root}/{path}: {}{detail}", problem.kind)
        })
    });
    named.take(most).collect()
}

impl Kind for Files {
    fn method(&self) -> Method {
        Method::Files
    }

    fn check(&self, subject: &Subject) -> Result<()> {
        read(subject).map(drop)
    }

    fn capture(
        &self,
        subject: &Subject,
        session: &Session,
        parent: Option<&Snapshot>,
        work: &Work,
    ) -> Result<Captured> {
        let (source, exclude) = read(subject)?;
        let trees = tree_sources(&source.paths)?;
        let expected = parent.and_then(|parent| {
            let live = |tree: &TreeSource| live_bytes(parent, &tree.path);
            trees.iter().map(live).sum::<Option<u64>>()
        });
        work.total.store(expected.unwrap_or(0), Ordering::Relaxed);
        let options = CaptureOptions {
            one_file_system: !source.all_file_systems,
            exclude,
            exclude_files: !source.ignore_exclude_files,
            ..CaptureOptions::default()
        };
        let progress = Progress::counting(work.done.clone());
        let (archives, attributes, reports) =
            back_up(session, &trees, &options, parent, &progress, &work.cancelled)?;
        for tree in &reports {
            let report = &tree.report;
            work.note(&format!(
                "{}: {} files, {} of them unchanged and not read",
                tree.source.path.display(),
                report.counts.files,
                report.unchanged_files
            ));
            for pattern in &report.unmatched_patterns {
                work.note(&format!("warning: the pattern {pattern} matched nothing"));
            }
        }
        Ok(Captured {
            time: None,
            archives,
            attributes,
            incomplete: problems(&reports, NAMED_PROBLEMS),
            read: reports.iter().map(|tree| tree.report.bytes_read).sum(),
        })
    }

    fn rehearse(&self) -> Option<&dyn Rehearse> {
        Some(self)
    }
}
