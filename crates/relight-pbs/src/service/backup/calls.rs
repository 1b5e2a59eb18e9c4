//! The calls of a backup session by name.

use std::sync::Arc;

use http::Method;
use serde::Deserialize;
use serde_json::Value;

use super::dynamic::DynamicWriter;
use super::engine::no_such_chunk;
use super::fixed::FixedWriter;
use super::known::parse_digest;
use super::state::{FileDone, Writer};
use super::{Shared, finish, previous, upload};
use crate::formats::blob::{self, Blob, MAX_ENCODED};
use crate::formats::ids::{FileKind, FileName};
use crate::formats::index::{Digest, DynamicIndex, FixedIndex, IndexHeader};
use crate::service::http::{ApiError, ApiResult, NoParameters, blocking};
use crate::service::protocol::Call;

/// Most digests in one call: what fits in its JSON.
const MAX_APPEND: usize = 8192;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct NewDynamic {
    archive_name: FileName,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct NewFixed {
    archive_name: FileName,
    size: Option<u64>,
    reuse_csum: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Append {
    wid: u32,
    digest_list: Vec<String>,
    offset_list: Vec<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Close {
    wid: u32,
    chunk_count: u64,
    size: u64,
    csum: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct NewBlob {
    file_name: FileName,
    encoded_size: usize,
}

/// Whether a call neither needs what calls before it do, nor is needed by those after it.
pub(super) fn is_independent(call: &Call) -> bool {
    call.method == Method::POST && matches!(call.name.as_str(), "fixed_chunk" | "dynamic_chunk" | "speedtest")
}

/// Answers such a call.
pub(super) async fn answer_independent(shared: Arc<Shared>, mut call: Call) {
    match call.name.as_str() {
        "fixed_chunk" => upload::answer(shared, call, true).await,
        "dynamic_chunk" => upload::answer(shared, call, false).await,
        _ => match call.discard().await {
            Ok(_) => call.reply.data(Value::Null).await,
            Err(error) => call.refuse(&error).await,
        },
    }
}

/// Answers any other call.
pub(super) async fn answer(shared: &Arc<Shared>, mut call: Call) {
    if call.method == Method::GET && call.name == "previous" {
        return match previous::download(shared, &mut call).await {
            // Sent aside, for it may be long.
            Ok(bytes) => drop(tokio::spawn(async move { call.reply.bytes([bytes]).await })),
            Err(error) => call.refuse(&error).await,
        };
    }
    match data(shared, &mut call).await {
        Ok(data) => call.reply.data(data).await,
        Err(error) => call.refuse(&error).await,
    }
}

async fn data(shared: &Arc<Shared>, call: &mut Call) -> ApiResult<Value> {
    shared.state().check()?;
    let method = call.method.clone();
    let name = call.name.clone();
    match (method, name.as_str()) {
        (Method::GET, "previous_backup_time") => {
            let NoParameters {} = call.parameters()?;
            Ok(previous::time(shared).into())
        }
        (Method::POST, "dynamic_index") => {
            let NewDynamic { archive_name } = call.json_parameters().await?;
            expect(&archive_name, FileKind::DynamicIndex, ".didx")?;
            let writer = Writer::Dynamic(DynamicWriter::new(archive_name));
            Ok(shared.state().open(writer)?.into())
        }
        (Method::POST, "fixed_index") => new_fixed(shared, call.json_parameters().await?).await,
        (Method::PUT, "dynamic_index") => append(shared, call.json_parameters().await?, false),
        (Method::PUT, "fixed_index") => append(shared, call.json_parameters().await?, true),
        (Method::POST, "dynamic_close") => close(shared, call.json_parameters().await?, false).await,
        (Method::POST, "fixed_close") => close(shared, call.json_parameters().await?, true).await,
        (Method::POST, "blob") => blob(shared, call).await,
        (Method::POST, "finish") => {
            let NoParameters {} = call.json_parameters().await?;
            finish::finish(shared).await?;
            Ok(Value::Null)
        }
        _ => Err(ApiError::not_found(format!("Path '/{name}' not found."))),
    }
}

fn expect(name: &FileName, kind: FileKind, ending: &str) -> ApiResult<()> {
    if name.kind() == kind {
        return Ok(());
    }
    Err(ApiError::bad_request(format!(
        "wrong archive extension: '{name}' does not end in {ending}"
    )))
}

async fn new_fixed(shared: &Arc<Shared>, parameters: NewFixed) -> ApiResult<Value> {
    let NewFixed {
        archive_name,
        size,
        reuse_csum,
    } = parameters;
    expect(&archive_name, FileKind::FixedIndex, ".fidx")?;
    let writer = match reuse_csum {
        None => FixedWriter::new(archive_name, size)?,
        Some(csum) => {
            let csum = parse_digest(&csum)?;
            let size =
                size.ok_or_else(|| ApiError::bad_request("to reuse an index the size must be known"))?;
            shared.state().check_name(&archive_name)?;
            let this = shared.clone();
            blocking(move || {
                let digests = previous::reuse(&this, &archive_name, &csum, size)?;
                FixedWriter::based_on(archive_name, size, digests)
            })
            .await?
        }
    };
    Ok(shared.state().open(Writer::Fixed(writer))?.into())
}

fn append(shared: &Shared, parameters: Append, fixed: bool) -> ApiResult<Value> {
    let Append {
        wid,
        digest_list,
        offset_list,
    } = parameters;
    if digest_list.len() != offset_list.len() || digest_list.len() > MAX_APPEND {
        let message = "there must be as many offsets as digests, and not too many";
        return Err(ApiError::bad_request(message));
    }
    let mut state = shared.state();
    for (digest, offset) in digest_list.iter().zip(offset_list) {
        let digest = parse_digest(digest)?;
        let known = shared.known.get(&digest).ok_or_else(|| no_such_chunk(&digest))?;
        if fixed {
            state.fixed(wid)?.append(offset, &digest, known)?;
        } else {
            state.dynamic(wid)?.append(offset, &digest, known)?;
        }
    }
    Ok(Value::Null)
}

async fn close(shared: &Arc<Shared>, parameters: Close, fixed: bool) -> ApiResult<Value> {
    let this = shared.clone();
    blocking(move || {
        let done = if fixed {
            close_fixed(&this, &parameters)?
        } else {
            close_dynamic(&this, &parameters)?
        };
        let mut state = this.state();
        state.check_name(&done.name)?;
        state.files.push(done);
        Ok(Value::Null)
    })
    .await
}

fn close_fixed(shared: &Shared, parameters: &Close) -> ApiResult<FileDone> {
    let writer = shared.state().take_fixed(parameters.wid)?;
    let name = writer.name.clone();
    let result = writer.close(
        parameters.chunk_count,
        parameters.size,
        &parse_digest(&parameters.csum)?,
    )?;
    let (archive, sealed) = shared
        .engine
        .archive(&name, result.digests.iter(), &shared.known)?;
    let mut archives = vec![archive];
    if sealed {
        let index = FixedIndex::new(header(shared)?, result.size, result.digests);
        let index = index.map_err(|error| ApiError::internal(error.to_string()))?;
        archives.push(shared.engine.blob(name.as_str(), index.encode())?);
    }
    Ok(FileDone {
        name,
        archives,
        csum: result.csum,
    })
}

fn close_dynamic(shared: &Shared, parameters: &Close) -> ApiResult<FileDone> {
    let writer = shared.state().take_dynamic(parameters.wid)?;
    let name = writer.name.clone();
    let result = writer.close(
        parameters.chunk_count,
        parameters.size,
        &parse_digest(&parameters.csum)?,
    )?;
    let digests = result.entries.iter().map(|entry| &entry.digest);
    let (archive, sealed) = shared.engine.archive(&name, digests, &shared.known)?;
    let mut archives = vec![archive];
    if sealed {
        let index = DynamicIndex::new(header(shared)?, result.entries);
        let index = index.map_err(|error| ApiError::internal(error.to_string()))?;
        archives.push(shared.engine.blob(name.as_str(), index.encode())?);
    }
    Ok(FileDone {
        name,
        archives,
        csum: result.csum,
    })
}

/// What the header of an index that is kept says.
fn header(shared: &Shared) -> ApiResult<IndexHeader> {
    let mut uuid = [0; 16];
    aws_lc_rs::rand::fill(&mut uuid).map_err(|_| ApiError::internal("there are no random bytes"))?;
    // A UUID of version 4 (RFC 9562, section 5.4).
    uuid[6] = uuid[6] & 0x0f | 0x40;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    Ok(IndexHeader {
        uuid,
        ctime: shared.request.datastore.repository().now().as_second(),
    })
}

async fn blob(shared: &Arc<Shared>, call: &mut Call) -> ApiResult<Value> {
    let NewBlob {
        file_name,
        encoded_size,
    } = call.parameters()?;
    expect(&file_name, FileKind::Blob, ".blob")?;
    if !(blob::HEADER..=MAX_ENCODED).contains(&encoded_size) {
        return Err(ApiError::bad_request(
            "a blob must have between 12 bytes and 16 MiB",
        ));
    }
    shared.state().check_name(&file_name)?;
    let mut bytes = Vec::new();
    call.read(&mut bytes, encoded_size).await?;
    if bytes.len() != encoded_size {
        let got = bytes.len();
        return Err(ApiError::bad_request(format!(
            "wrong blob size ({got} != {encoded_size})"
        )));
    }
    let this = shared.clone();
    blocking(move || {
        let refused = |error: blob::BlobError| ApiError::bad_request(error.to_string());
        Blob::parse(&bytes)
            .and_then(|blob| blob.check_crc())
            .map_err(refused)?;
        if file_name.as_str() == FileName::CLIENT_LOG {
            // Servers that push send it along; clients add it when the snapshot is there.
            let mut state = this.state();
            state.check_name(&file_name)?;
            state.log = Some(bytes);
            return Ok(Value::Null);
        }
        let csum = sha256(&bytes);
        let manifest = file_name.is_manifest().then(|| bytes.clone());
        let archive = this.engine.blob(file_name.as_str(), bytes)?;
        let mut state = this.state();
        state.check_name(&file_name)?;
        state.manifest = manifest.or(state.manifest.take());
        state.files.push(FileDone {
            name: file_name,
            archives: vec![archive],
            csum,
        });
        Ok(Value::Null)
    })
    .await
}

fn sha256(bytes: &[u8]) -> Digest {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let mut sum = [0; 32];
    sum.copy_from_slice(digest.as_ref());
    sum
}
