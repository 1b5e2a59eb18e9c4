//! Drills of file trees: all trees of a snapshot are restored, read back, and looked at by what the plan says.
//!
//! ```toml
//! probe = { paths-exist = ["/srv/data/index"], compare-source = true, command = ["/usr/local/bin/check"], timeout = "5 m" }
//! ```

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use relight_model::ByteSize;
use relight_pxar::exclude::{Matcher, Pattern};
use relight_pxar::fs::compare::{CompareError, CompareOptions, Comparison, compare_archive, compare_trees};
use relight_pxar::fs::extract::{ConflictPolicy, ExtractOptions, RestoreReport};
use relight_pxar::fs::metadata::Part;
use relight_pxar::fs::progress::Progress;
use relight_repo::RepoError;
use serde::Deserialize;

use super::drill::{changed_after, is_excluded};
use super::restore::{TreeArchive, restore};
use super::{Files, Tree, files_attribute, live_attribute, trees};
use crate::error::{Result, WorkloadError};
use crate::kind::{Subject, Work};
use crate::rehearse::command::CommandWords;
use crate::rehearse::{Probed, Rehearsal, Rehearse, Restored, probe_words};

/// What a file takes on disk beside its content, in bytes: its inode and the rest of its last block.
const PER_FILE: u64 = 8 << 10;
/// So many things that are wrong are named.
const NAMED: usize = 5;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Words {
    /// Paths that must have come back: as they were (`/srv/data/x`), or with the name of their tree first (`data/x`).
    paths_exist: Vec<PathBuf>,
    /// Whether what came back is compared with where it was saved from, as far as that did not change since.
    compare_source: bool,
    #[serde(flatten)]
    command: CommandWords,
}

/// `deny_unknown_fields` does not go together with `flatten`.
const KNOWN: &[&str] = &["paths-exist", "compare-source", "command", "timeout"];

fn words(subject: &Subject) -> Result<Words> {
    let words: Words = probe_words(subject, "{ paths-exist = [\"/srv/data/index\"] }")?;
    let refused = |why: String| WorkloadError::Refused(format!("{}: probe: {why}", subject.workload));
    if let Some(word) = subject.probe.words().find(|word| !KNOWN.contains(word)) {
        return Err(refused(format!(
            "there is no {word:?}; there is: {}",
            KNOWN.join(", ")
        )));
    }
    let leaves = |path: &&PathBuf| path.components().any(|part| part == Component::ParentDir);
    if let Some(path) = words.paths_exist.iter().find(leaves) {
        return Err(refused(format!(
            "paths-exist: {} leads elsewhere",
            path.display()
        )));
    }
    words.command.check().map_err(refused)?;
    Ok(words)
}

impl Rehearse for Files {
    fn check_probe(&self, subject: &Subject) -> Result<()> {
        words(subject).map(drop)
    }

    fn room(&self, rehearsal: &Rehearsal<'_>) -> Result<u64> {
        let snapshot = rehearsal.snapshot;
        let number = |attribute: String| snapshot.attributes.get(&attribute)?.parse::<u64>().ok();
        let of = |tree: &Tree<'_>| {
            let content = number(live_attribute(tree.name)).unwrap_or(tree.payload.root.size);
            // What other programs saved does not tell how many files there are: names and attributes take some 100 bytes.
            let files = number(files_attribute(tree.name)).unwrap_or(tree.metadata.root.size / 100);
            content.saturating_add(files.saturating_mul(PER_FILE))
        };
        Ok(trees(snapshot).iter().map(of).fold(0, u64::saturating_add))
    }

    fn restore<'a>(&self, rehearsal: &Rehearsal<'a>, work: &Work) -> Result<Box<dyn Restored + 'a>> {
        let words = words(rehearsal.subject)?;
        let exclude = super::kind::excluded(rehearsal.subject)?;
        let found = trees(rehearsal.snapshot);
        if found.is_empty() {
            return Err(WorkloadError::Refused(format!(
                "snapshot {} holds no file tree",
                rehearsal.snapshot.id.short()
            )));
        }
        let options = ExtractOptions {
            conflict: ConflictPolicy::Fail,
            verify: true,
            sync: true,
            ..ExtractOptions::default()
        };
        let progress = Progress::counting(work.done.clone());
        let mut reports = Vec::new();
        for tree in found {
            let target = rehearsal.sandbox.join(tree.name);
            work.note(&format!("restoring {}", tree.path.unwrap_or(tree.name)));
            let report = restore(
                rehearsal.reader,
                &tree,
                &target,
                &options,
                &progress,
                &work.cancelled,
            )?;
            reports.push((tree, report));
        }
        Ok(Box::new(RestoredFiles {
            rehearsal: *rehearsal,
            words,
            exclude,
            reports,
            spoiled: false,
        }))
    }
}

