//! Reads a tar stream as servers send it (POSIX.1-1988 "ustar" headers; sizes beyond 8 GiB in base 256), in pieces of any
//! length.

/// A block of tar.
const BLOCK: usize = 512;

/// A header: what follows belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Its name, without a slash at the end.
    pub name: String,
    /// What it is.
    pub kind: HeaderKind,
    /// Permissions.
    pub mode: u32,
    /// Time of the last change, seconds since 1970.
    pub modified: i64,
    /// Bytes that follow.
    pub size: u64,
}

/// What a header stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderKind {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link to this.
    Link(String),
}

/// What comes out of a stream.
#[derive(Debug)]
pub enum Part<'a> {
    /// A new entry. Entries without content end at once.
    Begin(Header),
    /// Some of its content.
    Data(&'a [u8]),
    /// It is complete.
    End,
}

/// Where in a stream a reader is.
enum Place {
    Header,
    /// So much is left, and so much padding follows.
    Content(u64, usize),
    Padding(usize),
    Over,
}

/// A stream that is being read.
pub struct TarReader {
    place: Place,
    header: Vec<u8>,
}

impl Default for TarReader {
    fn default() -> Self {
        Self {
            place: Place::Header,
            header: Vec::with_capacity(BLOCK),
        }
    }
}

