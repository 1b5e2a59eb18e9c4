//! A base backup that the server sends (documentation of PostgreSQL, "Streaming Replication Protocol", BASE_BACKUP).

use std::sync::atomic::Ordering;

use relight_repo::session::Session;
use relight_workloads::kind::Work;

use super::attributes::About;
use super::control::{self, Control};
use super::files::Tablespace;
use super::label::{self, Label};
use super::previous::Previous;
use super::receive::Receiver;
use super::server::{self, ServerFacts};
use super::writer::{ContentWriter, PageRules};
use super::{Options, Route, Taken, chunk_for};
use crate::connect::Settings;
use crate::error::{PostgresError, Result};
use crate::lsn::Lsn;
use crate::protocol::{Connection, Event, Mode, ResultSet};

/// Most bytes of the server's own list of files.
const MANIFEST_MOST: usize = 1 << 30;

/// Takes it. `server` reaches only the one server that `facts` are about. What did not change since `previous` is not sent if
/// the server can tell.
pub(super) fn take(
    server: &Settings,
    session: &Session,
    facts: &mut ServerFacts,
    previous: Option<&Previous>,
    options: &Options,
    work: &Work,
) -> Result<Taken> {
    let mut remarks = Vec::new();
    let start_time = server::clock(&mut facts.connection)?;
    let mut since = previous.filter(|previous| can_be_incremental(facts, previous, &mut remarks));
    let (mut connection, begin) = loop {
        match begin(server, facts.major, since, options, &mut remarks, work) {
            Ok(begun) => break begun,
            Err(error @ PostgresError::Server { .. }) if since.is_some() => {
                remarks.push(format!(
                    "everything is sent, because the server cannot tell what changed: {error}"
                ));
                since = None;
            }
            Err(error) => return Err(error),
        }
    };
    let (start, start_timeline) = position(&connection, &begin)?;
    let rows = result(&mut connection)?;
    let tablespaces = tablespaces(&rows)?;
    let total: u64 = rows
        .iter()
        .filter_map(|row| row.parse::<u64>("size"))
        .sum::<u64>()
        .saturating_mul(1024);
    work.total.store(total, Ordering::Relaxed);
    work.note(&format!("the server sends its files, from {start} on"));
    let rules = PageRules {
        block: facts.block_size as usize,
        segment: facts.relation_segment,
        start,
    };
    let rules = facts.checksums.then_some(rules);
    let chunk = previous.map_or(chunk_for(total), |previous| previous.chunk);
    let writer = ContentWriter::new(session, chunk, tablespaces, rules)?;
    let mut sent = Sent {
        receiver: Receiver::new(writer, since.map(|since| (since, facts.block_size))),
        manifest: None,
        read: 0,
    };
    if facts.major >= 15 {
        sent.receive_one(&mut connection, work)?;
    } else {
        sent.receive_many(&mut connection, &rows, work)?;
    }
    let end = result(&mut connection)?;
    let (stop, timeline) = position(&connection, &end)?;
    let mut rest = Vec::new();
    connection.gather(&mut rest)?;
    drop(connection);
    let stop_time = server::clock(&mut facts.connection)?;
    let next_transaction = server::next_transaction(&mut facts.connection)?;

    let control = Control::parse(sent.receiver.kept(control::PATH)?)?;
    let label = Label::parse(&String::from_utf8_lossy(sent.receiver.kept(label::PATH)?))?;
    if control.system != facts.system {
        return Err(PostgresError::Refused(format!(
            "{} changed under the backup: it began with cluster {} and sent cluster {}",
            facts.connection.server(),
            facts.system,
            control.system
        )));
    }
    if let Some(since) = since
        && label.since != Some(since.about.start_lsn)
    {
        return Err(PostgresError::damaged(
            "what the server sent",
            "it is what changed since another backup than the one that was named",
        ));
    }
    let (content, list, bad) = sent.receiver.writer.finish()?;
    let about = About {
        system: control.system,
        version: facts.version.clone(),
        catalog: control.catalog,
        start_timeline,
        timeline,
        start_lsn: label.start,
        stop_lsn: stop,
        start_time,
        stop_time,
        next_transaction,
        segment_size: control.segment_size,
        block_size: control.block_size,
        checksums: control.checksums,
        route: Route::Stream,
        from_standby: label.from_standby,
        incremental: since.is_some(),
    };
    Ok(Taken {
        content,
        list,
        bad,
        manifest: sent.manifest,
        about,
        remarks,
        read: sent.read,
    })
}

