//! A client of the NBD protocol that does only what it is told, also wrong things; and a server to try it on.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use relight_mount::Image;
use relight_mount::nbd::{Address, Server};

/// A server that runs until this is dropped.
pub struct Serving {
    pub address: Address,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Serving {
    pub fn start(image: Image, address: &Address) -> Self {
        let server = Server::bind(image, address).unwrap();
        let (address, stop) = (server.address().clone(), Arc::new(AtomicBool::new(false)));
        let flag = stop.clone();
        let thread = std::thread::spawn(move || server.run(&flag).unwrap());
        Self {
            address,
            stop,
            thread: Some(thread),
        }
    }

    /// Ends it, and waits until it did.
    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop();
    }
}

pub const OPTION: u64 = 0x4948_4156_454f_5054;
pub const READ: u16 = 0;
pub const WRITE: u16 = 1;
pub const DISCONNECT: u16 = 2;
pub const FLUSH: u16 = 3;
pub const TRIM: u16 = 4;
pub const CACHE: u16 = 5;
pub const WRITE_ZEROES: u16 = 6;
pub const BLOCK_STATUS: u16 = 7;

/// A connection to a server.
pub struct Client {
    pub stream: UnixStream,
}

/// An answer to an option.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub option: u32,
    pub kind: u32,
    pub data: Vec<u8>,
}

/// A chunk of a structured reply.
#[derive(Debug, PartialEq, Eq)]
pub struct Chunk {
    pub flags: u16,
    pub kind: u16,
    pub cookie: u64,
    pub data: Vec<u8>,
}

impl Client {
    /// Connects, and reads the greeting.
    pub fn connect(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut client = Self { stream };
        assert_eq!(client.take(18), b"NBDMAGICIHAVEOPT\0\x03");
        client
    }

    /// Connects and says which flags it has.
    pub fn with_flags(path: &Path, flags: u32) -> Self {
        let mut client = Self::connect(path);
        client.send(&flags.to_be_bytes());
        client
    }

    /// Connects and goes on to transmission; `structured` with structured replies and allocation.
    pub fn ready(path: &Path, structured: bool) -> Self {
        let mut client = Self::with_flags(path, 3);
        if structured {
            assert_eq!(client.ask(8, &[]).kind, 1);
            client.option(10, &contexts("", &["base:allocation"]));
            let context = client.answer();
            assert_eq!(
                (context.kind, &context.data[..]),
                (4, &b"\0\0\0\x01base:allocation"[..])
            );
            assert_eq!(client.answer().kind, 1);
        }
        client.option(7, &go("", &[]));
        assert_eq!(client.answer().kind, 3);
        assert_eq!(client.answer().kind, 1);
        client
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub fn take(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Whether the server has ended the connection; fails if it sends something instead.
    pub fn is_cut_off(&mut self) -> bool {
        match self.stream.read(&mut [0; 1]) {
            Ok(0) => true,
            Ok(_) => panic!("the server sent something"),
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }

    pub fn option(&mut self, option: u32, data: &[u8]) {
        let mut bytes = OPTION.to_be_bytes().to_vec();
        bytes.extend_from_slice(&option.to_be_bytes());
        bytes.extend_from_slice(&(data.len() as u32).to_be_bytes());
        bytes.extend_from_slice(data);
        self.send(&bytes);
    }

    pub fn answer(&mut self) -> Answer {
        let head = self.take(20);
        assert_eq!(u64_at(&head, 0), 0x0003_e889_0455_65a9);
        let (option, kind, length) = (u32_at(&head, 8), u32_at(&head, 12), u32_at(&head, 16));
        Answer {
            option,
            kind,
            data: self.take(length as usize),
        }
    }

    pub fn ask(&mut self, option: u32, data: &[u8]) -> Answer {
        self.option(option, data);
        let answer = self.answer();
        assert_eq!(answer.option, option);
        answer
    }

    pub fn request(&mut self, flags: u16, command: u16, cookie: u64, offset: u64, length: u32) {
        let mut bytes = 0x2560_9513u32.to_be_bytes().to_vec();
        bytes.extend_from_slice(&flags.to_be_bytes());
        bytes.extend_from_slice(&command.to_be_bytes());
        bytes.extend_from_slice(&cookie.to_be_bytes());
        bytes.extend_from_slice(&offset.to_be_bytes());
        bytes.extend_from_slice(&length.to_be_bytes());
        self.send(&bytes);
    }

    /// Error and cookie of a simple reply.
    pub fn simple(&mut self) -> (u32, u64) {
        let head = self.take(16);
        assert_eq!(u32_at(&head, 0), 0x6744_6698);
        (u32_at(&head, 4), u64_at(&head, 8))
    }

    pub fn chunk(&mut self) -> Chunk {
        let head = self.take(20);
        assert_eq!(u32_at(&head, 0), 0x668e_33ef);
        let flags = u16::from_be_bytes([head[4], head[5]]);
        let kind = u16::from_be_bytes([head[6], head[7]]);
        let length = u32_at(&head, 16) as usize;
        Chunk {
            flags,
            kind,
            cookie: u64_at(&head, 8),
            data: self.take(length),
        }
    }

    /// The error that a request gets, whichever way replies are sent.
    pub fn error(&mut self, structured: bool) -> u32 {
        if !structured {
            return self.simple().0;
        }
        let chunk = self.chunk();
        assert_eq!(chunk.flags, 1);
        assert!(chunk.kind & 1 << 15 != 0, "{chunk:?}");
        u32_at(&chunk.data, 0)
    }

    /// Reads with structured replies, however they are cut.
    pub fn read(&mut self, offset: u64, length: u32) -> Vec<u8> {
        self.request(0, READ, 9, offset, length);
        let mut bytes = vec![0xee; length as usize];
        loop {
            let chunk = self.chunk();
            assert_eq!(chunk.cookie, 9);
            let from = (u64_at(&chunk.data, 0) - offset) as usize;
            match chunk.kind {
                1 => bytes[from..from + chunk.data.len() - 8].copy_from_slice(&chunk.data[8..]),
                2 => bytes[from..from + u32_at(&chunk.data, 8) as usize].fill(0),
                kind => panic!("a chunk of kind {kind}"),
            }
            if chunk.flags & 1 != 0 {
                return bytes;
            }
        }
    }
}

pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u32).to_be_bytes()[..], text.as_bytes()].concat()
}

/// Data of `NBD_OPT_GO` and `NBD_OPT_INFO`.
pub fn go(name: &str, wanted: &[u16]) -> Vec<u8> {
    let mut data = string(name);
    data.extend_from_slice(&(wanted.len() as u16).to_be_bytes());
    wanted
        .iter()
        .for_each(|kind| data.extend_from_slice(&kind.to_be_bytes()));
    data
}

/// Data of the options about metadata contexts.
pub fn contexts(name: &str, queries: &[&str]) -> Vec<u8> {
    let mut data = string(name);
    data.extend_from_slice(&(queries.len() as u32).to_be_bytes());
    queries
        .iter()
        .for_each(|query| data.extend_from_slice(&string(query)));
    data
}

/// The path of a socket.
pub fn socket(address: &Address) -> PathBuf {
    match address {
        Address::Unix(path) => path.clone(),
        Address::Tcp(_) => panic!("not a socket in the file system"),
    }
}
