//! `relight evidence`: what happened on the server, and whether the record of it is whole.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use relight_server::evidence::{self, Body, Head, Kind, Outcome, Verified};
use relight_server::state::{EvidenceFilter, State};
use serde::Serialize;

use crate::api::{Api, ApiOptions, parameter, read};
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::server_state::ConfigOptions;
use crate::{output, shown};

/// Subcommands of `evidence`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List records
    List(ListOptions),
    /// Verify that no record was changed, removed or added since it was written
    Verify(VerifyOptions),
    /// Write all records to a file that can be verified anywhere
    Export(ExportOptions),
}

/// Options of `evidence list`.
#[derive(Debug, Args)]
pub struct ListOptions {
    #[command(flatten)]
    config: ConfigOptions,
    #[command(flatten)]
    server: ApiOptions,
    /// Of this kind only: server, login, change, denial, run, drill, restore, key
    #[arg(long, value_name = "KIND")]
    kind: Option<Kind>,
    /// Of this user or token only
    #[arg(long, value_name = "WHO")]
    who: Option<String>,
    /// From this time on, such as 2026-11-22T10:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<jiff::Timestamp>,
    /// Up to this time
    #[arg(long, value_name = "TIME")]
    until: Option<jiff::Timestamp>,
    /// So many at most, the newest ones
    #[arg(long, short = 'n', value_name = "N", default_value_t = 100)]
    limit: u32,
}

/// Options of `evidence verify`.
#[derive(Debug, Args)]
pub struct VerifyOptions {
    #[command(flatten)]
    config: ConfigOptions,
    /// A file that `evidence export` wrote, instead of the server's own records
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The public key that must have signed the file, in hexadecimal digits
    #[arg(long, requires = "file", value_name = "KEY")]
    key: Option<String>,
    /// A head that was noted earlier, NUMBER:HASH: the records up to it must be those of then. May be given several times
    #[arg(long, value_name = "HEAD")]
    noted: Vec<Head>,
}

/// Options of `evidence export`.
#[derive(Debug, Args)]
pub struct ExportOptions {
    #[command(flatten)]
    config: ConfigOptions,
    /// The file to write; it must not be there yet
    #[arg(long, short = 'o', value_name = "FILE")]
    output: PathBuf,
}

/// Does it.
pub fn run(global: &Global, command: &Command) -> Result<Exit> {
    match command {
        Command::List(options) => list(global, options),
        Command::Verify(options) => verify(global, options),
        Command::Export(options) => export(global, options),
    }
}

fn list_over_api(options: &ListOptions, api: &Api) -> Result<Vec<Body>> {
    if options.since.is_some() || options.until.is_some() {
        return Err(Failure::Usage(
            "--since and --until are for the server's own host; say with -n how many records you want".into(),
        ));
    }
    let mut query = Vec::new();
    query.extend(parameter("kind", options.kind.map(|kind| kind.name())));
    query.extend(parameter("who", options.who.as_ref()));
    let data = api.newest("/evidence", &query, None, options.limit)?;
    data.iter().map(read).collect()
}

fn list(global: &Global, options: &ListOptions) -> Result<Exit> {
    let filter = EvidenceFilter {
        drilled: None,
        since: options.since,
        until: options.until,
        kind: options.kind,
        who: options.who.clone(),
        before: None,
        limit: Some(options.limit),
    };
    let mut records = match options.server.open()? {
        Some(api) => list_over_api(options, &api)?,
        None => options.config.state()?.evidence(&filter)?,
    };
    records.reverse();
    output::result(global, &records, |records, out| {
        let heading = ["NUMBER", "TIME", "KIND", "WHO", "OUTCOME", "WHAT"]
            .map(String::from)
            .to_vec();
        let cells = |record: &Body| {
            let outcome = match record.outcome {
                Outcome::Done => "done",
                Outcome::Failed => "failed",
                Outcome::Denied => "denied",
            };
            let detail = record.detail.iter().map(|(name, value)| match value.as_str() {
                Some(text) => format!("{name}: {text}"),
                None => format!("{name}: {value}"),
            });
            let what: Vec<String> = std::iter::once(record.what.clone()).chain(detail).collect();
            vec![
                record.sequence.to_string(),
                shown::local(record.time),
                record.kind.name().to_string(),
                record.who.clone().unwrap_or_else(|| "-".into()),
                outcome.to_string(),
                what.join("  "),
            ]
        };
        let rows: Vec<_> = std::iter::once(heading)
            .chain(records.iter().map(cells))
            .collect();
        output::table(&rows, &[0], out);
    });
    Ok(Exit::Done)
}