struct RestoredFiles<'a> {
    rehearsal: Rehearsal<'a>,
    words: Words,
    exclude: Vec<Pattern>,
    reports: Vec<(Tree<'a>, RestoreReport)>,
    spoiled: bool,
}

impl Restored for RestoredFiles<'_> {
    fn size(&self) -> u64 {
        self.reports.iter().map(|(_, report)| report.bytes).sum()
    }

    fn probe(&mut self, work: &Work) -> Result<Vec<Probed>> {
        let mut probes = vec![if self.spoiled {
            self.compare_with_repository(work)?
        } else {
            self.read_back()
        }];
        if !self.words.paths_exist.is_empty() {
            probes.push(self.paths_exist());
        }
        if self.words.compare_source {
            probes.push(self.compare_with_source(work)?);
        }
        probes.extend(self.words.command.run(&self.rehearsal, work)?);
        Ok(probes)
    }

    fn spoil(&mut self, work: &Work) -> Result<String> {
        // What differs already would be taken for what is made wrong here.
        let before = self.compare_with_repository(work)?;
        if !before.passed {
            return Err(WorkloadError::Refused(format!(
                "it was wrong before: {}",
                before.seen
            )));
        }
        let mut largest = None;
        for (tree, _) in &self.reports {
            find_largest(
                &self.rehearsal.sandbox.join(tree.name),
                &mut largest,
                &work.cancelled,
            )?;
        }
        let Some((size, path)) = largest.filter(|(size, _)| *size > 0) else {
            return Err(WorkloadError::Refused(
                "there is no file with content to make wrong".into(),
            ));
        };
        spoil_byte(&path, size / 2)?;
        self.spoiled = true;
        let shown = path.strip_prefix(self.rehearsal.sandbox).unwrap_or(&path);
        Ok(format!("byte {} of {} was changed", size / 2, shown.display()))
    }
}

impl RestoredFiles<'_> {
    /// What the restore says: it has read every file back and compared it with what the repository gave, whose digests it had
    /// checked.
    fn read_back(&self) -> Probed {
        let sum =
            |of: fn(&RestoreReport) -> u64| self.reports.iter().map(|(_, report)| of(report)).sum::<u64>();
        let mut wrong = Vec::new();
        for (tree, report) in &self.reports {
            let lost = report.losses.iter();
            wrong.extend(lost.map(|loss| {
                format!(
                    "{}/{}: {}",
                    tree.name,
                    String::from_utf8_lossy(&loss.path),
                    loss.kind
                )
            }));
        }
        let lost = sum(|report| report.losses.total());
        if lost > 0 {
            return Probed::failed(
                "content",
                format!("{lost} things did not come back: {}", named(&wrong)),
            );
        }
        let seen = format!(
            "{} files, {}, read back and as they were saved",
            sum(|report| report.files),
            ByteSize(sum(|report| report.bytes))
        );
        Probed::passed("content", seen)
    }

    /// Compares every file in the sandbox with the repository.
    fn compare_with_repository(&self, work: &Work) -> Result<Probed> {
        let (mut entries, mut wrong) = (0, Vec::new());
        for (tree, _) in &self.reports {
            let archive = TreeArchive::new(self.rehearsal.reader, tree);
            let root = self.rehearsal.sandbox.join(tree.name);
            let progress = Progress::default();
            let compared = compare_archive(&archive, &root, &options(), &progress, &work.cancelled);
            let compared = finished(compared)?;
            entries += compared.entries;
            let differences = compared.differences.iter();
            wrong.extend(differences.map(|difference| format!("{}/{difference}", tree.name)));
        }
        Ok(if wrong.is_empty() {
            Probed::passed("content", format!("{entries} entries are as they were saved"))
        } else {
            Probed::failed(
                "content",
                format!("{} differences: {}", wrong.len(), named(&wrong)),
            )
        })
    }

    fn paths_exist(&self) -> Probed {
        let trees: Vec<Tree<'_>> = self.reports.iter().map(|(tree, _)| *tree).collect();
        let is_missing = |path: &&PathBuf| {
            place_of(path, &trees)
                .is_none_or(|place| self.rehearsal.sandbox.join(place).symlink_metadata().is_err())
        };
        let wanted = &self.words.paths_exist;
        let missing: Vec<String> = wanted
            .iter()
            .filter(is_missing)
            .map(|path| path.display().to_string())
            .collect();
        if missing.is_empty() {
            Probed::passed("paths-exist", format!("{} paths are there", wanted.len()))
        } else {
            Probed::failed("paths-exist", format!("missing: {}", named(&missing)))
        }
    }

    /// Compares with where it was saved from. What changed since proves nothing.
    fn compare_with_source(&self, work: &Work) -> Result<Probed> {
        let name = "source";
        let (mut entries, mut changed, mut wrong) = (0, BTreeSet::new(), Vec::new());
        for (tree, _) in &self.reports {
            let source = tree.path.map(Path::new).filter(|path| path.is_dir());
            let Some(source) = source else {
                let path = tree.path.unwrap_or(tree.name);
                return Ok(Probed::failed(
                    name,
                    format!("{path} is not a folder on this machine"),
                ));
            };
            let root = self.rehearsal.sandbox.join(tree.name);
            let compared = compare_trees(&root, source, &options(), &Progress::default(), &work.cancelled);
            let compared = finished(compared)?;
            entries += compared.entries;
            let matcher = Matcher::new(self.exclude.iter().cloned());
            for difference in compared.differences {
                let in_source = source.join(OsStr::from_bytes(&difference.path));
                if is_excluded(&matcher, &difference, &in_source) {
                    continue;
                }
                if changed_after(&in_source, source, self.taken()) {
                    changed.insert(in_source);
                } else {
                    wrong.push(format!("{}/{difference}", source.display()));
                }
            }
        }
        if !wrong.is_empty() {
            return Ok(Probed::failed(
                name,
                format!("{} differences: {}", wrong.len(), named(&wrong)),
            ));
        }
        let seen = format!(
            "{entries} entries compared with where they came from, {} changed since",
            changed.len()
        );
        Ok(Probed::passed(name, seen))
    }

    fn taken(&self) -> Timestamp {
        self.rehearsal.snapshot.time
    }
}

