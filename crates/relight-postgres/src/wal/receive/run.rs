//! The receiver as a whole: connects, begins where it must, follows timelines, comes back after whatever happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::begin::{self, Begin};
use super::link::{Link, start_sending};
use super::options::Options;
use super::shared::{Shared, Stretch};
use super::spool::{Spool, Writer};
use super::stream::{End, Stream};
use super::upload::{self, Uploader};
use super::watch::Watch;
use crate::error::PostgresError;
use crate::lsn::Lsn;
use crate::protocol::Connection;
use crate::wal::error::{Result, WalError};
use crate::wal::history::Tree;
use crate::wal::name::{Timeline, WalName};
use crate::wal::store::{LogStore, NewFile};
use crate::wal::summary::Cluster;
use crate::wal::windows::KnownGap;

/// The slot is used by another connection, or by one that died and was not noticed yet.
const IN_USE: &str = "55006";
/// The server has removed what was asked for.
const REMOVED: &str = "58P01";
const LEAST_WAIT: Duration = Duration::from_millis(500);
const MOST_WAIT: Duration = Duration::from_secs(10);
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
        let slot = &self.options.slot;
        start_sending(connection, Some(slot), timeline, start)?;
        self.options.tell("connection", None);
        if let Some(following) = &self.options.following {
            let server = connection.server();
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
