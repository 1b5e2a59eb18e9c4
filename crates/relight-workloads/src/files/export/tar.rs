//! Tar archives (POSIX.1-2017, pax, "ustar Interchange Format") with extended headers where a field does not fit.

use std::io::{self, Read, Write};

use super::pax::Records;
use super::{Item, Writer};
use crate::files::browse::Kind;

const BLOCK: usize = 512;

/// Offsets and lengths of header fields.
const NAME: (usize, usize) = (0, 100);
const MODE: (usize, usize) = (100, 8);
const UID: (usize, usize) = (108, 8);
const GID: (usize, usize) = (116, 8);
const SIZE: (usize, usize) = (124, 12);
const MTIME: (usize, usize) = (136, 12);
const CHECKSUM: (usize, usize) = (148, 8);
const TYPE: usize = 156;
const LINK: (usize, usize) = (157, 100);
const MAGIC: (usize, usize) = (257, 8);
const MAJOR: (usize, usize) = (329, 8);
const MINOR: (usize, usize) = (337, 8);
const PREFIX: (usize, usize) = (345, 155);

/// Writes a tar archive.
pub(super) struct Tar<'a> {
    target: &'a mut dyn Write,
}

impl<'a> Tar<'a> {
    pub fn new(target: &'a mut dyn Write) -> Self {
        Self { target }
    }

    fn pad(&mut self, length: u64) -> io::Result<()> {
        let rest = (length % BLOCK as u64) as usize;
        if rest > 0 {
            self.target.write_all(&[0; BLOCK][rest..])
        } else {
            Ok(())
        }
    }

    /// An extended header for what follows it.
    fn extended(&mut self, path: &[u8], records: &Records) -> io::Result<()> {
        let mut header = Header::new(b'x');
        // What a reader that knows no extended headers would call the file.
        let plain: Vec<u8> = path
            .iter()
            .copied()
            .filter(u8::is_ascii_alphanumeric)
            .take(80)
            .collect();
        header.text(NAME, &[b"PaxHeaders/".as_slice(), &plain].concat());
        header.number(MODE, 0o600);
        let length = records.bytes().len() as u64;
        header.number(SIZE, length);
        self.target.write_all(&header.finish())?;
        self.target.write_all(records.bytes())?;
        self.pad(length)
    }
}

impl Writer for Tar<'_> {
    fn add(&mut self, item: &Item, content: &mut dyn Read) -> io::Result<bool> {
        let kind = match (&item.link, item.kind) {
            (_, Kind::Socket) => return Ok(false),
            (Some(_), _) => b'1',
            (None, Kind::File | Kind::Image | Kind::Stream) => b'0',
            (None, Kind::Symlink) => b'2',
            (None, Kind::CharacterDevice) => b'3',
            (None, Kind::BlockDevice) => b'4',
            (None, Kind::Directory) => b'5',
            (None, Kind::Fifo) => b'6',
        };
        let metadata = &item.metadata;
        let (mut header, mut records) = (Header::new(kind), Records::default());
        let mut path = item.path.clone();
        if kind == b'5' {
            path.push(b'/');
        }
        if !header.path(&path) {
            records.add_name("path", &path);
        }
        let target = item.link.as_ref().unwrap_or(&item.target);
        if !header.text(LINK, target) {
            records.add_name("linkpath", target);
        }
        header.number(MODE, u64::from(metadata.mode & 0o7777));
        let size = if kind == b'0' { item.size } else { 0 };
        let numbers = [
            (UID, "uid", metadata.uid.into()),
            (GID, "gid", metadata.gid.into()),
            (SIZE, "size", size),
        ];
        for (field, key, number) in numbers {
            if !header.number(field, number) {
                records.add(key.as_bytes(), number.to_string().as_bytes());
            }
        }
        header.number(MTIME, u64::try_from(metadata.mtime.secs).unwrap_or(0));
        records.add_time(metadata.mtime);
        if matches!(kind, b'3' | b'4') {
            let fits = header.number(MAJOR, item.device.0) && header.number(MINOR, item.device.1);
            if !fits {
                return Ok(false);
            }
        }
        if item.link.is_none() {
            records.add_attributes(metadata);
        }
        if !records.is_empty() {
            self.extended(&path, &records)?;
        }
        self.target.write_all(&header.finish())?;
        if io::copy(&mut content.take(size), self.target)? < size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.pad(size)?;
        Ok(true)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.target.write_all(&[0; 2 * BLOCK])
    }

    fn has_links(&self) -> bool {
        true
    }
}

struct Header([u8; BLOCK]);

impl Header {
    fn new(kind: u8) -> Self {
        let mut header = Self([0; BLOCK]);
        header.0[TYPE] = kind;
        header.text(MAGIC, b"ustar\x0000");
        for field in [UID, GID, SIZE, MTIME, MAJOR, MINOR] {
            header.number(field, 0);
        }
        header
    }

    /// Puts in as much of a text as fits; whether that is all.
    fn text(&mut self, (offset, length): (usize, usize), text: &[u8]) -> bool {
        let count = text.len().min(length);
        self.0[offset..offset + count].copy_from_slice(&text[..count]);
        count == text.len()
    }

    /// Puts in a number in octal digits; false, and zero, if there are too many.
    fn number(&mut self, (offset, length): (usize, usize), number: u64) -> bool {
        let digits = length - 1;
        let text = format!("{number:0digits$o}");
        let fits = text.len() == digits;
        let zeros = vec![b'0'; digits];
        self.0[offset..offset + digits].copy_from_slice(if fits { text.as_bytes() } else { &zeros });
        fits
    }

    /// Puts in a path, in two parts if it is long; false if it does not fit even so.
    fn path(&mut self, path: &[u8]) -> bool {
        if self.text(NAME, path) {
            return true;
        }
        let fits = |&at: &usize| at > 0 && at <= PREFIX.1 && (1..=NAME.1).contains(&(path.len() - at - 1));
        let slashes = path
            .iter()
            .enumerate()
            .filter(|(_, byte)| **byte == b'/')
            .map(|(at, _)| at);
        match slashes.into_iter().find(fits) {
            Some(at) => {
                self.0[NAME.0..NAME.0 + NAME.1].fill(0);
                self.text(NAME, &path[at + 1..]) && self.text(PREFIX, &path[..at])
            }
            None => false,
        }
    }

    fn finish(mut self) -> [u8; BLOCK] {
        let (offset, length) = CHECKSUM;
        self.0[offset..offset + length].fill(b' ');
        let sum: u64 = self.0.iter().map(|byte| u64::from(*byte)).sum();
        self.0[offset..offset + 7].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_paths_are_cut_at_a_slash_or_refused() {
        let mut header = Header::new(b'0');
        assert!(header.path(&[b'a'; 100]));
        let long = [&[b'd'; 150][..], b"/", &[b'n'; 100]].concat();
        assert!(header.path(&long));
        assert_eq!(header.0[345..495], [b'd'; 150]);
        assert_eq!(header.0[..100], [b'n'; 100]);
        assert!(!Header::new(b'0').path(&[b'a'; 101]));
        assert!(!Header::new(b'0').path(&[&[b'd'; 156][..], b"/x"].concat()));
    }

    #[test]
    fn numbers_that_do_not_fit_leave_zero() {
        let mut header = Header::new(b'0');
        assert!(header.number(UID, 0o7_777_777));
        assert!(!header.number(UID, 0o10_000_000));
        assert_eq!(&header.0[UID.0..UID.0 + 8], b"0000000\0");
    }
}