/// Only root can give files to others: without, the owner is known to differ.
fn options() -> CompareOptions {
    let ignore = if rustix::process::geteuid().is_root() {
        Vec::new()
    } else {
        vec![Part::Owner]
    };
    CompareOptions {
        ignore,
        ..CompareOptions::default()
    }
}

fn finished(compared: Result<Comparison, CompareError>) -> Result<Comparison> {
    compared.map_err(|error| match error {
        CompareError::Cancelled => RepoError::Cancelled.into(),
        CompareError::Archive(error) => error.into(),
        error => WorkloadError::Refused(error.to_string()),
    })
}

/// The first few of a list, and how many more there are.
fn named(list: &[String]) -> String {
    let first: Vec<&str> = list.iter().take(NAMED).map(String::as_str).collect();
    match list.len().saturating_sub(NAMED) {
        0 => first.join("; "),
        more => format!("{}; and {more} more", first.join("; ")),
    }
}

/// Where a path is in the sandbox: trees lie in there by their names. The longest tree that it lies in has it.
fn place_of(path: &Path, trees: &[Tree<'_>]) -> Option<PathBuf> {
    if path.is_relative() {
        return Some(path.to_owned());
    }
    let inside = trees.iter().filter_map(|tree| {
        let outer = tree.path?;
        let rest = path.strip_prefix(outer).ok()?;
        Some((outer.len(), Path::new(tree.name).join(rest)))
    });
    inside.max_by_key(|(length, _)| *length).map(|(_, place)| place)
}

/// The largest regular file below a folder.
fn find_largest(folder: &Path, largest: &mut Option<(u64, PathBuf)>, cancelled: &AtomicBool) -> Result<()> {
    let failed = |source| WorkloadError::Io {
        action: "read",
        path: folder.to_owned(),
        source,
    };
    for entry in fs::read_dir(folder).map_err(failed)? {
        if cancelled.load(Ordering::Relaxed) {
            return Err(RepoError::Cancelled.into());
        }
        let entry = entry.map_err(failed)?;
        let meta = entry.metadata().map_err(failed)?;
        if meta.is_dir() {
            find_largest(&entry.path(), largest, cancelled)?;
        } else if meta.is_file() && largest.as_ref().is_none_or(|(size, _)| meta.len() > *size) {
            *largest = Some((meta.len(), entry.path()));
        }
    }
    Ok(())
}

/// Changes one byte of a file in the sandbox, and nothing else of it.
pub(crate) fn spoil_byte(path: &Path, at: u64) -> Result<()> {
    let failed = |source| WorkloadError::Io {
        action: "change",
        path: path.to_owned(),
        source,
    };
    let meta = fs::metadata(path).map_err(failed)?;
    if meta.permissions().readonly() {
        let writable = fs::Permissions::from_mode(meta.mode() | 0o200);
        fs::set_permissions(path, writable).map_err(failed)?;
    }
    let file: File = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(failed)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).map_err(failed)?;
    file.write_all_at(&[!byte[0]], at).map_err(failed)
}
