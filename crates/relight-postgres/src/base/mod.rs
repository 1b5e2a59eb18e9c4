//! Base backups: all files of a cluster, as a server sends them or as they are read on its host, in archives from which
//! unchanged pages need no second copy. Each holds the log that it needs to become consistent.

pub mod attributes;
pub mod control;
mod direct;
pub mod files;
mod inventory;
pub mod label;
pub mod pages;
mod previous;
mod receive;
mod rows;
mod scan;
pub(crate) mod server;
mod stream;
pub mod tar;
mod writer;

use std::sync::Arc;

use relight_model::workload::Workload;
use relight_repo::read::{ArchiveReader, ChunkReader};
use relight_repo::session::Session;
use relight_repo::snapshot::{Archive, ArchiveKind, Snapshot};
use relight_workloads::kind::{Captured, Work};
use serde::{Deserialize, Serialize};

pub use attributes::{About, is_base};
pub use inventory::{CONFIGURATION, INVENTORY, Inventory, OutsideFile};
pub use rows::RowCount;
pub use server::ServerFacts;
pub(crate) use server::clock;
pub use writer::{BadPage, CONTENT, LIST};

use crate::connect::Settings;
use crate::error::{PostgresError, Result};
use files::FileList;
use previous::Previous;

/// Name of the archive with the server's own list of files and their checksums.
pub const MANIFEST: &str = "backup_manifest";
/// Bytes of a chunk, if no earlier backup says otherwise: two pages. Rows change all over a table, and of longer chunks
/// nearly each would hold one that changed; pages one by one take a fifth longer to compress and a twentieth more space.
const CHUNK: u64 = 16 << 10;
/// So many bytes are read and handed on together, and lie side by side in a pack.
const TOGETHER: u64 = 1 << 20;
/// No chunk is longer.
const CHUNK_MOST: u64 = 4 << 20;
/// Where chunks become longer, so that a repository has to know of fewer.
const CHUNKS: u64 = 32 << 20;

/// Bytes of a chunk of a cluster of so many bytes.
fn chunk_for(bytes: u64) -> u64 {
    bytes
        .div_ceil(CHUNKS)
        .next_power_of_two()
        .clamp(CHUNK, CHUNK_MOST)
}

/// No inventory is longer.
const INVENTORY_MOST: u64 = 256 << 20;

/// How a base backup is taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Route {
    /// The server sends it over the replication protocol.
    #[default]
    Stream,
    /// The files are read on the server's host.
    Files,
}

/// What may be chosen for a base backup.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it comes from.
    pub route: Route,
    /// Begin at once with a checkpoint that writes as fast as it can, instead of one that is spread over time.
    pub fast: bool,
    /// Have everything sent, even if the server could tell what changed.
    pub full: bool,
    /// Most bytes per second that the server sends; none is no limit.
    pub rate: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            route: Route::Stream,
            fast: true,
            full: false,
            rate: None,
        }
    }
}

/// What a way of taking a backup gives.
struct Taken {
    content: Archive,
    list: FileList,
    bad: Vec<BadPage>,
    manifest: Option<Vec<u8>>,
    about: About,
    /// Words for the operator about what could have been better.
    remarks: Vec<String>,
    /// Bytes that were read or sent.
    read: u64,
}

/// Takes a base backup of a workload into a session, to be published with what is given back.
///
/// # Errors
/// Why there is none. The server is left as it was.
pub fn back_up(
    settings: &Settings,
    session: &Session,
    workload: &Workload,
    options: &Options,
    work: &Work,
) -> Result<Captured> {
    let (server, mut facts) = server::visit(settings, work)?;
    let previous = newest(session, workload)?;
    if let Some((_, about)) = &previous
        && about.system != facts.system
    {
        return Err(PostgresError::Refused(format!(
            "{workload} is cluster {}, but {} is cluster {}: nothing was saved; give it a name of its own",
            about.system,
            facts.connection.server(),
            facts.system
        )));
    }
    let previous = match previous {
        Some((snapshot, about)) if !options.full => Some(Previous::load(session, &snapshot, about)?),
        _ => None,
    };
    let before = rows::Activity::look(&server, &mut facts);
    let (taken, counted) = before.count_beside(&server, work, || match options.route {
        Route::Stream => stream::take(&server, session, &mut facts, previous.as_ref(), options, work),
        Route::Files => direct::take(&server, session, &mut facts, previous.as_ref(), options, work),
    })?;
    let rows = before.unchanged(counted, &server, &mut facts);
    publishable(session, taken, facts, &server, rows, work)
}

