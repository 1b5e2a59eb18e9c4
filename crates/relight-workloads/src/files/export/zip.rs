//! Zip archives (APPNOTE.TXT 6.3, with Zip64), written from front to back.

use std::io::{self, Read, Write};

use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc};
use relight_pxar::FileTime;

use super::{Item, Writer};
use crate::files::browse::Kind;

const STORED: u16 = 0;
const DEFLATED: u16 = 8;
/// Sizes and checksum follow the content (4.4.4, bit 3).
const SIZES_FOLLOW: u16 = 1 << 3;
/// The name is UTF-8 (bit 11).
const UTF8: u16 = 1 << 11;
/// From this size on a file gets fields of 64 bits, also if it may grow a little when it is packed.
const LARGE: u64 = 0xf000_0000;
const MOST_32: u64 = 0xffff_ffff;

/// Writes a zip archive.
pub(super) struct Zip<'a> {
    target: Position<'a>,
    directory: Vec<u8>,
    entries: u64,
}

/// Counts what was written.
struct Position<'a> {
    target: &'a mut dyn Write,
    at: u64,
}

impl Write for Position<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.target.write(bytes)?;
        self.at += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.target.flush()
    }
}

/// What both headers of an entry say.
struct Entry<'a> {
    item: &'a Item,
    name: Vec<u8>,
    flags: u16,
    method: u16,
    large: bool,
    crc: u32,
    packed: u64,
    size: u64,
    at: u64,
}

impl<'a> Zip<'a> {
    pub fn new(target: &'a mut dyn Write) -> Self {
        Self {
            target: Position { target, at: 0 },
            directory: Vec::new(),
            entries: 0,
        }
    }
}

impl Writer for Zip<'_> {
    fn add(&mut self, item: &Item, content: &mut dyn Read) -> io::Result<bool> {
        let mut name = item.path.clone();
        let small = match item.kind {
            Kind::BlockDevice | Kind::CharacterDevice | Kind::Fifo | Kind::Socket => return Ok(false),
            Kind::Directory => {
                name.push(b'/');
                Some(&b""[..])
            }
            Kind::Symlink => Some(&item.target[..]),
            Kind::File | Kind::Image | Kind::Stream => (item.size == 0).then_some(&b""[..]),
        };
        if name.len() > usize::from(u16::MAX) {
            return Ok(false);
        }
        let mut entry = Entry {
            item,
            flags: if std::str::from_utf8(&name).is_ok() {
                UTF8
            } else {
                0
            },
            name,
            method: STORED,
            large: false,
            crc: 0,
            packed: 0,
            size: 0,
            at: self.target.at,
        };
        if let Some(bytes) = small {
            let mut crc = Crc::new();
            crc.update(bytes);
            entry.crc = crc.sum();
            (entry.packed, entry.size) = (bytes.len() as u64, bytes.len() as u64);
            self.target.write_all(&entry.local())?;
            self.target.write_all(bytes)?;
        } else {
            entry.flags |= SIZES_FOLLOW;
            entry.method = DEFLATED;
            entry.large = item.size >= LARGE;
            self.target.write_all(&entry.local())?;
            let began = self.target.at;
            let (mut crc, mut size) = (Crc::new(), 0);
            let mut packer = DeflateEncoder::new(&mut self.target, Compression::fast());
            let mut buffer = vec![0; 128 << 10];
            loop {
                let count = content.read(&mut buffer)?;
                if count == 0 {
                    break;
                }
                crc.update(&buffer[..count]);
                size += count as u64;
                packer.write_all(&buffer[..count])?;
            }
            packer.finish()?;
            if size != item.size {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            (entry.crc, entry.size, entry.packed) = (crc.sum(), size, self.target.at - began);
            self.target.write_all(&entry.sizes())?;
        }
        entry.central(&mut self.directory);
        self.entries += 1;
        Ok(true)
    }

    fn finish(&mut self) -> io::Result<()> {
        let (start, length, entries) = (self.target.at, self.directory.len() as u64, self.entries);
        self.target.write_all(&self.directory)?;
        let mut end = Vec::new();
        if entries >= 0xffff || start >= MOST_32 || length >= MOST_32 {
            let at = self.target.at;
            put(
                &mut end,
                &[0x0606_4b50_u32.to_le_bytes().as_slice(), &44_u64.to_le_bytes()],
            );
            put(
                &mut end,
                &[&MADE_BY.to_le_bytes(), &45_u16.to_le_bytes(), &[0; 8]],
            );
            for number in [entries, entries, length, start] {
                end.extend_from_slice(&number.to_le_bytes());
            }
            put(
                &mut end,
                &[
                    &0x0706_4b50_u32.to_le_bytes(),
                    &[0; 4],
                    &at.to_le_bytes(),
                    &1_u32.to_le_bytes(),
                ],
            );
        }
        let count = (entries.min(0xffff) as u16).to_le_bytes();
        put(
            &mut end,
            &[&0x0605_4b50_u32.to_le_bytes(), &[0; 4], &count, &count],
        );
        put(
            &mut end,
            &[
                &limited(length).to_le_bytes(),
                &limited(start).to_le_bytes(),
                &[0; 2],
            ],
        );
        self.target.write_all(&end)
    }

    fn has_links(&self) -> bool {
        false
    }
}

/// A Unix system, version 4.5 of the format.
const MADE_BY: u16 = 3 << 8 | 45;

