//! One table of a plan while it is read: what is asked for is known, and all else is refused at the end.

use std::fmt::Display;
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::nearest::nearest;
use super::settings::Settings;
use super::source::{At, Position, Source};
use crate::size::shortened;

pub(super) type Node<'a, 'i> = &'a Spanned<DeValue<'i>>;

/// A table, with the words that were asked for.
pub(super) struct Section<'a, 'i> {
    /// As an operator would name it: `policy.linux`.
    pub(super) name: String,
    pub(super) at: Position,
    table: &'a DeTable<'i>,
    known: Vec<&'static str>,
}

impl<'a, 'i> Section<'a, 'i> {
    pub(super) fn root(table: &'a DeTable<'i>) -> Self {
        Self {
            name: String::new(),
            at: Position { line: 1, column: 1 },
            table,
            known: Vec::new(),
        }
    }

    /// `node` as a table; a problem when it is none.
    pub(super) fn of(source: &mut Source<'_>, name: impl Into<String>, node: Node<'a, 'i>) -> Option<Self> {
        let name = name.into();
        let at = source.position(node.span());
        match node.get_ref() {
            DeValue::Table(table) => Some(Self {
                name,
                at,
                table,
                known: Vec::new(),
            }),
            other => {
                source.refuse(at, format!("{name} must be a table, but is {}", kind(other)));
                None
            }
        }
    }

    /// What stands under a word.
    pub(super) fn node(&mut self, key: &'static str) -> Option<Node<'a, 'i>> {
        self.known.push(key);
        self.table.get(key)
    }

    /// Lets words pass that someone else reads.
    pub(super) fn leave(&mut self, keys: &[&'static str]) {
        self.known.extend(keys);
    }

    /// The value under a word, read by `read`, which says what is wrong with it.
    pub(super) fn read<T>(
        &mut self,
        source: &mut Source<'_>,
        key: &'static str,
        read: impl FnOnce(&DeValue<'_>) -> Result<T, String>,
    ) -> Option<At<T>> {
        let node = self.node(key)?;
        let at = source.position(node.span());
        match read(node.get_ref()) {
            Ok(value) => Some(At { value, at }),
            Err(why) => {
                source.refuse(at, format!("{key}: {why}"));
                None
            }
        }
    }

    /// The value under a word, written as text.
    pub(super) fn text<T: FromStr<Err: Display>>(
        &mut self,
        source: &mut Source<'_>,
        key: &'static str,
    ) -> Option<At<T>> {
        self.read(source, key, parsed)
    }

    /// As [`Section::text`]; a problem when the word is missing.
    pub(super) fn required<T: FromStr<Err: Display>>(
        &mut self,
        source: &mut Source<'_>,
        key: &'static str,
        example: &str,
    ) -> Option<At<T>> {
        if !self.table.contains_key(key) {
            self.known.push(key);
            source.refuse(
                self.at,
                format!("{} lacks {key}: write for instance {key} = {example}", self.name),
            );
            return None;
        }
        self.text(source, key)
    }

    /// A number from 1 on.
    pub(super) fn count(&mut self, source: &mut Source<'_>, key: &'static str) -> Option<At<u32>> {
        self.read(source, key, |value| whole_number(value, 1))
    }

    /// A number from 0 on.
    pub(super) fn number(&mut self, source: &mut Source<'_>, key: &'static str) -> Option<At<u32>> {
        self.read(source, key, |value| whole_number(value, 0))
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, source: &mut Source<'_>, key: &'static str) -> Option<bool> {
        let read = self.read(source, key, |value| match value {
            DeValue::Boolean(value) => Ok(*value),
            other => Err(format!("must be true or false, but is {}", kind(other))),
        });
        read.map(|read| read.value)
    }

    /// A table whose words somebody else knows.
    pub(super) fn settings(&mut self, source: &mut Source<'_>, key: &'static str) -> Option<At<Settings>> {
        let node = self.node(key)?;
        self.read(source, key, |value| Settings::of(value, node))
    }

    /// A text or an array of texts.
    pub(super) fn list<T: FromStr<Err: Display>>(
        &mut self,
        source: &mut Source<'_>,
        key: &'static str,
    ) -> Vec<At<T>> {
        let Some(node) = self.node(key) else {
            return Vec::new();
        };
        let nodes: Vec<Node<'a, 'i>> = match node.get_ref() {
            DeValue::Array(array) => array.iter().collect(),
            _ => vec![node],
        };
        let mut list = Vec::with_capacity(nodes.len());
        for node in nodes {
            let at = source.position(node.span());
            match parsed(node.get_ref()) {
                Ok(value) => list.push(At { value, at }),
                Err(why) => source.refuse(at, format!("{key}: {why}")),
            }
        }
        list
    }

    /// The tables of `[[key]]`.
    pub(super) fn sections(&mut self, source: &mut Source<'_>, key: &'static str) -> Vec<Section<'a, 'i>> {
        let name = self.inner(key);
        let Some(node) = self.node(key) else {
            return Vec::new();
        };
        match node.get_ref() {
            DeValue::Array(array) => array
                .iter()
                .filter_map(|node| Section::of(source, name.clone(), node))
                .collect(),
            _ => {
                let at = source.position(node.span());
                source.refuse(
                    at,
                    format!("write [[{name}]], in double brackets: there may be several"),
                );
                Vec::new()
            }
        }
    }

    /// The tables of `[key.NAME]`, with where each name stands.
    pub(super) fn named(
        &mut self,
        source: &mut Source<'_>,
        key: &'static str,
    ) -> Vec<(At<String>, Section<'a, 'i>)> {
        let Some(node) = self.node(key) else {
            return Vec::new();
        };
        let Some(outer) = Section::of(source, key, node) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for (name, node) in outer.table {
            let at = source.position(name.span());
            if let Some(problem) = bad_name(name.get_ref()) {
                source.refuse(at, problem);
                continue;
            }
            if let Some(mut section) = Section::of(source, format!("{key}.{}", name.get_ref()), node) {
                section.at = at;
                let value = name.get_ref().to_string();
                found.push((At { value, at }, section));
            }
        }
        found
    }

    /// All words with what stands under them, where words are free.
    pub(super) fn entries(
        &self,
    ) -> impl Iterator<Item = (&'a Spanned<toml::de::DeString<'i>>, Node<'a, 'i>)> {
        self.table.iter()
    }

    /// The name of a table within this one.
    pub(super) fn inner(&self, key: &str) -> String {
        if self.name.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.name)
        }
    }

