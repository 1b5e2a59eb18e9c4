//! The receiver as a whole: connects, begins where it must, follows timelines, comes back after whatever happens.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use relight_model::workload::Workload;
use relight_workloads::log::Following;

use super::begin::{self, Begin, Identity};
use super::shared::{Shared, Stretch};
use super::slot::SlotState;
use super::spool::{Spool, Writer};
use super::stream::{End, Stream};
use super::upload::{self, Uploader};
use crate::connect::Settings;
use crate::error::PostgresError;
use crate::lsn::Lsn;
use crate::protocol::{Connection, Mode};
use crate::wal::error::{Result, WalError};
use crate::wal::history::{History, Tree};
use crate::wal::name::{SegmentSize, Timeline, WalName};
use crate::wal::store::{LogStore, NewFile};
use crate::wal::summary::Cluster;
use crate::wal::windows::KnownGap;

/// The slot is used by another connection, or by one that died and was not noticed yet.
const IN_USE: &str = "55006";
/// The server has removed what was asked for.
const REMOVED: &str = "58P01";
/// How often the slot is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);
const LEAST_WAIT: Duration = Duration::from_millis(500);
const MOST_WAIT: Duration = Duration::from_secs(10);
/// An alarm is raised when the server keeps more bytes for a slot, if nothing else is said.
pub const ALARM: u64 = 1 << 30;
/// Bytes that may wait on this machine, if nothing else is said.
const SPOOL: u64 = 1 << 30;

/// How to receive.
#[derive(Debug, Clone)]
pub struct Options {
    /// How the server is reached.
    pub settings: Settings,
    /// Name of the slot.
    pub slot: String,
    /// Make the slot if there is none.
    pub create_slot: bool,
    /// Folder for what was received and is not in the repository yet.
    pub spool: PathBuf,
    /// Bytes that may wait there; beyond it the server waits.
    pub limit: u64,
    /// What is new is stored at least this often.
    pub every: Duration,
    /// An alarm is raised when the server keeps more than so many bytes for the slot.
    pub alarm: u64,
    /// Who is told how it goes.
    pub following: Option<Arc<Following>>,
}

impl Options {
    /// As it is done if nothing else is said.
    pub fn new(settings: Settings, workload: &Workload, spool: PathBuf) -> Self {
        Self {
            settings,
            slot: slot_name(workload),
            create_slot: true,
            spool,
            limit: SPOOL,
            every: Duration::from_millis(500),
            alarm: ALARM,
            following: None,
        }
    }

    /// Tells what is wrong about something, or that nothing is.
    pub(super) fn tell(&self, about: &'static str, words: Option<String>) {
        if let Some(following) = &self.following {
            following.alarm(about, words);
        }
    }
}

/// The slot of a workload: its name in the letters that the names of slots may have.
pub fn slot_name(workload: &Workload) -> String {
    let allowed = |letter: char| match letter.to_ascii_lowercase() {
        letter if letter.is_ascii_alphanumeric() => letter,
        _ => '_',
    };
    let name: String = workload.name().chars().map(allowed).collect();
    let mut slot = format!("relight_{name}");
    slot.truncate(63);
    slot
}

/// Receives until `cancelled`; then everything that was received is stored before this returns.
///
/// # Errors
/// If the first connection fails, or something is wrong that trying again does not mend: another cluster, another
/// version, a timeline that does not fit, content that differs. A server that goes away or a repository that does not
/// answer later on are waited for.
pub fn receive(store: &LogStore, options: &Options, cancelled: &Arc<AtomicBool>) -> Result<()> {
    let spool = Spool::open(&options.spool)?;
    // Before the server is asked for anything: it may be gone.
    upload::salvage(store, &spool)?;
    let first = Link::open(options, cancelled)?;
    let cluster = first.cluster;
    check_cluster(store, &cluster)?;
    let shared = Shared::default();
    let uploader = Uploader::new(store, &spool, &shared, cluster, options);
    std::thread::scope(|scope| {
        let storing = scope.spawn(|| uploader.run());
        let mut receiver = Receiver {
            store,
            options,
            cancelled,
            shared: &shared,
            spool: &spool,
            cluster,
            place: None,
            removed: None,
        };
        let result = receiver.run(first);
        shared.change(|state| state.ending = true);
        let stored = storing.join();
        result?;
        match (stored, shared.change(|state| state.failure.take())) {
            (_, Some(error)) => Err(error),
            (Err(_), None) => Err(WalError::Refused(
                "the thread that stores the log panicked".into(),
            )),
            (Ok(()), None) => Ok(()),
        }
    })
}

