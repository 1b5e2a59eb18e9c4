//! What a server sends of a base backup, put into the archives.

use super::files::{Entry, EntryKind};
use super::previous::Previous;
use super::tar::{HeaderKind, Part, TarReader};
use super::writer::ContentWriter;
use super::{control, label};
use crate::error::{PostgresError, Result};

/// Files that a restore makes by itself; those of a standby would make it one too.
const DROPPED: [&str; 3] = [label::MAP, "standby.signal", "recovery.signal"];
/// Files that are looked into on the way.
const KEPT: [&str; 1] = [control::PATH];
/// None of them is longer.
const KEPT_MOST: usize = 64 << 10;

/// Takes the tar streams of a base backup.
pub(super) struct Receiver<'p> {
    pub writer: ContentWriter<'p>,
    tar: TarReader,
    /// `pg_tblspc/OID/` while a tablespace comes.
    prefix: String,
    file: File,
    /// Contents of the files that are looked into.
    kept: Vec<(&'static str, Vec<u8>)>,
    /// What incremental files are put together with, and the bytes of a block.
    previous: Option<(&'p Previous, u32)>,
}

/// What the server puts before the name of a file of which it sends only what changed.
const INCREMENTAL: &str = "INCREMENTAL.";
/// Lines of a label that would keep a server from starting: what it lies beside is no incremental backup any more.
const INCREMENTAL_FROM: &str = "INCREMENTAL FROM";

/// The file that is being received.
enum File {
    None,
    Written,
    /// Written, and looked into.
    Kept,
    /// Looked into, and written when it is complete.
    Label {
        mode: u32,
        modified: i64,
    },
    Dropped,
}

/// Carries an error of the reader or of what takes its parts.
struct Failure(PostgresError);

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self(PostgresError::damaged("what the server sent", why))
    }
}

impl<'p> Receiver<'p> {
    /// Nothing has come yet.
    pub fn new(writer: ContentWriter<'p>, previous: Option<(&'p Previous, u32)>) -> Self {
        Self {
            writer,
            tar: TarReader::default(),
            prefix: String::new(),
            file: File::None,
            kept: Vec::new(),
            previous,
        }
    }

    /// A tar stream begins: that of the data directory, or of the tablespace of this number.
    pub fn archive(&mut self, tablespace: Option<u32>) -> Result<()> {
        self.end_archive()?;
        self.prefix = tablespace.map_or(String::new(), |oid| format!("pg_tblspc/{oid}/"));
        if let Some(oid) = tablespace {
            self.writer.add(directory(format!("pg_tblspc/{oid}"), 0o700, 0));
        }
        Ok(())
    }

    /// The stream has ended.
    pub fn end_archive(&mut self) -> Result<()> {
        if !self.tar.is_complete() {
            return Err(PostgresError::damaged("what the server sent", "it is cut off"));
        }
        self.tar = TarReader::default();
        Ok(())
    }

    /// Takes bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        let Self {
            writer,
            tar,
            prefix,
            file,
            kept,
            previous,
        } = self;
        let mut take = |part: Part<'_>| take(writer, prefix, file, kept, *previous, part).map_err(Failure);
        tar.push(bytes, &mut take).map_err(|Failure(error)| error)
    }

    /// The content of a file that is looked into.
    pub fn kept(&self, path: &str) -> Result<&[u8]> {
        let found = self.kept.iter().find(|(kept, _)| *kept == path);
        found
            .map(|(_, content)| content.as_slice())
            .ok_or_else(|| PostgresError::damaged("what the server sent", format!("{path} is missing")))
    }
}

fn directory(path: String, mode: u32, modified: i64) -> Entry {
    Entry {
        path,
        kind: EntryKind::Directory,
        mode,
        modified,
        stamp: None,
    }
}

fn take<'p>(
    writer: &mut ContentWriter<'p>,
    prefix: &str,
    file: &mut File,
    kept: &mut Vec<(&'static str, Vec<u8>)>,
    previous: Option<(&'p Previous, u32)>,
    part: Part<'_>,
) -> Result<()> {
    match part {
        Part::Begin(header) => {
            let path = format!("{prefix}{}", header.name.trim_start_matches("./"));
            *file = File::None;
            match header.kind {
                HeaderKind::Directory if path == "." || path.is_empty() => {}
                HeaderKind::Directory => writer.add(directory(path, header.mode, header.modified)),
                // Where tablespaces are is told beside.
                HeaderKind::Link(_) if path.starts_with("pg_tblspc/") => {}
                HeaderKind::Link(to) => writer.add(Entry {
                    path,
                    kind: EntryKind::Link { to },
                    mode: header.mode,
                    modified: header.modified,
                    stamp: None,
                }),
                HeaderKind::File if DROPPED.contains(&path.as_str()) => *file = File::Dropped,
                HeaderKind::File if path == label::PATH => {
                    kept.push((label::PATH, Vec::new()));
                    *file = File::Label {
                        mode: header.mode,
                        modified: header.modified,
                    };
                }
                HeaderKind::File => {
                    let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
                    if let (Some(name), Some((previous, block))) = (name.strip_prefix(INCREMENTAL), previous)
                    {
                        let whole = format!("{folder}/{name}");
                        writer.begin_changed(
                            &whole,
                            header.size,
                            (header.mode, header.modified),
                            previous,
                            block,
                        )?;
                        *file = File::Written;
                        return Ok(());
                    }
                    writer.begin(&path, header.size, header.mode, header.modified);
                    *file = File::Written;
                    if let Some(known) = KEPT.into_iter().find(|known| *known == path) {
                        kept.push((known, Vec::new()));
                        *file = File::Kept;
                    }
                }
            }
            Ok(())
        }
        Part::Data(bytes) => match file {
            File::Written => writer.data(bytes),
            File::Kept => {
                keep(kept, bytes)?;
                writer.data(bytes)
            }
            File::Label { .. } => keep(kept, bytes),
            File::None | File::Dropped => Ok(()),
        },
        Part::End => match std::mem::replace(file, File::None) {
            File::Written | File::Kept => writer.end(),
            File::Label { mode, modified } => {
                let (_, content) = kept
                    .last()
                    .ok_or_else(|| PostgresError::damaged(label::PATH, "it is missing"))?;
                let text = String::from_utf8_lossy(content);
                let text: String = text
                    .lines()
                    .filter(|line| !line.starts_with(INCREMENTAL_FROM))
                    .flat_map(|line| [line, "\n"])
                    .collect();
                writer.begin(label::PATH, text.len() as u64, mode, modified);
                writer.data(text.as_bytes())?;
                writer.end()
            }
            File::None | File::Dropped => Ok(()),
        },
    }
}

fn keep(kept: &mut [(&'static str, Vec<u8>)], bytes: &[u8]) -> Result<()> {
    if let Some((path, content)) = kept.last_mut() {
        if content.len() + bytes.len() > KEPT_MOST {
            return Err(PostgresError::damaged(*path, "it is too long"));
        }
        content.extend_from_slice(bytes);
    }
    Ok(())
}
