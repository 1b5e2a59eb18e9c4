//! What a server sends of a base backup, put into the archives.

use super::files::{Entry, EntryKind};
use super::tar::{HeaderKind, Part, TarReader};
use super::writer::ContentWriter;
use super::{control, label};
use crate::error::{PostgresError, Result};

/// Files that are looked into on the way.
const KEPT: [&str; 2] = [control::PATH, label::PATH];
/// None of them is longer.
const KEPT_MOST: usize = 64 << 10;

/// Takes the tar streams of a base backup.
pub(super) struct Receiver {
    pub writer: ContentWriter,
    tar: TarReader,
    /// `pg_tblspc/OID/` while a tablespace comes.
    prefix: String,
    file: File,
    /// Contents of the files that are looked into.
    kept: Vec<(&'static str, Vec<u8>)>,
}

/// The file that is being received.
enum File {
    None,
    Written,
    Kept,
    Dropped,
}

/// Carries an error of the reader or of what takes its parts.
struct Failure(PostgresError);

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self(PostgresError::damaged("what the server sent", why))
    }
}

impl Receiver {
    /// Nothing has come yet.
    pub fn new(writer: ContentWriter) -> Self {
        Self {
            writer,
            tar: TarReader::default(),
            prefix: String::new(),
            file: File::None,
            kept: Vec::new(),
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
        } = self;
        let mut take = |part: Part<'_>| take(writer, prefix, file, kept, part).map_err(Failure);
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
    }
}

fn take(
    writer: &mut ContentWriter,
    prefix: &str,
    file: &mut File,
    kept: &mut Vec<(&'static str, Vec<u8>)>,
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
                }),
                HeaderKind::File if path == label::MAP => *file = File::Dropped,
                HeaderKind::File => {
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
                if let Some((path, content)) = kept.last_mut() {
                    if content.len() + bytes.len() > KEPT_MOST {
                        return Err(PostgresError::damaged(*path, "it is too long"));
                    }
                    content.extend_from_slice(bytes);
                }
                writer.data(bytes)
            }
            File::None | File::Dropped => Ok(()),
        },
        Part::End => match std::mem::replace(file, File::None) {
            File::Written | File::Kept => writer.end(),
            File::None | File::Dropped => Ok(()),
        },
    }
}