fn check_cluster(store: &LogStore, found: &Cluster) -> Result<()> {
    let Some(known) = store.catalog()?.cluster else {
        return Ok(());
    };
    let (what, workload) = ("the server".to_string(), store.workload().to_string());
    if found.system != known.system {
        return Err(WalError::OtherCluster {
            what,
            found: found.system,
            known: known.system,
            workload,
        });
    }
    if found.major != known.major {
        return Err(WalError::OtherMajor {
            what,
            found: found.major,
            known: known.major,
            workload,
        });
    }
    if found.segment_size != known.segment_size {
        return Err(WalError::OtherSegmentSize {
            what,
            found: found.segment_size.bytes(),
            known: known.segment_size.bytes(),
            workload,
        });
    }
    Ok(())
}

/// Two connections to one server: for the log, and for questions.
struct Link {
    replication: Connection,
    queries: Connection,
    identity: Identity,
    cluster: Cluster,
    slot: SlotState,
}

impl Link {
    fn open(options: &Options, cancelled: &Arc<AtomicBool>) -> Result<Self> {
        let mut replication = Connection::open(&options.settings, Mode::Replication)?;
        replication.set_cancelled(cancelled.clone());
        let mut queries = Connection::open(&replication.same_server(&options.settings), Mode::Queries)?;
        queries.set_cancelled(cancelled.clone());
        let server = replication.server().to_string();
        let protocol = |why: &str| PostgresError::Protocol {
            server: server.clone(),
            why: why.to_string(),
        };
        let set = replication.rows("IDENTIFY_SYSTEM")?;
        let row = set.first().ok_or_else(|| protocol("it does not say who it is"))?;
        let identity = Identity {
            system: row
                .parse("systemid")
                .ok_or_else(|| protocol("it does not say who it is"))?,
            timeline: Timeline(
                row.parse("timeline")
                    .ok_or_else(|| protocol("it has no timeline"))?,
            ),
            position: row
                .parse("xlogpos")
                .ok_or_else(|| protocol("it has no position"))?,
        };
        let size = queries.value("SELECT setting FROM pg_settings WHERE name = 'wal_segment_size'")?;
        let size: u64 = size
            .parse()
            .map_err(|_| protocol("it does not say how long its segments are"))?;
        let cluster = Cluster {
            system: identity.system,
            major: replication.major_version()?,
            segment_size: SegmentSize::try_from(size)?,
        };
        let slot = ready_slot(&mut replication, &mut queries, options)?;
        Ok(Self {
            replication,
            queries,
            identity,
            cluster,
            slot,
        })
    }

    /// The files that tell the server's history.
    fn histories(&mut self) -> Result<(Tree, Vec<NewFile>)> {
        let (mut tree, mut files) = (Tree::default(), Vec::new());
        let mut wanted = vec![self.identity.timeline];
        while let Some(timeline) = wanted.pop() {
            if timeline.0 <= 1 {
                continue;
            }
            let answer = self.replication.rows(&format!("TIMELINE_HISTORY {timeline}"));
            let set = match answer {
                Ok(set) => set,
                // Those of ancestors may be gone; the newest tells all of them.
                Err(error) if error.sql_state().is_some() && timeline != self.identity.timeline => continue,
                Err(error) => return Err(error.into()),
            };
            let Some(content) = set.first().and_then(|row| row.get("content")) else {
                continue;
            };
            let bytes = content.as_bytes().to_vec();
            let history = History::parse(timeline, &bytes)?;
            if timeline == self.identity.timeline {
                wanted.extend(history.steps.iter().map(|step| step.from));
            }
            tree.insert(history);
            files.push(NewFile {
                name: WalName::History(timeline),
                bytes,
                system: Some(self.identity.system),
            });
        }
        Ok((tree, files))
    }
}

