//! Drills of disk images: all images of a snapshot are restored, read back, looked at (partitions, file systems) and booted, if the
//! plan says so.
//!
//! ```toml
//! probe = { boot = { marker = "login:", memory = "2 GiB", timeout = "5 m" } }
//! ```

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use relight_model::ByteSize;
use relight_repo::read::{Scan, scan};
use relight_repo::session::is_zero;
use relight_repo::snapshot::{Archive, ArchiveKind, Snapshot};
use relight_repo::tree::TreeReader;
use relight_repo::{ChunkId, RepoError};
use rustix::fs::SeekFrom;
use serde::Deserialize;

use super::boot::{BootWords, OVERLAY};
use super::disk::{self, Found, ImageDisk, Name, Partition, Table};
use super::{After, Images, Target, failed, next_data, restore};
use crate::error::{Result, WorkloadError};
use crate::files::spoil_byte;
use crate::kind::{Subject, Work};
use crate::rehearse::command::{CommandWords, find_program, shown};
use crate::rehearse::isolated::{Ended, Isolated};
use crate::rehearse::{Probed, Rehearsal, Rehearse, Restored, probe_words};

/// So long may the check of one file system take.
const CHECK: Duration = Duration::from_secs(3600);
/// So much is copied at once.
const BLOCK: usize = 1 << 20;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Words {
    boot: Option<BootWords>,
    #[serde(flatten)]
    command: CommandWords,
}

/// `deny_unknown_fields` does not go together with `flatten`.
const KNOWN: &[&str] = &["boot", "command", "timeout"];

fn words(subject: &Subject) -> Result<Words> {
    let words: Words = probe_words(subject, "{ boot = { marker = \"login:\" } }")?;
    let refused = |why: String| WorkloadError::Refused(format!("{}: probe: {why}", subject.workload));
    if let Some(word) = subject.probe.words().find(|word| !KNOWN.contains(word)) {
        return Err(refused(format!(
            "there is no {word:?}; there is: {}",
            KNOWN.join(", ")
        )));
    }
    if let Some(boot) = &words.boot {
        boot.check().map_err(refused)?;
    }
    words.command.check().map_err(refused)?;
    Ok(words)
}

fn images(snapshot: &Snapshot) -> impl Iterator<Item = &Archive> {
    snapshot
        .archives
        .iter()
        .filter(|archive| archive.kind == ArchiveKind::Image)
}

impl Rehearse for Images {
    fn check_probe(&self, subject: &Subject) -> Result<()> {
        words(subject).map(drop)
    }

    fn room(&self, rehearsal: &Rehearsal<'_>) -> Result<u64> {
        let mut room = match words(rehearsal.subject)?.boot {
            Some(_) => OVERLAY,
            None => 0,
        };
        for image in images(rehearsal.snapshot) {
            // Zeros stay holes.
            for piece in TreeReader::new(&**rehearsal.reader, image.root, 0)? {
                let piece = piece?;
                if piece.id != ChunkId::ZEROS {
                    room = room.saturating_add(piece.length);
                }
            }
        }
        Ok(room)
    }

    fn restore<'a>(&self, rehearsal: &Rehearsal<'a>, work: &Work) -> Result<Box<dyn Restored + 'a>> {
        let words = words(rehearsal.subject)?;
        let after = After {
            check: true,
            sync: true,
        };
        let mut restored = Vec::new();
        for archive in images(rehearsal.snapshot) {
            let path = rehearsal.sandbox.join(archive.name.replace('/', "_"));
            work.note(&format!("restoring {}", archive.name));
            let (reader, done) = (rehearsal.reader, &work.done);
            restore(
                reader,
                archive,
                &path,
                Target::NewFile,
                after,
                done,
                &work.cancelled,
            )?;
            restored.push((archive, path));
        }
        if restored.is_empty() {
            let short = rehearsal.snapshot.id.short();
            return Err(WorkloadError::Refused(format!(
                "snapshot {short} holds no disk image"
            )));
        }
        Ok(Box::new(RestoredImages {
            rehearsal: *rehearsal,
            words,
            images: restored,
            spoiled: false,
        }))
    }
}

