//! The network block device under clients that do unusual and wrong things.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use common::Lab;
use common::nbd::{
    BLOCK_STATUS, CACHE, Client, DISCONNECT, FLUSH, READ, Serving, TRIM, WRITE, WRITE_ZEROES, contexts, go,
    socket, u32_at, u64_at,
};
use common::tree::noise;
use relight_mount::Image;
use relight_mount::nbd::Address;

const CHUNK: usize = 4 << 20;
const EPERM: u32 = 1;
const EIO: u32 = 5;
const EINVAL: u32 = 22;

struct Served {
    _lab: Lab,
    content: Vec<u8>,
    serving: Serving,
    path: PathBuf,
}

/// Three chunks and a bit, the second of which is a hole.
fn serve() -> Served {
    let lab = Lab::new();
    let mut content = noise(1, 3 * CHUNK + 1000);
    content[CHUNK..2 * CHUNK].fill(0);
    std::fs::write(lab.path("disk"), &content).unwrap();
    let snapshot = lab.save_images("vm/100", &[("disk", &lab.path("disk"))]);
    let image = Image::open(lab.open(), &snapshot, "disk.img").unwrap();
    let serving = Serving::start(image, &Address::Unix(lab.path("socket")));
    let path = socket(&serving.address);
    Served {
        _lab: lab,
        content,
        serving,
        path,
    }
}

#[test]
fn negotiation_answers_every_option() {
    let served = serve();
    let size = served.content.len() as u64;
    let mut client = Client::with_flags(&served.path, 3);
    let list = client.ask(3, &[]);
    assert_eq!((list.kind, &list.data[..12]), (2, &b"\0\0\0\x08disk.img"[..]));
    assert_eq!(client.answer().kind, 1);
    // Without structured replies there are no contexts, and no promise not to fragment.
    assert_eq!(
        client.ask(10, &contexts("", &["base:allocation"])).kind,
        1 << 31 | 3
    );
    let info = client.ask(6, &go("disk", &[0, 1, 2, 3, 77]));
    assert_eq!((info.kind, u64_at(&info.data, 2)), (3, size));
    assert_eq!(u16::from_be_bytes([info.data[10], info.data[11]]), 0b1_0000_0111);
    let name = client.answer();
    assert_eq!((name.kind, &name.data[..]), (3, &b"\0\x01disk.img"[..]));
    let description = client.answer();
    assert!(String::from_utf8_lossy(&description.data[2..]).contains("of vm/100"));
    let sizes = client.answer();
    assert_eq!(
        (&sizes.data[..2], u32_at(&sizes.data, 2), u32_at(&sizes.data, 10)),
        (&b"\0\x03"[..], 1, 32 << 20)
    );
    assert_eq!(client.answer().kind, 1);

    assert_eq!(client.ask(8, &[]).kind, 1);
    let listed = client.ask(9, &contexts("", &[]));
    assert_eq!((listed.kind, &listed.data[4..]), (4, &b"base:allocation"[..]));
    assert_eq!(client.answer().kind, 1);
    assert_eq!(client.ask(9, &contexts("", &["base:"])).kind, 4);
    assert_eq!(client.answer().kind, 1);
    assert_eq!(client.ask(9, &contexts("", &["qemu:dirty-bitmap:x"])).kind, 1);
    assert_eq!(
        client.ask(10, &contexts("other", &["base:allocation"])).kind,
        1 << 31 | 6
    );
    assert_eq!(
        client.ask(10, &contexts("", &["base:", "x"])).kind,
        1,
        "nothing of that is known"
    );
    // What makes no sense is refused, and negotiation goes on.
    for (option, data, error) in [
        (3, &b"x"[..], 3),
        (8, b"x", 3),
        (6, b"", 3),
        (7, b"\0\0\0\xff", 3),
        (7, b"\0\0\0\x05other\0\0", 6),
        (10, b"\0\0\0\0\xff\xff\xff\xff", 3),
        (5, b"", 1),
        (11, b"", 1),
        (4, b"", 1),
        (12345, b"what is this", 1),
    ] {
        assert_eq!(client.ask(option, data).kind, 1 << 31 | error, "option {option}");
    }
    assert_eq!(client.ask(77, &vec![7; 100_000]).kind, 1 << 31 | 9, "too long");
    client.option(7, &go("disk.img", &[]));
    let info = client.answer();
    assert_eq!(u16::from_be_bytes([info.data[10], info.data[11]]), 0b1_1000_0111);
    assert_eq!(client.answer().kind, 1);
    assert!(client.read(5, 100) == served.content[5..105]);
    // No context was chosen in the end.
    client.request(0, BLOCK_STATUS, 1, 0, 10);
    assert_eq!(client.error(true), EINVAL);

    let mut client = Client::with_flags(&served.path, 3);
    assert_eq!(client.ask(2, &[]).kind, 1);
    assert!(client.is_cut_off());
}

