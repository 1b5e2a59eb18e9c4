//! Whether a chain of records is whole.

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use jiff::Timestamp;
use serde::Serialize;

use super::record::{Body, Sealed, hash};

/// The last record of a chain at some time. Whoever notes it elsewhere can tell later that nothing before it was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Head {
    /// Its number.
    pub sequence: u64,
    /// Its hash in hexadecimal digits.
    pub hash: String,
}

impl std::fmt::Display for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.sequence, self.hash)
    }
}

impl std::str::FromStr for Head {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let head = text.split_once(':').and_then(|(sequence, hash)| {
            let good = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
            let sequence = sequence.parse().ok().filter(|_| good)?;
            let hash = hash.to_ascii_lowercase();
            Some(Self { sequence, hash })
        });
        head.ok_or_else(|| format!("{text}: not a head of evidence, such as 42:9f86d081…"))
    }
}

/// Where a chain is broken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Broken {
    /// The number that the record there has or should have.
    pub sequence: u64,
    /// What is wrong with it.
    pub why: String,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Records that are as they were written.
    pub records: u64,
    /// When the first of them was made.
    pub first: Option<Timestamp>,
    /// When the last was.
    pub last: Option<Timestamp>,
    /// The last of them.
    pub head: Option<Head>,
    /// The first that is not.
    pub broken: Option<Broken>,
}

/// Takes the records of a chain in order.
pub struct Verifier {
    server: [u8; 16],
    key: UnparsedPublicKey<[u8; 32]>,
    noted: Vec<Head>,
    previous: [u8; 32],
    verified: Verified,
}

impl Verifier {
    /// For the chain of a server, signed with a key; these heads of it were noted elsewhere.
    pub fn new(server: [u8; 16], key: [u8; 32], mut noted: Vec<Head>) -> Self {
        noted.sort_by_key(|head| head.sequence);
        Self {
            server,
            key: UnparsedPublicKey::new(&ED25519, key),
            noted,
            previous: [0; 32],
            verified: Verified::default(),
        }
    }

    /// Looks at the next record. False if the chain is broken here; what comes after it says nothing.
    pub fn take(&mut self, record: &Sealed) -> bool {
        self.read(record).is_some()
    }

    /// Looks at the next record, as [`Verifier::take`]. What it says, if it is as it was written.
    pub fn read(&mut self, record: &Sealed) -> Option<Body> {
        if self.verified.broken.is_some() {
            return None;
        }
        let sequence = self.verified.records + 1;
        match self.check(sequence, record) {
            Ok(body) => {
                self.verified.records = sequence;
                self.verified.first.get_or_insert(body.time);
                self.verified.last = Some(body.time);
                self.verified.head = Some(Head {
                    sequence,
                    hash: hex::encode(record.hash),
                });
                self.previous = record.hash;
                Some(body)
            }
            Err(why) => {
                self.verified.broken = Some(Broken { sequence, why });
                None
            }
        }
    }

    fn check(&self, sequence: u64, record: &Sealed) -> Result<Body, String> {
        let body: Body =
            serde_json::from_str(&record.body).map_err(|error| format!("it cannot be read ({error})"))?;
        if body.sequence != sequence {
            let found = body.sequence;
            return Err(format!(
                "record {found} is in its place: records were removed, added or moved"
            ));
        }
        if record.previous != self.previous {
            return Err("it does not follow the record before it: that one was exchanged".into());
        }
        if record.hash != hash(&self.server, &record.previous, &record.body) {
            return Err("its content was changed: the hash is another".into());
        }
        self.key
            .verify(&record.hash, &record.signature)
            .map_err(|_| "its signature is not by the server's key".to_string())?;
        let noted = self.noted.iter().find(|head| head.sequence == sequence);
        if noted.is_some_and(|head| head.hash != hex::encode(record.hash)) {
            return Err(
                "it is not the record whose hash was noted elsewhere: the log was written anew".into(),
            );
        }
        Ok(body)
    }

