//! What the server benchmark leaves behind, its tables, and the aims held against it.

use std::fmt::Write;

use relight_model::ByteSize;
use serde::{Deserialize, Serialize};

use crate::aims::Judged;
use crate::machine::Machine;
use crate::report::{Table, aims_table};

/// Processor seconds that the original's server takes for a GiB of a first image backup (4.2.3, two cores): 46.9 s for
/// 8 GiB.
const ORIGINAL: f64 = 46.9 / 8.0;

/// One or several backups at once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ingest {
    /// What it was.
    pub name: String,
    /// Bytes of the images.
    pub bytes: u64,
    /// Bytes that were sent for them.
    pub sent: u64,
    /// From start to end.
    pub seconds: f64,
    /// Processor seconds of the clients.
    pub client_cpu: f64,
    /// The largest resident set of a client, in bytes.
    pub client_peak: u64,
    /// Processor seconds of the server.
    pub server_cpu: f64,
    /// The largest resident set of the server, in bytes.
    pub server_peak: u64,
}

/// An image that was read back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Read {
    /// Where the repository lies.
    pub from: String,
    /// Bytes of the image.
    pub bytes: u64,
    /// From the first chunk to the last.
    pub seconds: f64,
    /// Processor seconds of the client.
    pub client_cpu: f64,
    /// Processor seconds of the server.
    pub server_cpu: f64,
    /// The largest resident set of the server, in bytes.
    pub server_peak: u64,
    /// Chunks that were asked for.
    pub chunks: u64,
    /// How many of them were read ahead.
    pub ahead: u64,
}

/// Lists.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Listed {
    /// Snapshots in the repository.
    pub snapshots: u64,
    /// Groups they are in.
    pub groups: u64,
    /// Seconds for the first list after the server was started, and for the next.
    pub seconds: [f64; 2],
}

/// Everything about a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServerRecord {
    /// When it began, RFC 3339.
    pub started: String,
    /// What it ran on.
    pub machine: Machine,
    /// Backups.
    pub ingests: Vec<Ingest>,
    /// Restores.
    pub reads: Vec<Read>,
    /// Lists.
    pub listed: Option<Listed>,
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

/// The whole report.
pub fn render(record: &ServerRecord) -> String {
    let mut out = format!("# Measured {}\n\n{}\n", record.started, record.machine.describe());
    let mut table = Table::new(&[
        "backup",
        "images",
        "sent",
        "seconds",
        "MB/s",
        "client CPU s",
        "its peak",
        "server CPU s",
        "a GiB",
        "its peak",
    ]);
    for ingest in &record.ingests {
        table.row([
            ingest.name.clone(),
            ByteSize(ingest.bytes).to_string(),
            ByteSize(ingest.sent).to_string(),
            format!("{:.1}", ingest.seconds),
            format!("{:.0}", ingest.bytes as f64 / 1e6 / ingest.seconds),
            format!("{:.1}", ingest.client_cpu),
            ByteSize(ingest.client_peak).to_string(),
            format!("{:.1}", ingest.server_cpu),
            format!("{:.2}", ingest.server_cpu / gib(ingest.bytes)),
            ByteSize(ingest.server_peak).to_string(),
        ]);
    }
    let _ = writeln!(out, "## Backups through the server\n\n{}", table.render());
    let mut table = Table::new(&[
        "image on",
        "size",
        "seconds",
        "MB/s",
        "client CPU s",
        "server CPU s",
        "its peak",
        "chunks",
        "read ahead",
    ]);
    for read in &record.reads {
        table.row([
            read.from.clone(),
            ByteSize(read.bytes).to_string(),
            format!("{:.1}", read.seconds),
            format!("{:.0}", read.bytes as f64 / 1e6 / read.seconds),
            format!("{:.1}", read.client_cpu),
            format!("{:.1}", read.server_cpu),
            ByteSize(read.server_peak).to_string(),
            read.chunks.to_string(),
            format!("{:.1} %", share(read)),
        ]);
    }
    let _ = writeln!(
        out,
        "## Restores, one chunk asked for after the other\n\n{}",
        table.render()
    );
    if let Some(Listed {
        snapshots,
        groups,
        seconds: [first, next],
    }) = &record.listed
    {
        let _ = writeln!(
            out,
            "## Lists\n\nAll snapshots and groups of {snapshots} snapshots in {groups} groups: {:.0} ms the first time, {:.1} ms \
             the next.\n",
            first * 1e3,
            next * 1e3
        );
    }
    let _ = writeln!(out, "## Aims\n\n{}", aims_table(&judge(record)));
    out
}

fn share(read: &Read) -> f64 {
    read.ahead as f64 / read.chunks.max(1) as f64 * 100.0
}

fn judge(record: &ServerRecord) -> Vec<Judged> {
    let mut judged = Vec::new();
    if let Some(first) = record.ingests.first() {
        let cost = first.server_cpu / gib(first.bytes);
        judged.push(Judged {
            what: format!("first backup: at most half of the original's {ORIGINAL:.2} CPU s a GiB"),
            measured: format!("{cost:.2} CPU s a GiB"),
            met: cost <= ORIGINAL / 2.0,
        });
    }
    if let Some(last) = record.ingests.last() {
        judged.push(Judged {
            what: format!("{}: under 300 MiB", last.name),
            measured: ByteSize(last.server_peak).to_string(),
            met: last.server_peak < 300 << 20,
        });
        let busy = (last.server_cpu + last.client_cpu) / last.seconds / record.machine.cores as f64;
        judged.push(Judged {
            what: format!("{}: the cores are busy", last.name),
            measured: format!("{:.0} %", busy * 100.0),
            met: busy > 0.9,
        });
    }
    for read in &record.reads {
        judged.push(Judged {
            what: format!("{}: more than 95 % read ahead", read.from),
            measured: format!("{:.1} %", share(read)),
            met: share(read) > 95.0,
        });
    }
    if let Some(listed) = &record.listed {
        judged.push(Judged {
            what: "lists of all snapshots and groups: under 100 ms".to_owned(),
            measured: format!(
                "{:.0} ms, then {:.1} ms",
                listed.seconds[0] * 1e3,
                listed.seconds[1] * 1e3
            ),
            met: listed.seconds[0] < 0.1,
        });
    }
    judged
}
