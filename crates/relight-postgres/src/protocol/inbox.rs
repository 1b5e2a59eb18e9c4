//! What has arrived from a server, cut into messages. A time-out in the middle of a message loses nothing.

use std::io::{self, Read};

/// Room that is made at once.
const STEP: usize = 256 << 10;
/// No message that is expected here is longer.
const LONGEST: usize = 256 << 20;
/// Type and length.
const HEADER: usize = 5;

/// Bytes that have arrived.
#[derive(Default)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
    begin: usize,
    end: usize,
}

/// A message: its type, and where its body lies.
pub(super) struct Found {
    pub kind: u8,
    pub body: std::ops::Range<usize>,
}

impl Inbox {
    /// Takes the next message out if all of it is there. Its body can be read until more is received.
    ///
    /// # Errors
    /// Why what arrived is no message.
    pub fn take(&mut self) -> Result<Option<Found>, String> {
        let there = &self.bytes[self.begin..self.end];
        let Some(&[kind, a, b, c, d]) = there.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        // The length counts itself.
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if !(4..=LONGEST).contains(&length) {
            return Err(format!("it announces a message of {length} bytes"));
        }
        let body = self.begin + HEADER..self.begin + 1 + length;
        if body.end > self.end {
            return Ok(None);
        }
        self.begin = body.end;
        Ok(Some(Found { kind, body }))
    }

    /// The body of the message that was taken out last.
    pub fn body(&self, found: &Found) -> &[u8] {
        &self.bytes[found.body.clone()]
    }

    /// Receives more. Gives the number of bytes; none is the end of the stream.
    pub fn receive(&mut self, source: &mut impl Read) -> io::Result<usize> {
        if self.begin == self.end {
            self.begin = 0;
            self.end = 0;
        } else if self.bytes.len() - self.end < STEP / 4 && self.begin > 0 {
            self.bytes.copy_within(self.begin..self.end, 0);
            self.end -= self.begin;
            self.begin = 0;
        }
        if self.bytes.len() - self.end < STEP / 4 {
            // Grows with what has really arrived, whatever a length says.
            self.bytes
                .resize(self.bytes.len() + STEP.max(self.bytes.len() / 2), 0);
        }
        let count = source.read(&mut self.bytes[self.end..])?;
        self.end += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_that_arrive_in_any_pieces() {
        let mut sent = Vec::new();
        for length in [0usize, 1, 1000, 300_000, 5] {
            sent.push(b'd');
            sent.extend((length as u32 + 4).to_be_bytes());
            sent.extend((0..length).map(|at| at as u8));
        }
        for piece in [1, 7, 4096, 100_000, usize::MAX] {
            let (mut inbox, mut lengths) = (Inbox::default(), Vec::new());
            for bytes in sent.chunks(piece.min(sent.len())) {
                let mut rest = bytes;
                while !rest.is_empty() {
                    inbox.receive(&mut rest).unwrap();
                    while let Some(found) = inbox.take().unwrap() {
                        let body = inbox.body(&found);
                        assert!(body.iter().enumerate().all(|(at, &byte)| byte == at as u8));
                        lengths.push(body.len());
                    }
                }
            }
            assert_eq!(lengths, [0, 1, 1000, 300_000, 5]);
        }
    }

    #[test]
    fn lengths_that_cannot_be_are_refused() {
        for length in [0u32, 3, 0x4000_0000, u32::MAX] {
            let mut inbox = Inbox::default();
            let mut bytes = vec![b'D'];
            bytes.extend(length.to_be_bytes());
            inbox.receive(&mut &bytes[..]).unwrap();
            assert!(inbox.take().is_err());
        }
    }
}
