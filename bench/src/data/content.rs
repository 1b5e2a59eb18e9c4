//! Content as real disks hold it: random bytes, text, logs, records, zeroes.

use std::sync::OnceLock;

use super::random::Random;

/// What a run of bytes looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Incompressible: compressed or encrypted media.
    Noise,
    /// Prose and source: words of a skewed vocabulary. zstd level 1 takes it to about two fifths.
    Prose,
    /// Log lines: templates with numbers in them. To about a fifth.
    Log,
    /// Database pages of 8 KiB: headers, rows with growing keys, padding. To about two fifths.
    Records,
    /// Nothing.
    Zero,
}

/// Fills `out` with content of one kind.
pub fn fill(kind: Kind, random: &mut Random, out: &mut [u8]) {
    match kind {
        Kind::Noise => random.fill(out),
        Kind::Prose => fill_prose(random, out),
        Kind::Log => fill_log(random, out),
        Kind::Records => fill_records(random, out),
        Kind::Zero => out.fill(0),
    }
}

/// Writes into a slice until it is full, and drops the rest.
struct Cursor<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl Cursor<'_> {
    fn put(&mut self, bytes: &[u8]) {
        let free = &mut self.out[self.at..];
        let taken = bytes.len().min(free.len());
        free[..taken].copy_from_slice(&bytes[..taken]);
        self.at += taken;
    }

    /// A decimal number.
    fn put_number(&mut self, mut number: u64) {
        let mut digits = [0; 20];
        let mut start = digits.len();
        loop {
            start -= 1;
            digits[start] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.put(&digits[start..]);
    }

    fn is_full(&self) -> bool {
        self.at == self.out.len()
    }
}

/// 4,096 words of one to four syllables.
fn words() -> &'static [String] {
    static WORDS: OnceLock<Vec<String>> = OnceLock::new();
    WORDS.get_or_init(|| {
        const SYLLABLES: [&str; 32] = [
            "ra", "ten", "lo", "mi", "su", "ver", "ga", "do", "pre", "ing", "con", "sta", "el", "por", "be",
            "chi", "fu", "na", "ter", "is", "ol", "qua", "re", "the", "un", "vi", "wa", "xe", "yo", "zu",
            "an", "ed",
        ];
        let mut random = Random::new(0x776f_7264);
        let word = |at: u64| {
            let syllables = 1 + at / 1024 + random.below(2);
            (0..syllables)
                .map(|_| SYLLABLES[random.below(32) as usize])
                .collect()
        };
        (0..4096).map(word).collect()
    })
}

/// A word, the first ones of the list far more often than the last.
fn word(random: &mut Random) -> &'static [u8] {
    let words = words();
    let skewed = random.unit().powi(4);
    words[((skewed * words.len() as f64) as usize).min(words.len() - 1)].as_bytes()
}

fn fill_prose(random: &mut Random, out: &mut [u8]) {
    let mut cursor = Cursor { out, at: 0 };
    let mut column = 0;
    while !cursor.is_full() {
        let word = word(random);
        cursor.put(word);
        column += word.len() + 1;
        let end = if column > 100 {
            column = 0;
            b"\n"
        } else if random.below(12) == 0 {
            b","
        } else {
            b" "
        };
        cursor.put(end);
    }
}

fn fill_log(random: &mut Random, out: &mut [u8]) {
    const SERVICES: [&[u8]; 8] = [
        b"sshd",
        b"nginx",
        b"kernel",
        b"postgres",
        b"systemd",
        b"cron",
        b"dockerd",
        b"mongod",
    ];
    const MESSAGES: [&[u8]; 6] = [
        b"connection accepted from 10.20.",
        b"GET /api/v1/items/",
        b"checkpoint complete, buffers written ",
        b"started session for user u",
        b"slow query, duration ms ",
        b"retrying request, attempt ",
    ];
    let mut cursor = Cursor { out, at: 0 };
    let mut second = 1_700_000_000 + random.below(50_000_000);
    while !cursor.is_full() {
        second += random.below(3);
        cursor.put_number(second);
        cursor.put(b".");
        cursor.put_number(100 + random.below(900));
        cursor.put(b" node");
        cursor.put_number(random.below(16));
        cursor.put(b" ");
        cursor.put(SERVICES[random.below(8) as usize]);
        cursor.put(b"[");
        cursor.put_number(1000 + random.below(3000));
        cursor.put(b"]: ");
        cursor.put(MESSAGES[random.below(6) as usize]);
        cursor.put_number(random.below(1_000_000));
        cursor.put(b" status=");
        cursor.put(if random.below(20) == 0 { b"error" } else { b"ok" });
        cursor.put(b" request_id=");
        cursor.put_number(random.next() >> 32);
        cursor.put(b"\n");
    }
}

fn fill_records(random: &mut Random, out: &mut [u8]) {
    const PAGE: usize = 8192;
    let mut key = random.below(1 << 40);
    let mut position = random.below(1 << 48);
    for page in out.chunks_mut(PAGE) {
        let used = page.len() * (60 + random.below(40) as usize) / 100;
        let (rows, padding) = page.split_at_mut(used);
        padding.fill(0);
        let mut cursor = Cursor { out: rows, at: 0 };
        position += PAGE as u64;
        cursor.put(&position.to_le_bytes());
        cursor.put(&(random.next() as u32).to_le_bytes());
        cursor.put(&[4, 0, 0, 32, 0, 4, 32, 0, 0, 0, 0, 0]);
        while !cursor.is_full() {
            key += 1 + random.below(3);
            cursor.put(&key.to_le_bytes());
            cursor.put(&(1_700_000_000_u32 + (key as u32 & 0xffff)).to_le_bytes());
            cursor.put(&(random.next() as u32).to_le_bytes());
            cursor.put(&(random.below(100) as u16).to_le_bytes());
            cursor.put(&[1, 0]);
            cursor.put(word(random));
            cursor.put(b" ");
            cursor.put(word(random));
            cursor.put(&[0; 4]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_the_same_for_the_same_seed_and_fills_everything() {
        for kind in [Kind::Noise, Kind::Prose, Kind::Log, Kind::Records] {
            let make = |seed| {
                let mut out = vec![0xEE; 20_001];
                fill(kind, &mut Random::new(seed), &mut out);
                out
            };
            assert_eq!(make(1), make(1));
            assert_ne!(make(1), make(2));
            assert!(
                !make(1)
                    .windows(64)
                    .any(|window| window.iter().all(|&byte| byte == 0xEE)),
                "{kind:?}"
            );
        }
    }
}