fn put(out: &mut Vec<u8>, parts: &[&[u8]]) {
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

fn limited(number: u64) -> u32 {
    number.min(MOST_32) as u32
}

impl Entry<'_> {
    /// 4.3.7: the header before the content.
    fn local(&self) -> Vec<u8> {
        let mut extra = self.attributes();
        // Sizes of 64 bits announce that those behind the content have 64 bits too.
        if self.large {
            put(
                &mut extra,
                &[&1_u16.to_le_bytes(), &16_u16.to_le_bytes(), &[0; 16]],
            );
        }
        let mut out = Vec::with_capacity(80 + self.name.len());
        put(
            &mut out,
            &[&0x0403_4b50_u32.to_le_bytes(), &self.version().to_le_bytes()],
        );
        self.common(&mut out, self.large);
        put(
            &mut out,
            &[&(extra.len() as u16).to_le_bytes(), &self.name, &extra],
        );
        out
    }

    /// 4.3.9: what follows the content.
    fn sizes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(24);
        put(
            &mut out,
            &[&0x0807_4b50_u32.to_le_bytes(), &self.crc.to_le_bytes()],
        );
        if self.large {
            put(&mut out, &[&self.packed.to_le_bytes(), &self.size.to_le_bytes()]);
        } else {
            put(
                &mut out,
                &[
                    &limited(self.packed).to_le_bytes(),
                    &limited(self.size).to_le_bytes(),
                ],
            );
        }
        out
    }

    /// 4.3.12: the entry's place in the directory.
    fn central(&self, out: &mut Vec<u8>) {
        let mut extra = self.attributes();
        let far = self.at >= MOST_32;
        if self.large || far {
            let mut wide = Vec::new();
            if self.large {
                put(&mut wide, &[&self.size.to_le_bytes(), &self.packed.to_le_bytes()]);
            }
            if far {
                wide.extend_from_slice(&self.at.to_le_bytes());
            }
            put(
                &mut extra,
                &[&1_u16.to_le_bytes(), &(wide.len() as u16).to_le_bytes(), &wide],
            );
        }
        put(
            out,
            &[
                &0x0201_4b50_u32.to_le_bytes(),
                &MADE_BY.to_le_bytes(),
                &self.version().to_le_bytes(),
            ],
        );
        self.common(out, self.large);
        // No comment, disk 0, not known to be text.
        put(out, &[&(extra.len() as u16).to_le_bytes(), &[0; 6]]);
        let is_folder = u32::from(self.item.kind == Kind::Directory);
        let attributes = (self.item.metadata.mode & 0xffff) << 16 | is_folder << 4;
        put(
            out,
            &[
                &attributes.to_le_bytes(),
                &limited(self.at).to_le_bytes(),
                &self.name,
                &extra,
            ],
        );
    }

    fn version(&self) -> u16 {
        if self.large { 45 } else { 20 }
    }

    /// From the flags to the length of the name.
    fn common(&self, out: &mut Vec<u8>, large: bool) {
        let (date, time) = dos_time(self.item.metadata.mtime);
        for number in [self.flags, self.method, time, date] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        let sizes = if large {
            [u32::MAX; 2]
        } else {
            [limited(self.packed), limited(self.size)]
        };
        for number in [self.crc, sizes[0], sizes[1]] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&(self.name.len() as u16).to_le_bytes());
    }

    /// The extra fields of Info-ZIP for Unix: `UT` (modification time in UTC) and `ux` (owners).
    fn attributes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(24);
        let metadata = &self.item.metadata;
        if let Ok(seconds) = i32::try_from(metadata.mtime.secs) {
            put(
                &mut out,
                &[b"UT", &5_u16.to_le_bytes(), &[1], &seconds.to_le_bytes()],
            );
        }
        put(
            &mut out,
            &[b"ux", &11_u16.to_le_bytes(), &[1, 4], &metadata.uid.to_le_bytes()],
        );
        put(&mut out, &[&[4], &metadata.gid.to_le_bytes()]);
        out
    }
}

/// Date and time of MS-DOS, here in UTC; what lies outside of 1980 to 2107 becomes the nearest.
fn dos_time(time: FileTime) -> (u16, u16) {
    let first = (1 << 5 | 1, 0);
    let Ok(at) = jiff::Timestamp::from_second(time.secs) else {
        return if time.secs < 0 { first } else { (u16::MAX, 0) };
    };
    let at = at.to_zoned(jiff::tz::TimeZone::UTC);
    let year = match u16::try_from(at.year()) {
        Ok(year @ 1980..=2107) => year - 1980,
        Ok(2108..) => return (127 << 9 | 12 << 5 | 31, 23 << 11 | 59 << 5 | 29),
        _ => return first,
    };
    let part = |number: i8| number.unsigned_abs() as u16;
    let date = year << 9 | part(at.month()) << 5 | part(at.day());
    (
        date,
        (part(at.hour()) << 11) | (part(at.minute()) << 5) | (part(at.second()) / 2),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_dos() {
        let time = |secs| dos_time(FileTime { secs, nanos: 0 });
        // 2026-11-22T10:20:30Z
        assert_eq!(
            time(1_795_342_830),
            (46 << 9 | 11 << 5 | 22, 10 << 11 | 20 << 5 | 15)
        );
        assert_eq!(time(0), (33, 0));
        assert_eq!(time(i64::MIN), (33, 0));
        assert_eq!(time(i64::MAX).0, u16::MAX);
    }
}
