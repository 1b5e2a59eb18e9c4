//! What a session has stored when it ends early is there for the next one.

mod common;

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use common::{Place, content};
use relight_repo::session::{IMAGE_CHUNK, Session};
use relight_repo::snapshot::{ArchiveKind, SnapshotSpec};
use relight_repo::storage::memory::MemoryStorage;
use relight_repo::{RepoError, Result};

const CHUNKS: usize = 24;
/// Where the disk cannot be read.
const BAD: usize = 20;

/// Saves an image whose chunk `bad`, if any, cannot be read. Gives how many chunks were new.
fn save(session: &Session, image: &Arc<Vec<u8>>, bad: Option<usize>) -> Result<u64> {
    let mut writer = session.archive("disk.img", ArchiveKind::Image)?;
    for number in 0..CHUNKS {
        let image = image.clone();
        let read = move |buffer: &mut [u8]| {
            if bad == Some(number) {
                return Err(io::Error::other("a bad sector"));
            }
            let at = number * IMAGE_CHUNK;
            buffer.copy_from_slice(&image[at..at + buffer.len()]);
            Ok(())
        };
        writer.push_read(IMAGE_CHUNK, Box::new(read))?;
    }
    let archive = writer.finish()?;
    let spec = SnapshotSpec {
        workload: "vm/1".into(),
        ..SnapshotSpec::default()
    };
    Ok(session.publish(spec, vec![archive])?.figures.new_chunks)
}

fn begin(place: &Place) -> Session {
    Session::begin(place.open().unwrap(), Arc::new(AtomicBool::new(false))).unwrap()
}

#[test]
fn a_source_that_cannot_be_read_costs_nothing_of_what_was() {
    let place = Place::new(Arc::new(MemoryStorage::new()));
    let image = Arc::new(content(1, CHUNKS * IMAGE_CHUNK));
    let session = begin(&place);
    let failed = save(&session, &image, Some(BAD)).unwrap_err();
    assert!(
        matches!(&failed, RepoError::Source(error) if error.to_string().contains("bad sector")),
        "{failed}"
    );
    drop(session);
    let repository = place.open().unwrap();
    assert!(repository.snapshot_ids().unwrap().is_empty());
    assert!(place.storage.list("sessions/").unwrap().is_empty());
    // All that were read before it; perhaps one or two behind it, which other threads were at.
    let known = repository.index().len();
    assert!((BAD..CHUNKS).contains(&known), "{known} chunks are in the index");
    let new = save(&begin(&place), &image, None).unwrap();
    // The chunk list is new, too.
    assert_eq!(new, (CHUNKS - known) as u64 + 1);
}
