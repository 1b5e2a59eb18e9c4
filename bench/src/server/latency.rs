//! A line between the server and object storage on which everything takes longer, but not less is carried.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::failure::{Doing, Failure, Result};

/// A port of this host that leads to an endpoint.
pub struct SlowLine {
    location: String,
}

impl SlowLine {
    /// Leads to the endpoint that `location` names; answers come so much later.
    pub fn before(location: &str, latency: Duration) -> Result<Self> {
        const NAME: &str = "endpoint=http://";
        let no_endpoint =
            || Failure::new("the location of the object storage must have an endpoint=http://HOST:PORT");
        let from = location.find(NAME).ok_or_else(no_endpoint)? + NAME.len();
        let to = location[from..].find('&').map_or(location.len(), |at| from + at);
        let endpoint = location[from..to].trim_end_matches('/').to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").doing(|| "listen".to_owned())?;
        let own = listener.local_addr().doing(|| "listen".to_owned())?;
        let location = format!("{}{own}{}", &location[..from], &location[to..]);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if let Ok(storage) = TcpStream::connect(&endpoint) {
                    lead(&client, &storage, Duration::ZERO);
                    lead(&storage, &client, latency);
                }
            }
        });
        Ok(Self { location })
    }

    /// What the server is told.
    pub fn location(&self) -> String {
        self.location.clone()
    }
}

/// Carries bytes one way; each arrives so much later than it was sent, however many are under way.
fn lead(from: &TcpStream, to: &TcpStream, latency: Duration) {
    let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else {
        return;
    };
    let _ = to.set_nodelay(true);
    // What a line holds at 10 Gbit/s and this latency.
    let (sent, arrives) = mpsc::sync_channel::<(Instant, Vec<u8>)>(1024);
    thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length) = from.read(&mut buffer) {
            if length == 0
                || sent
                    .send((Instant::now() + latency, buffer[..length].to_vec()))
                    .is_err()
            {
                return;
            }
        }
    });
    thread::spawn(move || {
        for (due, bytes) in arrives {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                return;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
}
