//! Writes records down, off the path of requests: a thread gathers what has come and commits it together.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use relight_pbs::access::AuditEvent;

use crate::error::{Result, ServerError};
use crate::state::{Record, State};

/// Records on the way at most; beyond that, who adds one writes it.
const WAITING: usize = 1024;
/// Records of one commit.
const TOGETHER: usize = 256;
/// Records of strangers from one address in a [`PERIOD`]; what is beyond is counted, so that a flood does not fill the disk.
const OF_STRANGERS: u32 = 60;
const PERIOD: Duration = Duration::from_secs(60);

pub(crate) struct Records {
    state: Arc<State>,
    inner: Mutex<Option<(SyncSender<Record>, JoinHandle<()>)>>,
    strangers: Mutex<Strangers>,
}

/// Denied requests of nobody known, by address, in the running period.
struct Strangers {
    since: Instant,
    count: HashMap<Option<IpAddr>, u32>,
}

impl Records {
    pub(crate) fn start(state: Arc<State>) -> Result<Self> {
        let (send, receive) = sync_channel(WAITING);
        let writer = state.clone();
        let thread = std::thread::Builder::new()
            .name("records".into())
            .spawn(move || write(&writer, &receive))
            .map_err(|error| ServerError::System(format!("start a thread: {error}")))?;
        Ok(Self {
            state,
            inner: Mutex::new(Some((send, thread))),
            strangers: Mutex::new(Strangers {
                since: Instant::now(),
                count: HashMap::new(),
            }),
        })
    }

    pub(crate) fn add(&self, event: &AuditEvent<'_>) {
        let ip = event.peer.map(|peer| peer.ip().to_canonical());
        let shorten = |text: &str| text.chars().take(512).collect::<String>();
        let record = Record {
            time: Timestamp::now(),
            who: event.who.map(ToString::to_string),
            peer: event
                .peer
                .map(|peer| std::net::SocketAddr::new(peer.ip().to_canonical(), peer.port()).to_string()),
            what: shorten(event.what),
            parameters: shorten(event.parameters),
            status: event.status,
            message: shorten(event.message),
        };
        tracing::info!(
            target: "audit",
            "{} {} from {}: {} {}",
            record.who.as_deref().unwrap_or("somebody"),
            record.what,
            record.peer.as_deref().unwrap_or("here"),
            record.status,
            record.message,
        );
        let mut records = self.summaries(false);
        let denied = matches!(event.status, 401 | 403 | 429);
        if event.who.is_some() || !denied || self.is_within_limit(ip) {
            records.push(record);
        }
        for record in records {
            self.hand_on(record);
        }
    }

    fn hand_on(&self, record: Record) {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        // What the writer cannot take, or comes after it has ended, is written here and now.
        let rest = match &*inner {
            Some((send, _)) => match send.try_send(record) {
                Ok(()) => None,
                Err(TrySendError::Full(record) | TrySendError::Disconnected(record)) => Some(record),
            },
            None => Some(record),
        };
        drop(inner);
        if let Some(record) = rest
            && let Err(error) = self.state.add_records(&[record])
        {
            tracing::error!("a record could not be written: {error}");
        }
    }

    fn is_within_limit(&self, ip: Option<IpAddr>) -> bool {
        let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        let count = strangers.count.entry(ip).or_insert(0);
        *count += 1;
        *count <= OF_STRANGERS
    }

    /// When a period is over (or `now`): one record for each address that had more than its share.
    fn summaries(&self, now: bool) -> Vec<Record> {
        let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        if !now && strangers.since.elapsed() < PERIOD {
            return Vec::new();
        }
        strangers.since = Instant::now();
        let counts = std::mem::take(&mut strangers.count);
        let summary = |(ip, count): (Option<IpAddr>, u32)| Record {
            time: Timestamp::now(),
            who: None,
            peer: ip.map(|ip| ip.to_string()),
            what: format!("{} more requests", count - OF_STRANGERS),
            parameters: String::new(),
            status: 401,
            message: "without good credentials, in the minute before".into(),
        };
        counts
            .into_iter()
            .filter(|(_, count)| *count > OF_STRANGERS)
            .map(summary)
            .collect()
    }

    /// Writes what is left, and ends the thread.
    pub(crate) fn close(&self) {
        for record in self.summaries(true) {
            self.hand_on(record);
        }
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((send, thread)) = inner {
            drop(send);
            let _ = thread.join();
        }
    }
}

impl Drop for Records {
    fn drop(&mut self) {
        self.close();
    }
}

fn write(state: &State, receive: &Receiver<Record>) {
    while let Ok(first) = receive.recv() {
        let mut records = vec![first];
        let until = Instant::now() + Duration::from_millis(50);
        while records.len() < TOGETHER {
            match receive.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(record) => records.push(record),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        if let Err(error) = state.add_records(&records) {
            // They are in the log of the system, too.
            tracing::error!("{} records could not be written: {error}", records.len());
        }
    }
}