struct RestoredImages<'a> {
    rehearsal: Rehearsal<'a>,
    words: Words,
    images: Vec<(&'a Archive, PathBuf)>,
    spoiled: bool,
}

impl Restored for RestoredImages<'_> {
    fn size(&self) -> u64 {
        self.images.iter().map(|(archive, _)| archive.root.size).sum()
    }

    fn probe(&mut self, work: &Work) -> Result<Vec<Probed>> {
        let mut probes = Vec::new();
        if self.spoiled {
            probes.push(self.compare_with_repository(work)?);
            if probes.iter().any(|probe| !probe.passed) {
                // Noticed: a machine need not be booted for that once more.
                return Ok(probes);
            }
        } else {
            // The restore has read everything back and compared it.
            let seen = format!(
                "{} images, {}, read back and as they were saved",
                self.images.len(),
                ByteSize(self.size())
            );
            probes.push(Probed::passed("content", seen));
        }
        for (archive, path) in &self.images {
            self.look(archive, path, &mut probes, work)?;
        }
        if let Some(boot) = &self.words.boot {
            probes.push(boot.run(&self.boot_order(boot)?, self.rehearsal.sandbox, work)?);
        }
        probes.extend(self.words.command.run(&self.rehearsal, work)?);
        Ok(probes)
    }

    fn spoil(&mut self, work: &Work) -> Result<String> {
        let before = self.compare_with_repository(work)?;
        if !before.passed {
            return Err(WorkloadError::Refused(format!(
                "it was wrong before: {}",
                before.seen
            )));
        }
        let largest = self.images.iter().max_by_key(|(archive, _)| archive.root.size);
        let Some((archive, path)) = largest.filter(|(archive, _)| archive.root.size > 0) else {
            return Err(WorkloadError::Refused(
                "the images are empty: there is nothing to make wrong".into(),
            ));
        };
        let file = File::open(path).map_err(failed("open", path))?;
        let size = archive.root.size;
        // A hole, if there is nothing else.
        let at = match next_data(&file, 0, size) {
            at if at < size => at,
            _ => 0,
        };
        spoil_byte(path, at)?;
        self.spoiled = true;
        Ok(format!("byte {at} of {} was changed", archive.name))
    }
}

