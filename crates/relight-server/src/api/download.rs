//! `/workloads/{name}/recovery-points/{snapshot}/download`: a file as it is, or a folder as an archive, while it is read.

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderValue};
use jiff::Timestamp;
use relight_pbs::service::http::{Answer, ApiError, ApiResult, Body, BodyWriter, Call};
use relight_pxar::EntryKind;
use relight_workloads::WorkloadError;
use relight_workloads::files::browse::{Place as InSnapshot, View, printable};
use relight_workloads::files::export::{self, Format};
use serde::Deserialize;
use serde_json::json;

use super::operation::{Operation, Place, Table};
use super::point::{Point, one, refused};
use super::points::place_path;
use super::{Desk, failed, paths, schema};
use crate::evidence::detail::{RestoreDetail, details};
use crate::evidence::{Kind, NewEvidence, Outcome};
use crate::state::State;
use crate::unpack::unpacked;

/// So many at a time: each holds a thread while its client reads.
const AT_A_TIME: u64 = 16;

pub(super) fn operations(table: &mut Table<'_>) {
    let download = Operation::get(
        "/api/v1/workloads/{name}/recovery-points/{snapshot}/download",
        "A file, image or stream as it was, or a folder with all below it as tar or zip; needs Datastore.Read and is written \
         down as evidence",
        json!({}),
    )
    .gives(&["application/octet-stream", "application/x-tar", "application/zip"])
    .with("name", Place::Path, schema::text(), "such as vm%2F100")
    .with("snapshot", Place::Path, schema::text(), "its id")
    .with("path", Place::Query, schema::text(), "what of it, as the list of files tells it")
    .with("format", Place::Query, schema::one_of(&["tar", "zip"]), "of a folder; tar if nothing is said");
    table.add(download, give);
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Packed {
    Tar,
    Zip,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    name: String,
    snapshot: String,
    #[serde(default)]
    path: String,
    format: Option<Packed>,
}

fn give(desk: &Desk, call: &Call, wanted: Wanted) -> ApiResult<Answer> {
    let point = one(desk, call, &wanted.name, &wanted.snapshot, None)?;
    point.require_readable()?;
    let view = desk.open.view(&point);
    let path = paths::bytes(&wanted.path)?;
    let place = view.at(&path).map_err(refused)?;
    let (format, size) = match &place {
        InSnapshot::Root => (Some(wanted.format.unwrap_or(Packed::Tar)), None),
        InSnapshot::Entry { tree, node, .. } => match tree.resolved(node).map_err(refused)?.kind() {
            EntryKind::Directory => (Some(wanted.format.unwrap_or(Packed::Tar)), None),
            EntryKind::File { size, .. } => (None, Some(size)),
            _ => {
                return Err(ApiError::bad_request(format!(
                    "{} is no file and no folder, and has no content of its own: download the folder that it is in",
                    printable(&path)
                )));
            }
        },
        InSnapshot::Archive(archive) => (None, Some(archive.root.size)),
    };
    let small = match &place {
        InSnapshot::Archive(archive) => unpacked(view.reader(), archive).map_err(refused)?,
        _ => None,
    };
    let own = place_path(&place);
    drop(place);
    let turn = desk.downloads.turn()?;
    // That it was begun is evidence, however it ends: whoever reads has read.
    let record = Record {
        who: call.who()?.to_string(),
        detail: RestoreDetail {
            workload: point.workload.to_string(),
            snapshot: point.snapshot().id.to_string(),
            repository: point.repository.clone(),
            parts: if own.is_empty() {
                Vec::new()
            } else {
                vec![printable(&own)]
            },
            target: Some(format!(
                "download by {}",
                call.peer()
                    .map_or_else(|| "somebody".into(), |peer| peer.ip().to_canonical().to_string())
            )),
            bytes: None,
        },
    };
    record
        .write(desk.gate.state(), "begun", Outcome::Done)
        .map_err(failed)?;
    let headers = headers(
        &point,
        &own,
        format,
        small.as_ref().map(|small| small.len() as u64).or(size),
    )?;
    let (writer, body) = Body::written();
    let state = desk.gate.state().clone();
    let job = Job {
        view,
        path,
        format,
        small,
    };
    let thread = std::thread::Builder::new().name("download".into());
    thread
        .spawn(move || {
            let _turn = turn;
            write(&job, writer, record, &state);
        })
        .map_err(|error| ApiError::internal(format!("start a thread: {error}")))?;
    Ok(Answer::Raw {
        content_type: match format {
            None => "application/octet-stream",
            Some(Packed::Tar) => "application/x-tar",
            Some(Packed::Zip) => "application/zip",
        },
        headers,
        body,
    })
}

/// What is written, and how.
struct Job {
    view: std::sync::Arc<View>,
    path: Vec<u8>,
    format: Option<Packed>,
    small: Option<Vec<u8>>,
}

fn headers(point: &Point, path: &[u8], format: Option<Packed>, size: Option<u64>) -> ApiResult<HeaderMap> {
    let last = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    let name = match last {
        b"" => format!("{}-{}", point.workload, point.snapshot().id.short()),
        name => String::from_utf8_lossy(name).into_owned(),
    };
    let name = match format {
        None => name.strip_suffix(".blob").unwrap_or(&name).to_owned(),
        Some(Packed::Tar) => format!("{name}.tar"),
        Some(Packed::Zip) => format!("{name}.zip"),
    };
    let disposition = HeaderValue::from_str(&paths::attachment(&name))
        .map_err(|error| ApiError::internal(error.to_string()))?;
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_DISPOSITION, disposition);
    // What somebody backed up is saved and never shown as a part of this server.
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; sandbox"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(size) = size {
        headers.insert("x-relight-size", HeaderValue::from(size));
    }
    Ok(headers)
}

