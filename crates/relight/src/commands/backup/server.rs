//! `relight backup --server`: saves to a datastore of a server that speaks the Proxmox Backup protocol.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use jiff::Timestamp;
use relight_model::workload::Workload;
use relight_pbs::client::{
    ArchiveWriter, BackupOptions, BackupSession, Client, ClientError, Finished, ServerAddress,
};
use relight_pbs::formats::chunker::StreamChunker;
use relight_pbs::formats::crypt::{CryptKey, KeyFile, master};
use relight_pbs::formats::ids::{BackupTime, Group, Namespace, SnapshotName};
use relight_pbs::formats::manifest::Manifest;
use relight_pxar::fs::capture::{Previous, capture};
use relight_pxar::fs::progress::Progress;
use relight_workloads::files::{TreeReport, TreeSource};
use relight_workloads::{WorkloadError, image};
use tokio::runtime::Runtime;

use super::{Plan, Report};
use crate::client_key::{self, ClientKeyOptions, read_file};
use crate::context::Global;
use crate::failure::{Failure, Result};
use crate::progress::Meter;
use crate::{cancel, server_access};

/// Bytes that are read at once.
const PART: usize = 4 << 20;

/// How often a backup is begun at most, if the connection breaks off.
const ATTEMPTS: u32 = 3;
/// How long is waited before the second time; before the third, twice as long.
const PAUSE: Duration = Duration::from_secs(5);
/// Problems that are named in the log that is left with the snapshot.
const LOGGED: usize = 10_000;

/// Options of a backup to a server.
#[derive(Debug, Args)]
pub struct SaveOptions {
    #[command(flatten)]
    pub access: server_access::ServerOptions,
    /// Notes of the new snapshot
    #[arg(long, requires = "server", value_name = "TEXT", help_heading = "Server")]
    notes: Option<String>,
    #[command(flatten)]
    client_key: ClientKeyOptions,
    /// Leave the client key in the snapshot, encrypted for the owner of this public RSA key (PEM)
    #[arg(
        long,
        requires = "client_key",
        value_name = "FILE",
        help_heading = "Client key"
    )]
    master_public_key: Option<PathBuf>,
}

/// What the threads of a backup share.
struct Work<'a> {
    runtime: &'a Runtime,
    session: &'a BackupSession,
    done: &'a AtomicU64,
    cancelled: &'a AtomicBool,
}

/// What every attempt needs.
struct Target<'a> {
    global: &'a Global,
    plan: &'a Plan,
    runtime: Runtime,
    client: Client,
    group: Group,
    key: Option<Arc<CryptKey>>,
    notes: Option<&'a str>,
    /// The key, encrypted for whoever keeps the master key.
    sealed_key: Option<Vec<u8>>,
}

/// Saves what the plan says as a snapshot of the server. If the connection breaks off it begins anew, a few times.
pub fn save(global: &Global, address: &ServerAddress, options: &SaveOptions, plan: &Plan) -> Result<Report> {
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
    let key = options.client_key.bytes()?;
    let sealed_key = match (&options.master_public_key, &key) {
        (Some(path), Some(key)) => Some(seal_key(key, path)?),
        _ => None,
    };
    let target = Target {
        global,
        plan,
        runtime: server_access::runtime()?,
        client: options.access.client(address, &namespace)?,
        group,
        key: key.as_deref().map(client_key::crypt_key).transpose()?,
        notes: options.notes.as_deref(),
        sealed_key,
    };
    let mut attempt = 1;
    let (snapshot, finished, reports, other) = loop {
        match target.attempt() {
            Err(failure) if attempt < ATTEMPTS && plan.stdin.is_none() && is_broken(&failure, attempt) => {
                let pause = PAUSE * attempt;
                tracing::warn!("{failure}; the backup begins anew in {} s", pause.as_secs());
                wait(pause)?;
                attempt += 1;
            }
            result => break result?,
        }
    };
    let report = report(&snapshot, &workload, &finished, &reports, other, began);
    if let Err(error) = target.leave_log(&snapshot, &report) {
        tracing::warn!("the snapshot is saved, but the server did not take its log: {error}");
    }
    Ok(report)
}

