//! An image's index while it is written: digests by position, in any order.

use super::known::Known;
use crate::formats::ids::FileName;
use crate::formats::index::{Digest, FIXED_CHUNK, FixedSum};
use crate::service::http::{ApiError, ApiResult};

/// The largest image in bytes: 128 TiB, whose list has a gigabyte.
const MAX_SIZE: u64 = 1 << 47;
/// How far beyond what was there an image of unknown size may be written.
const MAX_GAP: u64 = 4096;

/// An image's index while it is written.
pub(super) struct FixedWriter {
    pub name: FileName,
    /// Bytes of the image, if the client knows.
    size: Option<u64>,
    digests: Vec<Digest>,
    /// One bit a position: whether there is a digest.
    filled: Vec<u64>,
    appended: u64,
    /// Whether it began as a copy of an earlier one.
    based: bool,
    /// The one chunk that is shorter than the others.
    short: Option<(Digest, u32)>,
    /// Position and length of the last chunk of an image of unknown size.
    end: Option<(u64, u32)>,
}

/// An image's index when it is complete.
pub(super) struct FixedResult {
    pub size: u64,
    pub csum: Digest,
    pub digests: Vec<Digest>,
}

fn refuse<T>(message: impl Into<String>) -> ApiResult<T> {
    Err(ApiError::bad_request(message))
}

impl FixedWriter {
    /// An empty index.
    pub fn new(name: FileName, size: Option<u64>) -> ApiResult<Self> {
        if size.is_some_and(|size| size == 0 || size > MAX_SIZE) {
            return refuse(format!("an image must have between 1 and {MAX_SIZE} bytes"));
        }
        let count = size.map_or(0, |size| size.div_ceil(FIXED_CHUNK)) as usize;
        Ok(Self {
            name,
            size,
            // Pages of zeros cost nothing before they are written.
            digests: vec![[0; 32]; count],
            filled: vec![0; count.div_ceil(64)],
            appended: 0,
            based: false,
            short: None,
            end: None,
        })
    }

    /// An index that begins as this one.
    pub fn based_on(name: FileName, size: u64, digests: Vec<Digest>) -> ApiResult<Self> {
        let mut writer = Self::new(name, Some(size))?;
        if digests.len() != writer.digests.len() {
            return refuse("the previous index is of an image of another size");
        }
        writer.digests = digests;
        writer.filled.fill(u64::MAX);
        writer.based = true;
        Ok(writer)
    }

    /// Fails if a chunk of this length cannot belong here.
    pub fn check_upload(&mut self, wid: u32, digest: &Digest, length: u32) -> ApiResult<()> {
        let length64 = u64::from(length);
        if length64 > FIXED_CHUNK {
            return refuse(format!(
                "fixed writer '{wid}' - got large chunk ({length} > {FIXED_CHUNK})"
            ));
        }
        if length64 < FIXED_CHUNK && *self.short.get_or_insert((*digest, length)) != (*digest, length) {
            return refuse(format!(
                "fixed writer '{wid}' - detected multiple end chunks (chunk size too small)"
            ));
        }
        Ok(())
    }

    /// Puts a chunk where it begins.
    pub fn append(&mut self, start: u64, digest: &Digest, known: Known) -> ApiResult<()> {
        if !start.is_multiple_of(FIXED_CHUNK) {
            return refuse(format!(
                "chunk at offset {start} is not aligned to the chunk size"
            ));
        }
        let length = u64::from(known.length);
        let position = start / FIXED_CHUNK;
        match self.size {
            Some(size) => {
                let expected = size.saturating_sub(start).min(FIXED_CHUNK);
                if expected == 0 {
                    return refuse(format!(
                        "chunk at offset {start} is beyond the end of the image ({size})"
                    ));
                }
                if length != expected {
                    return refuse(format!("chunk with unexpected length ({length} != {expected})"));
                }
            }
            None => self.grow(position, known.length)?,
        }
        let at = usize::try_from(position).ok();
        let slot = at.and_then(|at| Some((at, self.digests.get_mut(at)?)));
        let Some((at, slot)) = slot else {
            return refuse(format!("chunk at offset {start} is beyond the end of the image"));
        };
        *slot = *digest;
        self.filled[at / 64] |= 1 << (at % 64);
        self.appended += 1;
        Ok(())
    }