fn write(job: &Job, mut writer: BodyWriter, mut record: Record, state: &State) {
    let done = AtomicU64::new(0);
    let written = job.run(&mut writer, &done);
    let (bytes, ended) = match written {
        Ok(()) => (done.load(Ordering::Relaxed), writer.finish().map_err(|_| None)),
        Err(error) => {
            let bytes = done.load(Ordering::Relaxed);
            let why = error.to_string();
            writer.fail(std::io::Error::other(why.clone()));
            (bytes, Err(Some(why)))
        }
    };
    record.detail.bytes = Some(bytes);
    let outcome = match &ended {
        Ok(()) => Outcome::Done,
        Err(why) => {
            tracing::warn!(
                "a download of {}: {}",
                record.detail.workload,
                why.as_deref().unwrap_or("the client went away")
            );
            Outcome::Failed
        }
    };
    if let Err(error) = record.write(state, "ended", outcome) {
        tracing::error!(
            "{error}: how a download of {} ended could not be written down",
            record.detail.workload
        );
    }
}

impl Job {
    fn run(&self, out: &mut dyn Write, done: &AtomicU64) -> Result<(), WorkloadError> {
        let place = self.view.at(&self.path)?;
        let never = AtomicBool::new(false);
        if let Some(small) = &self.small {
            done.fetch_add(small.len() as u64, Ordering::Relaxed);
            return out.write_all(small).map_err(|source| WorkloadError::Io {
                action: "send",
                path: printable(&self.path).into(),
                source,
            });
        }
        match self.format {
            None => export::content(&self.view, &place, out, done, &never),
            Some(format) => {
                let format = match format {
                    Packed::Tar => Format::Tar,
                    Packed::Zip => Format::Zip,
                };
                export::export(&self.view, &place, format, out, done, &never).map(drop)
            }
        }
    }
}

/// What is written down of it.
struct Record {
    who: String,
    detail: RestoreDetail,
}

impl Record {
    fn write(&self, state: &State, what: &str, outcome: Outcome) -> crate::error::Result<()> {
        let of = self.detail.parts.first().map_or("everything", String::as_str);
        state.add_evidence(&[NewEvidence {
            time: Timestamp::now(),
            kind: Kind::Restore,
            who: Some(self.who.clone()),
            what: format!("download of {of} of {} {what}", self.detail.workload),
            outcome,
            detail: details(&self.detail),
        }])
    }
}

/// How many downloads there are.
#[derive(Default)]
pub(crate) struct Downloads(std::sync::Arc<AtomicU64>);

/// One of them.
struct Turn(std::sync::Arc<AtomicU64>);

impl Downloads {
    fn turn(&self) -> ApiResult<Turn> {
        let turn = Turn(self.0.clone());
        if self.0.fetch_add(1, Ordering::Relaxed) >= AT_A_TIME {
            return Err(ApiError::new(
                http::StatusCode::TOO_MANY_REQUESTS,
                format!("{AT_A_TIME} downloads are under way: wait until one of them ends"),
            ));
        }
        Ok(turn)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
