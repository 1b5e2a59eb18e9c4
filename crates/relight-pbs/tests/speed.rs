//! What a backup and a restore cost the server: processor seconds a GiB and memory. Run by hand, optimised:
//! `cargo test --release -p relight-pbs --test speed -- --ignored --nocapture`

mod support;
mod wire;

use std::sync::Arc;
use std::time::Instant;

use relight_pbs::formats::blob;
use relight_pbs::formats::index::{Digest, FixedIndex};
use relight_pbs::formats::manifest::CryptMode;
use relight_pbs::service::backup;
use relight_pbs::service::datastore::Datastore;
use relight_pbs::service::reader::{self, ReaderRequest};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use wire::*;

/// Chunks of 4 MiB of each backup.
const CHUNKS: usize = 256;
/// Chunks that a client sends at once.
const AT_ONCE: usize = 16;

/// Processor seconds of all threads, and of those of the client.
fn processor() -> (f64, f64) {
    let (mut all, mut client) = (0.0, 0.0);
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let Ok(stat) = std::fs::read_to_string(task.unwrap().path().join("stat")) else {
            continue;
        };
        let (name, rest) = stat.rsplit_once(')').unwrap();
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let ticks = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
        if name.contains("(client") {
            client += ticks / 100.0;
        }
        all += ticks / 100.0;
    }
    // Threads that have ended count in the process only.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    (all.max(ticks / 100.0), client)
}

/// The most memory that was used since it was last asked, in MiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    let peak = line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024;
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    peak
}

struct Encoded {
    digest: Digest,
    blob: bytes::Bytes,
}

/// Content a quarter of which can be compressed away.
fn encoded(seed: u64) -> Vec<Encoded> {
    let one = |number: usize| {
        let mut bytes = content(seed + number as u64, FULL);
        bytes[FULL / 2..FULL * 3 / 4].fill(number as u8);
        Encoded {
            digest: sha256(&bytes),
            blob: blob::encode(&bytes, true).unwrap().into(),
        }
    };
    (0..CHUNKS).map(one).collect()
}

