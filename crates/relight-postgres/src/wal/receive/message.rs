//! Messages of streaming replication (documentation of PostgreSQL, "Streaming Replication Protocol").

use jiff::Timestamp;

use crate::lsn::Lsn;

/// Microseconds from 1970 to 2000, from where PostgreSQL counts.
const EPOCH: i64 = 946_684_800_000_000;

/// What a server sends.
#[derive(Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A piece of the log.
    Log {
        /// Where it begins.
        start: Lsn,
        /// How far the server has written.
        server_end: Lsn,
        /// The server's clock.
        time: Option<Timestamp>,
        /// The piece.
        bytes: &'a [u8],
    },
    /// A sign of life.
    Keepalive {
        /// How far the server has written.
        server_end: Lsn,
        /// The server's clock.
        time: Option<Timestamp>,
        /// It wants an answer at once.
        reply: bool,
    },
}

impl<'a> Message<'a> {
    /// Reads one; none if it is not one.
    pub fn parse(data: &'a [u8]) -> Option<Self> {
        let (kind, rest) = data.split_first()?;
        let (first, rest) = rest.split_first_chunk::<8>()?;
        let (second, rest) = rest.split_first_chunk::<8>()?;
        match kind {
            b'w' => {
                let (third, bytes) = rest.split_first_chunk::<8>()?;
                Some(Self::Log {
                    start: Lsn(u64::from_be_bytes(*first)),
                    server_end: Lsn(u64::from_be_bytes(*second)),
                    time: time(*third),
                    bytes,
                })
            }
            b'k' => Some(Self::Keepalive {
                server_end: Lsn(u64::from_be_bytes(*first)),
                time: time(*second),
                reply: *rest.first()? != 0,
            }),
            _ => None,
        }
    }
}

fn time(bytes: [u8; 8]) -> Option<Timestamp> {
    let micros = i64::from_be_bytes(bytes).checked_add(EPOCH)?;
    Timestamp::from_microsecond(micros).ok()
}

/// How far a receiver has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Written on the disk of this machine.
    pub written: Lsn,
    /// Durable in the repository.
    pub durable: Lsn,
}

/// The message that tells a server how far this receiver has come. What is durable need not be kept for it any more.
pub fn status(progress: Progress, now: Timestamp, reply: bool) -> [u8; 34] {
    let mut message = [0; 34];
    message[0] = b'r';
    message[1..9].copy_from_slice(&progress.written.max(progress.durable).0.to_be_bytes());
    message[9..17].copy_from_slice(&progress.durable.0.to_be_bytes());
    // Nothing is replayed here: the position stays unknown.
    message[25..33].copy_from_slice(&(now.as_microsecond() - EPOCH).to_be_bytes());
    message[33] = u8::from(reply);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_and_cut_ones_refused() {
        let mut data = vec![b'w'];
        data.extend(0x16_0000_0001_u64.to_be_bytes());
        data.extend(0x16_0000_0100_u64.to_be_bytes());
        data.extend(0_u64.to_be_bytes());
        data.extend(b"log");
        let message = Message::parse(&data).unwrap();
        let expected = Message::Log {
            start: Lsn(0x16_0000_0001),
            server_end: Lsn(0x16_0000_0100),
            time: Timestamp::from_second(946_684_800).ok(),
            bytes: b"log",
        };
        assert_eq!(message, expected);
        for end in 0..25 {
            assert_eq!(Message::parse(&data[..end]), None);
        }
        data[0] = b'k';
        assert!(matches!(
            Message::parse(&data),
            Some(Message::Keepalive { reply: false, .. })
        ));
    }

    #[test]
    fn the_server_is_told_what_is_durable() {
        let progress = Progress {
            written: Lsn(7),
            durable: Lsn(5),
        };
        let message = status(progress, Timestamp::from_second(946_684_801).unwrap(), true);
        assert_eq!(message[8], 7);
        assert_eq!(message[16], 5);
        assert_eq!(message[17..25], [0; 8]);
        assert_eq!(message[25..33], 1_000_000_i64.to_be_bytes());
        assert_eq!(message[33], 1);
    }
}
