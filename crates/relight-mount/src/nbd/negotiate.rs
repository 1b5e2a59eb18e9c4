//! The begin of a connection: fixed newstyle negotiation.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use super::export::{Export, PREFERRED, SMALLEST};
use super::options;
use super::peer::Peer;
use super::wire::{self, answer, info, option};

/// A negotiation that is not over after this time is ended.
const TIME: Duration = Duration::from_secs(60);
/// Longest option that is looked at, in bytes; the names and contexts in it are shorter.
const MAX_OPTION: u32 = 64 << 10;
/// Longest option that is read to its end only to refuse it.
const MAX_SKIPPED: u32 = 16 << 20;

/// What client and server agreed on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Agreed {
    /// Replies are structured.
    pub structured: bool,
    /// The client asked for [`wire::ALLOCATION`].
    pub allocation: bool,
}

struct Negotiation<'a> {
    peer: &'a Peer,
    export: &'a Export,
    agreed: Agreed,
    no_zeroes: bool,
}

/// What follows an option.
enum Next {
    Option,
    Transmission,
    End,
}

/// Negotiates. None: the client went away, which it may.
pub fn negotiate(peer: &Peer, export: &Export) -> io::Result<Option<Agreed>> {
    let until = Instant::now() + TIME;
    let mut negotiation = Negotiation {
        peer,
        export,
        agreed: Agreed::default(),
        no_zeroes: false,
    };
    negotiation.greet(until)?;
    loop {
        let (code, data) = match negotiation.next_option(until)? {
            Some(option) => option,
            None => continue,
        };
        match negotiation.answer(code, &data)? {
            Next::Option => {}
            Next::Transmission => return Ok(Some(negotiation.agreed)),
            Next::End => return Ok(None),
        }
    }
}

