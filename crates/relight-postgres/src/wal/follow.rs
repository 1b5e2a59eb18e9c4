//! What a server does about the log of a cluster in its plan: receives it, or watches over those who bring it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use relight_model::workload::Workload;
use relight_repo::Repository;
use relight_workloads::log::Following;

use super::error::{Result, WalError};
use super::name::Timeline;
use super::outlook::Outlook;
use super::receive::{self, SlotState};
use super::store::LogStore;
use super::tail::{Head, PULSE, TailPiece};
use super::unarchived::{self, Stretch};
use crate::connect::Settings;
use crate::error::PostgresError;
use crate::kind::{LogBy, Source};
use crate::lsn::Lsn;
use crate::protocol::{Connection, Mode};

/// How often somebody else's slot or archive is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long it takes until a server that did not send its log is asked for it again.
const ASK_AGAIN: Duration = Duration::from_secs(60);

/// Follows the log until it is cancelled, or until there is somebody else's work to be taken over.
pub(super) fn follow(
    source: &Source,
    workload: &Workload,
    repository: &Arc<Repository>,
    following: &Arc<Following>,
) -> Result<()> {
    let store = LogStore::new(repository.clone(), workload.clone(), following.cancelled.clone());
    let settings = source.settings()?;
    if source.log == LogBy::Archive {
        return watch_archive(&store, &settings, following);
    }
    let slot = match &source.slot {
        Some(slot) => slot.clone(),
        None => receive::slot_name(workload),
    };
    if is_followed_by_others(&settings, &slot, following)? {
        return Ok(());
    }
    let options = receive::Options {
        slot,
        following: Some(following.clone()),
        ..receive::Options::new(settings, workload, following.folder.clone())
    };
    receive::receive(&store, &options, &following.cancelled)
}

/// Waits while another receiver uses the slot, watching over it; whether there was one.
fn is_followed_by_others(settings: &Settings, slot: &str, following: &Following) -> Result<bool> {
    let mut found = false;
    let mut connection = Connection::open(settings, Mode::Queries)?;
    connection.set_cancelled(following.cancelled.clone());
    while !following.is_cancelled() {
        let Some(state) = SlotState::look(&mut connection, slot)?.filter(|state| state.active) else {
            break;
        };
        found = true;
        following.doing(format!("another receiver uses the slot {slot}: it is left to it"));
        following.well(Timestamp::now(), Some(state.kept()), state.limit);
        following.alarm("slot", state.alarm(slot, receive::ALARM));
        pause(following, LOOK_EVERY);
    }
    Ok(found)
}