/// Whether a backup may be put together with an earlier one; else why not.
fn can_be_incremental(facts: &mut ServerFacts, previous: &Previous, remarks: &mut Vec<String>) -> bool {
    if facts.major < 17 {
        return false;
    }
    let summarizes = facts
        .connection
        .value("SELECT current_setting('summarize_wal')")
        .is_ok_and(|value| value == "on");
    let why = if !summarizes {
        "summarize_wal is off"
    } else if !previous.has_manifest() {
        "the earlier backup was not sent by the server"
    } else if previous.about.major() != facts.major {
        "the earlier backup is one of another version"
    } else if previous.about.checksums != facts.checksums {
        "checksums were turned on or off since the earlier backup"
    } else if previous.about.block_size != facts.block_size {
        "blocks had another size in the earlier backup"
    } else {
        return true;
    };
    remarks.push(format!("everything is sent, because {why}"));
    false
}

/// Has the backup begin. Gives the connection and where in the log that is.
fn begin(
    server: &Settings,
    major: u32,
    since: Option<&Previous>,
    options: &Options,
    remarks: &mut Vec<String>,
    work: &Work,
) -> Result<(Connection, ResultSet)> {
    let mut connection = Connection::open(server, Mode::Replication)?;
    connection.set_cancelled(work.cancelled.clone());
    hold_log(&mut connection, remarks)?;
    let manifest = match since {
        Some(since) => since.manifest()?,
        None => None,
    };
    if let Some(manifest) = &manifest {
        upload(&mut connection, manifest)?;
    } else if since.is_some() {
        return Err(PostgresError::damaged(
            "the earlier backup",
            "it does not hold the server's list of its files; take one with --full",
        ));
    }
    work.note("waiting for the server's checkpoint");
    connection.send_query(&command(major, options, since.is_some()))?;
    let begin = result(&mut connection)?;
    Ok((connection, begin))
}

/// Gives the server its list of the files of an earlier backup.
fn upload(connection: &mut Connection, manifest: &[u8]) -> Result<()> {
    connection.send_query("UPLOAD_MANIFEST")?;
    match connection.event()? {
        Event::CopyIn => {}
        Event::Error(message) => return Err(refuse(connection, message)),
        _ => return Err(connection.protocol("it does not take the list of an earlier backup".into())),
    }
    for part in manifest.chunks(1 << 20) {
        connection.put_copy_data(part)?;
    }
    connection.put_copy_done()?;
    connection.gather(&mut Vec::new())
}

/// Keeps the server from removing the log that the backup needs before it is sent. The slot goes with the connection.
pub(super) fn hold_log(connection: &mut Connection, remarks: &mut Vec<String>) -> Result<()> {
    let mut random = [0; 8];
    aws_lc_rs::rand::fill(&mut random)
        .map_err(|_| PostgresError::Refused("the operating system gave no random bytes".into()))?;
    let name = format!("relight_base_{}", hex::encode(random));
    let made = connection.query(&format!(
        "CREATE_REPLICATION_SLOT {name} TEMPORARY PHYSICAL RESERVE_WAL"
    ));
    match made {
        Ok(_) => Ok(()),
        Err(error @ PostgresError::Server { .. }) => {
            remarks.push(format!(
                "no slot keeps the log of the backup on the server ({error}): if the backup takes long, the server may \
                 remove it, and the backup fails; raise max_replication_slots"
            ));
            Ok(())
        }
        Err(error) => Err(error),
    }
}

fn command(major: u32, options: &Options, incremental: bool) -> String {
    // The protocol counts in KiB, from 32 to 1 GiB.
    let rate = options.rate.map(|rate| (rate / 1024).clamp(32, 1 << 20));
    if major >= 15 {
        let rate = rate.map_or(String::new(), |rate| format!(", MAX_RATE {rate}"));
        let checkpoint = if options.fast { "fast" } else { "spread" };
        let incremental = if incremental { ", INCREMENTAL" } else { "" };
        format!(
            "BASE_BACKUP (LABEL 'relight', PROGRESS, CHECKPOINT '{checkpoint}', WAL, WAIT true, TABLESPACE_MAP, \
             VERIFY_CHECKSUMS false, MANIFEST 'yes', MANIFEST_CHECKSUMS 'CRC32C'{rate}{incremental})"
        )
    } else {
        let rate = rate.map_or(String::new(), |rate| format!(" MAX_RATE {rate}"));
        let fast = if options.fast { " FAST" } else { "" };
        format!(
            "BASE_BACKUP LABEL 'relight' PROGRESS{fast} WAL{rate} TABLESPACE_MAP NOVERIFY_CHECKSUMS MANIFEST 'yes' \
             MANIFEST_CHECKSUMS 'CRC32C'"
        )
    }
}

/// The next result set.
fn result(connection: &mut Connection) -> Result<ResultSet> {
    let mut set = None;
    loop {
        let event = connection.event()?;
        match event {
            Event::Columns(columns) => {
                set = Some(ResultSet {
                    columns,
                    rows: Vec::new(),
                });
            }
            Event::Row(values) => {
                if let Some(set) = &mut set {
                    set.rows.push(values);
                }
            }
            Event::Complete(_) => {
                if let Some(set) = set.take() {
                    return Ok(set);
                }
            }
            Event::Error(message) => return Err(refuse(connection, message)),
            _ => return Err(connection.protocol("it did not tell about the backup when it should".into())),
        }
    }
}

