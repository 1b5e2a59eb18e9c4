//! Lists of kinds of jobs of which this server has none: clients that show all jobs ask for them.

use http::Method;
use relight_pbs::service::http::{Answer, Router};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    #[allow(dead_code, reason = "clients send it")]
    store: Option<String>,
}

pub(super) fn routes(router: &mut Router) {
    for path in ["/admin/verify", "/admin/prune", "/config/verify", "/config/prune"] {
        router.on(Method::GET, path, |_, _: List| async {
            Answer::data(Vec::<()>::new())
        });
    }
}
