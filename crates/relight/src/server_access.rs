//! Servers that speak the Proxmox Backup protocol: how one is reached, and which snapshot of it is meant.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use relight_model::ByteSize;
use relight_model::snapshot_ref::{Listed, SnapshotRef};
use relight_pbs::client::{
    Client, ClientOptions, Credentials, Limited, Rate, ServerAddress, TlsTransport, Transport, Trust,
};
use relight_pbs::formats::crypt::Fingerprint;
use relight_pbs::formats::ids::{BackupTime, FileName, Group, Namespace, SnapshotName};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use crate::client_key::read_file;
use crate::failure::{Failure, Result};

/// A server, and who asks.
#[derive(Debug, Clone, Default, Args)]
pub struct ServerOptions {
    /// A datastore of a backup server instead of a repository: https://user@realm!token@host:8007/DATASTORE
    #[arg(long, value_name = "ADDRESS", help_heading = "Server")]
    pub server: Option<ServerAddress>,
    /// SHA-256 fingerprint of the server's certificate, if no authority of this host vouches for it
    #[arg(
        long,
        requires = "server",
        value_name = "FINGERPRINT",
        help_heading = "Server"
    )]
    pub fingerprint: Option<Fingerprint>,
    /// File with the secret of the token, or the password of the user
    #[arg(
        long,
        env = "RELIGHT_TOKEN_FILE",
        value_name = "FILE",
        help_heading = "Server"
    )]
    pub token_file: Option<PathBuf>,
    /// Namespace of the datastore
    #[arg(long, requires = "server", value_name = "NAMESPACE", help_heading = "Server")]
    pub namespace: Option<Namespace>,
    /// Send and receive no more than this a second, such as 20MiB
    #[arg(long, requires = "server", value_name = "SIZE", help_heading = "Server")]
    pub rate: Option<ByteSize>,
}

/// A snapshot that a server lists.
#[derive(Debug, Clone, Serialize)]
pub struct RemoteSnapshot {
    /// `host/web01/2026-11-22T10:00:00Z`.
    pub snapshot: String,
    /// `host/web01`.
    pub workload: String,
    /// What it brings back.
    pub time: Timestamp,
    /// Bytes of it, as the server counts them.
    pub size: u64,
    /// Who made it.
    pub owner: String,
    /// Whether it is kept whatever the rules say.
    pub protected: bool,
    /// Whether it is being made, or was broken off and is of no use: original servers list these, too.
    pub unfinished: bool,
    /// Its notes.
    pub notes: String,
    /// Names of its files.
    pub files: Vec<String>,
    /// The key of the client, if it used one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_fingerprint: Option<String>,
    /// What the last verification found: `ok` or `failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verification: Option<String>,
    #[serde(skip)]
    pub name: SnapshotName,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Line {
    backup_type: String,
    backup_id: String,
    backup_time: i64,
    #[serde(default)]
    size: Option<u64>,
    #[serde(default)]
    owner: Option<String>,
    #[serde(default)]
    protected: bool,
    #[serde(default)]
    comment: Option<String>,
    #[serde(default)]
    fingerprint: Option<String>,
    #[serde(default)]
    files: Vec<ListedFile>,
    #[serde(default)]
    verification: Option<Verification>,
}

#[derive(Deserialize)]
struct ListedFile {
    filename: String,
}

#[derive(Deserialize)]
struct Verification {
    state: String,
}

/// Threads for what waits for the network.
pub fn runtime() -> Result<Runtime> {
    Runtime::new().map_err(Failure::io("start threads"))
}

impl ServerOptions {
    /// A client of the server, in a namespace below that of the options. Nothing is sent yet.
    pub fn client(&self, address: &ServerAddress, below: &Namespace) -> Result<Client> {
        let file = self.token_file.as_deref().ok_or_else(|| {
            Failure::Usage("give the file with the token's secret: --token-file or RELIGHT_TOKEN_FILE".into())
        })?;
        let bytes = read_file(file)?;
        let secret = std::str::from_utf8(&bytes)
            .map_err(|_| Failure::Usage(format!("{} is not text", file.display())))?;
        let credentials = Credentials::new(address.auth_id.clone(), secret)?;
        let trust = self.fingerprint.map_or(Trust::Chain, Trust::Fingerprint);
        let mut transport: Arc<dyn Transport> = Arc::new(TlsTransport::new(address, trust)?);
        if let Some(rate) = self.rate {
            let rate = Some(Rate::new(rate.0, None));
            transport = Arc::new(Limited::new(transport, rate, rate));
        }
        Ok(Client::new(ClientOptions {
            transport,
            credentials,
            datastore: address.datastore.clone(),
            namespace: self.join(below)?,
        }))
    }

    fn join(&self, below: &Namespace) -> Result<Namespace> {
        let mut namespace = self.namespace.clone().unwrap_or(Namespace::ROOT);
        for part in below.parts() {
            namespace = namespace.child(part).map_err(usage)?;
        }
        Ok(namespace)
    }

