//! One snapshot: its files as they are, then its manifest, then it appears there.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use http::Method;

use super::{Push, Result, SyncError, blocking, stopped};
use crate::client::RawWriter;
use crate::formats::ids::{FileKind, FileName, Namespace};
use crate::formats::index::{Digest, DynamicIndex, FixedIndex};
use crate::formats::manifest::{Manifest, ManifestFile};
use crate::service::datastore::{Datastore, Entry};
use crate::sync::remote::of_snapshot;
use crate::sync::size;

impl Push<'_> {
    pub(super) async fn snapshot(&mut self, theirs: &Namespace, entry: &Arc<Entry>) -> Result<()> {
        let name = &entry.name;
        self.task.log(format!("sync snapshot {name}"));
        let store = self.job.local.store.clone();
        // Nobody removes it meanwhile.
        let _lock = store.locks().snapshot(&entry.namespace, name, false)?;
        let mut manifest = self.manifest(entry).await?;
        // Whether it is good there, is found out there.
        manifest.unprotected.remove(Manifest::VERIFY_STATE);
        let writer = self.job.client.write_raw(theirs, name).await?;
        let previous = previous(&writer).await?;
        for file in &manifest.files {
            stopped(self.task)?;
            self.task.log(format!("sync archive {}", file.filename));
            if file.filename.kind() == FileKind::Blob {
                let bytes = self.file(&store, entry, &file.filename).await?;
                self.figures.bytes += bytes.len() as u64;
                writer.blob(&file.filename, bytes).await?;
                continue;
            }
            let known = known(&writer, previous.as_ref(), &manifest, file).await?;
            let (store, entry, of) = (store.clone(), entry.clone(), file.filename.clone());
            let index = blocking(move || store.read_index(&entry, &of)).await?;
            if index.csum != file.csum || index.size != file.size {
                return Err(SyncError::Refused(format!(
                    "{} is not what its manifest says",
                    file.filename
                )));
            }
            let (chunks, bytes) = self.index(&writer, &file.filename, index, known).await?;
            self.figures.chunks += chunks;
            self.figures.bytes += bytes;
            if chunks > 0 {
                self.task
                    .log(format!("uploaded {} in {chunks} chunks", size(bytes)));
            }
        }
        let blob = manifest
            .to_blob()
            .map_err(|error| SyncError::Refused(format!("its manifest cannot be written: {error}")))?;
        writer.blob(&FileName::MANIFEST.parse()?, blob.into()).await?;
        stopped(self.task)?;
        writer.finish().await?;
        self.figures.snapshots += 1;
        self.task.log(format!("sync snapshot {name} done"));
        self.afterwards(theirs, entry, &store).await
    }

    /// What comes after a snapshot is there: its log, and its protection.
    async fn afterwards(
        &mut self,
        theirs: &Namespace,
        entry: &Arc<Entry>,
        store: &Arc<Datastore>,
    ) -> Result<()> {
        let name = &entry.name;
        if entry.has_log {
            let log = self.file(store, entry, &FileName::CLIENT_LOG.parse()?).await?;
            if let Err(error) = self.job.client.upload_raw_log(theirs, name, log).await {
                self.figures.failed(
                    self.task,
                    format!("the log of snapshot {name} cannot be copied - {error}"),
                );
            }
        }
        if entry.is_protected() {
            let mut parameters = of_snapshot(theirs, name);
            parameters.insert("protected".into(), true.into());
            if let Err(error) = self.remote.call(Method::PUT, "protected", parameters).await {
                self.figures.failed(
                    self.task,
                    format!("snapshot {name} cannot be protected on the other server - {error}"),
                );
            }
        }
        Ok(())
    }

    async fn file(&self, store: &Arc<Datastore>, entry: &Arc<Entry>, name: &FileName) -> Result<Bytes> {
        let (store, entry, name) = (store.clone(), entry.clone(), name.clone());
        blocking(move || store.read_file(&entry, &name))
            .await
            .map(Bytes::from)
    }
}

/// The manifest of the snapshot before it on the other server.
async fn previous(writer: &RawWriter) -> Result<Option<Manifest>> {
    let bytes = writer.previous(&FileName::MANIFEST.parse()?).await?;
    Ok(bytes.and_then(|bytes| Manifest::from_blob(&bytes).ok()))
}

/// The chunks of a file that the other server has in the snapshot before.
async fn known(
    writer: &RawWriter,
    previous: Option<&Manifest>,
    manifest: &Manifest,
    file: &ManifestFile,
) -> Result<HashSet<Digest>> {
    let before = previous.and_then(|previous| {
        let before = previous.file(file.filename.as_str())?;
        let same_key = previous.key_fingerprint() == manifest.key_fingerprint();
        (same_key && before.crypt_mode == file.crypt_mode).then_some(before)
    });
    let Some(before) = before else {
        return Ok(HashSet::new());
    };
    let Some(bytes) = writer.previous(&file.filename).await? else {
        return Ok(HashSet::new());
    };
    let listed = match file.filename.kind() {
        FileKind::FixedIndex => {
            FixedIndex::parse(&bytes).map(|index| (index.sum(), index.digests().iter().copied().collect()))
        }
        _ => DynamicIndex::parse(&bytes).map(|index| {
            (
                index.sum(),
                index.entries().iter().map(|entry| entry.digest).collect(),
            )
        }),
    };
    Ok(match listed {
        Ok((sum, digests)) if sum == before.csum => digests,
        _ => HashSet::new(),
    })
}