#[test]
fn the_old_way_to_choose_an_export_works_too() {
    let served = serve();
    for (flags, zeroes) in [(0, 124), (1, 124), (3, 0)] {
        let mut client = Client::with_flags(&served.path, flags);
        client.option(1, b"disk.img");
        let chosen = client.take(10 + zeroes);
        assert_eq!(u64_at(&chosen, 0), served.content.len() as u64);
        assert!(chosen[10..].iter().all(|&byte| byte == 0));
        client.request(0, READ, 77, CHUNK as u64 - 10, 20);
        assert_eq!(client.simple(), (0, 77));
        assert!(client.take(20) == served.content[CHUNK - 10..CHUNK + 10]);
        client.request(0, DISCONNECT, 0, 0, 0);
        assert!(client.is_cut_off());
    }
    let mut client = Client::with_flags(&served.path, 3);
    client.option(1, b"other");
    assert!(client.is_cut_off());
}

#[test]
fn every_byte_comes_back_in_pieces_whole_and_simple() {
    let served = serve();
    let content = &served.content;
    let size = content.len();
    let mut structured = Client::ready(&served.path, true);
    let mut simple = Client::ready(&served.path, false);
    for (from, length) in [
        (0, 1),
        (0, size),
        (CHUNK - 1, 2),
        (CHUNK, CHUNK),
        (CHUNK + 5, 10),
        (2 * CHUNK - 3, 1006),
        (size - 1, 1),
    ] {
        let wanted = &content[from..from + length];
        let (offset, count) = (from as u64, length as u32);
        assert!(structured.read(offset, count) == wanted, "{length} from {from}");
        structured.request(1 << 2, READ, 3, offset, count);
        let chunk = structured.chunk();
        assert_eq!((chunk.flags, chunk.kind, u64_at(&chunk.data, 0)), (1, 1, offset));
        assert!(chunk.data[8..] == *wanted, "{length} from {from} in one piece");
        simple.request(0, READ, 4, offset, count);
        assert_eq!(simple.simple(), (0, 4));
        assert!(simple.take(length) == wanted, "{length} from {from}");
    }
    // A hole is sent as one.
    structured.request(0, READ, 5, CHUNK as u64, CHUNK as u32);
    let hole = structured.chunk();
    assert_eq!(
        (hole.flags, hole.kind, u32_at(&hole.data, 8)),
        (1, 2, CHUNK as u32)
    );
}

#[test]
fn holes_are_told() {
    let served = serve();
    let size = served.content.len() as u64;
    let mut client = Client::ready(&served.path, true);
    let chunk = CHUNK as u64;
    let mut status = |flags, offset, length: u64| {
        client.request(flags, BLOCK_STATUS, 6, offset, length as u32);
        let reply = client.chunk();
        assert_eq!((reply.flags, reply.kind, u32_at(&reply.data, 0)), (1, 5, 1));
        let extents = reply.data[4..].chunks(8);
        extents
            .map(|extent| (u64::from(u32_at(extent, 0)), u32_at(extent, 4)))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        status(0, 0, size),
        [(chunk, 0), (chunk, 3), (size - 2 * chunk, 0)]
    );
    assert_eq!(status(1 << 3, 0, size), [(chunk, 0)]);
    assert_eq!(status(0, chunk + 7, 5), [(5, 3)]);
    assert_eq!(status(0, chunk - 1, 2), [(1, 0), (1, 3)]);
    assert_eq!(status(1 << 3, 2 * chunk, 1001 + chunk - 1), [(chunk + 1000, 0)]);
}

#[test]
fn many_requests_at_once_are_all_answered() {
    let served = serve();
    let mut client = Client::ready(&served.path, false);
    let mut stream = client.stream.try_clone().unwrap();
    let place = |number: u64| (number * 48_271) % (2 * CHUNK as u64);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for number in 0..2000u64 {
                let mut bytes = 0x2560_9513u32.to_be_bytes().to_vec();
                bytes.extend_from_slice(&[0; 4]);
                bytes.extend_from_slice(&number.to_be_bytes());
                bytes.extend_from_slice(&place(number).to_be_bytes());
                bytes.extend_from_slice(&4096u32.to_be_bytes());
                stream.write_all(&bytes).unwrap();
            }
        });
        let mut seen = std::collections::HashSet::new();
        for _ in 0..2000 {
            let (error, cookie) = client.simple();
            assert_eq!(error, 0);
            let from = place(cookie) as usize;
            assert!(client.take(4096) == served.content[from..from + 4096]);
            assert!(seen.insert(cookie));
        }
    });
}

