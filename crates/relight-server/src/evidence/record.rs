//! One record.

use aws_lc_rs::digest::{Context, SHA256};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What a hash is of, besides the record.
const DOMAIN: &[u8] = b"relight evidence v1\0";

/// What kind of thing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Kind {
    /// The server was started or stopped, or its configuration is another one.
    Server,
    /// Somebody logged in, or tried to.
    Login,
    /// Something was changed, or somebody tried to.
    Change,
    /// Something was refused.
    Denial,
    /// A run: a backup, a copy, a verification, a collection.
    Run,
    /// A recovery test.
    Drill,
    /// Something was restored or downloaded.
    Restore,
    /// A key was used, made, exported, rotated or retired.
    Key,
    /// Approval by a second person was asked for, given, denied or used, or was done without.
    Approval,
    /// How far the log of a workload reached.
    Log,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Server,
        Self::Login,
        Self::Change,
        Self::Denial,
        Self::Run,
        Self::Drill,
        Self::Restore,
        Self::Key,
        Self::Approval,
        Self::Log,
    ];

    /// Its name, as in the record.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Login => "login",
            Self::Change => "change",
            Self::Denial => "denial",
            Self::Run => "run",
            Self::Drill => "drill",
            Self::Restore => "restore",
            Self::Key => "key",
            Self::Approval => "approval",
            Self::Log => "log",
        }
    }
}

impl std::str::FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == text);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("{text}: not a kind of evidence; there are {names}")
        })
    }
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was tried, and failed.
    Failed,
    /// It was not allowed.
    Denied,
}

/// Something that happened, to be written down.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvidence {
    /// When.
    pub time: Timestamp,
    /// What kind of thing.
    pub kind: Kind,
    /// Who did it, if that is known: a user, a token, a command line, the scheduler.
    pub who: Option<String>,
    /// What was done, in words.
    pub what: String,
    /// What became of it.
    pub outcome: Outcome,
    /// More of it, such as figures. Nothing secret.
    pub detail: Map<String, Value>,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Body {
    /// Its number: 1, 2, 3 …
    pub sequence: u64,
    /// When.
    pub time: Timestamp,
    /// What kind of thing.
    pub kind: Kind,
    /// Who did it, if that is known.
    pub who: Option<String>,
    /// What was done.
    pub what: String,
    /// What became of it.
    pub outcome: Outcome,
    /// More of it.
    pub detail: Map<String, Value>,
}

impl NewEvidence {
    /// As the record of this number.
    pub(super) fn numbered(&self, sequence: u64) -> Body {
        Body {
            sequence,
            time: self.time,
            kind: self.kind,
            who: self.who.clone(),
            what: self.what.clone(),
            outcome: self.outcome,
            detail: self.detail.clone(),
        }
    }
}

/// A record as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// [`Body`] as one line of JSON.
    pub body: String,
    /// Hash of the record before it.
    pub previous: [u8; 32],
    /// Its own.
    pub hash: [u8; 32],
    /// Signature of its hash.
    pub signature: [u8; 64],
}

/// The hash of a record.
pub(super) fn hash(server: &[u8; 16], previous: &[u8; 32], body: &str) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(DOMAIN);
    context.update(server);
    context.update(previous);
    context.update(body.as_bytes());
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}
