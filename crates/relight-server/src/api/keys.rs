//! `/keys`: which keys open the repositories, and what was done with keys. Nothing secret is known here; what gives a key away is in
//! [`super::recovery_key`].

use jiff::Timestamp;
use relight_pbs::access::Privileges;
use relight_pbs::service::http::{Answer, ApiResult, Call, NoParameters};
use relight_repo::keyring;
use serde_json::{Value, json};

use super::operation::{Operation, Table};
use super::sight::SYSTEM;
use super::{Desk, failed, schema};
use crate::config::RepositoryConfig;
use crate::evidence::Kind;
use crate::repositories;
use crate::state::EvidenceFilter;

/// So many of the newest records are shown.
const RECORDS: u32 = 50;

pub(super) fn operations(table: &mut Table<'_>) {
    let key = schema::object(vec![
        ("id", schema::text()),
        ("kind", schema::text()),
        ("label", schema::text()),
        ("created", schema::maybe(schema::time())),
        ("fingerprint", schema::maybe(schema::text())),
    ]);
    let repository = schema::object(vec![
        ("repository", schema::text()),
        ("opened-with", schema::text()),
        ("keys", schema::list(key)),
        ("recovery", schema::truth()),
        ("failure", schema::maybe(schema::text())),
    ]);
    let keys = Operation::get(
        "/api/v1/keys",
        "Which keys open each repository, and the newest records of what was done with keys; needs Keys.Manage or Sys.Audit at /system",
        schema::object(vec![
            ("repositories", schema::list(repository)),
            ("records", schema::list(schema::evidence())),
        ]),
    );
    table.add(keys, all);
}

fn all(desk: &Desk, call: &Call, _: NoParameters) -> ApiResult<Answer> {
    let some = Privileges::KEYS_MANAGE.union(Privileges::SYS_AUDIT);
    let _ = call.require_some(SYSTEM, some)?;
    let filter = EvidenceFilter {
        kind: Some(Kind::Key),
        limit: Some(RECORDS),
        ..EvidenceFilter::default()
    };
    let records = desk.gate.state().evidence(&filter).map_err(failed)?;
    Answer::data(json!({
        "repositories": desk.repositories.iter().map(one).collect::<Vec<_>>(),
        "records": records,
    }))
}

fn one(repository: &RepositoryConfig) -> Value {
    let found = repositories::storage(&repository.location)
        .and_then(|storage| keyring::wraps(&*storage).map_err(|error| error.to_string()));
    let (keys, failure) = match found {
        Ok(ring) => {
            let key = |wrap: &relight_keys::WrapInfo| {
                json!({
                    "id": wrap.id.to_string(),
                    "kind": wrap.kind,
                    "label": wrap.label,
                    "created": Timestamp::from_second(wrap.created).ok(),
                    "fingerprint": wrap.parameters.get("fingerprint").and_then(Value::as_str),
                })
            };
            (ring.wraps().map(key).collect::<Vec<_>>(), None)
        }
        Err(error) => {
            tracing::warn!("keys of the repository {}: {error}", repository.name);
            (
                Vec::new(),
                Some("they cannot be read now; the server's log tells why"),
            )
        }
    };
    json!({
        "repository": repository.name,
        "opened-with": if repository.key_file.is_some() { "key file" } else { "passphrase" },
        "recovery": keys.iter().any(|key| key["kind"] == "recovery"),
        "keys": keys,
        "failure": failure,
    })
}