impl TarReader {
    /// Takes the next bytes and tells what they hold.
    ///
    /// # Errors
    /// What is wrong with the stream, or what `take` gave.
    pub fn push<E: From<String>>(
        &mut self,
        mut bytes: &[u8],
        take: &mut dyn FnMut(Part<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        while !bytes.is_empty() {
            match self.place {
                Place::Header => {
                    let count = bytes.len().min(BLOCK - self.header.len());
                    let (now, later) = bytes.split_at(count);
                    self.header.extend_from_slice(now);
                    bytes = later;
                    if self.header.len() < BLOCK {
                        continue;
                    }
                    if self.header.iter().all(|&byte| byte == 0) {
                        self.place = Place::Over;
                        continue;
                    }
                    let header = parse(&self.header)?;
                    self.header.clear();
                    let size = header.size;
                    take(Part::Begin(header))?;
                    if size == 0 {
                        take(Part::End)?;
                    } else {
                        let over = (size % BLOCK as u64) as usize;
                        self.place = Place::Content(size, (BLOCK - over) % BLOCK);
                    }
                }
                Place::Content(left, padding) => {
                    let count = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
                    let (now, later) = bytes.split_at(count);
                    take(Part::Data(now))?;
                    bytes = later;
                    let left = left - count as u64;
                    self.place = Place::Content(left, padding);
                    if left == 0 {
                        take(Part::End)?;
                        self.place = if padding > 0 {
                            Place::Padding(padding)
                        } else {
                            Place::Header
                        };
                    }
                }
                Place::Padding(left) => {
                    let count = left.min(bytes.len());
                    bytes = &bytes[count..];
                    self.place = if count < left {
                        Place::Padding(left - count)
                    } else {
                        Place::Header
                    };
                }
                Place::Over => {
                    if bytes.iter().any(|&byte| byte != 0) {
                        return Err(E::from(
                            "there is something behind the end of the tar stream".into(),
                        ));
                    }
                    bytes = &[];
                }
            }
        }
        Ok(())
    }

    /// Whether it may end here.
    pub fn is_complete(&self) -> bool {
        match self.place {
            Place::Header => self.header.is_empty(),
            Place::Over => true,
            Place::Content(..) | Place::Padding(_) => false,
        }
    }
}

fn text(field: &[u8]) -> Result<String, String> {
    let end = field.iter().position(|&byte| byte == 0).unwrap_or(field.len());
    String::from_utf8(field[..end].to_vec()).map_err(|_| {
        format!(
            "the name {:?} is not UTF-8",
            String::from_utf8_lossy(&field[..end])
        )
    })
}

fn number(field: &[u8], what: &str) -> Result<u64, String> {
    let wrong = || format!("the {what} in a tar header is no number");
    if let Some((first, rest)) = field.split_first()
        && first & 0x80 != 0
    {
        // Base 256; a negative number or one that does not fit makes no sense here.
        if first & 0x7f != 0 {
            return Err(wrong());
        }
        return rest.iter().try_fold(0u64, |sum, &byte| {
            sum.checked_mul(256)
                .map(|sum| sum | u64::from(byte))
                .ok_or_else(wrong)
        });
    }
    let digits = field
        .iter()
        .copied()
        .skip_while(|&byte| byte == b' ')
        .take_while(|&byte| byte != 0 && byte != b' ');
    let mut sum = 0u64;
    for digit in digits {
        if !(b'0'..=b'7').contains(&digit) {
            return Err(wrong());
        }
        sum = sum.checked_mul(8).ok_or_else(wrong)? + u64::from(digit - b'0');
    }
    Ok(sum)
}

fn parse(header: &[u8]) -> Result<Header, String> {
    let sum: u64 = header
        .iter()
        .enumerate()
        .map(|(at, &byte)| u64::from(if (148..156).contains(&at) { b' ' } else { byte }))
        .sum();
    if sum != number(&header[148..156], "checksum")? {
        return Err("a tar header has a wrong checksum".into());
    }
    let mut name = text(&header[..100])?;
    let prefix = if &header[257..262] == b"ustar" {
        text(&header[345..500])?
    } else {
        String::new()
    };
    if !prefix.is_empty() {
        name = format!("{prefix}/{name}");
    }
    let kind = match header[156] {
        0 | b'0' => HeaderKind::File,
        b'5' => HeaderKind::Directory,
        b'2' => HeaderKind::Link(text(&header[157..257])?),
        other => {
            return Err(format!(
                "{name} is of kind {:?}, which is not known",
                char::from(other)
            ));
        }
    };
    let size = match kind {
        HeaderKind::File => number(&header[124..136], "size")?,
        _ => 0,
    };
    Ok(Header {
        name: name.trim_end_matches('/').to_string(),
        kind,
        mode: (number(&header[100..108], "mode")? & 0o7777) as u32,
        modified: number(&header[136..148], "time").map(|time| i64::try_from(time).unwrap_or(0))?,
        size,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(name: &str, kind: u8, size: u64) -> Vec<u8> {
        let mut block = vec![0; BLOCK];
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[100..107].copy_from_slice(b"0000600");
        if size < 8 << 30 {
            block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
        } else {
            block[124] = 0x80;
            block[128..136].copy_from_slice(&size.to_be_bytes());
        }
        block[136..147].copy_from_slice(b"00000000017");
        block[156] = kind;
        block[257..262].copy_from_slice(b"ustar");
        block[148..156].fill(b' ');
        let sum: u64 = block.iter().map(|&byte| u64::from(byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        block
    }

    fn read(stream: &[u8], piece: usize) -> Result<Vec<String>, String> {
        let (mut reader, mut told, mut length) = (TarReader::default(), Vec::new(), 0);
        for bytes in stream.chunks(piece) {
            reader.push::<String>(bytes, &mut |part| {
                match part {
                    Part::Begin(header) => told.push(header.name),
                    Part::Data(data) => length += data.len(),
                    Part::End => told.push(std::mem::take(&mut length).to_string()),
                }
                Ok(())
            })?;
        }
        if !reader.is_complete() {
            return Err("cut off".into());
        }
        Ok(told)
    }

    #[test]
    fn entries_in_any_pieces() {
        let mut stream = header("base/", b'5', 0);
        for (name, size) in [("base/1", 8192u64), ("a", 1), ("empty", 0), ("odd", 1025)] {
            stream.extend(header(name, b'0', size));
            stream.extend(vec![7; size.next_multiple_of(512) as usize]);
        }
        let expected = [
            "base", "0", "base/1", "8192", "a", "1", "empty", "0", "odd", "1025",
        ];
        for end in [0, 512, 1024] {
            let whole: Vec<u8> = stream.iter().copied().chain(vec![0; end]).collect();
            for piece in [1, 100, 512, 10_000, 1 << 20] {
                assert_eq!(read(&whole, piece).unwrap(), expected);
            }
        }
        assert!(read(&stream[..stream.len() - 1], 512).is_err());
        stream.extend([0; 512]);
        stream.push(1);
        assert!(read(&stream, 512).is_err());
    }

    #[test]
    fn large_sizes_and_nonsense() {
        assert_eq!(parse(&header("x", b'0', 10 << 30)).unwrap().size, 10 << 30);
        let mut broken = header("x", b'0', 5);
        broken[0] ^= 1;
        assert!(parse(&broken).is_err());
        assert!(parse(&header("x", b'7', 5)).is_err());
        for field in [&b"12a"[..], &[0xff; 12], &[0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]] {
            assert!(number(field, "n").is_err());
        }
    }
}