/// Makes the slot, or makes it again if it was lost.
fn ready_slot(
    replication: &mut Connection,
    queries: &mut Connection,
    options: &Options,
) -> Result<SlotState> {
    let name = &options.slot;
    let valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if name.is_empty() || name.len() > 63 || !name.bytes().all(valid) {
        return Err(WalError::Refused(format!(
            "{name:?} is not the name of a slot: lower-case letters, digits and _, at most 63 of them"
        )));
    }
    let found = SlotState::look(queries, name)?;
    match found {
        Some(slot) if !slot.is_lost() => return Ok(slot),
        Some(_) if options.create_slot => {
            tracing::warn!(
                "slot {name} was lost; it is made anew, and the log has a gap: make a new base backup"
            );
            replication.query(&format!("DROP_REPLICATION_SLOT {name}"))?;
        }
        None if options.create_slot => {}
        _ => {
            return Err(WalError::Refused(format!(
                "there is no slot {name} on the server that can be used; leave --no-create-slot out, or make it with \
                 SELECT pg_create_physical_replication_slot('{name}', true)"
            )));
        }
    }
    replication.query(&format!("CREATE_REPLICATION_SLOT {name} PHYSICAL RESERVE_WAL"))?;
    let slot = SlotState::look(queries, name)?;
    slot.ok_or_else(|| WalError::Refused(format!("slot {name} is gone right after it was made")))
}

struct Receiver<'a> {
    store: &'a LogStore,
    options: &'a Options,
    cancelled: &'a Arc<AtomicBool>,
    shared: &'a Shared,
    spool: &'a Spool,
    cluster: Cluster,
    /// Where it is: the timeline and how far that was received.
    place: Option<(Timeline, Lsn)>,
    /// The server has removed the log from there on.
    removed: Option<Lsn>,
}

