//! The datastores of a server, by name.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::Datastore;
use crate::formats::ids::Namespace;
use crate::service::http::{ApiError, ApiResult};

/// The datastores of a server.
#[derive(Default)]
pub struct Stores(RwLock<BTreeMap<String, Arc<Datastore>>>);

impl Stores {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one, in place of one of the same name.
    pub fn add(&self, store: Arc<Datastore>) {
        let mut stores = self.0.write().unwrap_or_else(PoisonError::into_inner);
        stores.insert(store.name().to_string(), store);
    }

    /// Takes one out. What is at work on it goes on.
    pub fn remove(&self, name: &str) -> Option<Arc<Datastore>> {
        let mut stores = self.0.write().unwrap_or_else(PoisonError::into_inner);
        stores.remove(name)
    }

    /// The one of that name. Ask for privileges at [`acl_path`] first.
    ///
    /// # Errors
    /// 400: there is none.
    pub fn get(&self, name: &str) -> ApiResult<Arc<Datastore>> {
        let stores = self.0.read().unwrap_or_else(PoisonError::into_inner);
        stores.get(name).cloned().ok_or_else(|| {
            let name: String = name.chars().take(64).collect();
            ApiError::bad_request(format!("no such datastore '{name}'"))
        })
    }

    /// All of them, by name.
    pub fn all(&self) -> Vec<Arc<Datastore>> {
        let stores = self.0.read().unwrap_or_else(PoisonError::into_inner);
        stores.values().cloned().collect()
    }
}

/// Where rules about a namespace of a datastore are.
pub fn acl_path(store: &str, namespace: &Namespace) -> String {
    if namespace.is_root() {
        format!("/datastore/{store}")
    } else {
        format!("/datastore/{store}/{namespace}")
    }
}
