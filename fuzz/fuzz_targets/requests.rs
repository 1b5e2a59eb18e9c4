//! A connection of HTTP/1.1 as a stranger or a known client may send it: whatever comes, it is answered or closed.
#![no_main]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use relight_fuzz::known::{KNOWN, Known};
use relight_pbs::service::http::{HttpService, Limits, redirect};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
});

fuzz_target!(|data: &[u8]| {
    let limits = Limits {
        unauthorized_delay: Duration::ZERO,
        forbidden_delay: Duration::ZERO,
        ..Limits::default()
    };
    RUNTIME.block_on(async {
        let service = HttpService::new(Known::router(), Arc::new(Known), limits);
        for known in [false, true] {
            // Who is known sends the same with credentials.
            let mut bytes = data.to_vec();
            if known && let Some(at) = data.windows(2).position(|two| two == b"\r\n") {
                bytes.splice(at + 2..at + 2, KNOWN.bytes());
            }
            let (client, server) = tokio::io::duplex(1 << 16);
            let (mut read, mut write) = tokio::io::split(client);
            let talk = async {
                let _ = write.write_all(&bytes).await;
                let _ = write.shutdown().await;
            };
            let mut answer = Vec::new();
            let _ = tokio::join!(service.serve(server, None), talk, read.read_to_end(&mut answer));
            assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."));
        }
        let (mut client, server) = tokio::io::duplex(1 << 16);
        let plain = async {
            let _ = client.write_all(data).await;
            let _ = client.shutdown().await;
            let mut answer = Vec::new();
            let _ = client.read_to_end(&mut answer).await;
            answer
        };
        let (answer, ()) = tokio::join!(plain, redirect(server, Duration::from_secs(1)));
        // Nothing of the request gets into the head of the answer but the one line of its target.
        let head = String::from_utf8(answer).unwrap();
        assert!(head.is_empty() || head.matches("\r\n").count() == 5, "{head:?}");
    });
});
