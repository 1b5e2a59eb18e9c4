//! Saves the server's state into a repository.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use relight_model::retention::{Candidate, Guards, Policy, plan};
use relight_repo::Repository;
use relight_repo::session::Session;
use relight_repo::snapshot::{Archive, ArchiveKind, Snapshot, SnapshotSpec};
use relight_workloads::stream;

use super::{CERTIFICATE, CONFIGURATION, HEAD, KEY, KIND, STATE};
use crate::config::Config;
use crate::error::{Result, ServerError};
use crate::evidence::Head;
use crate::state::State;

/// What is saved.
pub(super) struct Own<'a> {
    pub config: &'a Config,
    pub state: &'a State,
    pub node: &'a str,
}

fn failed(error: impl std::fmt::Display) -> ServerError {
    ServerError::System(format!("save the server's own state: {error}"))
}

impl Own<'_> {
    /// Name of the workload that this server is.
    pub fn workload(&self) -> String {
        let safe = |c: char| {
            if c.is_ascii_alphanumeric() || c == '.' || c == '-' {
                c
            } else {
                '_'
            }
        };
        let name: String = self.node.chars().map(safe).take(64).collect();
        let name = name.trim_start_matches(['.', '-']);
        format!("{KIND}/{}", if name.is_empty() { "server" } else { name })
    }

    /// The head of the evidence that the newest backup in a repository noted.
    pub fn last(&self, repository: &Repository) -> Result<Option<Head>> {
        let (snapshots, _) = repository.snapshots().map_err(failed)?;
        let workload = self.workload();
        let newest = snapshots.iter().rfind(|snapshot| snapshot.workload == workload);
        Ok(newest.and_then(|snapshot| snapshot.attributes.get(HEAD)?.parse().ok()))
    }

    /// Saves it; gives the head of the evidence that the backup notes.
    pub fn save(&self, repository: &Arc<Repository>) -> Result<Head> {
        let signer = self.state.signer()?;
        let session = Session::begin(repository.clone(), Arc::new(AtomicBool::new(false))).map_err(failed)?;
        // Before the copy is made: what is noted is in the copy.
        let head = self.state.evidence_head()?;
        let mut archives = vec![self.database(&session)?];
        let mut blob = |name: &str, path: &Path| -> Result<()> {
            let bytes = zeroize::Zeroizing::new(fs::read(path).map_err(ServerError::file("read", path))?);
            let mut writer = session.archive(name, ArchiveKind::Blob).map_err(failed)?;
            writer.push_chunk(bytes.to_vec()).map_err(failed)?;
            archives.push(writer.finish().map_err(failed)?);
            Ok(())
        };
        blob(CONFIGURATION, &self.config.path)?;
        for name in CERTIFICATE {
            let path = self.config.server.state.join(name);
            if path.exists() {
                blob(name, &path)?;
            }
        }
        let attributes = [
            (HEAD.to_string(), head.to_string()),
            (KEY.to_string(), hex::encode(signer.public_key())),
        ];
        let spec = SnapshotSpec {
            workload: self.workload(),
            host: self.node.to_string(),
            attributes: BTreeMap::from(attributes),
            ..SnapshotSpec::default()
        };
        session.publish(spec, archives).map_err(failed)?;
        Ok(head)
    }

    /// The database as of one moment. SQLite makes a copy of it beside it, which is removed afterwards.
    fn database(&self, session: &Session) -> Result<Archive> {
        let copy = self.config.server.state.join("state.copy");
        let _ = fs::remove_file(&copy);
        let save = || -> Result<Archive> {
            self.state.copy_to(&copy)?;
            let mut file = fs::File::open(&copy).map_err(ServerError::file("read", &copy))?;
            let (done, cancelled) = (AtomicU64::new(0), AtomicBool::new(false));
            stream::back_up(session, STATE, &mut file, &done, &cancelled).map_err(failed)
        };
        let saved = save();
        let _ = fs::remove_file(&copy);
        saved
    }

    /// Forgets backups that are not needed any more.
    pub fn thin_out(&self, repository: &Repository) -> Result<()> {
        let (snapshots, _) = repository.snapshots().map_err(failed)?;
        let workload = self.workload();
        let own = snapshots.iter().filter(|snapshot| snapshot.workload == workload);
        let candidate = |snapshot: &Snapshot| Candidate {
            id: snapshot.id,
            group: snapshot.workload.clone(),
            time: snapshot.published,
            sequence: 0,
            protected: repository
                .marks(snapshot.id)
                .map_or(true, |marks| marks.protected),
            good: true,
        };
        let count = std::num::NonZeroU32::new;
        let policy = Policy {
            keep_last: count(10),
            keep_daily: count(14),
            keep_weekly: count(8),
            keep_monthly: count(12),
            ..Policy::default()
        };
        let guards = Guards::new(repository.now(), None);
        let zone = jiff::tz::TimeZone::UTC;
        for removed in plan(&policy, &zone, &guards, own.map(candidate)).removed() {
            repository.forget(removed.id).map_err(failed)?;
        }
        Ok(())
    }
}
