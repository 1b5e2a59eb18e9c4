//! Walks over the records of a log as its bytes come in, however they are cut: page headers, records across pages and
//! segments, checksums. Memory does not depend on the length of records.

use std::mem;

use super::error::Result;
use super::name::{SegmentSize, Timeline};
use super::page::{LONG, PAGE, PageHeader, SHORT};
use super::record::{self, Event, HEADER, KEPT, MAX_RECORD, RecordHeader};
use crate::lsn::Lsn;

/// Why no record follows the last good one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// There are zeros: nothing was written there yet.
    Zeros,
    /// What is there is no record: it is left over from before, or damaged.
    Broken(String),
}

/// What it is in the middle of.
enum State {
    /// Between records.
    Between,
    /// In the middle of a record whose beginning was not seen; so many bytes are left of it.
    Skipping(u64),
    /// In a record.
    Inside(Partial),
    /// Behind a switch: the rest of the segment is empty.
    Switched,
    /// Nothing more is expected.
    Stopped,
}

/// A record that is being read.
struct Partial {
    at: Lsn,
    header: [u8; HEADER],
    have: usize,
    length: u64,
    crc: u32,
    body: Vec<u8>,
}

/// Walks over a log from the beginning of a segment.
pub struct Walker {
    size: SegmentSize,
    position: Lsn,
    page: Vec<u8>,
    first: bool,
    state: State,
    end: Option<Lsn>,
    checked: Option<Lsn>,
    last: Option<Lsn>,
    stop: Option<(Lsn, Stop)>,
    timeline: Option<Timeline>,
}

impl Walker {
    /// A walk that begins at `start`, where a segment begins.
    pub fn new(start: Lsn, size: SegmentSize) -> Self {
        Self {
            size,
            position: size.floor(start),
            page: Vec::new(),
            first: true,
            state: State::Between,
            end: None,
            checked: None,
            last: None,
            stop: None,
            timeline: None,
        }
    }

    /// How far bytes were given.
    pub fn position(&self) -> Lsn {
        self.position
    }

    /// Where the last complete record ends (the next one begins behind it, at a multiple of 8); none before there is
    /// one.
    pub fn end(&self) -> Option<Lsn> {
        self.end
    }

    /// The same of records that were seen whole, so that their checksums are known to be right.
    pub fn checked_end(&self) -> Option<Lsn> {
        self.checked
    }

    /// Where no record follows, and why; none as long as more may come.
    pub fn stop(&self) -> Option<&(Lsn, Stop)> {
        self.stop.as_ref()
    }

    /// The timeline that the last page says it was written on.
    pub fn timeline(&self) -> Option<Timeline> {
        self.timeline
    }

    /// Takes the next bytes. `seen` is told what records say that end in them, and where they end.
    ///
    /// # Errors
    /// [`super::error::WalError::BadPage`] where a page is not of this log at this position.
    pub fn feed(&mut self, mut bytes: &[u8], seen: &mut dyn FnMut(Lsn, Event)) -> Result<()> {
        while !bytes.is_empty() && !matches!(self.state, State::Stopped) {
            let within = self.position.0 % PAGE;
            let header = if self.size.floor(self.position).0 + within == self.position.0 {
                LONG
            } else {
                SHORT
            };
            if (within as usize) < header {
                let count = bytes.len().min(header - within as usize);
                self.page.extend_from_slice(&bytes[..count]);
                self.position = self.position.plus(count as u64);
                bytes = &bytes[count..];
                if self.page.len() == header {
                    self.begin_page(header)?;
                }
                continue;
            }
            let left = usize::try_from(PAGE - within).unwrap_or(0).min(bytes.len());
            let used = self.content(&bytes[..left], seen);
            self.position = self.position.plus(used as u64);
            bytes = &bytes[used..];
        }
        self.position = self.position.plus(bytes.len() as u64);
        Ok(())
    }

