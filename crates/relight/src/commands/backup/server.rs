//! `relight backup --server`: saves to a datastore of a server that speaks the Proxmox Backup protocol.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use clap::Args;
use jiff::Timestamp;
use relight_model::workload::Workload;
use relight_pbs::client::{
    ArchiveWriter, BackupOptions, BackupSession, Client, Credentials, Finished, ServerAddress, Trust,
};
use relight_pbs::formats::chunker::StreamChunker;
use relight_pbs::formats::crypt::Fingerprint;
use relight_pbs::formats::ids::{BackupTime, Group, Namespace, SnapshotName};
use relight_pxar::fs::capture::capture;
use relight_pxar::fs::progress::Progress;
use relight_workloads::files::TreeReport;
use relight_workloads::{WorkloadError, image};
use tokio::runtime::Runtime;

use super::{Plan, Report};
use crate::cancel;
use crate::client_key::{ClientKeyOptions, read_file};
use crate::context::Global;
use crate::failure::{Failure, Result};
use crate::progress::Meter;

/// Bytes that are read at once.
const PART: usize = 4 << 20;

/// Options of a backup to a server.
#[derive(Debug, Args)]
pub struct ServerOptions {
    /// Save to a datastore of a backup server: https://user@realm!token@host:8007/DATASTORE
    #[arg(long, value_name = "ADDRESS", help_heading = "Server")]
    pub server: Option<ServerAddress>,
    /// SHA-256 fingerprint of the server's certificate, if no authority of this host vouches for it
    #[arg(
        long,
        requires = "server",
        value_name = "FINGERPRINT",
        help_heading = "Server"
    )]
    fingerprint: Option<Fingerprint>,
    /// File with the secret of the token, or the password of the user
    #[arg(
        long,
        env = "RELIGHT_TOKEN_FILE",
        value_name = "FILE",
        help_heading = "Server"
    )]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    client_key: ClientKeyOptions,
}

/// What the threads of a backup share.
struct Work<'a> {
    runtime: &'a Runtime,
    session: &'a BackupSession,
    done: &'a AtomicU64,
    cancelled: &'a AtomicBool,
}

/// Saves what the plan says as a snapshot of the server.
pub fn save(
    global: &Global,
    address: &ServerAddress,
    options: &ServerOptions,
    plan: &Plan,
) -> Result<Report> {
    let began = Instant::now();
    if plan.retain.is_some() {
        return Err(Failure::Usage(
            "--retain is a promise of a repository; a server has rules of its own".into(),
        ));
    }
    let workload = match &plan.workload {
        Some(workload) => workload.clone(),
        None => super::host_workload(&global.open_options()?.host)?,
    };
    let (namespace, group) = place(&workload)?;
    let client = client(address, options, namespace)?;
    let key = options.client_key.key()?;
    let snapshot = SnapshotName {
        group,
        backup_time: BackupTime::of(Timestamp::now()),
    };
    let runtime = Runtime::new().map_err(Failure::io("start threads"))?;
    let about = BackupOptions {
        full: plan.full,
        ..BackupOptions::default()
    };
    let session = runtime.block_on(client.backup(snapshot.clone(), key, about))?;

    let progress = Arc::new(Progress::default());
    let done = Arc::new(AtomicU64::new(0));
    let bytes = {
        let (progress, done) = (progress.clone(), done.clone());
        move || done.load(Ordering::Relaxed) + progress.bytes.load(Ordering::Relaxed)
    };
    let label = {
        let progress = progress.clone();
        move || String::from_utf8_lossy(&progress.current_path()).into_owned()
    };
    let meter = Meter::showing(global, bytes, super::expected(plan, None), label);
    let cancelled = cancel::flag();
    let work = Work {
        runtime: &runtime,
        session: &session,
        done: &done,
        cancelled: &cancelled,
    };
    for (name, path) in &plan.images {
        work.image(name, path)?;
    }
    if let Some(name) = &plan.stdin {
        let chunker = StreamChunker::new(StreamChunker::TREE);
        let writer = runtime.block_on(session.stream(name, chunker))?;
        work.copy(&mut std::io::stdin().lock(), writer, "standard input")?;
    }
    let mut reports = Vec::new();
    for source in &plan.trees {
        let mut sink = runtime.block_on(session.tree(&source.name))?;
        let report = capture(
            &source.path,
            &plan.capture,
            None,
            &mut sink,
            &progress,
            &cancelled,
        )
        .map_err(WorkloadError::from)?;
        sink.finish()?;
        reports.push(TreeReport {
            source: source.clone(),
            report,
        });
    }
    let finished = runtime.block_on(session.finish())?;
    drop(meter);
    let other = done.load(Ordering::Relaxed);
    Ok(report(&snapshot, &workload, &finished, &reports, other, began))
}

