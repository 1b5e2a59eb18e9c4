//! Reads an image from a server, one chunk after the other: what a client cannot do before it has the last one, the server
//! must have foreseen.

use std::path::PathBuf;
use std::time::Instant;

use relight_pbs::client::{Client, Credentials, ServerAddress, Trust};
use relight_pbs::formats::crypt::Fingerprint;
use relight_pbs::formats::ids::{BackupTime, Namespace, SnapshotName};
use serde::Serialize;

use crate::failure::{Doing, Failure, Result};

/// Which server.
#[derive(clap::Args)]
pub struct Options {
    /// https://TOKEN@HOST:PORT/DATASTORE
    address: ServerAddress,
    /// Of its certificate.
    fingerprint: Fingerprint,
    /// File with the secret of the token.
    token_file: PathBuf,
}

/// What it took.
#[derive(Serialize)]
pub struct Outcome {
    /// From the first chunk asked for to the last that came.
    seconds: f64,
    /// Content in bytes.
    bytes: u64,
}

/// A client of the server.
pub fn client(options: &Options) -> Result<Client> {
    let secret = std::fs::read_to_string(&options.token_file).doing(|| "read the token".to_owned())?;
    let credentials =
        Credentials::new(options.address.auth_id.clone(), &secret).doing(|| "read the token".to_owned())?;
    let trust = Trust::Fingerprint(options.fingerprint);
    Client::over_tls(&options.address, credentials, trust, Namespace::ROOT)
        .doing(|| "make a client".to_owned())
}

impl Options {
    /// From the words a part of this program is given.
    pub fn from_words([address, fingerprint, token_file]: [String; 3]) -> Result<Self> {
        Ok(Self {
            address: address.parse().doing(|| format!("read {address}"))?,
            fingerprint: fingerprint.parse().doing(|| format!("read {fingerprint}"))?,
            token_file: token_file.into(),
        })
    }
}

/// Reads the image of the largest snapshot.
pub fn run(options: &Options) -> Result<Outcome> {
    let runtime = tokio::runtime::Runtime::new().doing(|| "start threads".to_owned())?;
    let client = client(options)?;
    runtime.block_on(async {
        let doing = || "read from the server".to_owned();
        let snapshots = client.snapshots(None).await.doing(doing)?;
        // The image that was backed up alone is larger than those that were backed up at once.
        let largest = snapshots
            .as_array()
            .into_iter()
            .flatten()
            .max_by_key(|snapshot| snapshot["size"].as_u64())
            .ok_or_else(|| Failure::new("the server has no snapshot"))?;
        let time = largest["backup-time"]
            .as_i64()
            .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
        let name = SnapshotName {
            group: format!(
                "{}/{}",
                largest["backup-type"].as_str().unwrap_or(""),
                largest["backup-id"].as_str().unwrap_or("")
            )
            .parse()
            .doing(doing)?,
            backup_time: BackupTime::of(time.ok_or_else(|| Failure::new("a snapshot has no time"))?),
        };
        let session = client.reader(name, None).await.doing(doing)?;
        let archive = session.archive("disk.img").await.doing(doing)?;
        let began = Instant::now();
        let (mut at, mut bytes) = (0, 0);
        while at < archive.size() {
            let piece = archive.read_at(at, 4 << 20).await.doing(doing)?;
            at += 4 << 20;
            bytes += piece.len() as u64;
        }
        Ok(Outcome {
            seconds: began.elapsed().as_secs_f64(),
            bytes,
        })
    })
}