    /// Makes room in an image of unknown size.
    fn grow(&mut self, position: u64, length: u32) -> ApiResult<()> {
        let count = self.digests.len() as u64;
        if position >= MAX_SIZE / FIXED_CHUNK || position > count + MAX_GAP {
            return refuse("a chunk is far beyond the end of the image");
        }
        let is_short = u64::from(length) < FIXED_CHUNK;
        match self.end {
            Some((last, _)) if position > last => {
                return refuse("a chunk follows the one that ends the image");
            }
            Some((last, known)) if position == last && length != known => {
                return refuse(format!("chunk with unexpected length ({length} != {known})"));
            }
            Some((last, _)) if position < last && is_short => {
                return refuse(format!(
                    "chunk with unexpected length ({length} != {FIXED_CHUNK})"
                ));
            }
            None if is_short && position + 1 < count => {
                return refuse(format!(
                    "chunk with unexpected length ({length} != {FIXED_CHUNK})"
                ));
            }
            None if is_short => self.end = Some((position, length)),
            _ => {}
        }
        if position >= count {
            let count = position as usize + 1;
            self.digests.resize(count, [0; 32]);
            self.filled.resize(count.div_ceil(64), 0);
        }
        Ok(())
    }

    /// Ends it, if it is what the client says.
    pub fn close(self, chunk_count: u64, size: u64, csum: &Digest) -> ApiResult<FixedResult> {
        if self.appended != chunk_count {
            return refuse(format!(
                "close failed - received wrong number of chunks ({} != {chunk_count})",
                self.appended
            ));
        }
        let count = self.digests.len() as u64;
        let written = match (self.size, self.end) {
            (Some(size), _) => size,
            (None, Some((last, length))) if last + 1 == count => last * FIXED_CHUNK + u64::from(length),
            (None, _) => count * FIXED_CHUNK,
        };
        // What is told of an image that began as a copy is how much of it was sent.
        if !self.based && size != written {
            return refuse(format!(
                "close failed - the image has {written} bytes, not {size}"
            ));
        }
        if written == 0 {
            return refuse("close failed - the image is empty");
        }
        let expected = written.div_ceil(FIXED_CHUNK);
        if !self.based && chunk_count != expected {
            return refuse(format!(
                "close failed - unexpected chunk count ({chunk_count} != {expected})"
            ));
        }
        let is_filled = |at: usize| self.filled[at / 64] >> (at % 64) & 1 == 1;
        if let Some(hole) = (0..self.digests.len()).find(|&at| !is_filled(at)) {
            return refuse(format!(
                "close failed - there is no chunk at offset {}",
                hole as u64 * FIXED_CHUNK
            ));
        }
        let mut sum = FixedSum::default();
        self.digests.iter().for_each(|digest| sum.add(digest));
        let found = sum.finish();
        if found != *csum {
            return refuse("close failed - the checksum of the index is another");
        }
        Ok(FixedResult {
            size: written,
            csum: found,
            digests: self.digests,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::known::Form;
    use super::*;

    const FULL: u32 = FIXED_CHUNK as u32;

    fn writer(size: Option<u64>) -> FixedWriter {
        FixedWriter::new("a.img.fidx".parse().unwrap(), size).unwrap()
    }

    fn known(length: u32) -> Known {
        Known {
            length,
            form: Form::Plain,
        }
    }

    fn sum(digests: &[Digest]) -> Digest {
        let mut sum = FixedSum::default();
        digests.iter().for_each(|digest| sum.add(digest));
        sum.finish()
    }

    #[test]
    fn chunks_come_in_any_order() {
        let size = 2 * FIXED_CHUNK + 512;
        for size_known in [true, false] {
            let mut writer = writer(size_known.then_some(size));
            writer.append(2 * FIXED_CHUNK, &[3; 32], known(512)).unwrap();
            writer.append(0, &[1; 32], known(FULL)).unwrap();
            writer.append(FIXED_CHUNK, &[2; 32], known(FULL)).unwrap();
            let digests = [[1; 32], [2; 32], [3; 32]];
            let closed = writer.close(3, size, &sum(&digests)).unwrap();
            assert_eq!(
                (closed.size, closed.digests.as_slice()),
                (size, digests.as_slice())
            );
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let size = FIXED_CHUNK + 512;
        let mut one = writer(Some(size));
        for (start, length) in [
            (1, FULL),
            (0, FULL - 1),
            (FIXED_CHUNK, FULL),
            (FIXED_CHUNK, 511),
            (2 * FIXED_CHUNK, 512),
            (u64::MAX / FIXED_CHUNK * FIXED_CHUNK, FULL),
        ] {
            assert!(
                one.append(start, &[1; 32], known(length)).is_err(),
                "{start} {length}"
            );
        }
        let closed = |count, size, csum: Digest| {
            let mut writer = writer(Some(FIXED_CHUNK + 512));
            writer.append(0, &[1; 32], known(FULL)).unwrap();
            writer.append(FIXED_CHUNK, &[2; 32], known(512)).unwrap();
            writer.close(count, size, &csum).is_ok()
        };
        let good = sum(&[[1; 32], [2; 32]]);
        assert!(closed(2, size, good));
        assert!(!closed(1, size, good) && !closed(2, size + 1, good) && !closed(2, size, [0; 32]));
        let mut twice = writer(Some(size));
        twice.append(0, &[1; 32], known(FULL)).unwrap();
        twice.append(0, &[1; 32], known(FULL)).unwrap();
        assert!(twice.close(2, size, &sum(&[[1; 32], [0; 32]])).is_err(), "a hole");
        assert!(FixedWriter::new("a.fidx".parse().unwrap(), Some(0)).is_err());
        assert!(FixedWriter::new("a.fidx".parse().unwrap(), Some(u64::MAX)).is_err());
    }

    #[test]
    fn an_image_of_unknown_size_ends_once() {
        let mut one = writer(None);
        one.append(0, &[1; 32], known(FULL)).unwrap();
        one.append(FIXED_CHUNK, &[2; 32], known(5)).unwrap();
        assert!(one.append(2 * FIXED_CHUNK, &[3; 32], known(FULL)).is_err());
        assert!(one.append(0, &[3; 32], known(5)).is_err());
        assert!(one.append(FIXED_CHUNK, &[3; 32], known(6)).is_err());
        let mut two = writer(None);
        assert!(
            two.append(FIXED_CHUNK << 20, &[3; 32], known(FULL)).is_err(),
            "far away"
        );
        assert!(two.close(0, 0, &sum(&[])).is_err(), "empty");
        let mut three = writer(None);
        three.append(0, &[1; 32], known(FULL)).unwrap();
        three.append(FIXED_CHUNK, &[1; 32], known(FULL)).unwrap();
        assert!(
            three.append(0, &[2; 32], known(5)).is_err(),
            "a short one in the middle"
        );
        assert!(three.close(2, 2 * FIXED_CHUNK, &sum(&[[1; 32]; 2])).is_ok());
    }

    #[test]
    fn a_copy_counts_only_what_is_appended() {
        let base = vec![[1; 32], [2; 32], [3; 32]];
        let size = 2 * FIXED_CHUNK + 7;
        let name: FileName = "a.img.fidx".parse().unwrap();
        let mut writer = FixedWriter::based_on(name.clone(), size, base.clone()).unwrap();
        writer.append(FIXED_CHUNK, &[9; 32], known(FULL)).unwrap();
        let digests = [[1; 32], [9; 32], [3; 32]];
        let closed = writer.close(1, FIXED_CHUNK, &sum(&digests)).unwrap();
        assert_eq!((closed.size, closed.digests), (size, digests.to_vec()));
        assert!(FixedWriter::based_on(name, size + FIXED_CHUNK, base).is_err());
    }

    #[test]
    fn only_the_last_chunk_is_short() {
        let mut one = writer(None);
        one.check_upload(1, &[1; 32], FULL).unwrap();
        one.check_upload(1, &[2; 32], 512).unwrap();
        one.check_upload(1, &[2; 32], 512).unwrap();
        assert!(one.check_upload(1, &[3; 32], 512).is_err());
        assert!(one.check_upload(1, &[4; 32], FULL + 1).is_err());
    }
}