impl Negotiation<'_> {
    fn greet(&mut self, until: Instant) -> io::Result<()> {
        let mut greeting = [0; 18];
        greeting[..8].copy_from_slice(&wire::GREETING.to_be_bytes());
        greeting[8..16].copy_from_slice(&wire::OPTION.to_be_bytes());
        greeting[16..].copy_from_slice(&(wire::FIXED_NEWSTYLE | wire::NO_ZEROES).to_be_bytes());
        self.peer.send(&greeting, &[])?;
        let mut flags = [0; 4];
        self.read(&mut flags, until)?;
        let flags = u32::from_be_bytes(flags);
        if flags & !u32::from(wire::FIXED_NEWSTYLE | wire::NO_ZEROES) != 0 {
            return Err(invalid("the client has flags that this server does not know"));
        }
        self.no_zeroes = flags & u32::from(wire::NO_ZEROES) != 0;
        Ok(())
    }

    /// The next option with its data; none if it was too long and was refused.
    fn next_option(&mut self, until: Instant) -> io::Result<Option<(u32, Vec<u8>)>> {
        let mut head = [0; 16];
        self.read(&mut head, until)?;
        let [magic, rest] = [
            u64::from_be_bytes(part(&head, 0)),
            u64::from_be_bytes(part(&head, 8)),
        ];
        if magic != wire::OPTION {
            return Err(invalid("the client does not speak the NBD protocol"));
        }
        let (code, length) = ((rest >> 32) as u32, rest as u32);
        if length > MAX_SKIPPED {
            return Err(invalid("an option is longer than any that makes sense"));
        }
        if length > MAX_OPTION {
            let mut skipped = [0; 4096];
            let mut left = length as usize;
            while left > 0 {
                let count = left.min(skipped.len());
                self.read(&mut skipped[..count], until)?;
                left -= count;
            }
            self.refuse(code, answer::TOO_BIG, "the option is too long")?;
            return Ok(None);
        }
        let mut data = vec![0; length as usize];
        self.read(&mut data, until)?;
        Ok(Some((code, data)))
    }

    fn answer(&mut self, code: u32, data: &[u8]) -> io::Result<Next> {
        match code {
            option::EXPORT_NAME => return self.export_name(data),
            option::ABORT => {
                // The client may be gone already.
                let _ = self.reply(code, answer::ACK, &[]);
                return Ok(Next::End);
            }
            option::GO | option::INFO => return self.info(code, data),
            option::LIST if !data.is_empty() => {
                self.refuse(code, answer::INVALID, "the option has no data")?
            }
            option::LIST => {
                let name = self.export.name().as_bytes();
                let mut listed = (name.len() as u32).to_be_bytes().to_vec();
                listed.extend_from_slice(name);
                listed.extend_from_slice(self.export.description().as_bytes());
                self.reply(code, answer::SERVER, &listed)?;
                self.reply(code, answer::ACK, &[])?;
            }
            option::STRUCTURED_REPLY if !data.is_empty() => {
                self.refuse(code, answer::INVALID, "the option has no data")?;
            }
            option::STRUCTURED_REPLY => {
                self.agreed.structured = true;
                self.reply(code, answer::ACK, &[])?;
            }
            option::LIST_META_CONTEXT | option::SET_META_CONTEXT => self.contexts(code, data)?,
            _ => self.refuse(code, answer::UNSUPPORTED, "this server does not know the option")?,
        }
        Ok(Next::Option)
    }

    /// The old way to choose an export, in which an error cannot be told.
    fn export_name(&mut self, name: &[u8]) -> io::Result<Next> {
        if !self.export.is_meant(name) {
            return Err(invalid("the client asked for an export that there is not"));
        }
        let mut chosen = self.export.size().to_be_bytes().to_vec();
        chosen.extend_from_slice(&self.export.flags(self.agreed.structured).to_be_bytes());
        if !self.no_zeroes {
            chosen.resize(chosen.len() + 124, 0);
        }
        self.peer.send(&chosen, &[])?;
        Ok(Next::Transmission)
    }

    fn info(&mut self, code: u32, data: &[u8]) -> io::Result<Next> {
        let Some((name, wanted)) = options::info(data) else {
            self.refuse(code, answer::INVALID, "the option is malformed")?;
            return Ok(Next::Option);
        };
        if !self.export.is_meant(name) {
            self.refuse(
                code,
                answer::UNKNOWN,
                &format!("there is only the export {}", self.export.name()),
            )?;
            return Ok(Next::Option);
        }
        let mut about = info::EXPORT.to_be_bytes().to_vec();
        about.extend_from_slice(&self.export.size().to_be_bytes());
        about.extend_from_slice(&self.export.flags(self.agreed.structured).to_be_bytes());
        self.reply(code, answer::INFO, &about)?;
        for kind in [info::NAME, info::DESCRIPTION, info::BLOCK_SIZE] {
            if !wanted.contains(&kind) {
                continue;
            }
            let mut about = kind.to_be_bytes().to_vec();
            match kind {
                info::NAME => about.extend_from_slice(self.export.name().as_bytes()),
                info::DESCRIPTION => about.extend_from_slice(self.export.description().as_bytes()),
                _ => {
                    for size in [SMALLEST, PREFERRED, wire::MAX_READ] {
                        about.extend_from_slice(&size.to_be_bytes());
                    }
                }
            }
            self.reply(code, answer::INFO, &about)?;
        }
        self.reply(code, answer::ACK, &[])?;
        Ok(if code == option::GO {
            Next::Transmission
        } else {
            Next::Option
        })
    }

    fn contexts(&mut self, code: u32, data: &[u8]) -> io::Result<()> {
        let set = code == option::SET_META_CONTEXT;
        if set {
            // Whatever comes of it, it replaces what was chosen before.
            self.agreed.allocation = false;
        }
        let Some((name, queries)) = options::contexts(data) else {
            return self.refuse(code, answer::INVALID, "the option is malformed");
        };
        if !self.agreed.structured {
            return self.refuse(
                code,
                answer::INVALID,
                "structured replies must be negotiated before",
            );
        }
        if !self.export.is_meant(name) {
            let only = format!("there is only the export {}", self.export.name());
            return self.refuse(code, answer::UNKNOWN, &only);
        }
        let meant = |query: &&[u8]| *query == wire::ALLOCATION.as_bytes() || (!set && *query == b"base:");
        if queries.iter().any(meant) || (!set && queries.is_empty()) {
            let id = if set { wire::ALLOCATION_ID } else { 0 };
            let mut context = id.to_be_bytes().to_vec();
            context.extend_from_slice(wire::ALLOCATION.as_bytes());
            self.reply(code, answer::META_CONTEXT, &context)?;
            self.agreed.allocation |= set;
        }
        self.reply(code, answer::ACK, &[])
    }

    fn refuse(&self, code: u32, error: u32, why: &str) -> io::Result<()> {
        self.reply(code, error, why.as_bytes())
    }

    fn reply(&self, code: u32, kind: u32, data: &[u8]) -> io::Result<()> {
        let mut head = [0; 20];
        head[..8].copy_from_slice(&wire::OPTION_REPLY.to_be_bytes());
        head[8..12].copy_from_slice(&code.to_be_bytes());
        head[12..16].copy_from_slice(&kind.to_be_bytes());
        head[16..].copy_from_slice(&(data.len() as u32).to_be_bytes());
        self.peer.send(&head, data)
    }

    fn read(&self, buffer: &mut [u8], until: Instant) -> io::Result<()> {
        let mut filled = 0;
        while filled < buffer.len() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the client took too long to say what it wants",
                ));
            }
            self.peer.set_read_timeout(Some(left))?;
            let mut peer = self.peer;
            match peer.read(&mut buffer[filled..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => filled += count,
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
                    ) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Eight bytes of a header.
fn part(head: &[u8; 16], at: usize) -> [u8; 8] {
    let mut part = [0; 8];
    part.copy_from_slice(&head[at..at + 8]);
    part
}
