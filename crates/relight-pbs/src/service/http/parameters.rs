//! Parameters of a call: from the path, the query, and a form or JSON body, as one map, read into a type.
//!
//! Queries and forms carry text only, so a text stands for a number or a truth value where the type wants one; a name that
//! is given several times is a list. A name the type does not know is refused if the type says so
//! (`#[serde(deny_unknown_fields)]`), which every type of a call does.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::value::{Error, SeqDeserializer};
use serde::de::{self, DeserializeOwned, Deserializer, IntoDeserializer, MapAccess, Visitor};
use serde_json::Value;

use super::{ApiError, ApiResult};

/// Most parameters of a call.
const MAX_PARAMETERS: usize = 4096;

/// Parameters of a call.
#[derive(Debug, Clone, Default)]
pub struct Parameters {
    given: BTreeMap<String, Value>,
    exact: bool,
}

/// For calls without parameters.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoParameters {}

impl Parameters {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on a number in JSON stands neither for a text nor for true or false.
    #[must_use]
    pub fn exact(mut self) -> Self {
        self.exact = true;
        self
    }

    /// Adds one. Several of the same name become a list.
    ///
    /// # Errors
    /// Too many.
    pub fn add(&mut self, name: String, value: Value) -> ApiResult<()> {
        use std::collections::btree_map::Entry;
        if self.given.len() >= MAX_PARAMETERS {
            return Err(ApiError::bad_request("too many parameters"));
        }
        match self.given.entry(name) {
            Entry::Vacant(entry) => {
                entry.insert(value);
            }
            Entry::Occupied(mut entry) => match entry.get_mut() {
                Value::Array(list) if list.len() < MAX_PARAMETERS => list.push(value),
                Value::Array(_) => return Err(ApiError::bad_request("too many parameters")),
                single => *single = Value::Array(vec![single.take(), value]),
            },
        }
        Ok(())
    }

    /// Adds one that must not be there yet: the same name in the path and in the query is a contradiction.
    ///
    /// # Errors
    /// It is there.
    pub fn add_single(&mut self, name: &str, value: String) -> ApiResult<()> {
        match self.given.insert(name.to_string(), Value::String(value)) {
            None => Ok(()),
            Some(_) => Err(refused(name, "is given twice")),
        }
    }

    /// Adds those of a query or a form (`application/x-www-form-urlencoded`).
    ///
    /// # Errors
    /// It is not UTF-8, or has too many.
    pub fn add_form(&mut self, form: &[u8]) -> ApiResult<()> {
        // The parser would put replacement characters where the text is broken, and change what was asked for.
        let decoded: Vec<u8> = percent_encoding::percent_decode(form).collect();
        if std::str::from_utf8(&decoded).is_err() {
            return Err(ApiError::bad_request("the parameters are not UTF-8"));
        }
        for (name, value) in form_urlencoded::parse(form) {
            self.add(name.into_owned(), Value::String(value.into_owned()))?;
        }
        Ok(())
    }

    /// Adds those of a JSON object.
    ///
    /// # Errors
    /// It is no object, or has too many.
    pub fn add_json(&mut self, json: &[u8]) -> ApiResult<()> {
        let value: Value = serde_json::from_slice(json).map_err(|error| {
            ApiError::bad_request(format!("unable to parse the parameters as JSON: {error}"))
        })?;
        let Value::Object(object) = value else {
            return Err(ApiError::bad_request("the parameters are no JSON object"));
        };
        for (name, value) in object {
            self.add(name, value)?;
        }
        Ok(())
    }

    /// Those of a query alone.
    ///
    /// # Errors
    /// As [`Parameters::add_form`].
    pub fn from_query(query: &str) -> ApiResult<Self> {
        let mut parameters = Self::new();
        parameters.add_form(query.as_bytes())?;
        Ok(parameters)
    }

    /// Reads them into a type.
    ///
    /// # Errors
    /// 400: one is missing, unknown or not what it should be.
    pub fn read<T: DeserializeOwned>(self) -> ApiResult<T> {
        let mut at = None;
        let access = Access {
            rest: self.given.into_iter(),
            exact: self.exact,
            value: None,
            at: &mut at,
        };
        T::deserialize(de::value::MapAccessDeserializer::new(access)).map_err(|error| match at {
            Some(name) => refused(&name, &error.to_string()),
            None => ApiError::bad_request(format!("parameter verification failed - {error}")),
        })
    }

