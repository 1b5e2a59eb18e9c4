//! Files of snapshots, as they are and decoded.

use std::io::{self, Write};
use std::sync::Arc;

use http::header::CONTENT_DISPOSITION;
use http::{HeaderValue, Method};
use tokio::sync::OwnedSemaphorePermit;

use super::{Service, allowed_in, parameters};
use crate::access::Privileges;
use crate::formats::blob::{Blob, MAX_BLOB};
use crate::formats::ids::{FileKind, FileName};
use crate::formats::manifest::CryptMode;
use crate::service::datastore::{Datastore, Entry, Lock};
use crate::service::http::{Answer, ApiError, ApiResult, Body, BodyWriter, Call, Router, blocking};

parameters! {
    struct Of of snapshot {
        file_name: FileName,
    }
}

pub(super) fn routes(router: &mut Router, service: &Service) {
    let of = service.clone();
    router.on_blocking(
        Method::GET,
        "/admin/datastore/{store}/download",
        move |call, given: Of| {
            let (store, entry, _lock) = open(&of, &call, &given)?;
            let bytes = store.read_file(&entry, &given.file_name)?;
            Ok(named(Answer::bytes(bytes), given.file_name.as_str()))
        },
    );
    let of = service.clone();
    router.on(
        Method::GET,
        "/admin/datastore/{store}/download-decoded",
        move |call, given: Of| decoded(of.clone(), call, given),
    );
}

/// What may be read of a snapshot, and a lock that keeps it from being removed.
fn open(service: &Service, call: &Call, given: &Of) -> ApiResult<(Arc<Datastore>, Arc<Entry>, Lock)> {
    let own = Privileges::DATASTORE_BACKUP;
    let may = allowed_in(
        call,
        (&given.store, &given.ns, &given.group()),
        Privileges::DATASTORE_READ,
        own,
    )?;
    let (store, name) = (service.stores.get(&given.store)?, given.snapshot());
    let entry = store.snapshot(&given.ns, &name)?;
    may.require(call, &store, &given.ns, &name.group)?;
    let lock = store.locks().snapshot(&given.ns, &name, false)?;
    Ok((store, entry, lock))
}

/// The name under which a browser keeps what it downloads.
pub(super) fn named(answer: Answer, name: &str) -> Answer {
    let safe = |c: char| match c {
        c if c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '/') => c,
        ' ' => c,
        _ => '_',
    };
    let name: String = name.chars().map(safe).collect();
    match HeaderValue::try_from(format!("attachment; filename=\"{name}\"")) {
        Ok(value) => answer.header(CONTENT_DISPOSITION, value),
        Err(_) => answer,
    }
}

/// One of the few that may read contents at the same time.
pub(super) async fn permit(service: &Service) -> ApiResult<OwnedSemaphorePermit> {
    let permit = service.readers.clone().acquire_owned().await;
    permit.map_err(|_| ApiError::internal("the server is being stopped"))
}

/// Writes a body on a thread of its own.
pub(super) fn written<F>(content_type: &'static str, write: F) -> Answer
where
    F: FnOnce(&mut BodyWriter) -> io::Result<()> + Send + 'static,
{
    let (mut writer, body) = Body::written();
    tokio::task::spawn_blocking(move || match write(&mut writer) {
        Ok(()) => drop(writer.finish()),
        Err(error) => {
            tracing::info!("a download was broken off: {error}");
            writer.fail(error);
        }
    });
    Answer::Raw {
        content_type,
        headers: http::HeaderMap::new(),
        body,
    }
}

async fn decoded(service: Service, call: Call, given: Of) -> ApiResult<Answer> {
    let permit = permit(&service).await?;
    blocking(move || {
        let (store, entry, lock) = open(&service, &call, &given)?;
        let name = &given.file_name;
        let file = store.file(&entry, name)?;
        let stem = name.stem().to_string();
        if file.crypt_mode == Some(CryptMode::Encrypt) {
            let message = format!("cannot decode '{name}' - is encrypted");
            return Err(ApiError::bad_request(message));
        }
        if name.kind() == FileKind::Blob {
            let bytes = store.read_file(&entry, name)?;
            let content = Blob::parse(&bytes).and_then(|blob| blob.decode(MAX_BLOB));
            let content = content.map_err(|error| ApiError::bad_request(error.to_string()))?;
            return Ok(named(Answer::bytes(content), &stem));
        }
        let root = store.archive(&entry, name)?.root;
        let answer = written("application/octet-stream", move |out| {
            let _held = (permit, lock);
            let mut content =
                relight_workloads::files::archive_read(&store.reader(), root).map_err(io::Error::other)?;
            io::copy(&mut content, out)?;
            out.flush()
        });
        Ok(named(answer, &stem))
    })
    .await
}