fn report(
    snapshot: &SnapshotName,
    workload: &Workload,
    finished: &Finished,
    reports: &[TreeReport],
    other: u64,
    began: Instant,
) -> Report {
    Report {
        snapshot: snapshot.to_string(),
        short_id: snapshot.backup_time.to_string(),
        workload: workload.as_str().to_string(),
        added_bytes: finished.figures.new_bytes,
        stored_bytes: finished.figures.sent_bytes,
        ..super::report_of(reports, other, other, began.elapsed())
    }
}

impl Work<'_> {
    fn image(&self, name: &str, path: &Path) -> Result<()> {
        let shown = path.display().to_string();
        let failed = || Failure::io(format!("read {shown}"));
        let mut file = File::open(path).map_err(Failure::io(format!("open {shown}")))?;
        // Also tells the size of a block device.
        let size = file.seek(SeekFrom::End(0)).map_err(failed())?;
        file.rewind().map_err(failed())?;
        let name = format!("{name}{}", image::IMAGE);
        let writer = self.runtime.block_on(self.session.image(&name, Some(size)))?;
        self.copy(&mut file.take(size), writer, &shown)
    }

    fn copy(&self, from: &mut dyn Read, mut writer: ArchiveWriter, shown: &str) -> Result<()> {
        let mut part = vec![0; PART];
        loop {
            if self.cancelled.load(Ordering::Relaxed) {
                return Err(relight_repo::RepoError::Cancelled.into());
            }
            let count = match from.read(&mut part) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                result => result.map_err(Failure::io(format!("read {shown}")))?,
            };
            if count == 0 {
                break;
            }
            self.runtime.block_on(writer.write(&part[..count]))?;
            self.done.fetch_add(count as u64, Ordering::Relaxed);
        }
        self.runtime.block_on(writer.finish())?;
        Ok(())
    }
}

/// Namespace and group of a workload: `lab/vm/100` is `vm/100` in `lab`.
fn place(workload: &Workload) -> Result<(Namespace, Group)> {
    let usage = |error: &dyn std::fmt::Display| {
        Failure::Usage(format!(
            "a server takes workloads of kind vm, ct and host, such as host/web01: {error}"
        ))
    };
    let text = workload.as_str();
    let name = text.rsplitn(3, '/').nth(2).unwrap_or_default();
    let group = text[name.len()..].trim_start_matches('/');
    Ok((
        name.parse().map_err(|error| usage(&error))?,
        group.parse().map_err(|error| usage(&error))?,
    ))
}

fn client(address: &ServerAddress, options: &ServerOptions, namespace: Namespace) -> Result<Client> {
    let file = options.token_file.as_deref().ok_or_else(|| {
        Failure::Usage("give the file with the token's secret: --token-file or RELIGHT_TOKEN_FILE".into())
    })?;
    let bytes = read_file(file)?;
    let secret =
        std::str::from_utf8(&bytes).map_err(|_| Failure::Usage(format!("{} is not text", file.display())))?;
    let credentials = Credentials::new(address.auth_id.clone(), secret)?;
    let trust = options.fingerprint.map_or(Trust::Chain, Trust::Fingerprint);
    Ok(Client::over_tls(address, credentials, trust, namespace)?)
}