/// The newest base backup of a workload.
fn newest(session: &Session, workload: &Workload) -> Result<Option<(Snapshot, About)>> {
    let (snapshots, _) = session.repository().snapshots()?;
    let bases = snapshots
        .into_iter()
        .filter(|snapshot| snapshot.workload == workload.as_str() && is_base(snapshot));
    let newest = bases
        .filter_map(|snapshot| About::of(&snapshot).ok().map(|about| (snapshot, about)))
        .max_by_key(|(_, about)| about.stop_time);
    Ok(newest)
}

fn publishable(
    session: &Session,
    taken: Taken,
    mut facts: ServerFacts,
    server: &Settings,
    rows: Vec<RowCount>,
    work: &Work,
) -> Result<Captured> {
    let mut incomplete = Vec::new();
    for page in server::still_bad(&mut facts.connection, taken.bad) {
        incomplete.push(format!(
            "{}: page {} has a wrong checksum, and had it before the backup began (last changed at {}): it was saved as it \
             is; find out what table it belongs to, and bring that back from an older backup",
            page.path, page.page, page.lsn
        ));
    }
    let mut archives = vec![taken.content, small(session, LIST, &taken.list.encode()?)?];
    if let Some(manifest) = &taken.manifest {
        archives.push(small(session, MANIFEST, manifest)?);
    }
    let (mut inventory, outside, remarks) = inventory::take(&mut facts, server);
    inventory.rows = rows;
    archives.push(small(session, INVENTORY, &inventory::encode(&inventory)?)?);
    archives.push(small(session, CONFIGURATION, &inventory::encode(&outside)?)?);
    for remark in taken.remarks.iter().chain(&remarks) {
        work.note(remark);
    }
    let about = taken.about;
    Ok(Captured {
        // What it brings back is the state at its end.
        time: Some(about.stop_time),
        attributes: about.attributes(&taken.list),
        archives,
        incomplete,
        read: taken.read,
    })
}

fn small(session: &Session, name: &str, content: &[u8]) -> Result<Archive> {
    let mut writer = session.archive(name, ArchiveKind::Blob)?;
    writer.write(content)?;
    Ok(writer.finish()?)
}

/// The list of files of a base backup.
pub fn load_list(reader: &Arc<ChunkReader>, snapshot: &Snapshot) -> Result<FileList> {
    let content = snapshot.archive(CONTENT)?.root.size;
    FileList::load(
        &ArchiveReader::new(reader.clone(), snapshot.archive(LIST)?.root),
        content,
    )
}

/// What a base backup knows of its cluster.
pub fn load_inventory(reader: &Arc<ChunkReader>, snapshot: &Snapshot) -> Result<Inventory> {
    let archive = ArchiveReader::new(reader.clone(), snapshot.archive(INVENTORY)?.root);
    if archive.size() > INVENTORY_MOST {
        return Err(PostgresError::damaged(
            "the inventory",
            format!("it has {} bytes", archive.size()),
        ));
    }
    let mut bytes = vec![0; archive.size() as usize];
    archive.read_exact_at(&mut bytes, 0)?;
    inventory::decode(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_become_longer_where_there_would_be_too_many() {
        assert_eq!(chunk_for(0), CHUNK);
        assert_eq!(chunk_for(512 << 30), CHUNK);
        assert_eq!(chunk_for((512 << 30) + 1), 2 * CHUNK);
        assert_eq!(chunk_for(u64::MAX), CHUNK_MOST);
    }
}
