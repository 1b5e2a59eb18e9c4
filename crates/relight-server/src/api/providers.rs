//! `/realms` and `/session/provider`: log-ins at providers of identities. The provider sends the browser back to the page, which
//! hands over what came with it.

use std::collections::HashMap;
use std::sync::Arc;

use http::Method;
use http::header::{COOKIE, HeaderValue};
use relight_pbs::service::http::{Answer, ApiError, ApiResult, Call, NoParameters};
use serde::Deserialize;
use serde_json::{Value, json};

use super::operation::{Operation, Place, Table};
use super::session::{log_in_answer, logged_in_by_cookie, require_own_page, with_cookie};
use super::{Desk, schema};
use crate::rest::refused_log_in;

const PATH: &str = "/api/v1/session/provider";
/// By this the browser that ends a log-in is known to be the one that began it.
const BROWSER: &str = "__Host-relight-provider";
/// Longest query that a provider sends back.
const MAX_RESPONSE: usize = 8 << 10;

pub(super) fn operations(table: &mut Table<'_>) {
    let realm = schema::object(vec![
        ("name", schema::text()),
        ("title", schema::text()),
        ("provider", schema::truth()),
    ]);
    let realms = Operation::get(
        "/api/v1/realms",
        "Whose users may log in beside the server's own, by the realm in their names",
        schema::list(realm),
    );
    table.add(realms.public(), |desk: &Desk, _: &Call, _: NoParameters| {
        let realm = |choice: crate::signin::Choice<'_>| -> Value {
            json!({"name": choice.name, "title": choice.title, "provider": choice.provider})
        };
        Answer::data(desk.gate.sign_in().choices().map(realm).collect::<Vec<_>>())
    });
    let url = schema::object(vec![("url", schema::text())]);
    let begin = Operation::of(
        Method::POST,
        PATH,
        "Begin a log-in at a provider: where the browser is to go",
        url,
    )
    .with("realm", Place::Body, schema::text(), "the name of its realm")
    .public();
    table.add_waiting(begin, |desk, call, begin: Begin| async move {
        require_own_page(&call)?;
        let begun = desk.gate.begin_at_provider(&begin.realm, call.peer()).await;
        let begun = begun.map_err(|refusal| refused_log_in(&call, refusal))?;
        let cookie = format!(
            "{BROWSER}={}; Max-Age=600; Secure; HttpOnly; SameSite=Strict; Path=/",
            begun.browser
        );
        let cookie = HeaderValue::from_str(&cookie).map_err(|error| ApiError::internal(error.to_string()))?;
        Ok(with_cookie(Answer::data(json!({"url": begun.url}))?, cookie))
    });
    let finish = Operation::of(
        Method::PUT,
        PATH,
        "End it with what the provider sent back",
        log_in_answer(),
    )
    .with(
        "response",
        Place::Body,
        schema::text(),
        "the query that the browser came back with",
    )
    .public();
    table.add_waiting(finish, |desk, call, finish: Finish| async move {
        require_own_page(&call)?;
        finished(&desk, &call, &finish.response).await
    });
}

async fn finished(desk: &Arc<Desk>, call: &Call, response: &str) -> ApiResult<Answer> {
    if response.len() > MAX_RESPONSE {
        return Err(ApiError::bad_request("that is too long"));
    }
    let query = response.trim_start_matches('?').as_bytes();
    let answer: HashMap<String, String> = form_urlencoded::parse(query).into_owned().collect();
    let cookies = call
        .headers()
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut cookies = cookies.flat_map(|value| value.split(';'));
    let browser = cookies.find_map(|cookie| cookie.trim().strip_prefix(BROWSER)?.strip_prefix('='));
    let browser = browser.unwrap_or_default().to_owned();
    let done = desk.gate.finish_at_provider(answer, browser, call.peer()).await;
    logged_in_by_cookie(call, &done.map_err(|refusal| refused_log_in(call, refusal))?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Begin {
    realm: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Finish {
    response: String,
}