impl RestoredImages<'_> {
    /// The images, the one to boot from first.
    fn boot_order(&self, boot: &BootWords) -> Result<Vec<&Path>> {
        let is_named = |archive: &Archive, name: &str| {
            archive.name == name || archive.name.strip_suffix(super::IMAGE) == Some(name)
        };
        let first = match &boot.image {
            Some(name) => self
                .images
                .iter()
                .position(|(archive, _)| is_named(archive, name)),
            None => {
                let sizes = self.images.iter().enumerate();
                // Of several equally large ones the first.
                sizes
                    .rev()
                    .max_by_key(|(_, (archive, _))| archive.root.size)
                    .map(|(number, _)| number)
            }
        };
        let Some(first) = first else {
            let names: Vec<&str> = self
                .images
                .iter()
                .map(|(archive, _)| archive.name.as_str())
                .collect();
            return Err(WorkloadError::Refused(format!(
                "boot: there is no image {:?}; there is: {}",
                boot.image.as_deref().unwrap_or_default(),
                names.join(", ")
            )));
        };
        let mut order: Vec<&Path> = self.images.iter().map(|(_, path)| path.as_path()).collect();
        let image = order.remove(first);
        order.insert(0, image);
        Ok(order)
    }

    /// Reads the images from the sandbox and compares them with the repository.
    fn compare_with_repository(&self, work: &Work) -> Result<Probed> {
        for (archive, path) in &self.images {
            let file = File::open(path).map_err(failed("open", path))?;
            let wrong = AtomicU64::new(u64::MAX);
            let compare = |piece: relight_repo::tree::Piece, content: Scan<'_>| {
                let is_same = same(&file, piece.offset, piece.length, content).map_err(RepoError::Source)?;
                if !is_same {
                    wrong.fetch_min(piece.offset, std::sync::atomic::Ordering::Relaxed);
                }
                Ok(())
            };
            scan(self.rehearsal.reader, archive.root, &work.cancelled, &compare)?;
            match wrong.into_inner() {
                u64::MAX => {}
                at => {
                    let seen = format!(
                        "{} is not what was saved in the 4 MiB from byte {at} on",
                        archive.name
                    );
                    return Ok(Probed::failed("content", seen));
                }
            }
        }
        Ok(Probed::passed(
            "content",
            format!("{} images are as they were saved", self.images.len()),
        ))
    }

    /// Looks at partitions and file systems.
    fn look(&self, archive: &Archive, path: &Path, probes: &mut Vec<Probed>, work: &Work) -> Result<()> {
        let file = File::open(path).map_err(failed("open", path))?;
        let image = ImageDisk::new(file).map_err(failed("read", path))?;
        let name = &archive.name;
        let table = disk::table(&image).map_err(failed("read", path))?;
        let whole = [Partition {
            number: 0,
            offset: 0,
            size: archive.root.size,
        }];
        let parts = match &table {
            Table::None => &whole[..],
            Table::Damaged(why) => {
                probes.push(Probed::failed("partitions", format!("{name}: {why}")));
                return Ok(());
            }
            Table::Mbr(parts) => {
                probes.push(Probed::passed(
                    "partitions",
                    format!("{name}: MBR, {} partitions", parts.len()),
                ));
                parts
            }
            Table::Gpt(parts) => {
                let seen = format!("{name}: GPT, both copies good, {} partitions", parts.len());
                probes.push(Probed::passed("partitions", seen));
                parts
            }
        };
        for part in parts {
            let found = disk::find(&image, part.offset, part.size).map_err(failed("read", path))?;
            let Some(found) = found else {
                continue;
            };
            let place = match part.number {
                0 => name.clone(),
                number => format!("{name} partition {number}"),
            };
            probes.push(match &found.wrong {
                Some(why) => Probed::failed("file-system", format!("{place}: {}: {why}", found.name)),
                None => self.check(path, part, &found, &place, work)?,
            });
        }
        Ok(())
    }

    /// Asks the file system's own checker, where it is installed and can be asked.
    fn check(
        &self,
        path: &Path,
        part: &Partition,
        found: &Found,
        place: &str,
        work: &Work,
    ) -> Result<Probed> {
        let name = found.name;
        let unchecked = |why: &str| {
            Ok(Probed::passed(
                "file-system",
                format!("{place}: {name}, superblock good{why}"),
            ))
        };
        let (program, package) = match name {
            Name::Ext => ("e2fsck", "e2fsprogs"),
            Name::Xfs => ("xfs_repair", "xfsprogs"),
            _ => return unchecked(""),
        };
        let Ok(program) = find_program(program, package) else {
            return unchecked(&format!("; not checked further: {package} is not installed"));
        };
        work.note(&format!("probe: checking {place}"));
        let scratch = self.rehearsal.sandbox.join("file-system");
        let mut target = path.to_owned();
        // A journal has to be applied before anything can be said, and that is writing; and not all checkers take a place in a file.
        let is_copied = found.has_journal || (name == Name::Xfs && part.offset > 0);
        if is_copied {
            if !has_room(self.rehearsal.sandbox, path, part)? {
                return unchecked("; not checked further: there is no room for a copy of it");
            }
            copy_part(path, part, &scratch, work)?;
            target.clone_from(&scratch);
        }
        let checked = match name {
            Name::Ext => self.check_ext(&program, &target, part, found, is_copied, work),
            _ => self.run_check(&program, &["-n", "-f"], &target, work),
        };
        if is_copied {
            std::fs::remove_file(&scratch).map_err(failed("remove", &scratch))?;
        }
        let (ended, said) = checked?;
        if ended.is_success() {
            let journal = if found.has_journal {
                ", after its journal was applied"
            } else {
                ""
            };
            return Ok(Probed::passed(
                "file-system",
                format!("{place}: {name}, checked and clean{journal}"),
            ));
        }
        // Only mounting applies its log: what is found before that says nothing.
        if name == Name::Xfs && said.contains("metadata changes in a log") {
            return unchecked("; its log was not applied, so nothing more can be said");
        }
        let said = shown(said.as_bytes());
        Ok(Probed::failed(
            "file-system",
            format!("{place}: {name}: {ended}: {said}"),
        ))
    }

    fn check_ext(
        &self,
        program: &Path,
        target: &Path,
        part: &Partition,
        found: &Found,
        is_copied: bool,
        work: &Work,
    ) -> Result<(Ended, String)> {
        if found.has_journal {
            let applied = self.run_check(program, &["-y", "-E", "journal_only"], target, work)?;
            // 1: it has changed something, which is what it is for.
            let is_applied =
                matches!(applied.0, Ended::Status(status) if matches!(status.code(), Some(0 | 1)));
            if !is_applied {
                return Ok(applied);
            }
        }
        let mut place = target.as_os_str().to_owned();
        if !is_copied && part.offset > 0 {
            place.push(format!("?offset={}", part.offset));
        }
        self.run_check(program, &["-f", "-n"], Path::new(&place), work)
    }

    /// Runs a checker where it can do no harm: what it reads may be made to mislead it.
    fn run_check(
        &self,
        program: &Path,
        options: &[&str],
        target: &Path,
        work: &Work,
    ) -> Result<(Ended, String)> {
        let mut running = Isolated::new(program, self.rehearsal.sandbox)
            .args(options)
            .arg(target)
            .start()?;
        let ended = running.wait(CHECK, &work.cancelled)?;
        Ok((ended, String::from_utf8_lossy(&running.output()).into_owned()))
    }
}