    /// All of them, to be written down: secrets left out, shortened to some hundred bytes.
    pub fn for_log(&self) -> String {
        let mut out = String::new();
        for (name, value) in &self.given {
            if out.len() > 400 {
                out.push_str(" …");
                break;
            }
            let secret = [
                "password",
                "secret",
                "ticket",
                "challenge",
                "otp",
                "response",
                "key",
            ]
            .iter()
            .any(|word| name.contains(word));
            let shown = match value {
                _ if secret => "(not shown)".to_string(),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            let clean = |text: &str| -> String {
                text.chars()
                    .take(128)
                    .map(|c| if c.is_control() { '?' } else { c })
                    .collect()
            };
            let space = if out.is_empty() { "" } else { " " };
            out.push_str(&format!("{space}{}={}", clean(name), clean(&shown)));
        }
        out
    }
}

fn refused(name: &str, why: &str) -> ApiError {
    let name: String = name.chars().take(64).collect();
    ApiError::bad_request(format!("parameter verification failed - '{name}': {why}"))
}

/// Hands the map to a type, remembering where it is for the message.
struct Access<'a> {
    rest: std::collections::btree_map::IntoIter<String, Value>,
    value: Option<Value>,
    exact: bool,
    at: &'a mut Option<String>,
}

impl<'de> MapAccess<'de> for Access<'_> {
    type Error = Error;

    fn next_key_seed<K: de::DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        *self.at = None;
        match self.rest.next() {
            None => Ok(None),
            Some((name, value)) => {
                self.value = Some(value);
                let key = seed.deserialize(IntoDeserializer::<Error>::into_deserializer(name.as_str()))?;
                *self.at = Some(name);
                Ok(Some(key))
            }
        }
    }

    fn next_value_seed<V: de::DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let result = seed.deserialize(Given(self.value.take().unwrap_or_default(), self.exact))?;
        *self.at = None;
        Ok(result)
    }
}

/// A value as a client gave it, and whether a number stands for nothing else: neither for a text nor for true or false.
struct Given(Value, bool);

impl Given {
    fn error(&self, expected: &str) -> Error {
        let shown: String = match &self.0 {
            Value::String(text) => text.chars().take(64).collect(),
            other => other.to_string().chars().take(64).collect(),
        };
        de::Error::custom(format!("{shown:?} is not {expected}"))
    }

    fn whole<T: std::str::FromStr + TryFrom<i64> + TryFrom<u64>>(&self) -> Result<T, Error> {
        let number = match &self.0 {
            Value::String(text) => text.parse().ok(),
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(number), _) => T::try_from(number).ok(),
                (None, Some(number)) => T::try_from(number).ok(),
                (None, None) => None,
            },
            _ => None,
        };
        number.ok_or_else(|| self.error("a whole number in range"))
    }
}

impl<'de> IntoDeserializer<'de, Error> for Given {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! whole {
    ($($method:ident $visit:ident $type:ty,)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            visitor.$visit(self.whole::<$type>()?)
        }
    )*};
}

impl<'de> Deserializer<'de> for Given {
    type Error = Error;