fn pause(following: &Following, time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end && !following.is_cancelled() {
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What a server says of itself at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Look {
    time: Timestamp,
    system: u64,
    timeline: Timeline,
    at: Lsn,
    /// Which transactions there are. As long as this is the same, nothing is committed.
    transactions: String,
}

/// Watches over a cluster that archives its log itself, and takes note of it when nothing is missing: a server where
/// nothing happens archives nothing.
fn watch_archive(store: &LogStore, settings: &Settings, following: &Following) -> Result<()> {
    let mut connection = Connection::open(settings, Mode::Queries)?;
    connection.set_cancelled(following.cancelled.clone());
    let server = connection.same_server(settings);
    following.doing("the server archives its log itself (archive_command)");
    let mut quiet = Quiet::default();
    while !following.is_cancelled() {
        let (look, complaint) = look(&mut connection)?;
        following.well(Timestamp::now(), None, None);
        following.alarm("archiving", complaint);
        if let Some(look) = look {
            let outlook = store.outlook()?;
            if let Some(cluster) = outlook.catalog.cluster {
                if cluster.system != look.system {
                    return Err(WalError::OtherCluster {
                        what: "the server".into(),
                        found: look.system,
                        known: cluster.system,
                        workload: store.workload().to_string(),
                    });
                }
                let size = cluster.segment_size;
                let mut ask = |stretch| unarchived::is_quiet(&server, stretch, size, &following.cancelled);
                if let Some(since) = quiet.see(look.clone(), &outlook, &mut ask) {
                    let mut head = Head::new(cluster, look.timeline, since);
                    (head.confirmed, head.quiet) = (Some(look.time), Some(look.transactions));
                    store.put_tail(&TailPiece {
                        number: PULSE,
                        head,
                        bytes: Vec::new(),
                    })?;
                }
            }
        }
        pause(following, LOOK_EVERY);
    }
    Ok(())
}

/// Since when nothing has been committed.
#[derive(Debug, Default)]
struct Quiet {
    since: Option<Look>,
    /// What the server was asked to send last, and when; and what came of it.
    asked: Option<(Stretch, Instant, Option<bool>)>,
}

impl Quiet {
    /// The server was looked at. Gives where the log had come to when the last transaction ended, if all of that can be
    /// recovered: then nothing is missing. `ask` tells whether nothing happened in what is not in the archive yet, if that
    /// can be known.
    fn see(
        &mut self,
        look: Look,
        outlook: &Outlook,
        ask: &mut dyn FnMut(Stretch) -> Option<bool>,
    ) -> Option<Lsn> {
        let window = outlook.view.latest()?;
        if self.since.is_none() {
            // As it was when somebody last looked, perhaps before this program was started.
            let known = outlook.tail.pulse.as_ref().filter(|pulse| {
                pulse.timeline == look.timeline && pulse.quiet.as_ref() == Some(&look.transactions)
            });
            self.since = known.map(|pulse| Look {
                at: pulse.start,
                ..look.clone()
            });
        }
        let goes_on = self
            .since
            .as_ref()
            .is_some_and(|since| since.transactions == look.transactions && since.timeline == look.timeline);
        if !goes_on {
            self.since = Some(look);
        }
        let since = self.since.as_mut()?;
        if window.timeline != since.timeline {
            return None;
        }
        if since.at > window.to.lsn {
            // It was looked at when the server had gone on already. What is missing may be nothing.
            let stretch = Stretch {
                timeline: since.timeline,
                from: window.to.lsn,
                to: since.at,
            };
            let known = self.asked.filter(|(of, when, answer)| {
                *of == stretch && (answer.is_some() || when.elapsed() < ASK_AGAIN)
            });
            let answer = match known {
                _ if stretch.is_empty(outlook.catalog.segment_size()) => Some(true),
                Some((_, _, answer)) => answer,
                None => {
                    let answer = ask(stretch);
                    self.asked = Some((stretch, Instant::now(), answer));
                    answer
                }
            };
            if answer != Some(true) {
                return None;
            }
            since.at = window.to.lsn;
        }
        Some(since.at)
    }
}

/// Asks the server. No look: it is a standby, whose transactions are another server's. And what is wrong with archiving.
fn look(connection: &mut Connection) -> Result<(Option<Look>, Option<String>)> {
    let set = connection.rows(
        "SELECT pg_is_in_recovery() AS standby, current_setting('archive_mode') AS mode, \
         (SELECT count(*) FROM pg_replication_slots WHERE active AND slot_type = 'physical') AS receivers, \
         (SELECT last_failed_wal || ' since ' || last_failed_time::timestamptz(0) FROM pg_stat_archiver \
          WHERE last_failed_time > coalesce(last_archived_time, '-infinity')) AS failed, \
         (SELECT system_identifier FROM pg_control_system()) AS system, \
         (SELECT timeline_id FROM pg_control_checkpoint()) AS timeline, \
         to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') AS time, \
         pg_current_snapshot()::text AS transactions, \
         CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_current_wal_insert_lsn() END AS at",
    )?;
    let strange = || PostgresError::damaged("what the server says of its log", "it makes no sense");
    let row = set.first().ok_or_else(strange)?;
    let complaint = match (row.text("mode"), row.get("failed")) {
        // Somebody receives it, under a slot of another name.
        ("off", _) if row.text("receivers") != "0" => None,
        ("off", _) => Some("archive_mode is off: nobody brings the log into the repository".to_string()),
        (_, Some(failed)) => Some(format!(
            "archive_command fails ({failed}): the server keeps its log until its disk is full; its own log says why"
        )),
        _ => None,
    };
    if row.is_true("standby") {
        return Ok((None, complaint));
    }
    let look = || {
        Some(Look {
            time: row.parse("time")?,
            system: row.parse("system")?,
            timeline: Timeline(row.parse("timeline")?),
            at: row.parse("at")?,
            transactions: row.get("transactions")?.to_string(),
        })
    };
    Ok((Some(look().ok_or_else(strange)?), complaint))
}