    /// What was found, after the last record.
    pub fn finish(mut self) -> Verified {
        let beyond = self
            .noted
            .last()
            .filter(|head| head.sequence > self.verified.records);
        if self.verified.broken.is_none()
            && let Some(head) = beyond
        {
            self.verified.broken = Some(Broken {
                sequence: self.verified.records + 1,
                why: format!(
                    "the log ends before record {}, which was noted elsewhere: its end was cut off",
                    head.sequence
                ),
            });
        }
        self.verified
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::super::{Kind, NewEvidence, Outcome, Signer};
    use super::*;

    const SERVER: [u8; 16] = [7; 16];

    fn chain(length: u64) -> (Signer, Vec<Sealed>) {
        let signer = Signer::new(SERVER, &[9; 32]).unwrap();
        let mut after = (0, [0; 32]);
        let mut records = Vec::new();
        for number in 0..length {
            let evidence = NewEvidence {
                time: Timestamp::from_second(1_800_000_000 + number as i64).unwrap(),
                kind: Kind::Run,
                who: Some("scheduler".into()),
                what: format!("backup {number}"),
                outcome: Outcome::Done,
                detail: Map::new(),
            };
            let sealed = signer.seal(after, &evidence).unwrap();
            after = (after.0 + 1, sealed.hash);
            records.push(sealed);
        }
        (signer, records)
    }

    fn verify(signer: &Signer, records: &[Sealed], noted: Vec<Head>) -> Verified {
        let mut verifier = Verifier::new(SERVER, signer.public_key(), noted);
        let _ = records.iter().all(|record| verifier.take(record));
        verifier.finish()
    }

    fn head(records: &[Sealed], sequence: u64) -> Head {
        Head {
            sequence,
            hash: hex::encode(records[sequence as usize - 1].hash),
        }
    }

    #[test]
    fn a_whole_chain_is_whole() {
        let (signer, records) = chain(20);
        let verified = verify(&signer, &records, vec![head(&records, 20), head(&records, 3)]);
        assert_eq!((verified.records, &verified.broken), (20, &None));
        assert_eq!(verified.head, Some(head(&records, 20)));
    }

    #[test]
    fn tampering_is_found_at_the_very_record() {
        let (signer, good) = chain(20);
        let broken = |records: &[Sealed], noted| {
            verify(&signer, records, noted)
                .broken
                .map(|broken| broken.sequence)
        };
        // A word is changed, with and without a new hash.
        let mut records = good.clone();
        records[6].body = records[6].body.replace("backup 6", "backup 7");
        assert_eq!(broken(&records, vec![]), Some(7));
        records[6].hash = hash(&SERVER, &records[6].previous, &records[6].body);
        assert_eq!(broken(&records, vec![]), Some(7));
        // One is removed, two change places, one is doubled.
        let mut records = good.clone();
        records.remove(4);
        assert_eq!(broken(&records, vec![]), Some(5));
        let mut records = good.clone();
        records.swap(10, 11);
        assert_eq!(broken(&records, vec![]), Some(11));
        let mut records = good.clone();
        records.insert(2, good[1].clone());
        assert_eq!(broken(&records, vec![]), Some(3));
        // The end is cut off: only a head that was noted elsewhere tells.
        assert_eq!(broken(&good[..15], vec![]), None);
        assert_eq!(broken(&good[..15], vec![head(&good, 18)]), Some(16));
        // All of it is written anew, with the very key.
        let mut anew = Vec::new();
        let mut after = (0, [0; 32]);
        for record in &good {
            let body: Body = serde_json::from_str(&record.body).unwrap();
            let evidence = NewEvidence {
                time: body.time,
                kind: body.kind,
                who: Some("nobody".into()),
                what: body.what,
                outcome: body.outcome,
                detail: body.detail,
            };
            let sealed = signer.seal(after, &evidence).unwrap();
            after = (after.0 + 1, sealed.hash);
            anew.push(sealed);
        }
        assert_eq!(broken(&anew, vec![]), None);
        assert_eq!(broken(&anew, vec![head(&good, 12)]), Some(12));
        // Another server, another key.
        let other = Signer::new(SERVER, &[8; 32]).unwrap();
        assert_eq!(verify(&other, &good, vec![]).broken.unwrap().sequence, 1);
    }
}