#[test]
fn bad_requests_get_errors_and_do_no_harm() {
    let served = serve();
    let size = served.content.len() as u64;
    for structured in [false, true] {
        let mut client = Client::ready(&served.path, structured);
        for (flags, command, offset, length, error) in [
            (0, READ, size, 1, EINVAL),
            (0, READ, size - 1, 2, EINVAL),
            (0, READ, u64::MAX, 1, EINVAL),
            (0, READ, u64::MAX, u32::MAX, EINVAL),
            (0, READ, 0, 0, EINVAL),
            (0, READ, 0, u32::MAX, EINVAL),
            (1, READ, 0, 1, EINVAL),
            (0x8000, READ, 0, 1, EINVAL),
            (0, TRIM, 0, 1, EPERM),
            (0, WRITE_ZEROES, 0, u32::MAX, EPERM),
            (0, CACHE, 0, 1, EINVAL),
            (0, BLOCK_STATUS, size, 1, EINVAL),
            (0, BLOCK_STATUS, 0, 0, EINVAL),
            (0, 8, 0, 1, EINVAL),
            (0, 0xffff, 0, 1, EINVAL),
        ] {
            client.request(flags, command, 1, offset, length);
            assert_eq!(
                client.error(structured),
                error,
                "{command} at {offset} of {length}, flags {flags}"
            );
        }
        // What was to be written is passed over.
        client.request(0, WRITE, 2, 0, 100_000);
        client.send(&vec![0x25; 100_000]);
        assert_eq!(client.error(structured), EPERM);
        client.request(0, FLUSH, 3, 0, 0);
        if structured {
            assert_eq!(client.chunk().kind, 0);
            assert!(client.read(0, 10) == served.content[..10]);
        } else {
            assert_eq!(client.simple(), (0, 3));
            client.request(1 << 2, READ, 4, 0, 10);
            assert_eq!(
                client.simple(),
                (EINVAL, 4),
                "only structured replies can be in one piece"
            );
        }
        client.send(b"this is no request of any kind at all");
        assert!(client.is_cut_off());
    }
}

#[test]
fn garbage_in_the_negotiation_ends_the_connection_and_nothing_else() {
    let served = serve();
    let mut good = Client::ready(&served.path, true);
    let endings: [&dyn Fn(&mut Client); 5] = [
        &|client| client.send(&0xffff_ffffu32.to_be_bytes()),
        &|client| client.send(b"\0\0\0\x03GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        &|client| {
            let mut option = common::nbd::OPTION.to_be_bytes().to_vec();
            option.extend_from_slice(&7u32.to_be_bytes());
            option.extend_from_slice(&u32::MAX.to_be_bytes());
            client.send(&3u32.to_be_bytes());
            client.send(&option);
        },
        &|client| {
            client.send(b"\0\0\0\x03IHA");
            client.stream.shutdown(std::net::Shutdown::Write).unwrap();
        },
        &|client| client.stream.shutdown(std::net::Shutdown::Write).unwrap(),
    ];
    for end in endings {
        let mut client = Client::connect(&served.path);
        end(&mut client);
        assert!(client.is_cut_off());
    }
    assert!(good.read(0, 1000) == served.content[..1000]);
}

#[test]
fn idle_and_slow_clients_do_not_hold_up_others_or_the_end() {
    let mut served = serve();
    // Some that say nothing, and one that asks for much and takes nothing.
    let _idle: Vec<Client> = (0..10).map(|_| Client::connect(&served.path)).collect();
    let mut greedy = Client::ready(&served.path, false);
    for number in 0..30 {
        greedy.request(0, READ, number, 0, (3 * CHUNK) as u32);
    }
    let mut good = Client::ready(&served.path, true);
    assert!(good.read(1, 5_000_000) == served.content[1..5_000_001]);
    let began = Instant::now();
    served.serving.stop();
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert!(!served.path.exists());
    assert!(good.is_cut_off());
}