    /// Refuses every word that nobody asked for.
    pub(super) fn finish(self, source: &mut Source<'_>) {
        for (key, _) in self.table {
            let word: &str = key.get_ref();
            if self.known.contains(&word) {
                continue;
            }
            let at = source.position(key.span());
            let place = match self.name.as_str() {
                "" => "in this file".to_owned(),
                name => format!("in {name}"),
            };
            source.refuse(at, unknown(word, &place, self.known.iter().copied()));
        }
    }
}

/// "There is no … ; do you mean …?"
pub(super) fn unknown<'k>(word: &str, place: &str, known: impl Iterator<Item = &'k str> + Clone) -> String {
    let word_shown = shortened(word);
    match nearest(word, known.clone()) {
        Some(near) => format!("there is no {word_shown:?} {place}; do you mean {near:?}?"),
        None => {
            let known: Vec<&str> = known.take(40).collect();
            if known.is_empty() {
                format!("there is no {word_shown:?} {place}")
            } else {
                format!(
                    "there is no {word_shown:?} {place}; there is: {}",
                    known.join(", ")
                )
            }
        }
    }
}

/// A text that is read by its type.
pub(super) fn parsed<T: FromStr<Err: Display>>(value: &DeValue<'_>) -> Result<T, String> {
    match value {
        DeValue::String(text) => text.parse().map_err(|error: T::Err| error.to_string()),
        other => Err(format!("must be a text in quotes, but is {}", kind(other))),
    }
}

pub(super) fn whole_number(value: &DeValue<'_>, least: u32) -> Result<u32, String> {
    let DeValue::Integer(number) = value else {
        return Err(format!("must be a whole number, but is {}", kind(value)));
    };
    let read = u32::from_str_radix(number.as_str(), number.radix()).ok();
    let in_range = read.filter(|number| (least..=1_000_000).contains(number));
    in_range.ok_or_else(|| format!("must be a number from {least} to 1000000"))
}

fn bad_name(name: &str) -> Option<String> {
    let good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if !name.is_empty() && name.len() <= 64 && name.chars().all(good) {
        return None;
    }
    Some(format!(
        "{:?} is no name: use 1 to 64 letters, digits, '.', '_' and '-'",
        shortened(name)
    ))
}

/// What an administrator calls a value of this type.
pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time without quotes",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
