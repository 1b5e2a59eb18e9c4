//! What the tests back up.

use relight_pbs::formats::blob::Blob;
use relight_pbs::formats::index::FixedIndex;

use crate::wire::*;

pub const FIRST: &str = "host/fix/2023-11-14T22:13:21Z";

pub const SECOND: &str = "host/fix/2023-11-14T23:13:21Z";

/// An image with a hole, whose end is no whole chunk.
pub fn image(seed: u64) -> Vec<u8> {
    let mut image = content(seed, 3 * FULL + 1000);
    image[FULL..2 * FULL].fill(0);
    image[2 * FULL..2 * FULL + FULL / 2].fill(7);
    image
}

/// Restores an image through the reader protocol.
pub async fn restored(
    store: &std::sync::Arc<relight_pbs::service::datastore::Datastore>,
    name: &str,
    file: &str,
) -> Vec<u8> {
    let session = ReaderSession::begin(store, name).await.unwrap();
    let index = FixedIndex::parse(&session.download(file).await).unwrap();
    let mut image = Vec::new();
    for (digest, length) in index.chunks() {
        let content = Blob::parse(&session.chunk(&digest).await)
            .unwrap()
            .decode(FULL)
            .unwrap();
        assert_eq!((content.len() as u64, sha256(&content)), (length, digest));
        image.extend(content);
    }
    image
}
