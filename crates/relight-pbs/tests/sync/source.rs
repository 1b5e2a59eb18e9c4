//! What the servers have.

use relight_pbs::formats::blob;
use relight_pbs::formats::crypt::CryptKey;

use crate::sides::Side;
use crate::support::{Upload, content};

pub const MIB: usize = 1 << 20;
pub const VM1: &str = "vm/100/2023-11-14T22:13:21Z";
pub const VM2: &str = "vm/100/2023-11-15T22:13:21Z";
pub const CT: &str = "ct/200/2023-11-14T22:13:21Z";
pub const HOST: &str = "host/web/2023-11-14T22:13:21Z";
pub const SEALED: &str = "vm/300/2023-11-14T22:13:21Z";

/// A disk with holes and repetitions, of an odd length.
pub fn disk(seed: u64) -> Vec<u8> {
    let mut disk = content(1, 13 * MIB + 4321);
    disk[4 * MIB..8 * MIB].fill(0);
    disk[9 * MIB] ^= seed as u8;
    disk
}

/// A snapshot with an image, a stream and a small file.
pub fn upload(side: &Side, namespace: &str, name: &str, seed: u64) {
    let stream = content(seed, 300_000);
    let zeros = vec![0; 50_000];
    let mut chunks: Vec<&[u8]> = stream.chunks(70_000).collect();
    chunks.insert(2, &zeros);
    Upload::new(&side.store.repository(), namespace, name)
        .image("drive-scsi0.img.fidx", &disk(seed))
        .stream("root.pxar.didx", chunks)
        .blob("qemu-server.conf.blob", format!("memory: {seed}").as_bytes())
        .finish("root@pam");
}

/// A snapshot that a client encrypted and signed.
pub fn upload_sealed(side: &Side, name: &str) {
    let key = CryptKey::new(&[7; 32]).unwrap();
    let disk = disk(0);
    let chunks: Vec<_> = disk
        .chunks(4 * MIB)
        .map(|chunk| (key.digest(chunk), blob::encrypt(chunk, &key, true).unwrap()))
        .collect();
    Upload::new(&side.store.repository(), "", name)
        .sealed_image("drive-scsi0.img.fidx", &chunks, disk.len() as u64)
        .finish("root@pam");
}

/// Two snapshots of a guest, a container in a namespace, a host, and what `relight backup` made.
pub fn fill(side: &Side) {
    upload(side, "", VM1, 1);
    upload(side, "", VM2, 2);
    upload(side, "lab/berlin", CT, 3);
    upload(side, "", HOST, 1);
    upload_sealed(side, SEALED);
}
