//! A server on loopback that answers as a test tells it to, to the byte, and remembers what it was asked.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::super::{Credentials, Retries, S3Config, S3Storage};

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    /// With the query.
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Asked {
    pub fn is(&self, method: &str, path: &str) -> bool {
        self.method == method && self.path == path
    }
}

/// What is done about a request.
pub enum Reply {
    /// Status, more headers, body.
    Answer(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// The same, but the connection is cut after so many bytes of the body.
    CutAfter(usize, Vec<u8>),
    /// The connection is closed without a word.
    Close,
    /// No answer ever.
    Hang,
    /// An answer, after which the connection is closed although it was said to stay open.
    AnswerAndClose(u16),
}

pub fn reply(status: u16, body: &str) -> Reply {
    Reply::Answer(status, Vec::new(), body.into())
}

pub fn error(status: u16, code: &str) -> Reply {
    let xml = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>words</Message></Error>");
    Reply::Answer(status, Vec::new(), xml.into())
}

pub struct Server {
    port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// Starts one; `answer` is given each request and its number, from 0.
    pub fn start(answer: impl Fn(usize, &Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (Arc::clone(&asked), Arc::new(answer));
        // Ends with the test process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                thread::spawn(move || serve(stream, &log, answer.as_ref()));
            }
        });
        Self { port, asked }
    }

    pub fn config(&self) -> S3Config {
        let mut config = S3Config::new("bucket", "p");
        config.endpoint = Some(format!("http://127.0.0.1:{}", self.port));
        config.multipart_above = 1000;
        config.part_size = 400;
        config.conditions = super::super::Conditions::Trust;
        config.retries = Retries {
            attempts: 5,
            first_wait: Duration::from_millis(1),
            longest_wait: Duration::from_millis(5),
            budget: Duration::from_secs(60),
            timeout: Duration::from_secs(30),
        };
        config
    }

    pub fn storage(&self) -> S3Storage {
        let credentials = Credentials::new("key".into(), "hunter2".into(), None);
        S3Storage::with_credentials(self.config(), credentials).unwrap()
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Method and path of every request, in order.
    pub fn lines(&self) -> Vec<String> {
        self.asked()
            .iter()
            .map(|asked| format!("{} {}", asked.method, asked.path))
            .collect()
    }
}

fn serve(stream: TcpStream, log: &Mutex<Vec<Asked>>, answer: &dyn Fn(usize, &Asked) -> Reply) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    while let Some(asked) = receive(&mut reader) {
        let number = {
            let mut log = log.lock().unwrap();
            log.push(asked.clone());
            log.len() - 1
        };
        let (status, headers, body, cut) = match answer(number, &asked) {
            Reply::Answer(status, headers, body) => (status, headers, body, None),
            Reply::AnswerAndClose(status) => (status, Vec::new(), Vec::new(), Some(0)),
            Reply::CutAfter(length, body) => (200, Vec::new(), body, Some(length)),
            Reply::Close => return,
            Reply::Hang => {
                thread::sleep(Duration::from_secs(600));
                return;
            }
        };
        let length = body.len();
        let mut text = format!("HTTP/1.1 {status} Words\r\n");
        if !headers.iter().any(|(name, _)| *name == "content-length") {
            text.push_str(&format!("content-length: {length}\r\n"));
        }
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        if asked.method != "HEAD" {
            bytes.extend_from_slice(&body[..cut.unwrap_or(length)]);
        }
        if stream.write_all(&bytes).is_err() {
            return;
        }
        if cut.is_some() {
            let _ = stream.shutdown(Shutdown::Both);
            return;
        }
    }
}

fn receive(reader: &mut impl BufRead) -> Option<Asked> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_string(), words.next()?.to_string());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.insert(name.to_ascii_lowercase(), value.trim().to_string()),
            None => break,
        };
    }
    let length = headers
        .get("content-length")
        .map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Asked {
        method,
        path,
        headers,
        body,
    })
}
