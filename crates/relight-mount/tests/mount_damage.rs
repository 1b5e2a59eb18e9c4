//! Damage in the repository: an I/O error and a line that names snapshot and path, and nothing else is lost.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::Write;
use std::sync::{Arc, Mutex};

use common::tree::noise;
use common::{Lab, names};

/// What is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_cannot_be_read_is_named_and_the_rest_can_be() {
    common::require_fuse();
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .init();
    let said = || String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let eio = Some(rustix::io::Errno::IO.raw_os_error());

    let lab = Lab::new();
    let source = lab.folder("data");
    fs::create_dir_all(source.join("deep/er")).unwrap();
    for number in 0..8 {
        fs::write(source.join(format!("deep/er/{number}")), noise(number, 1_500_000)).unwrap();
    }
    let snapshot = lab.save_tree("host/a", &source);
    lab.damage_packs("data", 1);
    let mounted = lab.mount();
    let shown = mounted.path().join("latest/data/deep/er");
    assert_eq!(names(&shown).len(), 8, "names are not affected");
    let (mut lost, mut good) = (Vec::new(), 0);
    for number in 0..8 {
        match fs::read(shown.join(number.to_string())) {
            Ok(bytes) => {
                assert!(bytes == noise(number, 1_500_000));
                good += 1;
            }
            Err(error) => {
                assert_eq!(error.raw_os_error(), eio);
                lost.push(number);
            }
        }
    }
    assert!(!lost.is_empty() && good >= 5, "{lost:?} are lost");
    let log_now = said();
    for number in &lost {
        let line = format!(
            "data/deep/er/{number} of snapshot {} of host/a",
            snapshot.id.short()
        );
        assert!(log_now.contains(&line), "{line} is not in\n{log_now}");
    }
    assert!(log_now.contains("corrupt"), "{log_now}");
    drop(mounted);

    // A tree whose names are damaged hides no other snapshot.
    lab.damage_packs("meta", 200);
    let other = lab.save_stream("pg/a", "dump", b"select 1;");
    let mounted = lab.mount();
    let id = mounted.path().join("by-id").join(snapshot.id.short());
    assert_eq!(names(&id), ["data"]);
    let error = fs::read_dir(id.join("data")).unwrap_err();
    assert_eq!(error.raw_os_error(), eio);
    let line = format!("cannot read data of snapshot {}", snapshot.id.short());
    assert!(said().contains(&line), "{}", said());
    let dump = mounted.path().join("by-id").join(other.id.short()).join("dump");
    assert_eq!(fs::read(dump).unwrap(), b"select 1;");
}
