//! Words of a plan whose meaning only a kind of workload knows.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::section::{Node, kind};
use toml::de::DeValue;

/// The table under `source` or `probe` of a workload: how it is read, and how it is seen to work. What the words mean is for the
/// kind of workload to say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Settings(BTreeMap<String, toml::Value>);

impl Settings {
    /// From tables that were not read from a plan.
    pub fn new(words: impl IntoIterator<Item = (String, toml::Value)>) -> Self {
        Self(words.into_iter().collect())
    }

    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this word is there.
    pub fn has(&self, word: &str) -> bool {
        self.0.contains_key(word)
    }

    /// The words that are there.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// As what a kind expects.
    ///
    /// # Errors
    /// What is wrong with it, in words for the operator.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, String> {
        let table: toml::Table = self
            .0
            .iter()
            .map(|(word, value)| (word.clone(), value.clone()))
            .collect();
        table
            .try_into()
            .map_err(|error: toml::de::Error| error.message().trim().to_owned())
    }

    pub(super) fn of(node: &DeValue<'_>, whole: Node<'_, '_>) -> Result<Self, String> {
        if !matches!(node, DeValue::Table(_)) {
            return Err(format!("must be a table, but is {}", kind(node)));
        }
        let reader = toml::de::ValueDeserializer::from(whole.clone());
        Self::deserialize(reader).map_err(|error| error.message().trim().to_owned())
    }
}