async fn back_up(wire: Wire, name: String, chunks: Arc<Vec<Encoded>>) {
    let size = CHUNKS * FULL;
    let target = format!("/fixed_index?archive-name=disk.img.fidx&size={size}");
    let wid = wire.post(&target).await.data().as_u64().unwrap();
    let mut tasks = JoinSet::new();
    for number in 0..CHUNKS {
        if tasks.len() >= AT_ONCE {
            tasks.join_next().await.unwrap().unwrap();
        }
        let (wire, chunks) = (wire.clone(), chunks.clone());
        tasks.spawn(async move {
            let chunk = &chunks[number];
            let target = chunk_target("fixed", wid, &chunk.digest, FULL, chunk.blob.len());
            wire.post_bytes(&target, chunk.blob.clone()).await.data();
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let digests: Vec<String> = chunks.iter().map(|chunk| hex::encode(chunk.digest)).collect();
    let offsets: Vec<usize> = (0..CHUNKS).map(|number| number * FULL).collect();
    let list = serde_json::json!({"wid": wid, "digest-list": digests, "offset-list": offsets});
    wire.put("/fixed_index", &list).await.data();
    let csum = fixed_sum(&chunks.iter().map(|chunk| chunk.digest).collect::<Vec<_>>());
    wire.post(&close_target("fixed", wid, CHUNKS, size, &csum))
        .await
        .data();
    let file = relight_pbs::formats::manifest::ManifestFile {
        filename: "disk.img.fidx".parse().unwrap(),
        crypt_mode: CryptMode::None,
        size: size as u64,
        csum,
        other: serde_json::Map::new(),
    };
    let manifest = relight_pbs::formats::manifest::Manifest::new(name.parse().unwrap(), vec![file]);
    let manifest = manifest.to_blob().unwrap();
    let target = format!("/blob?file-name=index.json.blob&encoded-size={}", manifest.len());
    wire.post_bytes(&target, manifest).await.data();
    wire.post("/finish").await.data();
    wire.cut();
}

fn sessions(server: &Runtime, client: &Runtime, store: &Arc<Datastore>, names: &[String], seeds: &[u64]) {
    let all: Vec<Arc<Vec<Encoded>>> = seeds.iter().map(|seed| Arc::new(encoded(*seed))).collect();
    let sent: usize = all
        .iter()
        .flat_map(|chunks| chunks.iter())
        .map(|chunk| chunk.blob.len())
        .sum();
    let base = peak();
    let (begun, before) = (Instant::now(), processor());
    let mut clients = Vec::new();
    for (name, chunks) in names.iter().zip(&all) {
        let request = request(store, "", name, "bkup@pbs");
        let backup = server.block_on(backup::begin(request)).unwrap();
        let (here, there) = tokio::io::duplex(1 << 20);
        server.spawn(backup.serve(there));
        let (name, chunks) = (name.clone(), chunks.clone());
        clients.push(client.spawn(async move { back_up(Wire::new(here).await, name, chunks).await }));
    }
    for done in clients {
        client.block_on(done).unwrap();
    }
    let (seconds, after) = (begun.elapsed().as_secs_f64(), processor());
    let gib = (names.len() * CHUNKS * FULL) as f64 / f64::from(1 << 30);
    let (all_cpu, client_cpu) = (after.0 - before.0, after.1 - before.1);
    println!(
        "{} backups of {:.2} GiB (sent {:.2}): {seconds:.1} s, server {:.2} s/GiB, client {:.2} s/GiB, memory {} -> {} MiB",
        names.len(),
        gib,
        sent as f64 / f64::from(1 << 30),
        (all_cpu - client_cpu) / gib,
        client_cpu / gib,
        base,
        peak(),
    );
}

#[test]
#[ignore = "measures"]
fn speed() {
    let runtime = |name: &'static str| {
        Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name(name)
            .enable_all()
            .build()
            .unwrap()
    };
    let (server, client) = (runtime("server"), runtime("client"));
    let place = Place::new();
    let store = place.datastore();
    let name = |group: usize, time: i64| format!("vm/{group}/2023-11-14T22:13:{time:02}Z");
    sessions(&server, &client, &store, &[name(1, 1)], &[1 << 32]);
    sessions(&server, &client, &store, &[name(1, 2)], &[1 << 32]);
    let names: Vec<String> = (2..6).map(|group| name(group, 1)).collect();
    sessions(
        &server,
        &client,
        &store,
        &names,
        &[2 << 32, 3 << 32, 4 << 32, 5 << 32],
    );

    // Restores, one chunk at a time.
    let (begun, before) = (Instant::now(), processor());
    let reader = server
        .block_on(reader::begin(ReaderRequest {
            datastore: store.clone(),
            namespace: "".parse().unwrap(),
            snapshot: name(2, 1).parse().unwrap(),
            auth_id: "bkup@pbs".parse().unwrap(),
            must_own: true,
        }))
        .unwrap();
    let (here, there) = tokio::io::duplex(1 << 20);
    let ended = server.spawn(reader.serve(there));
    client
        .block_on(client.spawn(async move {
            let wire = Wire::new(here).await;
            let index = wire.get("/download?file-name=disk.img.fidx").await.bytes();
            for digest in FixedIndex::parse(&index).unwrap().digests() {
                wire.get(&format!("/chunk?digest={}", hex::encode(digest)))
                    .await
                    .bytes();
            }
            wire.cut();
        }))
        .unwrap();
    let ended = server.block_on(ended).unwrap();
    let (seconds, after) = (begun.elapsed().as_secs_f64(), processor());
    let gib = (CHUNKS * FULL) as f64 / f64::from(1 << 30);
    println!(
        "restore of {gib:.2} GiB: {seconds:.1} s, server {:.2} s/GiB, client {:.2} s/GiB, {ended:?}, memory {} MiB",
        (after.0 - before.0 - after.1 + before.1) / gib,
        (after.1 - before.1) / gib,
        peak(),
    );
}
