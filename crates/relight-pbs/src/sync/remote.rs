//! What the other server has, as its REST interface lists it.

use http::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::{Result, SyncError};
use crate::access::AuthId;
use crate::client::{Client, ClientError};
use crate::formats::ids::{BackupId, BackupTime, BackupType, FileName, Group, Namespace, SnapshotName};
use crate::formats::manifest::CryptMode;

/// A datastore of another server.
pub(super) struct Remote<'a> {
    pub client: &'a Client,
}

/// A group, as it is listed.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct RemoteGroup {
    backup_type: BackupType,
    backup_id: BackupId,
    #[serde(default)]
    pub owner: Option<AuthId>,
}

impl RemoteGroup {
    pub fn group(&self) -> Group {
        Group {
            backup_type: self.backup_type,
            backup_id: self.backup_id.clone(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RemoteFile {
    filename: String,
    #[serde(default)]
    crypt_mode: Option<CryptMode>,
}

#[derive(Debug, Deserialize)]
struct RemoteVerification {
    state: String,
}

/// A snapshot, as it is listed.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct RemoteSnapshot {
    backup_type: BackupType,
    backup_id: BackupId,
    backup_time: BackupTime,
    #[serde(default)]
    files: Vec<RemoteFile>,
    #[serde(default)]
    size: Option<u64>,
    #[serde(default)]
    pub protected: bool,
    #[serde(default)]
    verification: Option<RemoteVerification>,
}

impl RemoteSnapshot {
    pub fn name(&self) -> SnapshotName {
        SnapshotName {
            group: Group {
                backup_type: self.backup_type,
                backup_id: self.backup_id.clone(),
            },
            backup_time: self.backup_time,
        }
    }

    /// Whether it is complete; of one that is being made, no size is listed.
    pub fn is_finished(&self) -> bool {
        self.size.is_some() && self.has_manifest()
    }

    /// Whether it came to its manifest, the last file to be written, readable or not.
    pub fn has_manifest(&self) -> bool {
        self.has(FileName::MANIFEST)
    }

    fn has(&self, name: &str) -> bool {
        self.files.iter().any(|file| file.filename == name)
    }

    pub fn has_log(&self) -> bool {
        self.has(FileName::CLIENT_LOG)
    }

    pub fn is_verified(&self) -> bool {
        self.verification
            .as_ref()
            .is_some_and(|found| found.state == "ok")
    }

    /// Whether all files but manifest and log are encrypted, and there are any.
    pub fn is_encrypted(&self) -> bool {
        let besides = [FileName::MANIFEST, FileName::CLIENT_LOG];
        let mut files = self
            .files
            .iter()
            .filter(|file| !besides.contains(&file.filename.as_str()))
            .peekable();
        files.peek().is_some() && files.all(|file| file.crypt_mode == Some(CryptMode::Encrypt))
    }
}

pub(super) fn of_namespace(namespace: &Namespace) -> Map<String, Value> {
    let mut parameters = Map::new();
    if !namespace.is_root() {
        parameters.insert("ns".into(), namespace.as_str().into());
    }
    parameters
}

pub(super) fn of_snapshot(namespace: &Namespace, name: &SnapshotName) -> Map<String, Value> {
    let mut parameters = of_group(namespace, &name.group);
    parameters.insert("backup-time".into(), name.backup_time.seconds().into());
    parameters
}

pub(super) fn of_group(namespace: &Namespace, group: &Group) -> Map<String, Value> {
    let mut parameters = of_namespace(namespace);
    parameters.insert("backup-type".into(), group.backup_type.as_str().into());
    parameters.insert("backup-id".into(), group.backup_id.as_str().into());
    parameters
}

impl Remote<'_> {
    /// A call about the datastore.
    pub async fn call(&self, method: Method, what: &str, parameters: Map<String, Value>) -> Result<Value> {
        let path = format!("/admin/datastore/{}/{what}", self.client.datastore());
        Ok(self
            .client
            .rest(method, &path, &Value::Object(parameters))
            .await?)
    }

    async fn list<T: DeserializeOwned>(&self, what: &str, parameters: Map<String, Value>) -> Result<Vec<T>> {
        let list = self.call(Method::GET, what, parameters).await?;
        serde_json::from_value(list).map_err(|error| {
            let why = format!("the list of {what} cannot be read: {error}");
            SyncError::Remote(ClientError::Protocol(why))
        })
    }

    /// The namespaces from `parent` on, so many levels down, each before those in it.
    pub async fn namespaces(&self, parent: &Namespace, max_depth: Option<usize>) -> Result<Vec<Namespace>> {
        if max_depth == Some(0) {
            return Ok(vec![parent.clone()]);
        }
        #[derive(Deserialize)]
        struct One {
            ns: Namespace,
        }
        let mut parameters = Map::new();
        if !parent.is_root() {
            parameters.insert("parent".into(), parent.as_str().into());
        }
        if let Some(depth) = max_depth {
            parameters.insert("max-depth".into(), depth.into());
        }
        let found: Result<Vec<One>> = self.list("namespace", parameters).await;
        let mut found: Vec<Namespace> = match found {
            Ok(list) => list.into_iter().map(|one| one.ns).collect(),
            // Servers of the time before there were namespaces.
            Err(SyncError::Remote(ClientError::Refused { status, .. }))
                if status == StatusCode::NOT_FOUND && parent.is_root() =>
            {
                vec![Namespace::ROOT]
            }
            Err(error) => return Err(error),
        };
        let is_near = |one: &Namespace| {
            let below = one.depth().saturating_sub(parent.depth());
            parent.contains(one) && max_depth.is_none_or(|most| below <= most)
        };
        found.retain(is_near);
        found.sort_by_key(|one| (one.depth(), one.clone()));
        Ok(found)
    }

    /// The groups of a namespace, in order.
    pub async fn groups(&self, namespace: &Namespace) -> Result<Vec<RemoteGroup>> {
        let mut list: Vec<RemoteGroup> = self.list("groups", of_namespace(namespace)).await?;
        // Guests by number.
        let number = |one: &RemoteGroup| one.backup_id.as_str().parse::<u64>().unwrap_or(u64::MAX);
        list.sort_by_cached_key(|one| (one.backup_type, number(one), one.backup_id.clone()));
        Ok(list)
    }

    /// The snapshots of a group, oldest first.
    pub async fn snapshots(&self, namespace: &Namespace, group: &Group) -> Result<Vec<RemoteSnapshot>> {
        let mut list: Vec<RemoteSnapshot> = self.list("snapshots", of_group(namespace, group)).await?;
        list.retain(|one| one.name().group == *group);
        list.sort_by_key(|one| one.backup_time);
        Ok(list)
    }

    /// Makes a namespace.
    pub async fn create_namespace(&self, namespace: &Namespace) -> Result<()> {
        let (Some(parent), Some(name)) = (namespace.parent(), namespace.parts().last()) else {
            return Ok(());
        };
        let mut parameters = Map::new();
        parameters.insert("name".into(), json!(name));
        if !parent.is_root() {
            parameters.insert("parent".into(), parent.as_str().into());
        }
        self.call(Method::POST, "namespace", parameters).await.map(drop)
    }
}
