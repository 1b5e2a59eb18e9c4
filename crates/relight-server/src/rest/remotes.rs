//! Other servers: `/config/remote`.

use std::sync::Arc;

use http::Method;
use relight_pbs::access::{AuthId, Privileges};
use relight_pbs::formats::ids::Namespace;
use relight_pbs::service::http::{Answer, ApiError, ApiResult, NoParameters, Router, blocking};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::{digest, failed, require_digest};
use crate::jobs::{Jobs, scan};
use crate::state::{Remote, RemoteChange};

const ALL: &str = "/config/remote";
const ONE: &str = "/config/remote/{name}";

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct New {
    name: String,
    host: String,
    port: Option<u16>,
    auth_id: AuthId,
    password: Zeroizing<String>,
    fingerprint: Option<String>,
    comment: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Property {
    Comment,
    Fingerprint,
    Port,
    UseNodeProxy,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Change {
    name: String,
    host: Option<String>,
    port: Option<u16>,
    auth_id: Option<AuthId>,
    password: Option<Zeroizing<String>>,
    fingerprint: Option<String>,
    comment: Option<String>,
    #[serde(default)]
    delete: Vec<Property>,
    digest: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct One {
    name: String,
    digest: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scan {
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScanStore {
    name: String,
    store: String,
    namespace: Option<Namespace>,
}

fn path(name: &str) -> String {
    format!("/remote/{name}")
}

pub(super) fn routes(router: &mut Router, jobs: &Arc<Jobs>) {
    let of = jobs.clone();
    router.on_blocking(Method::GET, ALL, move |call, _: NoParameters| {
        let all = of.gate.state().remotes().map_err(failed)?;
        let digest = digest(&all)?;
        let mut seen = Vec::new();
        for remote in all {
            if call
                .privileges(&path(&remote.name))?
                .intersects(Privileges::REMOTE_AUDIT)
            {
                seen.push(remote);
            }
        }
        Ok(Answer::data(seen)?.with("digest", digest))
    });
    let of = jobs.clone();
    router.on_blocking(Method::POST, ALL, move |call, new: New| {
        call.require("/remote", Privileges::REMOTE_MODIFY)?;
        let remote = Remote {
            name: new.name,
            host: new.host,
            port: new.port,
            auth_id: new.auth_id,
            fingerprint: new.fingerprint,
            comment: new.comment.filter(|comment| !comment.is_empty()),
        };
        of.gate
            .state()
            .add_remote(&remote, &new.password)
            .map_err(failed)?;
        Ok(Answer::null())
    });
    let of = jobs.clone();
    router.on_blocking(Method::GET, ONE, move |call, one: One| {
        call.require(&path(&one.name), Privileges::REMOTE_AUDIT)?;
        let all = of.gate.state().remotes().map_err(failed)?;
        let digest = digest(&all)?;
        let found = all.into_iter().find(|remote| remote.name == one.name);
        let found = found.ok_or_else(|| none(&one.name))?;
        Ok(Answer::data(found)?.with("digest", digest))
    });
    let of = jobs.clone();
    router.on_blocking(Method::PUT, ONE, move |call, change: Change| {
        call.require(&path(&change.name), Privileges::REMOTE_MODIFY)?;
        let state = of.gate.state();
        require_digest(change.digest.as_deref(), &state.remotes().map_err(failed)?)?;
        let mut wanted = RemoteChange {
            host: change.host,
            port: change.port.map(Some),
            auth_id: change.auth_id,
            fingerprint: change.fingerprint.map(Some),
            comment: change.comment,
            secret: change.password,
        };
        for property in change.delete {
            match property {
                Property::Comment => wanted.comment = Some(String::new()),
                Property::Fingerprint => wanted.fingerprint = Some(None),
                Property::Port => wanted.port = Some(None),
                Property::UseNodeProxy => {}
            }
        }
        state.change_remote(&change.name, &wanted).map_err(failed)?;
        Ok(Answer::null())
    });
    let of = jobs.clone();
    router.on_blocking(Method::DELETE, ONE, move |call, one: One| {
        call.require(&path(&one.name), Privileges::REMOTE_MODIFY)?;
        let state = of.gate.state();
        require_digest(one.digest.as_deref(), &state.remotes().map_err(failed)?)?;
        state.remove_remote(&one.name).map_err(failed)?;
        Ok(Answer::null())
    });
    scans(router, jobs);
}

fn none(name: &str) -> ApiError {
    let name: String = name.chars().take(64).collect();
    ApiError::not_found(format!("remote '{name}' does not exist."))
}

fn scans(router: &mut Router, jobs: &Arc<Jobs>) {
    let look = |jobs: Arc<Jobs>, name: String, path: String, parameters: Value| async move {
        let (of, which) = (jobs.clone(), name.clone());
        // The certificate authorities are read from disk.
        let client = blocking(move || of.looker(&which)).await;
        Answer::data(scan(client, &name, &path, &parameters).await?)
    };
    let of = jobs.clone();
    router.on(
        Method::GET,
        "/config/remote/{name}/scan",
        move |call, asked: Scan| {
            let (of, may) = (
                of.clone(),
                call.require(&path(&asked.name), Privileges::REMOTE_AUDIT),
            );
            async move {
                may?;
                look(of, asked.name, "/admin/datastore".into(), json!({})).await
            }
        },
    );
    for what in ["namespaces", "groups"] {
        let of = jobs.clone();
        let route = match what {
            "groups" => "/config/remote/{name}/scan/{store}/groups",
            _ => "/config/remote/{name}/scan/{store}/namespaces",
        };
        router.on(Method::GET, route, move |call, asked: ScanStore| {
            let (of, may) = (
                of.clone(),
                call.require(&path(&asked.name), Privileges::REMOTE_AUDIT),
            );
            async move {
                may?;
                check_store(&asked.store)?;
                let called = if what == "groups" { "groups" } else { "namespace" };
                let mut parameters = Map::new();
                if let Some(namespace) = asked.namespace.filter(|one| !one.is_root()) {
                    parameters.insert("ns".into(), namespace.as_str().into());
                }
                let path = format!("/admin/datastore/{}/{called}", asked.store);
                look(of, asked.name, path, Value::Object(parameters)).await
            }
        });
    }
}

/// It becomes a part of a path on the other server.
fn check_store(store: &str) -> ApiResult<()> {
    let safe = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    match store.is_empty() || store.starts_with('.') || !store.bytes().all(safe) {
        true => Err(ApiError::bad_request("that is not the name of a datastore")),
        false => Ok(()),
    }
}
