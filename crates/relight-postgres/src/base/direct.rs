//! A base backup by reading the files on the server's host (documentation of PostgreSQL, "Making a Base Backup Using the Low
//! Level API"): started and stopped on one session, files read by several threads, what did not change since an earlier
//! backup not read at all.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use relight_repo::RepoError;
use relight_repo::session::Session;
use relight_workloads::kind::Work;

use super::attributes::About;
use super::control::{self, Control};
use super::files::{Entry, EntryKind};
use super::label::{self, Label};
use super::previous::Previous;
use super::scan::{Found, FoundKind, scan, stamp, tablespaces};
use super::server::{self, ServerFacts};
use super::stream::hold_log;
use super::writer::{ContentWriter, PageRules, relation_segment};
use super::{Options, Route, Taken, chunk_for};
use crate::connect::Settings;
use crate::error::{PostgresError, Result};
use crate::lsn::Lsn;
use crate::protocol::{Connection, Mode};
use crate::wal::{SegmentName, SegmentSize, Timeline};

/// A file that changed within so long before a backup began is read again by the next: times of files are not exact.
const QUIET: i128 = 2_000_000_000;
/// How long the last segment of the log may take to be closed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Takes it.
pub(super) fn take(
    server: &Settings,
    session: &Session,
    facts: &mut ServerFacts,
    previous: Option<&Previous>,
    options: &Options,
    work: &Work,
) -> Result<Taken> {
    let data = data_directory(facts)?;
    let mut remarks = Vec::new();
    let mut holder = Connection::open(server, Mode::Replication)?;
    hold_log(&mut holder, &mut remarks)?;
    let start_time = server::clock(&mut facts.connection)?;
    work.note("waiting for the server's checkpoint");
    let fast = options.fast;
    let start = if facts.major >= 15 {
        format!("SELECT pg_catalog.pg_backup_start('relight', fast => {fast})")
    } else {
        format!("SELECT pg_catalog.pg_start_backup('relight', {fast}, false)")
    };
    let start: Lsn = facts.connection.value(&start)?.parse().map_err(strange)?;
    // From here on the connection has to live: if it ends, the server ends the backup.
    let rules = PageRules {
        block: facts.block_size as usize,
        segment: facts.relation_segment,
        start,
    };
    let spaces = tablespaces(&data)?;
    let found = scan(&data, &spaces)?;
    let size = |found: &Found| match found.kind {
        FoundKind::File { size, .. } => size,
        _ => 0,
    };
    let total = found.iter().map(size).sum();
    work.total.store(total, Ordering::Relaxed);
    work.note(&format!(
        "reading the files in {}, from {start} on",
        data.display()
    ));
    let chunk = previous.map_or(chunk_for(total), |previous| previous.chunk);
    let rules = facts.checksums.then_some(rules);
    let mut writer = ContentWriter::new(session, chunk, spaces, rules)?;
    let readers = Readers::default();
    for found in &found {
        if work.is_cancelled() {
            return Err(RepoError::Cancelled.into());
        }
        take_one(&mut writer, found, previous, rules, &readers, work)?;
    }
    let control = read_control(&data)?;
    let meta = fs::metadata(data.join(control::PATH))
        .map_err(PostgresError::io("look at", &data.join(control::PATH)))?;

    let stop = if facts.major >= 15 {
        "SELECT lsn, labelfile FROM pg_catalog.pg_backup_stop(wait_for_archive => false)"
    } else {
        "SELECT lsn, labelfile FROM pg_catalog.pg_stop_backup(false, false)"
    };
    let stopped = facts.connection.rows(stop)?;
    let row = stopped
        .first()
        .ok_or_else(|| PostgresError::damaged("the end of the backup", "the server does not tell it"))?;
    let stop: Lsn = row.text("lsn").parse().map_err(strange)?;
    let text = row.text("labelfile").to_string();
    let label = Label::parse(&text)?;
    let stop_time = server::clock(&mut facts.connection)?;
    let next_transaction = server::next_transaction(&mut facts.connection)?;
    let timeline = timeline(facts)?;
    if timeline != label.timeline {
        return Err(PostgresError::Refused(format!(
            "the server went from timeline {} to {timeline} during the backup: run it again",
            label.timeline
        )));
    }
    file(
        &mut writer,
        label::PATH,
        0o600,
        stop_time.as_second(),
        text.as_bytes(),
    )?;
    work.note("saving the log of the backup");
    save_log(&mut writer, facts, &data, &label, stop, work)?;
    file(
        &mut writer,
        control::PATH,
        meta.mode() & 0o7777,
        meta.mtime(),
        &control,
    )?;
    drop(holder);

    let control = Control::parse(&control)?;
    if control.system != facts.system {
        return Err(PostgresError::Refused(format!(
            "{} holds cluster {}, but {} is cluster {}",
            data.display(),
            control.system,
            facts.connection.server(),
            facts.system
        )));
    }
    let read = readers.read.load(Ordering::Relaxed);
    let (content, list, mut bad) = writer.finish()?;
    bad.extend(
        readers
            .bad
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain(..),
    );
    let unchanged = readers.unchanged;
    if unchanged.load(Ordering::Relaxed) > 0 {
        remarks.push(format!(
            "{} files did not change since the earlier backup and were not read",
            unchanged.load(Ordering::Relaxed)
        ));
    }
    Ok(Taken {
        content,
        list,
        bad,
        manifest: None,
        about: About {
            system: control.system,
            version: facts.version.clone(),
            catalog: control.catalog,
            start_timeline: label.timeline,
            timeline,
            start_lsn: label.start,
            stop_lsn: stop,
            start_time,
            stop_time,
            next_transaction,
            segment_size: control.segment_size,
            block_size: control.block_size,
            checksums: control.checksums,
            route: Route::Files,
            from_standby: label.from_standby,
            incremental: false,
        },
        remarks,
        read,
    })
}

