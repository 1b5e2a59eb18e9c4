//! What a verification says, with the paths that are concerned.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use relight_model::size::ByteSize;
use relight_repo::Repository;
use relight_repo::read::ChunkReader;
use relight_repo::snapshot::ArchiveKind;
use relight_repo::verify::{
    self, Affected, AffectedArchive, BadManifest, BadParity, Damage, Figures, Finding, Oldest,
};
use relight_repo::{PackId, SnapshotId};
use relight_workloads::files::browse::{TreeView, View};
use relight_workloads::files::damage::concerned;
use serde::Serialize;

use super::sealed::SealedReport;
use crate::exit::Exit;
use crate::failure::Result;
use crate::shown::{PathText, local};

/// So many paths of each archive are named.
const NAMED: usize = 1000;
/// So many of them for people.
const SHOWN: usize = 20;

/// The report.
#[derive(Serialize)]
pub(crate) struct Report {
    /// Whether everything that was looked at can be restored.
    pub restorable: bool,
    /// Whether nothing at all was wrong.
    pub clean: bool,
    /// Somebody asked to stop.
    cancelled: bool,
    figures: Figures,
    affected: Vec<AffectedSnapshot>,
    manifests: Vec<BadManifest>,
    findings: Vec<Finding>,
    parity: Vec<BadParity>,
    healed: Vec<PackId>,
    oldest: Option<Oldest>,
    /// What a key of a client showed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sealed: Option<SealedReport>,
}

/// A snapshot that cannot be restored completely.
#[derive(Serialize)]
struct AffectedSnapshot {
    snapshot: SnapshotId,
    workload: String,
    time: jiff::Timestamp,
    archives: Vec<AffectedPart>,
}

/// An archive of it.
#[derive(Serialize)]
struct AffectedPart {
    #[serde(flatten)]
    archive: AffectedArchive,
    /// Paths of files that cannot be restored completely, as many as are named.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    paths: Vec<PathText>,
    /// How many there are; none where that is not known, or where it is no file tree.
    #[serde(skip_serializing_if = "Option::is_none")]
    path_count: Option<u64>,
    /// What follows for the tree, where no paths can be named.
    #[serde(skip_serializing_if = "Option::is_none")]
    remark: Option<String>,
}

impl Report {
    /// Adds the paths to what the engine says.
    pub fn new(repository: Arc<Repository>, report: verify::Report, cancelled: &AtomicBool) -> Result<Self> {
        let (restorable, clean) = (report.is_restorable(), report.is_clean());
        let reader = Arc::new(ChunkReader::new(repository.clone())?);
        let mut affected = Vec::new();
        for one in report.affected {
            let Affected {
                snapshot,
                workload,
                time,
                archives,
            } = one;
            let view = View::new(reader.clone(), repository.snapshot(snapshot)?);
            let archives = archives
                .into_iter()
                .map(|archive| part(&view, archive, cancelled))
                .collect();
            affected.push(AffectedSnapshot {
                snapshot,
                workload,
                time,
                archives,
            });
        }
        Ok(Self {
            restorable,
            clean,
            cancelled: report.cancelled,
            figures: report.figures,
            affected,
            manifests: report.manifests,
            findings: report.findings,
            parity: report.parity,
            healed: report.healed,
            oldest: report.oldest,
            sealed: None,
        })
    }

    /// Whether somebody asked to stop.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled
    }

    /// The exit code that says it.
    pub fn exit(&self) -> Exit {
        let clean = self.clean && self.sealed.as_ref().is_none_or(SealedReport::is_clean);
        match (clean, self.cancelled) {
            (false, _) => Exit::Damage,
            (true, true) => Exit::Cancelled,
            (true, false) => Exit::Done,
        }
    }
}

fn part(view: &View, archive: AffectedArchive, cancelled: &AtomicBool) -> AffectedPart {
    let of = |kind: fn(&TreeView) -> &str| view.trees().iter().find(|tree| kind(tree) == archive.name);
    let mut part = AffectedPart {
        archive: archive.clone(),
        paths: Vec::new(),
        path_count: None,
        remark: None,
    };
    match archive.kind {
        ArchiveKind::PxarPayload | ArchiveKind::Stream => {
            let Some(tree) = of(|tree| &tree.payload.name) else {
                return part;
            };
            let ranges: Vec<Range<u64>> = archive
                .ranges
                .iter()
                .map(|range| range.offset..range.offset.saturating_add(range.length))
                .collect();
            match concerned(tree, &ranges, NAMED, cancelled) {
                Ok(found) => {
                    part.path_count = Some(found.count);
                    part.paths = found.paths.into_iter().map(PathText::new).collect();
                    let named: u64 = archive.ranges.iter().map(|range| range.length).sum();
                    if named < archive.bytes {
                        part.remark = Some(
                            "more is damaged than is listed here, so other files may be concerned".into(),
                        );
                    } else if tree.is_whole() {
                        part.remark =
                            Some("names and attributes lie there, too: other files may be concerned".into());
                    } else if found.count == 0 {
                        part.remark =
                            Some("no file of this snapshot lies there: all of them can be restored".into());
                    }
                }
                Err(error) => part.remark = Some(format!("which files is not known: {error}")),
            }
        }
        ArchiveKind::PxarMetadata => {
            part.remark = Some("names and attributes are lost from there on, and with them the files".into());
        }
        ArchiveKind::PxarStat => {
            part.remark = Some("all files can be restored; the next backup reads them again".into());
        }
        ArchiveKind::Image | ArchiveKind::Blob => {}
    }
    part
}