    fn begin_page(&mut self, header: usize) -> Result<()> {
        let at = Lsn(self.position.0 - header as u64);
        let bytes = mem::take(&mut self.page);
        if matches!(self.state, State::Switched) && self.size.floor(at) == at {
            self.state = State::Between;
        }
        if matches!(self.state, State::Switched) {
            return Ok(());
        }
        if bytes.iter().all(|&byte| byte == 0) {
            self.halt(at, Stop::Zeros);
            return Ok(());
        }
        let page = match PageHeader::read(&bytes, at) {
            Ok(page) => page,
            // A recycled segment holds older pages behind what was written.
            Err(error) if !self.first => {
                self.halt(at, Stop::Broken(error.to_string()));
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        self.timeline = Some(page.timeline);
        let first = mem::take(&mut self.first);
        let rest = u64::from(page.continues.unwrap_or(0));
        match &self.state {
            State::Between if first && rest > 0 => self.state = State::Skipping(rest),
            State::Inside(_) | State::Skipping(_) if page.overwrites => self.state = State::Between,
            State::Inside(partial) => {
                let wanted = partial.length.saturating_sub(partial.have as u64);
                if partial.have >= 4 && rest != wanted {
                    let why = format!("a record goes on with {rest} bytes instead of {wanted}");
                    let began = partial.at;
                    self.halt(began, Stop::Broken(why));
                }
            }
            State::Between if rest > 0 => {
                self.halt(at, Stop::Broken("a record goes on that did not begin".into()));
            }
            _ => {}
        }
        Ok(())
    }

    fn halt(&mut self, at: Lsn, stop: Stop) {
        self.state = State::Stopped;
        self.stop = Some((at, stop));
    }

    /// Takes bytes of one page behind its header; returns how many.
    fn content(&mut self, bytes: &[u8], seen: &mut dyn FnMut(Lsn, Event)) -> usize {
        match mem::replace(&mut self.state, State::Between) {
            State::Stopped => {
                self.state = State::Stopped;
                bytes.len()
            }
            State::Switched => {
                self.state = State::Switched;
                bytes.len()
            }
            State::Skipping(left) => {
                let used = left.min(bytes.len() as u64);
                if left > used {
                    self.state = State::Skipping(left - used);
                } else {
                    self.end = Some(self.position.plus(used));
                }
                usize::try_from(used).unwrap_or(bytes.len())
            }
            State::Between => {
                // Records begin at multiples of 8.
                let padding = usize::try_from(self.position.0.wrapping_neg() % 8).unwrap_or(0);
                if padding > 0 {
                    return padding.min(bytes.len());
                }
                self.state = State::Inside(Partial {
                    at: self.position,
                    header: [0; HEADER],
                    have: 0,
                    length: 0,
                    crc: 0,
                    body: Vec::new(),
                });
                0
            }
            State::Inside(partial) => self.inside(partial, bytes, seen),
        }
    }

    fn inside(&mut self, mut partial: Partial, bytes: &[u8], seen: &mut dyn FnMut(Lsn, Event)) -> usize {
        if partial.have < HEADER {
            // First the length alone: zeros there are the end, and may be all there is.
            let goal = if partial.have < 4 { 4 } else { HEADER };
            let used = bytes.len().min(goal - partial.have);
            partial.header[partial.have..partial.have + used].copy_from_slice(&bytes[..used]);
            partial.have += used;
            if partial.have == 4 {
                let length = u32::from_le_bytes([
                    partial.header[0],
                    partial.header[1],
                    partial.header[2],
                    partial.header[3],
                ]);
                partial.length = u64::from(length);
                if length == 0 {
                    self.halt(partial.at, Stop::Zeros);
                    return used;
                }
                if length < HEADER as u32 || length > MAX_RECORD {
                    self.halt(
                        partial.at,
                        Stop::Broken(format!("a record cannot have {length} bytes")),
                    );
                    return used;
                }
            }
            if partial.have == HEADER {
                let header = RecordHeader::read(&partial.header);
                if self.last.is_some_and(|last| header.previous != last) {
                    let why = format!("the record says that the one before it is at {}", header.previous);
                    self.halt(partial.at, Stop::Broken(why));
                    return used;
                }
                if partial.length == HEADER as u64 {
                    self.complete(&partial, used, seen);
                    return used;
                }
            }
            self.state = State::Inside(partial);
            return used;
        }
        let left = partial.length - partial.have as u64;
        let used = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let taken = &bytes[..used];
        partial.crc = crc32c::crc32c_append(partial.crc, taken);
        let keep = KEPT.saturating_sub(partial.body.len()).min(used);
        partial.body.extend_from_slice(&taken[..keep]);
        partial.have += used;
        if partial.have as u64 == partial.length {
            self.complete(&partial, used, seen);
        } else {
            self.state = State::Inside(partial);
        }
        used
    }

    /// A record is whole with the next `used` bytes.
    fn complete(&mut self, partial: &Partial, used: usize, seen: &mut dyn FnMut(Lsn, Event)) {
        let header = RecordHeader::read(&partial.header);
        if crc32c::crc32c_append(partial.crc, &partial.header[..20]) != header.crc {
            self.halt(
                partial.at,
                Stop::Broken("the checksum of the record is wrong".into()),
            );
            return;
        }
        let end = self.position.plus(used as u64);
        (self.end, self.checked) = (Some(end), Some(end));
        self.last = Some(partial.at);
        if let Some(event) = record::event(&header, &partial.body) {
            seen(end, event);
        }
        self.state = if header.is_switch() {
            State::Switched
        } else {
            State::Between
        };
    }
}