impl Receiver<'_> {
    fn run(&mut self, first: Link) -> Result<()> {
        let mut link = Some(first);
        let mut wait = LEAST_WAIT;
        while !self.is_cancelled() {
            let began = Instant::now();
            let opened = match link.take() {
                Some(link) => Ok(link),
                None => Link::open(self.options, self.cancelled),
            };
            let ended = opened.and_then(|link| self.follow(link));
            let words = match ended {
                Ok(()) if self.is_cancelled() => return Ok(()),
                Ok(()) => "the server ended the connection".to_string(),
                Err(_) if self.is_cancelled() => return Ok(()),
                Err(error) if is_hopeless(&error) => return Err(error),
                Err(error) => {
                    self.note_received();
                    if is_code(&error, REMOVED) {
                        self.removed = self.place.map(|(_, start)| start);
                    }
                    error.to_string()
                }
            };
            tracing::warn!("{words}; connecting again");
            self.options.tell("connection", Some(words));
            self.note_received();
            if began.elapsed() > MOST_WAIT {
                wait = LEAST_WAIT;
            }
            self.sleep(wait)?;
            wait = (wait * 2).min(MOST_WAIT);
        }
        Ok(())
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// How far the connection that broke has come.
    fn note_received(&mut self) {
        if let (Some(place), Some(stretch)) = (&mut self.place, self.shared.lock().stretches.back())
            && place.0 == stretch.timeline
        {
            place.1 = stretch.received;
        }
    }

    fn sleep(&self, wait: Duration) -> Result<()> {
        let until = Instant::now() + wait;
        while Instant::now() < until && !self.is_cancelled() {
            if let Some(error) = self.shared.change(|state| state.failure.take()) {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Receives from one server, over its timelines, until the connection ends.
    fn follow(&mut self, mut link: Link) -> Result<()> {
        if link.cluster != self.cluster {
            check_cluster(self.store, &link.cluster)?;
            return Err(WalError::OtherCluster {
                what: "the server".into(),
                found: link.cluster.system,
                known: self.cluster.system,
                workload: self.store.workload().to_string(),
            });
        }
        let (tree, histories) = link.histories()?;
        self.store_histories(histories)?;
        let (timeline, start) = match self.place {
            Some(place) => self.go_on(place, &link, &tree)?,
            None => {
                let begin = self.begin(&link, &tree)?;
                (begin.timeline, begin.start)
            }
        };
        let (timeline, start) = match self.removed.take().filter(|removed| *removed == start) {
            Some(_) => self
                .skip(&link, &tree, start)?
                .map_or((timeline, start), |begin| (begin.timeline, begin.start)),
            None => (timeline, start),
        };
        self.place = Some((timeline, start));
        let watch = Watch::new(self.options, link.queries);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let watching = scope.spawn(|| watch.run(&stop));
            let result = self.stream(&mut link.replication, timeline, start);
            stop.store(true, Ordering::Relaxed);
            let _ = watching.join();
            result
        })
    }

    fn store_histories(&self, files: Vec<NewFile>) -> Result<()> {
        if files.is_empty() {
            return Ok(());
        }
        let there = self.store.catalog()?;
        let new = files
            .into_iter()
            .filter(|file| !there.files.contains_key(&file.name));
        let new: Vec<NewFile> = new.collect();
        self.shared.change(|state| state.files.extend(new));
        Ok(())
    }

    /// Where to begin in this run.
    fn begin(&self, link: &Link, tree: &Tree) -> Result<Begin> {
        let (catalog, tail) = (self.store.catalog()?, self.store.tail()?);
        let size = self.cluster.segment_size;
        let kept = link.slot.restart.unwrap_or(link.identity.position);
        begin::begin(&catalog, &tail, &link.identity, tree, kept, size)
    }

    /// Where to go on after a connection was lost.
    fn go_on(&self, place: (Timeline, Lsn), link: &Link, tree: &Tree) -> Result<(Timeline, Lsn)> {
        let (timeline, received) = place;
        let path = tree.path(link.identity.timeline);
        let Some(at) = path.iter().position(|(step, _)| *step == timeline) else {
            // Another branch: as if this were the beginning.
            self.end_stretch();
            let begin = self.begin(link, tree)?;
            return Ok((begin.timeline, begin.start));
        };
        match (path[at].1, path.get(at + 1)) {
            (Some(leave), Some((child, _))) if received >= leave => {
                tracing::warn!(
                    "the server is on timeline {}, which left timeline {timeline} at {leave}, and {received} was \
                     received; going on there",
                    link.identity.timeline
                );
                self.end_stretch();
                Ok((*child, self.cluster.segment_size.floor(leave)))
            }
            _ => Ok(place),
        }
    }

    fn end_stretch(&self) {
        self.shared.change(|state| {
            if let Some(stretch) = state.stretches.back_mut() {
                stretch.ended = true;
            }
        });
    }

    fn stream(&mut self, connection: &mut Connection, timeline: Timeline, start: Lsn) -> Result<()> {
        let (mut timeline, mut start) = (timeline, start);
        loop {
            self.start(connection, timeline, start)?;
            let mut stream = Stream {
                connection: &mut *connection,
                shared: self.shared,
                writer: Writer::new(self.spool, self.cluster.segment_size),
                limit: self.options.limit,
                cancelled: self.cancelled,
            };
            match stream.run(timeline, start)? {
                End::Stopped | End::Closed => {
                    self.note_received();
                    return Ok(());
                }
                End::Switched(next, at) => {
                    tracing::info!("timeline {timeline} ended at {at}; going on with timeline {next}");
                    self.end_stretch();
                    let history = connection.rows(&format!("TIMELINE_HISTORY {next}"))?;
                    if let Some(content) = history.first().and_then(|row| row.get("content")) {
                        self.store_histories(vec![NewFile {
                            name: WalName::History(next),
                            bytes: content.as_bytes().to_vec(),
                            system: Some(self.cluster.system),
                        }])?;
                    }
                    (timeline, start) = (next, self.cluster.segment_size.floor(at));
                    self.place = Some((timeline, start));
                }
            }
        }
    }

    /// Asks the server to send from there on.
    fn start(&mut self, connection: &mut Connection, timeline: Timeline, start: Lsn) -> Result<()> {
        let place = (timeline, start);
        self.ask(connection, place)?;
        self.options.tell("connection", None);
        if let Some(following) = &self.options.following {
            let (server, slot) = (connection.server(), &self.options.slot);
            following.doing(format!(
                "receives from {server} with the slot {slot}, timeline {timeline}"
            ));
        }
        self.place = Some(place);
        self.shared.change(|state| {
            let goes_on = state
                .stretches
                .back()
                .is_some_and(|last| !last.ended && last.timeline == place.0 && last.received == place.1);
            if !goes_on {
                if let Some(last) = state.stretches.back_mut() {
                    last.ended = true;
                }
                if state.stretches.is_empty() {
                    state.durable = place.1;
                }
                state.stretches.push_back(Stretch {
                    timeline: place.0,
                    start: place.1,
                    received: place.1,
                    ended: false,
                });
            }
        });
        Ok(())
    }

    /// Where to begin because the server has removed what was asked for: at the oldest log that it keeps. Takes note of
    /// the hole.
    fn skip(&self, link: &Link, tree: &Tree, start: Lsn) -> Result<Option<Begin>> {
        let size = self.cluster.segment_size;
        let Some(kept) = link.slot.restart.filter(|kept| size.floor(*kept) > start) else {
            return Ok(None);
        };
        let begin = begin::at_slot(&link.identity, tree, kept, size);
        let cause = "the server had removed it before it was received";
        self.end_stretch();
        let gap = self.hole(&begin, start, cause)?;
        tracing::warn!(
            "the log from {} to {} is lost: {cause}. Make a new base backup; the window goes on from there",
            gap.from,
            gap.to
        );
        self.shared.change(|state| state.gaps.push(gap));
        Ok(Some(begin))
    }

    fn hole(&self, begin: &Begin, start: Lsn, cause: &str) -> Result<KnownGap> {
        let (catalog, tail) = (self.store.catalog()?, self.store.tail()?);
        let now = self.store.repository().now();
        let known = begin::gap(&catalog, &tail, begin, self.cluster.segment_size, now, cause);
        Ok(known.unwrap_or(KnownGap {
            timeline: begin.timeline,
            from: start,
            to: begin.start,
            found: now,
            cause: cause.to_string(),
        }))
    }

    fn ask(
        &self,
        connection: &mut Connection,
        (timeline, start): (Timeline, Lsn),
    ) -> Result<(), PostgresError> {
        use crate::protocol::Event;
        let slot = &self.options.slot;
        connection.send_query(&format!(
            "START_REPLICATION SLOT {slot} PHYSICAL {start} TIMELINE {timeline}"
        ))?;
        let mut failure = None;
        let server = connection.server().to_string();
        loop {
            match connection.event()? {
                Event::CopyBoth => return Ok(()),
                Event::Error(message) => failure = Some(message),
                Event::Ready => {
                    return Err(match failure {
                        Some(message) => PostgresError::Server { server, message },
                        None => PostgresError::Protocol {
                            server,
                            why: "it does not begin to send the log".into(),
                        },
                    });
                }
                _ => {}
            }
        }
    }
}

/// Whether it is the server's error of that code.
fn is_code(error: &WalError, code: &str) -> bool {
    matches!(error, WalError::Server(error) if error.sql_state() == Some(code))
}

/// Whether trying again cannot help.
fn is_hopeless(error: &WalError) -> bool {
    match error {
        error if is_code(error, IN_USE) => false,
        WalError::Server(error) => matches!(**error, PostgresError::Settings(_)),
        other => !other.is_passing(),
    }
}

/// Looks at the slot now and then, and raises the alarm.
struct Watch<'a> {
    options: &'a Options,
    connection: std::sync::Mutex<Connection>,
}