    /// A client, and the snapshot that a text names: as the server writes it (`host/web01/2026-11-22T10:00:00Z`), a group
    /// (its newest one), or as everywhere (`host/web01@TIME`, `latest`). A namespace may stand before it.
    pub fn snapshot(
        &self,
        runtime: &Runtime,
        address: &ServerAddress,
        given: &str,
    ) -> Result<(Client, SnapshotName)> {
        let (namespace, wanted) = Wanted::parse(given)?;
        let client = self.client(address, &namespace)?;
        let group = match wanted {
            Wanted::Exact(name) => return Ok((client, name)),
            Wanted::Reference(_, ref group) => group.clone(),
        };
        let Wanted::Reference(reference, _) = wanted else {
            return Err(usage(given));
        };
        let mut snapshots = list(runtime, &client, group.as_ref())?;
        snapshots.retain(|snapshot| !snapshot.unfinished);
        if snapshots.is_empty() {
            return Err(Failure::Usage(format!(
                "the server has no snapshot {given}, or does not show it to {}",
                address.auth_id
            )));
        }
        let listed = snapshots.iter().map(|snapshot| Listed {
            id: "",
            workload: &snapshot.workload,
            time: snapshot.time,
            item: snapshot,
        });
        let found = reference.choose(listed, &TimeZone::system()).map_err(usage)?;
        Ok((client, found.name.clone()))
    }
}

/// The snapshots of the client's namespace, the oldest first.
pub fn list(runtime: &Runtime, client: &Client, group: Option<&Group>) -> Result<Vec<RemoteSnapshot>> {
    listed(runtime.block_on(client.snapshots(group))?)
}

/// What the server's list says.
fn listed(answer: serde_json::Value) -> Result<Vec<RemoteSnapshot>> {
    let odd =
        |error: &dyn std::fmt::Display| Failure::Usage(format!("the server's list cannot be read: {error}"));
    let lines: Vec<Line> = serde_json::from_value(answer).map_err(|error| odd(&error))?;
    let mut snapshots = Vec::with_capacity(lines.len());
    for line in lines {
        let group: Group = format!("{}/{}", line.backup_type, line.backup_id)
            .parse()
            .map_err(|error| odd(&error))?;
        let backup_time = BackupTime::new(line.backup_time).map_err(|error| odd(&error))?;
        let name = SnapshotName { group, backup_time };
        snapshots.push(RemoteSnapshot {
            snapshot: name.to_string(),
            workload: name.group.to_string(),
            time: backup_time.timestamp(),
            size: line.size.unwrap_or(0),
            owner: line.owner.unwrap_or_default(),
            protected: line.protected,
            unfinished: !line.files.iter().any(|file| file.filename == FileName::MANIFEST),
            notes: line.comment.unwrap_or_default(),
            files: line.files.into_iter().map(|file| file.filename).collect(),
            key_fingerprint: line.fingerprint,
            verification: line.verification.map(|found| found.state),
            name,
        });
    }
    snapshots.sort_by(|a, b| (a.time, &a.workload).cmp(&(b.time, &b.workload)));
    Ok(snapshots)
}

/// What a text means.
enum Wanted {
    Exact(SnapshotName),
    /// The newest that fits, of a group or of all.
    Reference(SnapshotRef, Option<Group>),
}

impl Wanted {
    fn parse(given: &str) -> Result<(Namespace, Self)> {
        let refused = || {
            Failure::Usage(format!(
                "{given:?} names no snapshot of a server: write host/web01/2026-11-22T10:00:00Z, host/web01@TIME, \
                 host/web01@latest or latest"
            ))
        };
        if given == "latest" {
            let reference = given.parse().map_err(usage)?;
            return Ok((Namespace::ROOT, Self::Reference(reference, None)));
        }
        let (path, time) = given.split_once('@').unwrap_or((given, "latest"));
        let parts: Vec<&str> = path.split('/').collect();
        let split = |count: usize| -> Option<(Namespace, String)> {
            let at = parts.len().checked_sub(count)?;
            Some((parts[..at].join("/").parse().ok()?, parts[at..].join("/")))
        };
        if !given.contains('@')
            && let Some((namespace, name)) = split(3)
            && let Ok(name) = name.parse::<SnapshotName>()
        {
            return Ok((namespace, Self::Exact(name)));
        }
        let (namespace, group) = split(2).ok_or_else(refused)?;
        let group: Group = group.parse().map_err(|_| refused())?;
        let reference = format!("{group}@{time}").parse().map_err(usage)?;
        Ok((namespace, Self::Reference(reference, Some(group))))
    }
}

fn usage(error: impl std::fmt::Display) -> Failure {
    Failure::Usage(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unfinished_is_told_from_what_is_there() {
        // As an original server lists them.
        let answer = serde_json::json!([
            {"backup-type": "host", "backup-id": "web01", "backup-time": 1795416210, "files": [],
             "owner": "sync@pbs!job", "protected": false},
            {"backup-type": "host", "backup-id": "web01", "backup-time": 1795416183, "size": 307,
             "files": [{"filename": "index.json.blob", "crypt-mode": "none", "size": 307}],
             "owner": "sync@pbs!job", "protected": false},
        ]);
        let found: Vec<_> = listed(answer).unwrap();
        let unfinished: Vec<bool> = found.iter().map(|one| one.unfinished).collect();
        assert_eq!(unfinished, [false, true]);
    }

    #[test]
    fn a_snapshot_is_named_in_several_ways() {
        let parse = |text: &str| {
            Wanted::parse(text).map(|(namespace, wanted)| {
                let wanted = match wanted {
                    Wanted::Exact(name) => name.to_string(),
                    Wanted::Reference(reference, _) => reference.to_string(),
                };
                (namespace.as_str().to_string(), wanted)
            })
        };
        let is = |namespace: &str, wanted: &str| (namespace.to_string(), wanted.to_string());
        let exact = "host/web01/2026-11-22T10:00:00Z";
        assert_eq!(parse(exact).unwrap(), is("", exact));
        assert_eq!(parse(&format!("a/b/{exact}")).unwrap(), is("a/b", exact));
        assert_eq!(parse("host/web01").unwrap(), is("", "host/web01@latest"));
        assert_eq!(parse("lab/vm/100@latest").unwrap(), is("lab", "vm/100@latest"));
        assert_eq!(parse("latest").unwrap(), is("", "latest"));
        for wrong in ["", "web01", "3fa9c2d1", "pg/main", "host/web01@never"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