/// An error of the server, after which it is ready again.
fn refuse(connection: &mut Connection, message: Box<crate::protocol::ServerMessage>) -> PostgresError {
    let _ = connection.gather(&mut Vec::new());
    connection.refused(message)
}

fn position(connection: &Connection, set: &ResultSet) -> Result<(Lsn, u32)> {
    let read = || {
        let row = set.first()?;
        Some((row.parse("recptr")?, row.parse("tli")?))
    };
    read().ok_or_else(|| connection.protocol("it did not tell where in the log the backup is".into()))
}

fn tablespaces(rows: &ResultSet) -> Result<Vec<Tablespace>> {
    let outside = rows.iter().filter(|row| row.get("spcoid").is_some());
    outside
        .map(|row| {
            let oid = row
                .parse("spcoid")
                .ok_or_else(|| PostgresError::damaged("the list of tablespaces", "it makes no sense"))?;
            Ok(Tablespace {
                oid,
                location: row.text("spclocation").to_string(),
            })
        })
        .collect()
}

/// What has been sent so far.
struct Sent<'p> {
    receiver: Receiver<'p>,
    manifest: Option<Vec<u8>>,
    read: u64,
}

/// What the stream carries at the moment.
enum Carries {
    Nothing,
    Archive,
    Manifest,
}

impl Sent<'_> {
    /// Servers from 15 on send all in one stream, in which each message says what it is.
    fn receive_one(&mut self, connection: &mut Connection, work: &Work) -> Result<()> {
        let mut carries = Carries::Nothing;
        loop {
            let odd = || PostgresError::damaged("what the server sent", "it is not as the protocol says");
            match connection.event()? {
                Event::CopyOut => {}
                Event::Data(data) => match (data.split_first().ok_or_else(odd)?, &carries) {
                    ((b'n', rest), _) => {
                        let name = rest.split(|&byte| byte == 0).next().unwrap_or_default();
                        let name = String::from_utf8_lossy(name);
                        let oid = match name.strip_suffix(".tar").ok_or_else(odd)? {
                            "base" => None,
                            oid => Some(oid.parse().map_err(|_| odd())?),
                        };
                        self.receiver.archive(oid)?;
                        carries = Carries::Archive;
                    }
                    ((b'm', _), _) => {
                        self.receiver.end_archive()?;
                        self.manifest = Some(Vec::new());
                        carries = Carries::Manifest;
                    }
                    ((b'd', bytes), Carries::Archive) => self.archive(bytes, work)?,
                    ((b'd', bytes), Carries::Manifest) => self.manifest(bytes)?,
                    // How far it has come; that is counted here.
                    ((b'p', _), _) => {}
                    _ => return Err(odd()),
                },
                Event::CopyDone => {
                    if !matches!(carries, Carries::Manifest) {
                        self.receiver.end_archive()?;
                    }
                    return Ok(());
                }
                Event::Error(message) => return Err(refuse(connection, message)),
                _ => return Err(odd()),
            }
        }
    }

    /// Older servers send a stream for each tablespace, in the order of their list, and then the manifest.
    fn receive_many(&mut self, connection: &mut Connection, rows: &ResultSet, work: &Work) -> Result<()> {
        for row in rows.iter() {
            self.receiver.archive(row.parse("spcoid"))?;
            self.receive_stream(connection, work, Self::archive)?;
        }
        self.receiver.end_archive()?;
        self.manifest = Some(Vec::new());
        self.receive_stream(connection, work, |sent, bytes, _| sent.manifest(bytes))
    }

    fn receive_stream(
        &mut self,
        connection: &mut Connection,
        work: &Work,
        take: impl Fn(&mut Self, &[u8], &Work) -> Result<()>,
    ) -> Result<()> {
        loop {
            match connection.event()? {
                Event::CopyOut => {}
                Event::Data(bytes) => take(self, bytes, work)?,
                Event::CopyDone => return Ok(()),
                Event::Error(message) => return Err(refuse(connection, message)),
                _ => {
                    return Err(PostgresError::damaged(
                        "what the server sent",
                        "it is not as the protocol says",
                    ));
                }
            }
        }
    }

    fn archive(&mut self, bytes: &[u8], work: &Work) -> Result<()> {
        self.read += bytes.len() as u64;
        work.done.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.receiver.push(bytes)
    }

    fn manifest(&mut self, bytes: &[u8]) -> Result<()> {
        let manifest = self.manifest.get_or_insert_default();
        if manifest.len() + bytes.len() > MANIFEST_MOST {
            return Err(PostgresError::damaged(
                "the server's list of files",
                "it is too long",
            ));
        }
        manifest.extend_from_slice(bytes);
        Ok(())
    }
}