    whole! {
        deserialize_i8 visit_i8 i8, deserialize_i16 visit_i16 i16, deserialize_i32 visit_i32 i32,
        deserialize_i64 visit_i64 i64, deserialize_u8 visit_u8 u8, deserialize_u16 visit_u16 u16,
        deserialize_u32 visit_u32 u32, deserialize_u64 visit_u64 u64,
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let truth = match &self.0 {
            Value::Bool(truth) => Some(*truth),
            Value::Number(number) if !self.1 && number.as_u64() == Some(1) => Some(true),
            Value::Number(number) if !self.1 && number.as_u64() == Some(0) => Some(false),
            Value::String(text) => match text.to_ascii_lowercase().as_str() {
                "1" | "true" | "yes" | "on" => Some(true),
                "0" | "false" | "no" | "off" => Some(false),
                _ => None,
            },
            _ => None,
        };
        match truth {
            Some(truth) => visitor.visit_bool(truth),
            None => Err(self.error("true or false")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::String(text) => visitor.visit_string(text),
            // Clients in loosely typed languages send an id such as 100 as a number.
            Value::Number(number) if !self.1 && !number.is_f64() => visitor.visit_string(number.to_string()),
            _ => Err(self.error("a text")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_string(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let exact = self.1;
        let list = match self.0 {
            Value::Array(list) => list,
            Value::Object(_) | Value::Null => return Err(self.error("a list")),
            single => vec![single],
        };
        visitor.visit_seq(SeqDeserializer::new(
            list.into_iter().map(|one| Given(one, exact)),
        ))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            Value::String(text) => {
                IntoDeserializer::<Error>::into_deserializer(text).deserialize_enum(name, variants, visitor)
            }
            _ => Err(self.error("one of the known words")),
        }
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.0.deserialize_any(visitor).map_err(de::Error::custom)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        i128 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct map struct identifier
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Kind {
        Vm,
        Host,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "kebab-case", deny_unknown_fields)]
    struct Wanted {
        backup_id: String,
        backup_time: Option<i64>,
        #[serde(default)]
        dry_run: bool,
        kind: Kind,
        #[serde(default)]
        group: Vec<String>,
        small: Option<u8>,
    }

    fn query(text: &str) -> ApiResult<Wanted> {
        Parameters::from_query(text)?.read()
    }

    #[test]
    fn text_stands_for_numbers_and_truths() {
        let wanted =
            query("backup-id=100&backup-time=-5&dry-run=yes&kind=vm&group=a&group=b+c%2F&small=255").unwrap();
        assert_eq!(
            wanted,
            Wanted {
                backup_id: "100".into(),
                backup_time: Some(-5),
                dry_run: true,
                kind: Kind::Vm,
                group: vec!["a".into(), "b c/".into()],
                small: Some(255),
            }
        );
        let mut json = Parameters::new();
        json.add_json(
            br#"{"backup-id":100,"dry-run":1,"kind":"host","group":["x"],"small":7,"backup-time":null}"#,
        )
        .unwrap();
        let wanted: Wanted = json.read().unwrap();
        assert_eq!(
            (wanted.backup_id.as_str(), wanted.dry_run, wanted.small),
            ("100", true, Some(7))
        );
        assert_eq!((wanted.backup_time, wanted.group), (None, vec!["x".to_string()]));
    }

    #[test]
    fn exactly_read_a_number_is_neither_text_nor_truth() {
        let read = |json: &str| {
            let mut parameters = Parameters::new().exact();
            parameters.add_json(json.as_bytes()).unwrap();
            parameters.read::<Wanted>().map_err(|error| error.message)
        };
        let why = read(r#"{"backup-id": 100, "kind": "vm"}"#).unwrap_err();
        assert!(why.contains("'backup-id'"), "{why}");
        let why = read(r#"{"backup-id": "1", "kind": "vm", "group": [1]}"#).unwrap_err();
        assert!(why.contains("'group'"), "{why}");
        let why = read(r#"{"backup-id": "1", "kind": "vm", "dry-run": 0}"#).unwrap_err();
        assert!(why.contains("'dry-run'"), "{why}");
        assert!(read(r#"{"backup-id": "100", "kind": "vm", "small": 7, "dry-run": true}"#).is_ok());
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        for (text, named) in [
            ("backup-id=1", "kind"),
            ("backup-id=1&kind=ct", "'kind'"),
            ("backup-id=1&kind=vm&dry-run=maybe", "'dry-run'"),
            ("backup-id=1&kind=vm&backup-time=12x", "'backup-time'"),
            ("backup-id=1&kind=vm&small=256", "'small'"),
            ("backup-id=1&backup-id=2&kind=vm", "'backup-id'"),
            ("backup-id=1&kind=vm&other=1", "other"),
            ("backup-id=%ff&kind=vm", "UTF-8"),
        ] {
            let error = query(text).unwrap_err();
            assert_eq!(error.status, 400);
            assert!(error.message.contains(named), "{text}: {error}");
        }
        for json in [
            "[]",
            "1",
            "{",
            r#"{"backup-id":{"a":1},"kind":"vm"}"#,
            r#"{"backup-id":"1","kind":["vm"]}"#,
        ] {
            let mut parameters = Parameters::new();
            let result = parameters
                .add_json(json.as_bytes())
                .and_then(|()| parameters.read::<Wanted>());
            assert_eq!(result.unwrap_err().status, 400, "{json}");
        }
    }

    #[test]
    fn the_path_cannot_be_contradicted() {
        let mut parameters = Parameters::from_query("store=b").unwrap();
        assert!(parameters.add_single("store", "a".into()).is_err());
    }

    #[test]
    fn nothing_secret_is_written_down() {
        let shown = Parameters::from_query("password=hunter2&username=a%40pbs&note=x%0ay")
            .unwrap()
            .for_log();
        assert_eq!(shown, "note=x?y password=(not shown) username=a@pbs");
    }
}
