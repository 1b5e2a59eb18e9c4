//! `/keys/{repository}/recovery`: a new recovery key for a repository, given away once, to whoever asked for it; with the approval of
//! a second person where `keys` needs one. The key is in the answer and nowhere else.

use http::Method;
use jiff::Timestamp;
use relight_keys::{Background, RecoveryKey, RecoveryPage, SystemEntropy};
use relight_pbs::access::{Action, Guarded, Privileges};
use relight_pbs::service::http::{Answer, ApiError, ApiResult, Call};
use relight_repo::keyring;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::operation::{Operation, Place, Table};
use super::sight::SYSTEM;
use super::{Desk, failed, schema};
use crate::approvals::check_words;
use crate::config::RepositoryConfig;
use crate::evidence::{Kind, NewEvidence, Outcome};
use crate::repositories;
use crate::signin::QrPicture;

/// Longest name of a key in bytes.
const LABEL: usize = 128;

pub(super) fn operations(table: &mut Table<'_>) {
    let qr = schema::object(vec![("side", schema::count()), ("path", schema::text())]);
    let made = schema::object(vec![
        ("repository", schema::text()),
        ("id", schema::text()),
        ("label", schema::text()),
        ("fingerprint", schema::text()),
        ("key", schema::text()),
        ("qr", qr),
        ("page", schema::text()),
    ]);
    let operation = Operation::of(
        Method::POST,
        "/api/v1/keys/{repository}/recovery",
        "Make a new recovery key for a repository and give it to the caller, once: it is kept nowhere; needs Keys.Manage at /system, \
         and maybe an approval",
        made,
    )
    .with("repository", Place::Path, schema::text(), "its name")
    .with(
        "label",
        Place::Body,
        json!({"type": "string", "minLength": 1, "maxLength": LABEL}),
        "what the key is called, such as where it will be kept",
    );
    table.add(operation, give);
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    repository: String,
    label: String,
}

fn give(desk: &Desk, call: &Call, wanted: Wanted) -> ApiResult<Answer> {
    call.require(SYSTEM, Privileges::KEYS_MANAGE)?;
    let known = desk.repositories.iter().find(|one| one.name == wanted.repository);
    let config = known
        .ok_or_else(|| ApiError::not_found(format!("there is no repository {:?} here", wanted.repository)))?;
    check_words(&wanted.label).map_err(failed)?;
    if wanted.label.trim().is_empty() || wanted.label.len() > LABEL {
        return Err(ApiError::bad_request(format!(
            "label: say what the key is called in 1 to {LABEL} bytes"
        )));
    }
    let subject = format!(
        "make a recovery key {:?} that opens the repository {}, and give it to {}",
        wanted.label,
        config.name,
        call.who()?
    );
    let exact = json!([config.name, wanted.label]).to_string();
    let guarded = Guarded {
        action: Action::Keys,
        path: SYSTEM,
        subject: &subject,
        exact: &exact,
        reason: None,
    };
    let pass = call.access().approved(call.who()?, &guarded)?;
    let made = match make(config, &wanted.label) {
        Ok(made) => made,
        Err(why) => {
            desk.gate.give_back(pass, Timestamp::now());
            tracing::error!("make a recovery key for the repository {}: {why}", config.name);
            return Err(ApiError::internal(
                "no key could be made, and none was given away; the server's log tells why",
            ));
        }
    };
    let mut detail = Map::from_iter([
        ("repository".to_owned(), Value::from(config.name.clone())),
        ("key".to_owned(), made.id.clone().into()),
        ("label".to_owned(), wanted.label.clone().into()),
        ("fingerprint".to_owned(), made.key.fingerprint().into()),
    ]);
    if let Some(number) = pass.0 {
        detail.insert("request".to_owned(), number.into());
    }
    let record = NewEvidence {
        time: Timestamp::now(),
        kind: Kind::Key,
        who: Some(call.who()?.to_string()),
        what: format!("made a recovery key of {} and gave it away", config.name),
        outcome: Outcome::Done,
        detail,
    };
    // What cannot be written down is not given away. Nobody has the key then, and it can be removed like any other.
    desk.gate.state().add_evidence(&[record]).map_err(failed)?;
    let text = made.key.to_text();
    let qr = QrPicture::of(&text).map_err(failed)?;
    Answer::data(json!({
        "repository": config.name,
        "id": made.id,
        "label": wanted.label,
        "fingerprint": made.key.fingerprint(),
        "key": *text,
        "qr": {"side": qr.side(), "path": *qr.path()},
        "page": *made.page,
    }))
}

struct Made {
    id: String,
    key: RecoveryKey,
    page: zeroize::Zeroizing<String>,
}

/// A new key that opens a repository.
fn make(config: &RepositoryConfig, label: &str) -> Result<Made, String> {
    let words = |error: relight_repo::RepoError| error.to_string();
    let storage = repositories::storage(&config.location)?;
    let opened = keyring::unlock(&*storage, &*repositories::provider(config)?).map_err(words)?;
    let key = RecoveryKey::generate(&mut SystemEntropy).map_err(|error| error.to_string())?;
    let now = Timestamp::now();
    let mut id = None;
    keyring::change(&*storage, &opened, now, |change| {
        id = Some(change.add_wrap(&key, label, now.as_second(), &mut SystemEntropy)?);
        Ok(())
    })
    .map_err(words)?;
    let page = RecoveryPage {
        repository: &opened.repository().to_string(),
        location: &storage.location(),
        label,
        made: &now.to_string(),
    };
    Ok(Made {
        id: id.map(|id| id.to_string()).unwrap_or_default(),
        page: page.text(&key, Background::Light),
        key,
    })
}
