//! The connections to a server: who it is, its slot, its history, and the request to send its log.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::begin::Identity;
use super::options::Options;
use super::slot::{self, SlotState};
use crate::error::PostgresError;
use crate::lsn::Lsn;
use crate::protocol::{Connection, Event, Mode};
use crate::wal::error::Result;
use crate::wal::history::{History, Tree};
use crate::wal::name::{SegmentSize, Timeline, WalName};
use crate::wal::store::NewFile;
use crate::wal::summary::Cluster;

/// Two connections to one server: for the log, and for questions.
pub(super) struct Link {
    pub replication: Connection,
    pub queries: Connection,
    pub identity: Identity,
    pub cluster: Cluster,
    pub slot: SlotState,
}

impl Link {
    pub fn open(options: &Options, cancelled: &Arc<AtomicBool>) -> Result<Self> {
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
        let slot = slot::ready(&mut replication, &mut queries, options)?;
        Ok(Self {
            replication,
            queries,
            identity,
            cluster,
            slot,
        })
    }

    /// The files that tell the server's history.
    pub fn histories(&mut self) -> Result<(Tree, Vec<NewFile>)> {
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

/// Asks a server to send its log from a position on; of a slot, it takes note how far that is durable.
///
/// # Errors
/// The server's, for instance that it has removed what was asked for.
pub(in crate::wal) fn start_sending(
    connection: &mut Connection,
    slot: Option<&str>,
    timeline: Timeline,
    start: Lsn,
) -> Result<(), PostgresError> {
    let slot = slot.map(|slot| format!("SLOT {slot} ")).unwrap_or_default();
    connection.send_query(&format!(
        "START_REPLICATION {slot}PHYSICAL {start} TIMELINE {timeline}"
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