fn strange(error: crate::lsn::LsnError) -> PostgresError {
    PostgresError::damaged("a position in the log", error.to_string())
}

/// The data directory, if it is on this host and may be read.
fn data_directory(facts: &mut ServerFacts) -> Result<PathBuf> {
    let path = facts
        .connection
        .value("SELECT current_setting('data_directory')")?;
    let data = fs::canonicalize(&path).map_err(PostgresError::io(
        "find (files can only be read on the server's host, by its user or root)",
        Path::new(&path),
    ))?;
    let control = read_control(&data)?;
    let system = Control::parse(&control)?.system;
    if system == facts.system {
        return Ok(data);
    }
    Err(PostgresError::Refused(format!(
        "{} on this host holds cluster {system}, but {} is cluster {}: run this on its host",
        data.display(),
        facts.connection.server(),
        facts.system
    )))
}

/// Reads `pg_control`, again as long as it is just being written to.
fn read_control(data: &Path) -> Result<Vec<u8>> {
    let path = data.join(control::PATH);
    let mut tries = 0;
    loop {
        let bytes = fs::read(&path).map_err(PostgresError::io("read", &path))?;
        match Control::parse(&bytes) {
            Ok(_) => return Ok(bytes),
            Err(error) if tries >= 50 => return Err(error),
            Err(_) => tries += 1,
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn timeline(facts: &mut ServerFacts) -> Result<u32> {
    let sql = if facts.connection.value("SELECT pg_catalog.pg_is_in_recovery()")? == "t" {
        "SELECT received_tli FROM pg_catalog.pg_stat_wal_receiver UNION ALL SELECT timeline_id FROM \
         pg_catalog.pg_control_checkpoint() LIMIT 1"
    } else {
        "SELECT ('x' || substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8))::bit(32)::bigint"
    };
    let text = facts.connection.value(sql)?;
    text.parse()
        .map_err(|_| PostgresError::damaged("the server's timeline", format!("it says {text:?}")))
}

/// What the threads that read share.
#[derive(Default)]
struct Readers {
    read: Arc<AtomicU64>,
    unchanged: AtomicU64,
    bad: Arc<Mutex<Vec<super::BadPage>>>,
}

fn take_one(
    writer: &mut ContentWriter<'_>,
    found: &Found,
    previous: Option<&Previous>,
    rules: Option<PageRules>,
    readers: &Readers,
    work: &Work,
) -> Result<()> {
    let entry = |kind| Entry {
        path: found.path.clone(),
        kind,
        mode: found.mode,
        modified: found.modified,
        stamp: None,
    };
    match &found.kind {
        FoundKind::Directory => writer.add(entry(EntryKind::Directory)),
        FoundKind::Link(to) => writer.add(entry(EntryKind::Link { to: to.clone() })),
        FoundKind::File { size, stamp: then } => {
            let file = match File::open(&found.place) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(PostgresError::io("open", &found.place)(error)),
            };
            let meta = file
                .metadata()
                .map_err(PostgresError::io("look at", &found.place))?;
            let (now, changed) = stamp(&meta);
            let mut entry = entry(EntryKind::File {
                size: *size,
                offset: 0,
            });
            entry.stamp = (*then == now).then(|| now.clone());
            if let Some(previous) = previous
                && let Some(stamp) = &entry.stamp
                && previous.is_same(&found.path, *size, stamp)
                && changed + QUIET < previous.about.start_time.as_nanosecond()
                && writer.take_over(entry.clone(), previous)?
            {
                readers.unchanged.fetch_add(1, Ordering::Relaxed);
                work.done.fetch_add(*size, Ordering::Relaxed);
                return Ok(());
            }
            let name = found.path.rsplit('/').next().unwrap_or_default();
            let segment = relation_segment(&found.path, name);
            let file = Arc::new(file);
            let (path, read, bad) = (found.path.clone(), readers.read.clone(), readers.bad.clone());
            let done = work.done.clone();
            let reader = move |at: u64, buffer: &mut [u8]| {
                read_chunk(&file, at, buffer)?;
                if let (Some(segment), Some(rules)) = (segment, rules) {
                    let mut wrong = Vec::new();
                    super::writer::look(&path, buffer, at, segment, rules, &mut wrong);
                    if !wrong.is_empty() {
                        // Perhaps it was just being written.
                        std::thread::sleep(Duration::from_millis(20));
                        read_chunk(&file, at, buffer)?;
                        wrong.clear();
                        super::writer::look(&path, buffer, at, segment, rules, &mut wrong);
                        bad.lock().unwrap_or_else(PoisonError::into_inner).extend(wrong);
                    }
                }
                read.fetch_add(buffer.len() as u64, Ordering::Relaxed);
                done.fetch_add(buffer.len() as u64, Ordering::Relaxed);
                Ok(())
            };
            writer.read_file(entry, Arc::new(reader))?;
        }
    }
    Ok(())
}

/// Reads a part of a file; zeros if it became shorter: the log says so too.
fn read_chunk(file: &File, at: u64, buffer: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buffer[filled..].fill(0);
    Ok(())
}

fn file(writer: &mut ContentWriter<'_>, path: &str, mode: u32, modified: i64, content: &[u8]) -> Result<()> {
    writer.begin(path, content.len() as u64, mode, modified);
    writer.data(content)?;
    writer.end()
}

/// The segments from where replay begins to where the backup is consistent, and the histories.
fn save_log(
    writer: &mut ContentWriter<'_>,
    facts: &mut ServerFacts,
    data: &Path,
    label: &Label,
    stop: Lsn,
    work: &Work,
) -> Result<()> {
    let size = SegmentSize::try_from(u64::from(facts.segment_size))
        .map_err(|_| PostgresError::damaged("the size of segments", "it makes no sense"))?;
    let folder = data.join("pg_wal");
    if label.timeline > 1 {
        for number in 2..=label.timeline {
            let name = format!("{number:08X}.history");
            if let Ok(content) = fs::read(folder.join(&name)) {
                file(writer, &format!("pg_wal/{name}"), 0o600, 0, &content)?;
            }
        }
    }
    let first = size.segment_of(label.start);
    let last = size.segment_of(Lsn(stop.0.saturating_sub(1)));
    let began = Instant::now();
    for number in first..=last {
        let name = SegmentName::new(Timeline(label.timeline), number, size).to_string();
        let path = folder.join(&name);
        // A standby closes its last segment when its primary does; what is written up to the end is enough.
        let content = loop {
            match fs::read(&path) {
                Ok(content) if content.len() as u64 == size.bytes() => break content,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(PostgresError::io("read", &path)(error)),
            }
            if began.elapsed() > PATIENCE {
                return Err(PostgresError::damaged(
                    format!("segment {name} of the log"),
                    "the server does not have it any more: raise wal_keep_size or max_replication_slots, and run the backup \
                     again",
                ));
            }
            if work.is_cancelled() {
                return Err(RepoError::Cancelled.into());
            }
            std::thread::sleep(Duration::from_millis(100));
        };
        file(writer, &format!("pg_wal/{name}"), 0o600, 0, &content)?;
    }
    Ok(())
}
