//! `relight key recovery` of another host's server, which makes the key and tells it once.

use http::Method;
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use super::{Options, fill, reserve, show, tell};
use crate::api::{Api, read, segment};
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Result};

#[derive(Deserialize)]
struct Given {
    id: String,
    fingerprint: String,
    page: String,
}

pub(super) fn run(global: &Global, options: &Options, api: &Api) -> Result<Exit> {
    let name = global
        .location()
        .map_err(|_| Failure::Usage("name the repository with --repo, as the server calls it".into()))?;
    // Whether the page can be kept is known before there is a key.
    let file = match &options.output {
        Some(path) => Some((reserve(path)?, path)),
        None => None,
    };
    let path = format!("/keys/{}/recovery", segment(&name));
    let asked = api.ask(Method::POST, &path, Some(&json!({"label": options.label})));
    let given = asked.and_then(|data| read::<Given>(&data)).inspect_err(|_| {
        if let Some((_, path)) = &file {
            let _ = std::fs::remove_file(path);
        }
    })?;
    let page = Zeroizing::new(given.page);
    let kept = match file {
        Some((file, path)) => fill(file, path, &page),
        None => show(&page),
    };
    kept.map_err(|error| {
        Failure::Usage(format!(
            "{error}: the recovery key {} is made, and nobody has it; on the server's host `relight key remove {}` takes it away",
            given.fingerprint, given.id
        ))
    })?;
    Ok(tell(global, options, given.id, given.fingerprint))
}
