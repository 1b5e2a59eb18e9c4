//! Logs made up for tests and fuzzing: real pages and records, of any version, with times that can be chosen.

use jiff::Timestamp;

use super::name::{SegmentName, SegmentSize, Timeline};
use super::page::{LONG, PAGE, SHORT};
use super::summary::Cluster;
use crate::lsn::Lsn;

/// Writes a log.
pub struct Sample {
    cluster: Cluster,
    timeline: Timeline,
    bytes: Vec<u8>,
    start: Lsn,
    last: Lsn,
}

impl Sample {
    /// A log that begins with segment `segment`.
    pub fn new(cluster: Cluster, timeline: u32, segment: u64) -> Self {
        Self {
            cluster,
            timeline: Timeline(timeline),
            bytes: Vec::new(),
            start: cluster.segment_size.start_of(segment),
            last: Lsn::ZERO,
        }
    }

    /// A cluster of this version with segments of 1 MiB.
    pub fn cluster(major: u32) -> Cluster {
        Cluster {
            system: 0x6b03_efa1_4b9b_3300,
            major,
            segment_size: SegmentSize::try_from(1 << 20).unwrap_or_default(),
        }
    }

    /// Where it ends.
    pub fn end(&self) -> Lsn {
        self.start.plus(self.bytes.len() as u64)
    }

    /// Goes on in another timeline.
    pub fn fork(&mut self, timeline: u32) {
        self.timeline = Timeline(timeline);
    }

    fn push(&mut self, mut content: &[u8]) {
        while !content.is_empty() {
            let at = self.end();
            if at.0.is_multiple_of(PAGE) {
                self.header(content.len() as u32, false);
            }
            let room = (PAGE - self.end().0 % PAGE) as usize;
            let count = room.min(content.len());
            self.bytes.extend_from_slice(&content[..count]);
            content = &content[count..];
        }
    }

    fn header(&mut self, remaining: u32, fresh: bool) {
        let at = self.end();
        let long = at.0.is_multiple_of(self.cluster.segment_size.bytes());
        let magic: u16 = match self.cluster.major {
            14 => 0xd10d,
            15 => 0xd110,
            16 => 0xd113,
            17 => 0xd116,
            _ => 0xd118,
        };
        let flags = u16::from(long) << 1 | u16::from(!fresh);
        let mut header = Vec::with_capacity(LONG);
        header.extend_from_slice(&magic.to_le_bytes());
        header.extend_from_slice(&flags.to_le_bytes());
        header.extend_from_slice(&self.timeline.0.to_le_bytes());
        header.extend_from_slice(&at.0.to_le_bytes());
        header.extend_from_slice(&(if fresh { 0 } else { remaining }).to_le_bytes());
        header.extend_from_slice(&[0; 4]);
        if long {
            header.extend_from_slice(&self.cluster.system.to_le_bytes());
            header.extend_from_slice(&(self.cluster.segment_size.bytes() as u32).to_le_bytes());
            header.extend_from_slice(&(PAGE as u32).to_le_bytes());
        }
        debug_assert!(header.len() == SHORT || header.len() == LONG);
        self.bytes.extend_from_slice(&header);
    }

    /// Adds a record with this main data; returns where it ends.
    pub fn record(&mut self, manager: u8, info: u8, data: &[u8]) -> Lsn {
        while !self.end().0.is_multiple_of(8) {
            self.bytes.push(0);
        }
        if self.end().0.is_multiple_of(PAGE) {
            self.header(0, true);
        }
        let mut body = Vec::with_capacity(data.len() + 5);
        match u8::try_from(data.len()) {
            _ if data.is_empty() => {}
            Ok(short) => body.extend_from_slice(&[255, short]),
            Err(_) => {
                body.push(254);
                body.extend_from_slice(&(data.len() as u32).to_le_bytes());
            }
        }
        body.extend_from_slice(data);
        let at = self.end();
        let mut header = Vec::with_capacity(24);
        header.extend_from_slice(&(24 + body.len() as u32).to_le_bytes());
        header.extend_from_slice(&7_u32.to_le_bytes());
        header.extend_from_slice(&self.last.0.to_le_bytes());
        header.extend_from_slice(&[info, manager, 0, 0]);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&body), &header);
        header.extend_from_slice(&crc.to_le_bytes());
        self.last = at;
        header.extend_from_slice(&body);
        self.push(&header);
        self.end()
    }

    /// Adds a commit.
    pub fn commit(&mut self, time: Timestamp) -> Lsn {
        self.record(1, 0, &micros(time).to_le_bytes())
    }

    /// Names this moment.
    pub fn point(&mut self, time: Timestamp, name: &str) -> Lsn {
        let mut data = micros(time).to_le_bytes().to_vec();
        data.extend_from_slice(name.as_bytes());
        data.resize(72, 0);
        self.record(0, 0x70, &data)
    }

    /// Adds records of no interest up to the end of the segment, the last of which goes on in the next one.
    pub fn fill(&mut self) {
        let size = self.cluster.segment_size;
        let segment = size.segment_of(self.end());
        let mut seed = self.end().0 | 1;
        while size.segment_of(self.end()) == segment && self.end().0 % size.bytes() < size.bytes() - 9000 {
            let noise: Vec<u8> = std::iter::repeat_with(|| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (seed >> 56) as u8
            })
            .take(3000)
            .collect();
            self.record(10, 0, &noise);
        }
        self.record(10, 0, &[3; 12_000]);
    }

    /// Leaves the rest of the segment empty, as a switch does.
    pub fn switch(&mut self) {
        self.record(0, 0x40, &[]);
        let size = self.cluster.segment_size.bytes() as usize;
        while !self.bytes.len().is_multiple_of(size) {
            if self.end().0.is_multiple_of(PAGE) {
                self.header(0, true);
            } else {
                self.bytes.push(0);
            }
        }
    }

    /// Its whole segments with their names.
    pub fn segments(&self) -> Vec<(SegmentName, Vec<u8>)> {
        let size = self.cluster.segment_size;
        let first = size.segment_of(self.start);
        let pieces = self.bytes.chunks_exact(size.bytes() as usize);
        (first..)
            .zip(pieces)
            .map(|(number, bytes)| (SegmentName::new(self.timeline, number, size), bytes.to_vec()))
            .collect()
    }

    /// All bytes from `from` on.
    pub fn from(&self, from: Lsn) -> &[u8] {
        &self.bytes[from.since(self.start) as usize..]
    }
}

fn micros(time: Timestamp) -> i64 {
    time.as_microsecond() - 946_684_800_000_000
}