/// The client's key, encrypted with a public key.
fn seal_key(key: &[u8; 32], public: &Path) -> Result<Vec<u8>> {
    let now = Timestamp::now().to_string();
    let file = KeyFile::new(key, None, None, &now).map_err(|error| Failure::Usage(error.to_string()))?;
    let refused = |error| Failure::Usage(format!("master key {}: {error}", public.display()));
    master::seal(&file, &read_file(public)?).map_err(refused)
}

/// Whether it may go well if it is tried again. A server that has not noticed yet that the connection broke off refuses
/// another backup of the group for a while.
fn is_broken(failure: &Failure, attempt: u32) -> bool {
    use relight_pxar::fs::capture::CaptureError;
    let is = |error: &ClientError| {
        matches!(
            error,
            ClientError::Broken(_) | ClientError::Timeout { .. } | ClientError::Connect { .. }
        )
    };
    match failure {
        Failure::Client(ClientError::Refused { .. }) => attempt > 1,
        Failure::Client(error) => is(error),
        Failure::Workload(WorkloadError::Capture(CaptureError::Sink(error))) => error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<ClientError>())
            .is_some_and(is),
        _ => false,
    }
}

fn wait(pause: Duration) -> Result<()> {
    let (cancelled, until) = (cancel::flag(), Instant::now() + pause);
    while Instant::now() < until {
        if cancelled.load(Ordering::Relaxed) {
            return Err(relight_repo::RepoError::Cancelled.into());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

impl Target<'_> {
    fn attempt(&self) -> Result<(SnapshotName, Finished, Vec<TreeReport>, u64)> {
        let Self {
            plan,
            runtime,
            client,
            ..
        } = self;
        let snapshot = SnapshotName {
            group: self.group.clone(),
            backup_time: BackupTime::of(Timestamp::now()),
        };
        let about = BackupOptions {
            full: plan.full,
            ..BackupOptions::default()
        };
        let session = runtime.block_on(client.backup(snapshot.clone(), self.key.clone(), about))?;
        if let Some(notes) = self.notes {
            session.note(Manifest::NOTES, notes.into());
        }
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
        let meter = Meter::showing(self.global, bytes, super::expected(plan, None), label);
        let cancelled = cancel::flag();
        let work = Work {
            runtime,
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
            reports.push(work.tree(client, source, plan, &progress)?);
        }
        if let Some(sealed) = &self.sealed_key {
            runtime.block_on(session.sealed_blob("rsa-encrypted.key", sealed))?;
        }
        let finished = runtime.block_on(session.finish())?;
        drop(meter);
        Ok((snapshot, finished, reports, done.load(Ordering::Relaxed)))
    }

    /// Leaves with the snapshot what happened.
    fn leave_log(&self, snapshot: &SnapshotName, report: &Report) -> Result<(), ClientError> {
        let mut text = String::new();
        super::words(report, &mut text);
        if report.problem_count > report.problems.len().min(LOGGED) as u64 {
            text.push_str("not all problems are named\n");
        }
        let log = self
            .client
            .upload_log(snapshot, text.as_bytes(), self.key.as_deref());
        self.runtime.block_on(log)
    }
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
    fn tree(
        &self,
        client: &Client,
        source: &TreeSource,
        plan: &Plan,
        progress: &Progress,
    ) -> Result<TreeReport> {
        let (runtime, session) = (self.runtime, self.session);
        let path = source.path.display().to_string();
        let previous = runtime.block_on(session.previous_tree(client, &source.name, &path))?;
        let mut sink = runtime.block_on(session.tree(&source.name, previous.as_ref()))?;
        let before = previous.as_ref().map(|tree| Previous {
            metadata: Box::new(tree.metadata()),
            stats: Box::new(tree.stats()),
        });
        let report = capture(
            &source.path,
            &plan.capture,
            before,
            &mut sink,
            progress,
            self.cancelled,
        )
        .map_err(WorkloadError::from)?;
        sink.finish()?;
        session.note_tree(&source.name, &path, report.bytes, report.counts.files);
        Ok(TreeReport {
            source: source.clone(),
            report,
        })
    }

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
