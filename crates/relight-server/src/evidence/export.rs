//! Evidence in a file: one line of JSON that says whose it is, and one for each record. An auditor checks it without the
//! server.

use std::io::{BufRead, Read, Write};

use serde::{Deserialize, Serialize};

use super::chain::{Head, Verified, Verifier};
use super::record::Sealed;
use crate::error::{Result, ServerError};

/// No record is longer, in bytes.
const MAX_LINE: u64 = 1 << 20;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Heading {
    /// Version of the file.
    relight_evidence: u32,
    server: String,
    key: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    body: String,
    previous: String,
    hash: String,
    signature: String,
}

/// Writes the beginning of a file; gives what writes a record each.
///
/// # Errors
/// The file cannot be written.
pub fn write<W: Write>(
    out: &mut W,
    server: [u8; 16],
    key: [u8; 32],
) -> std::io::Result<impl Fn(&mut W, &Sealed) -> std::io::Result<()> + use<W>> {
    let line = move |out: &mut W, json: std::result::Result<String, serde_json::Error>| {
        writeln!(out, "{}", json.map_err(std::io::Error::other)?)
    };
    let heading = Heading {
        relight_evidence: 1,
        server: hex::encode(server),
        key: hex::encode(key),
    };
    line(out, serde_json::to_string(&heading))?;
    Ok(move |out: &mut W, record: &Sealed| {
        let json = serde_json::to_string(&Line {
            body: record.body.clone(),
            previous: hex::encode(record.previous),
            hash: hex::encode(record.hash),
            signature: hex::encode(record.signature),
        });
        line(out, json)
    })
}

fn bytes<const N: usize>(text: &str, what: &str) -> std::result::Result<[u8; N], String> {
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| format!("its {what} is not one"))?;
    Ok(bytes)
}

/// Verifies a file. The key it was signed with is the one that is given, or the one that the file itself names, which proves
/// only that the records belong together.
///
/// # Errors
/// It is no file of evidence, or cannot be read.
pub fn read(input: impl Read, key: Option<[u8; 32]>, noted: Vec<Head>) -> Result<Verified> {
    let refused = |why: String| ServerError::Refused(format!("the evidence cannot be read: {why}"));
    let mut input = std::io::BufReader::new(input);
    let mut next = move || -> Result<Option<String>> {
        let mut line = String::new();
        let mut limited = Read::take(&mut input, MAX_LINE);
        limited
            .read_line(&mut line)
            .map_err(|error| refused(error.to_string()))?;
        Ok((!line.is_empty()).then_some(line))
    };
    let heading = next()?.and_then(|line| serde_json::from_str::<Heading>(&line).ok());
    let heading = heading.filter(|heading| heading.relight_evidence == 1);
    let heading =
        heading.ok_or_else(|| refused("its first line is not that of an export of evidence".into()))?;
    let server = bytes(&heading.server, "server").map_err(refused)?;
    let named = bytes(&heading.key, "key").map_err(refused)?;
    let mut verifier = Verifier::new(server, key.unwrap_or(named), noted);
    while let Some(line) = next()? {
        let sealed = serde_json::from_str::<Line>(&line)
            .map_err(|error| error.to_string())
            .and_then(|line| {
                Ok(Sealed {
                    previous: bytes(&line.previous, "previous hash")?,
                    hash: bytes(&line.hash, "hash")?,
                    signature: bytes(&line.signature, "signature")?,
                    body: line.body,
                })
            });
        // A line that is no record breaks the chain as a changed record does.
        let sealed = sealed.unwrap_or(Sealed {
            body: String::new(),
            previous: [0; 32],
            hash: [0; 32],
            signature: [0; 64],
        });
        if !verifier.take(&sealed) {
            break;
        }
    }
    Ok(verifier.finish())
}
