//! Reads single chunks: finds them, opens them, checks them, and tries every place where they may lie.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use super::stored::Form;
use super::unseal::Unseal;
use crate::error::{RepoError, Result};
use crate::id::{ChunkId, PackId};
use crate::index::{Located, PackLine};
use crate::pack::codec::Decoder;
use crate::pack::reader::PackOpener;
use crate::repository::Repository;
use crate::tree::{Node, NodeSource};

/// List nodes that are kept in memory: 16 MiB of them at most.
const NODES: usize = 4096;

/// How often the index is read again before a chunk is given up. Twice, because a list of segments that is made while a
/// collection replaces some may show neither the old nor the new ones.
const REFRESHED: u32 = 2;

/// Reads chunks of one repository. Can be used by many threads.
pub struct ChunkReader {
    repository: Arc<Repository>,
    form: Form,
    client_key: Option<Arc<dyn Unseal>>,
    openers: Mutex<HashMap<PackId, Arc<PackOpener>>>,
    decoders: Mutex<Vec<Decoder>>,
    nodes: Mutex<NodeCache>,
}

#[derive(Default)]
struct NodeCache {
    nodes: HashMap<ChunkId, Arc<Node>>,
    order: VecDeque<ChunkId>,
}

impl ChunkReader {
    /// A reader.
    pub fn new(repository: Arc<Repository>) -> Result<Self> {
        Self::in_form(repository, Form::Content)
    }

    /// A reader that gives chunks in this form; so does all that reads through it. Lists are lists in any form.
    pub fn in_form(repository: Arc<Repository>, form: Form) -> Result<Self> {
        Ok(Self {
            repository,
            form,
            client_key: None,
            openers: Mutex::default(),
            decoders: Mutex::default(),
            nodes: Mutex::default(),
        })
    }

    /// The same reader with the key of a client: what was encrypted with it has content then.
    pub fn with_client_key(mut self, key: Arc<dyn Unseal>) -> Self {
        self.client_key = Some(key);
        self
    }

    /// The key of a client, if it has one.
    pub(super) fn client_key(&self) -> Option<&dyn Unseal> {
        self.client_key.as_deref()
    }

    /// The repository.
    pub fn repository(&self) -> &Arc<Repository> {
        &self.repository
    }

    /// The form in which it gives chunks.
    pub fn form(&self) -> Form {
        self.form
    }

    /// Where a chunk can be read, the best place first. Looks again at what is in storage before it gives up.
    pub fn locate(&self, id: &ChunkId) -> Result<Vec<Located>> {
        for _ in 0..REFRESHED {
            let places = self.repository.index().readable(id);
            if !places.is_empty() {
                return Ok(places);
            }
            self.repository.refresh()?;
        }
        let places = self.repository.index().readable(id);
        if places.is_empty() {
            Err(RepoError::ChunkMissing(*id))
        } else {
            Ok(places)
        }
    }

    /// Reads a chunk and checks it. If one place fails, the others are tried.
    pub fn read(&self, id: &ChunkId) -> Result<Vec<u8>> {
        self.read_in(id, self.form)
    }

    /// Reads a chunk as it is stored, to be read with [`super::Stored::parse`], and checks it.
    pub fn read_stored(&self, id: &ChunkId) -> Result<Vec<u8>> {
        self.read_in(id, Form::Stored)
    }

    fn read_in(&self, id: &ChunkId, form: Form) -> Result<Vec<u8>> {
        let mut refreshed = 0;
        let mut first_error = None;
        loop {
            for place in self.locate(id)? {
                match self.read_at_in(&place, form) {
                    Ok(content) => return Ok(content),
                    Err(error @ (RepoError::ClientSealed(_) | RepoError::OtherClientKey(_))) => {
                        return Err(error);
                    }
                    Err(error) => first_error.get_or_insert(error),
                };
            }
            // A collection may have moved the chunk after the index was read.
            if refreshed == REFRESHED {
                return Err(first_error.unwrap_or(RepoError::ChunkMissing(*id)));
            }
            self.repository.refresh()?;
            refreshed += 1;
        }
    }

    /// Reads the content of a chunk at one place.
    pub fn read_at(&self, place: &Located) -> Result<Vec<u8>> {
        self.read_at_in(place, Form::Content)
    }

    fn read_at_in(&self, place: &Located, form: Form) -> Result<Vec<u8>> {
        let mut sealed = vec![0; place.record.stored as usize];
        let key = place.pack.kind.key(place.pack.id);
        self.repository
            .storage()
            .get_range(&key, u64::from(place.record.offset), &mut sealed)?;
        self.open_in(place, &mut sealed, form)
    }

    /// Opens the sealed bytes of a chunk and checks its content.
    pub fn open(&self, place: &Located, sealed: &mut [u8]) -> Result<Vec<u8>> {
        self.open_in(place, sealed, Form::Content)
    }

    fn open_in(&self, place: &Located, sealed: &mut [u8], form: Form) -> Result<Vec<u8>> {
        let opener = self.opener(&place.pack)?;
        let mut decoder = self.decoder()?;
        let mut scratch = Vec::new();
        let content = opener
            .give(
                &place.record,
                sealed,
                &mut decoder,
                &mut scratch,
                (form, self.client_key()),
            )
            .map(<[u8]>::to_vec);
        self.give_back(decoder);
        content
    }

    pub(super) fn decoder(&self) -> Result<Decoder> {
        let idle = self
            .decoders
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .pop();
        match idle {
            Some(decoder) => Ok(decoder),
            None => Decoder::new().map_err(RepoError::Source),
        }
    }

    pub(super) fn give_back(&self, decoder: Decoder) {
        self.decoders
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .push(decoder);
    }

    /// What opens the records of a pack. Its key is derived once.
    pub(super) fn opener(&self, pack: &PackLine) -> Result<Arc<PackOpener>> {
        let mut openers = self
            .openers
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(opener) = openers.get(&pack.id) {
            return Ok(opener.clone());
        }
        let repository = &self.repository;
        let opener = Arc::new(PackOpener::new(
            repository.id(),
            repository.keys(),
            pack.kind,
            pack.id,
            pack.key,
        )?);
        if openers.len() >= 1024 {
            openers.clear();
        }
        openers.insert(pack.id, opener.clone());
        Ok(opener)
    }
}

impl NodeSource for ChunkReader {
    fn node(&self, id: ChunkId, level: u8) -> Result<Arc<Node>> {
        let lock = || self.nodes.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(node) = lock().nodes.get(&id).filter(|node| node.level == level) {
            return Ok(node.clone());
        }
        let node = Arc::new(Node::decode(id, &self.read_in(&id, Form::Content)?, level)?);
        let mut cache = lock();
        if cache.nodes.insert(id, node.clone()).is_none() {
            cache.order.push_back(id);
        }
        if cache.order.len() > NODES
            && let Some(oldest) = cache.order.pop_front()
        {
            cache.nodes.remove(&oldest);
        }
        Ok(node)
    }
}