impl<'a> Watch<'a> {
    fn new(options: &'a Options, connection: Connection) -> Self {
        Self {
            options,
            connection: std::sync::Mutex::new(connection),
        }
    }

    fn run(&self, stop: &AtomicBool) {
        let mut connection = self
            .connection
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut said: Option<(String, Timestamp)> = None;
        let mut looked: Option<Instant> = None;
        while !stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(50));
            if looked.is_some_and(|looked| looked.elapsed() < LOOK_EVERY) {
                continue;
            }
            looked = Some(Instant::now());
            // If the server does not answer, the other connection notices as well.
            let Ok(Some(slot)) = SlotState::look(&mut connection, &self.options.slot) else {
                continue;
            };
            let alarm = slot.alarm(&self.options.slot, self.options.alarm);
            let now = Timestamp::now();
            if let Some(following) = &self.options.following {
                following.well(now, Some(slot.kept()), slot.limit);
                following.alarm("slot", alarm.clone());
            }
            // The same words once a minute.
            let repeated = |alarm: &String| {
                said.as_ref()
                    .is_some_and(|(words, when)| words == alarm && now.duration_since(*when).as_secs() < 60)
            };
            if let Some(alarm) = alarm.filter(|alarm| !repeated(alarm)) {
                tracing::warn!("{alarm}");
                said = Some((alarm, now));
            }
        }
    }
}
