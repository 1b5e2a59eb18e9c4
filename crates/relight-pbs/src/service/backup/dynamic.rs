//! A stream's index while it is written: chunks one after the other.

use super::known::Known;
use crate::formats::ids::FileName;
use crate::formats::index::{Digest, DynamicEntry, DynamicSum};
use crate::service::http::{ApiError, ApiResult};

/// Most chunks of a stream.
const MAX_CHUNKS: usize = 1 << 25;

/// A stream's index while it is written.
pub(super) struct DynamicWriter {
    pub name: FileName,
    entries: Vec<DynamicEntry>,
    end: u64,
    sum: DynamicSum,
}

/// A stream's index when it is complete.
pub(super) struct DynamicResult {
    pub csum: Digest,
    pub entries: Vec<DynamicEntry>,
}

impl DynamicWriter {
    /// An empty index.
    pub fn new(name: FileName) -> Self {
        Self {
            name,
            entries: Vec::new(),
            end: 0,
            sum: DynamicSum::default(),
        }
    }

    /// Puts a chunk at the end, which must be where the client says that it begins.
    pub fn append(&mut self, start: u64, digest: &Digest, known: Known) -> ApiResult<()> {
        if start != self.end {
            let message = format!(
                "append failed - offset {start} is not the end of the stream ({})",
                self.end
            );
            return Err(ApiError::bad_request(message));
        }
        if self.entries.len() >= MAX_CHUNKS {
            return Err(ApiError::bad_request(
                "append failed - the stream has too many chunks",
            ));
        }
        // 2^25 chunks of 2^24 bytes do not overflow.
        self.end += u64::from(known.length);
        self.sum.add(self.end, digest);
        self.entries.push(DynamicEntry {
            end: self.end,
            digest: *digest,
        });
        Ok(())
    }

    /// Ends it, if it is what the client says.
    pub fn close(self, chunk_count: u64, size: u64, csum: &Digest) -> ApiResult<DynamicResult> {
        let refuse = |message: String| Err(ApiError::bad_request(format!("close failed - {message}")));
        if self.entries.len() as u64 != chunk_count {
            return refuse(format!(
                "unexpected chunk count ({} != {chunk_count})",
                self.entries.len()
            ));
        }
        if self.end != size {
            return refuse(format!("unexpected size ({} != {size})", self.end));
        }
        let found = self.sum.finish();
        if found != *csum {
            return refuse("the checksum of the index is another".into());
        }
        Ok(DynamicResult {
            csum: found,
            entries: self.entries,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::known::Form;
    use super::*;

    fn written() -> DynamicWriter {
        let mut writer = DynamicWriter::new("a.pxar.didx".parse().unwrap());
        for (start, length) in [(0, 5), (5, 7)] {
            let known = Known {
                length,
                form: Form::Plain,
            };
            writer.append(start, &[length as u8; 32], known).unwrap();
            assert!(writer.append(start, &[1; 32], known).is_err());
        }
        writer
    }

    #[test]
    fn a_stream_is_what_the_client_says() {
        let mut sum = DynamicSum::default();
        sum.add(5, &[5; 32]);
        sum.add(12, &[7; 32]);
        let csum = sum.finish();
        assert_eq!(written().close(2, 12, &csum).unwrap().entries.len(), 2);
        for (count, size, csum) in [(1, 12, csum), (2, 11, csum), (2, 12, [0; 32])] {
            assert!(written().close(count, size, &csum).is_err());
        }
    }
}