fn sealed_words(sealed: &SealedReport, out: &mut String) {
    out.push_str(&format!(
        "{} snapshots were made with the client key: {} chunks of them, {}, opened and compared with their digests.\n",
        sealed.snapshots,
        sealed.chunks,
        ByteSize(sealed.bytes)
    ));
    for problem in &sealed.problems {
        out.push_str(&format!("  {problem}\n"));
    }
}

/// For people.
pub(crate) fn words(report: &Report, out: &mut String) {
    let figures = &report.figures;
    out.push_str(&format!(
        "Checked {} packs with {} chunks, {} ({} of content); {} snapshots looked through.\n",
        figures.packs,
        figures.chunks,
        ByteSize(figures.bytes),
        ByteSize(figures.content),
        figures.snapshots
    ));
    if figures.packs < figures.all_packs {
        out.push_str(&format!(
            "  of {} packs, {}; {} were never checked\n",
            figures.all_packs,
            ByteSize(figures.all_bytes),
            figures.never_checked
        ));
    }
    if let Some(oldest) = &report.oldest {
        let word = if oldest.checked {
            "last checked"
        } else {
            "never checked and written"
        };
        out.push_str(&format!(
            "  the pack that waited longest was {word} {}\n",
            local(oldest.since)
        ));
    }
    if figures.cold > 0 {
        out.push_str(&format!(
            "  {} packs lie in a cold class and were not read\n",
            figures.cold
        ));
    }
    if figures.flaky > 0 {
        out.push_str(&format!(
            "  {} chunks were wrong when first read and right when read again: look after memory, cables and disks\n",
            figures.flaky
        ));
    }
    if !report.healed.is_empty() {
        out.push_str(&format!(
            "  {} packs that were damaged are good again\n",
            report.healed.len()
        ));
    }
    if report.cancelled {
        out.push_str("Stopped before all was checked; what was checked is remembered.\n");
    }
    damage(report, out);
    if let Some(sealed) = &report.sealed {
        sealed_words(sealed, out);
    }
    out.push_str(match (report.restorable, report.clean, report.cancelled) {
        (true, true, false) => "Everything that was checked can be restored.\n",
        (true, true, true) => "Nothing was found to be wrong.\n",
        (true, false, _) => "All snapshots can be restored. `relight repair packs` and the next `relight collect` put the rest in order.\n",
        (false, _, _) => {
            "Next: `relight repair packs` (with --from REPO if there is a copy); then back up again, which stores what \
             is lost as far as the source still has it.\n"
        }
    });
}

fn damage(report: &Report, out: &mut String) {
    for bad in &report.manifests {
        out.push_str(&format!(
            "snapshot {}: its manifest is {}: {}\n",
            bad.snapshot,
            word(bad.damage),
            bad.detail
        ));
    }
    for one in &report.affected {
        let head = format!(
            "{} of {} ({})",
            one.snapshot.short(),
            one.workload,
            local(one.time)
        );
        for part in &one.archives {
            let archive = &part.archive;
            let worst = archive.ranges.iter().map(|range| range.damage).min();
            let worst = worst.map_or_else(String::new, |damage| format!(", {}", word(damage)));
            out.push_str(&format!(
                "snapshot {head}, {}: {}{worst}\n",
                archive.name,
                ByteSize(archive.bytes)
            ));
            for path in part.paths.iter().take(SHOWN) {
                out.push_str(&format!("  {}\n", path.printable()));
            }
            if let Some(more) = part
                .path_count
                .map(|count| count.saturating_sub(SHOWN as u64))
                .filter(|more| *more > 0)
            {
                out.push_str(&format!("  and {more} more files\n"));
            }
            if let Some(remark) = &part.remark {
                out.push_str(&format!("  {remark}\n"));
            }
        }
    }
    for found in &report.findings {
        let pack = found
            .pack
            .map_or_else(|| "in no pack".into(), |pack| format!("pack {pack}"));
        let need = if found.needed { "" } else { " (nothing needs it)" };
        let chunks = match found.chunks.len() {
            0 => String::new(),
            1 => ", 1 chunk".into(),
            count => format!(", {count} chunks"),
        };
        out.push_str(&format!(
            "{}: {pack}{chunks}{need}: {}\n",
            word(found.damage),
            found.detail
        ));
    }
    for bad in &report.parity {
        out.push_str(&format!("parity of pack {} is {}\n", bad.pack, word(bad.damage)));
    }
}

fn word(damage: Damage) -> &'static str {
    damage.word()
}