/// Whether a part of a file has this content.
fn same(file: &File, offset: u64, length: u64, content: Scan<'_>) -> io::Result<bool> {
    let mut at = 0;
    let mut buffer = vec![0; BLOCK];
    while at < length {
        let count = (length - at).min(BLOCK as u64) as usize;
        let Some(part) = buffer.get_mut(..count) else {
            return Ok(false);
        };
        file.read_exact_at(part, offset + at)?;
        let is_same = match content {
            Scan::Zeros => is_zero(part),
            Scan::Data(bytes) => bytes.get(at as usize..at as usize + count) == Some(&*part),
        };
        if !is_same {
            return Ok(false);
        }
        at += count as u64;
    }
    Ok(true)
}

/// Whether a copy of all data of a part has room in the sandbox.
fn has_room(sandbox: &Path, path: &Path, part: &Partition) -> Result<bool> {
    let stat = rustix::fs::statvfs(sandbox)
        .map_err(|error| failed("find the free space of", sandbox)(error.into()))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let file = File::open(path).map_err(failed("open", path))?;
    let needed = data_of(&file, part).map(|(from, to)| to - from).sum::<u64>();
    Ok(needed.saturating_add(needed / 20).saturating_add(64 << 20) <= free)
}

/// The parts of a part that are no holes.
fn data_of<'f>(file: &'f File, part: &Partition) -> impl Iterator<Item = (u64, u64)> + 'f {
    let end = part.offset.saturating_add(part.size);
    let mut at = part.offset;
    std::iter::from_fn(move || {
        let from = next_data(file, at, end);
        if from >= end {
            return None;
        }
        let to = match rustix::fs::seek(file, SeekFrom::Hole(from)) {
            Ok(to) => to.clamp(from + 1, end),
            Err(_) => end,
        };
        at = to;
        Some((from, to))
    })
}

fn copy_part(path: &Path, part: &Partition, to: &Path, work: &Work) -> Result<()> {
    let from = File::open(path).map_err(failed("open", path))?;
    let copy = File::create(to).map_err(failed("make", to))?;
    copy.set_len(part.size).map_err(failed("make room in", to))?;
    let mut buffer = vec![0; BLOCK];
    for (begin, end) in data_of(&from, part) {
        let mut at = begin;
        while at < end {
            if work.is_cancelled() {
                return Err(RepoError::Cancelled.into());
            }
            let count = (end - at).min(BLOCK as u64) as usize;
            let block = buffer.get_mut(..count).unwrap_or_default();
            from.read_exact_at(block, at).map_err(failed("read", path))?;
            copy.write_all_at(block, at - part.offset)
                .map_err(failed("write", to))?;
            at += count as u64;
        }
    }
    (&copy).flush().map_err(failed("write", to))
}
