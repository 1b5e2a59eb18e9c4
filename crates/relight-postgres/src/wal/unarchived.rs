//! Whether anything happened in the log that a server has written and that is not in its archive yet.
//!
//! A server that archives its log itself closes a segment, and writes checkpoints and the like into the next one, which may not
//! be archived for hours. If nothing but that is in it, nothing is missing. The server is asked for it as a standby would ask.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::error::Result;
use super::name::{SegmentSize, Timeline};
use super::page::{LONG, PAGE, PageHeader, SHORT};
use super::receive::{Message, start_sending};
use super::record::Event;
use super::walk::{Stop, Walker};
use crate::connect::Settings;
use crate::lsn::Lsn;
use crate::protocol::{self, Connection, Mode};

/// What was written is on the server's disk, and is sent, after a fraction of a second.
const PATIENCE: Duration = Duration::from_secs(5);

/// A part of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch {
    pub timeline: Timeline,
    /// Everything before is in the archive.
    pub from: Lsn,
    /// Here the server was.
    pub to: Lsn,
}

impl Stretch {
    /// Whether there is no record in it: only the header of the page on which the next one will be.
    pub fn is_empty(&self, size: SegmentSize) -> bool {
        let page = Lsn(self.to.0 - self.to.0 % PAGE);
        let header = if size.floor(page) == page { LONG } else { SHORT };
        let end = if self.to.since(page) <= header as u64 {
            page
        } else {
            self.to
        };
        end <= self.from
    }

    /// Whether it is worth reading: the server is in the segment that follows what is in the archive, or at the end of
    /// that.
    fn is_short(&self, size: SegmentSize) -> bool {
        self.to.since(self.from) <= size.bytes()
    }
}

/// Asks the server whether nothing happened there. None: it cannot be known.
pub(super) fn is_quiet(
    settings: &Settings,
    stretch: Stretch,
    size: SegmentSize,
    cancelled: &Arc<AtomicBool>,
) -> Option<bool> {
    if !stretch.is_short(size) {
        return None;
    }
    let first = size.segment_of(stretch.from);
    // If a record goes on from the segment before, it takes that one to know what it says.
    for number in [Some(first), first.checked_sub(1)].into_iter().flatten() {
        let start = size.start_of(number);
        let bytes = match read(settings, stretch, start, cancelled) {
            Ok(bytes) => bytes?,
            Err(error) => {
                tracing::debug!("the log from {start} on was not sent: {error}");
                return None;
            }
        };
        if let Some(is_quiet) = is_quiet_in(&bytes, start, stretch, size) {
            return Some(is_quiet);
        }
    }
    None
}

/// The log from `start` to the end of the stretch. None: the server did not send it in time.
fn read(
    settings: &Settings,
    stretch: Stretch,
    start: Lsn,
    cancelled: &Arc<AtomicBool>,
) -> Result<Option<Vec<u8>>> {
    let mut connection = Connection::open(settings, Mode::Replication)?;
    connection.set_cancelled(cancelled.clone());
    start_sending(&mut connection, None, stretch.timeline, start)?;
    let wanted = stretch.to.since(start);
    let deadline = Instant::now() + PATIENCE;
    let mut bytes: Vec<u8> = Vec::new();
    while (bytes.len() as u64) < wanted {
        match connection.event_until(deadline)? {
            Some(protocol::Event::Data(data)) => {
                if let Some(Message::Log {
                    start: at,
                    bytes: new,
                    ..
                }) = Message::parse(data)
                {
                    if at != start.plus(bytes.len() as u64) {
                        return Ok(None);
                    }
                    bytes.extend_from_slice(new);
                }
            }
            // The time is up, or the timeline ends.
            _ => return Ok(None),
        }
    }
    Ok(Some(bytes))
}

/// Whether nothing happened in a stretch, by the log from `start` on, where a segment begins. None: what it says there is not
/// whole.
fn is_quiet_in(bytes: &[u8], start: Lsn, stretch: Stretch, size: SegmentSize) -> Option<bool> {
    let head = PageHeader::read(bytes, start).ok()?;
    if head.continues.is_some() && start == stretch.from {
        return None;
    }
    let mut is_quiet = true;
    let mut walker = Walker::new(start, size);
    let walked = walker.feed(bytes, &mut |end, event| {
        let counts = match event {
            Event::Commit(_) | Event::Prepare(_) | Event::Point(..) => true,
            Event::Abort(_) => false,
        };
        is_quiet &= !(counts && end > stretch.from);
    });
    walked.ok()?;
    match walker.stop() {
        Some((_, Stop::Broken(_))) => None,
        // Zeros behind the last record; else all of it was walked over.
        Some((at, Stop::Zeros)) if *at < stretch.to => None,
        _ => Some(is_quiet),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::wal::sample::Sample;

    fn stretch(from: Lsn, to: Lsn) -> Stretch {
        Stretch {
            timeline: Timeline(1),
            from,
            to,
        }
    }

    /// What is known of the log behind a segment when it is read from there, and from the segment before.
    fn asked(sample: &Sample, from: Lsn, number: u64) -> [Option<bool>; 2] {
        let size = Sample::cluster(17).segment_size;
        [number, number - 1].map(|number| {
            let start = size.start_of(number);
            is_quiet_in(sample.from(start), start, stretch(from, sample.end()), size)
        })
    }

    #[test]
    fn only_what_somebody_would_miss_counts() {
        let size = Sample::cluster(17).segment_size;
        let now = Timestamp::from_second(1_790_000_000).unwrap();
        let mut sample = Sample::new(Sample::cluster(17), 1, 4);
        sample.commit(now);
        sample.switch();
        let border = size.start_of(5);
        // A checkpoint, and transactions that run.
        sample.record(0, 0x10, &[0; 88]);
        sample.record(8, 0x10, &[0; 24]);
        assert_eq!(asked(&sample, border, 5), [Some(true); 2]);
        sample.commit(now);
        assert_eq!(asked(&sample, border, 5), [Some(false); 2]);
        // What is behind that.
        let behind = sample.end();
        sample.record(0, 0x10, &[0; 88]);
        assert_eq!(asked(&sample, behind, 5), [Some(true); 2]);
        sample.point(now, "a point");
        assert_eq!(asked(&sample, behind, 5), [Some(false); 2]);
    }

    #[test]
    fn a_record_across_the_border_is_read_from_its_beginning() {
        let size = Sample::cluster(17).segment_size;
        let mut sample = Sample::new(Sample::cluster(17), 1, 4);
        sample.fill();
        let border = size.floor(sample.end());
        let number = size.segment_of(border);
        assert_eq!(asked(&sample, border, number), [None, Some(true)]);
    }

    #[test]
    fn a_page_that_has_only_a_header_holds_nothing() {
        let size = Sample::cluster(17).segment_size;
        let border = size.start_of(5);
        for (from, to, is_empty) in [
            (border, border, true),
            (border, border.plus(40), true),
            (border, border.plus(48), false),
            (border.plus(8192), border.plus(8192 + 24), true),
            (border.plus(8192), border.plus(8192 + 40), false),
            (border.plus(100), border.plus(40), true),
        ] {
            assert_eq!(stretch(from, to).is_empty(size), is_empty, "{from} {to}");
        }
    }
}