fn verify(global: &Global, options: &VerifyOptions) -> Result<Exit> {
    let noted = options.noted.clone();
    let verified = match &options.file {
        Some(path) => {
            let file = File::open(path).map_err(Failure::io(format!("open {}", path.display())))?;
            let key = options.key.as_deref().map(key).transpose()?;
            evidence::read(file, key, noted)?
        }
        None => options.config.state()?.verify_evidence(noted)?,
    };
    output::result(global, &verified, words);
    Ok(match verified.broken {
        None => Exit::Done,
        Some(_) => Exit::Damage,
    })
}

fn words(verified: &Verified, out: &mut String) {
    let Verified {
        records,
        first,
        last,
        head,
        broken,
    } = verified;
    if let (Some(first), Some(last)) = (first, last) {
        let (first, last) = (shown::local(*first), shown::local(*last));
        out.push_str(&format!(
            "{records} records from {first} to {last} are as they were written.\n"
        ));
    } else if broken.is_none() {
        out.push_str("There are no records yet.\n");
    }
    match (broken, head) {
        (Some(broken), _) => out.push_str(&format!(
            "NOT WHOLE: record {}: {}.\nWhat comes from there on proves nothing.\n",
            broken.sequence, broken.why
        )),
        (None, Some(head)) => out.push_str(&format!(
            "Head: {head}\nNote it where nobody who can write here can: `relight evidence verify --noted HEAD` then shows that \
             nothing was written anew.\n"
        )),
        (None, None) => {}
    }
}

fn key(text: &str) -> Result<[u8; 32]> {
    let refused = || Failure::Usage("a public key has 64 hexadecimal digits".into());
    let digit = |at: usize| u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok();
    let mut key = [0; 32];
    if text.len() != 64 {
        return Err(refused());
    }
    for (at, byte) in key.iter_mut().enumerate() {
        *byte = digit(at).ok_or_else(refused)?;
    }
    Ok(key)
}

#[derive(Serialize)]
struct Exported {
    file: PathBuf,
    head: Head,
    key: String,
}

fn export(global: &Global, options: &ExportOptions) -> Result<Exit> {
    let state = options.config.state()?;
    let path = &options.output;
    let made = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    let file = made.map_err(Failure::io(format!("make {}", path.display())))?;
    let written = write(&state, path, file);
    if written.is_err() {
        let _ = fs::remove_file(path);
    }
    let exported = Exported {
        file: path.clone(),
        head: written?,
        key: state
            .signer()?
            .public_key()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect(),
    };
    output::result(global, &exported, |exported, out| {
        out.push_str(&format!(
            "Wrote {} records to {}.\nPublic key: {}\nHead: {}\n",
            exported.head.sequence,
            exported.file.display(),
            exported.key,
            exported.head
        ));
    });
    Ok(Exit::Done)
}

fn write(state: &State, path: &Path, file: File) -> Result<Head> {
    let failed = |error: std::io::Error| Failure::Io(format!("write {}", path.display()), error);
    let signer = state.signer()?;
    let mut out = BufWriter::new(file);
    let line = evidence::write(&mut out, signer.server(), signer.public_key()).map_err(failed)?;
    let mut head = Head {
        sequence: 0,
        hash: "00".repeat(32),
    };
    let mut failure = None;
    state.each_evidence(|record| {
        head = Head {
            sequence: head.sequence + 1,
            hash: record.hash.iter().map(|byte| format!("{byte:02x}")).collect(),
        };
        failure = line(&mut out, record).err();
        Ok(failure.is_none())
    })?;
    failure.map_or(Ok(()), |error| Err(failed(error)))?;
    out.flush().map_err(failed)?;
    out.get_ref().sync_all().map_err(failed)?;
    Ok(head)
}