#[test]
fn more_clients_than_there_is_room_for_are_turned_away() {
    let served = serve();
    let mut clients: Vec<Client> = (0..64).map(|_| Client::ready(&served.path, true)).collect();
    let mut late = Client {
        stream: std::os::unix::net::UnixStream::connect(&served.path).unwrap(),
    };
    assert!(late.is_cut_off());
    for client in &mut clients {
        assert!(client.read(3, 10) == served.content[3..13]);
    }
    drop(clients);
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let mut again = Client {
            stream: std::os::unix::net::UnixStream::connect(&served.path).unwrap(),
        };
        let mut greeting = [0; 18];
        if std::io::Read::read_exact(&mut again.stream, &mut greeting).is_ok() {
            break;
        }
        assert!(Instant::now() < until);
    }
}

#[test]
fn what_cannot_be_read_is_an_error_at_its_place() {
    let lab = Lab::new();
    let content = noise(1, 4 * CHUNK);
    std::fs::write(lab.path("disk"), &content).unwrap();
    let snapshot = lab.save_images("vm/100", &[("disk", &lab.path("disk"))]);
    let image = Image::open(lab.open(), &snapshot, "disk.img").unwrap();
    lab.damage_packs("data", 1);
    let serving = Serving::start(image, &Address::Unix(lab.path("socket")));
    let path = socket(&serving.address);
    let mut simple = Client::ready(&path, false);
    let mut bad = Vec::new();
    for number in 0..4 {
        simple.request(0, READ, 1, (number * CHUNK) as u64, CHUNK as u32);
        match simple.simple().0 {
            0 => assert!(simple.take(CHUNK) == content[number * CHUNK..(number + 1) * CHUNK]),
            error => {
                assert_eq!(error, EIO);
                bad.push(number);
            }
        }
    }
    assert!(!bad.is_empty() && bad.len() < 4, "{bad:?}");
    let mut structured = Client::ready(&path, true);
    structured.request(0, READ, 1, 0, 4 * CHUNK as u32);
    let last = loop {
        let chunk = structured.chunk();
        if chunk.flags & 1 != 0 {
            break chunk;
        }
    };
    assert_eq!((last.kind, u32_at(&last.data, 0)), (1 << 15 | 2, EIO));
    assert_eq!(u64_at(&last.data, last.data.len() - 8), (bad[0] * CHUNK) as u64);
}

/// Numbers that are the same in each run.
struct Dice(u64);

impl Dice {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

#[test]
fn whatever_a_client_sends_the_others_are_served() {
    let served = serve();
    let mut good = Client::ready(&served.path, true);
    let mut dice = Dice(0x1234_5678_9abc_def1);
    for round in 0..300 {
        let in_transmission = round % 3 == 2;
        let mut client = if in_transmission {
            Client::ready(&served.path, round % 2 == 0)
        } else {
            Client::with_flags(&served.path, 3)
        };
        // Something that is right but for some of its bytes.
        let mut bytes = Vec::new();
        for _ in 0..1 + dice.next(6) {
            if in_transmission {
                bytes.extend_from_slice(&0x2560_9513u32.to_be_bytes());
                bytes.extend_from_slice(&[0, dice.next(6) as u8, 0, dice.next(9) as u8]);
                bytes.extend_from_slice(&dice.next(u64::MAX).to_be_bytes());
                bytes.extend_from_slice(&dice.next(served.content.len() as u64).to_be_bytes());
                bytes.extend_from_slice(&(dice.next(1 << 20) as u32).to_be_bytes());
            } else {
                let data = match dice.next(3) {
                    0 => go("", &[0, 3]),
                    1 => contexts("", &["base:allocation", "x"]),
                    _ => vec![dice.next(256) as u8; dice.next(300) as usize],
                };
                bytes.extend_from_slice(&common::nbd::OPTION.to_be_bytes());
                bytes.extend_from_slice(&(1 + dice.next(12) as u32).to_be_bytes());
                bytes.extend_from_slice(&(data.len() as u32).to_be_bytes());
                bytes.extend_from_slice(&data);
            }
        }
        for _ in 0..dice.next(4) {
            let place = dice.next(bytes.len() as u64) as usize;
            bytes[place] = dice.next(256) as u8;
        }
        let _ = client.stream.write_all(&bytes);
        let _ = client.stream.shutdown(std::net::Shutdown::Write);
        // It ends, and is not left hanging. A server that closes while bytes of ours are still unread resets the
        // connection, which is as good an end as any.
        let mut sink = [0; 1 << 16];
        loop {
            match std::io::Read::read(&mut client.stream, &mut sink) {
                Ok(0) => break,
                Ok(_) => {}
                Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => break,
                Err(e) => panic!("the server ends the connection: {e}"),
            }
        }
        if round % 20 == 0 {
            assert!(good.read(round, 5000) == served.content[round as usize..round as usize + 5000]);
        }
    }
}
