//! The page at `/`: files that are part of the program. Browsers need nothing but this server.

use std::collections::HashMap;

use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use relight_pbs::service::http::{Answer, Body, NoParameters, Router};
use serde::de::IgnoredAny;

/// Scripts and styles come from here and nowhere else, nothing is embedded, and nobody shows the page inside another one.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
     form-action 'self'; frame-ancestors 'none'",
);

const HTML: &str = "text/html;charset=UTF-8";
const CSS: &str = "text/css;charset=UTF-8";
const SCRIPT: &str = "text/javascript;charset=UTF-8";
const SVG: &str = "image/svg+xml";

/// Path, kind and content of each file.
const FILES: &[(&str, &str, &str)] = &[
    ("/", HTML, include_str!("files/index.html")),
    ("/favicon.ico", SVG, include_str!("files/icon.svg")),
    ("/page/style.css", CSS, include_str!("files/style.css")),
    ("/page/main.js", SCRIPT, include_str!("files/main.js")),
    ("/page/api.js", SCRIPT, include_str!("files/api.js")),
    ("/page/dom.js", SCRIPT, include_str!("files/dom.js")),
    ("/page/words.js", SCRIPT, include_str!("files/words.js")),
    ("/page/chart.js", SCRIPT, include_str!("files/chart.js")),
    ("/page/overview.js", SCRIPT, include_str!("files/overview.js")),
    ("/page/workload.js", SCRIPT, include_str!("files/workload.js")),
    ("/page/runs.js", SCRIPT, include_str!("files/runs.js")),
    ("/page/lists.js", SCRIPT, include_str!("files/lists.js")),
    ("/page/plan.js", SCRIPT, include_str!("files/plan.js")),
    ("/page/signin.js", SCRIPT, include_str!("files/signin.js")),
    ("/page/account.js", SCRIPT, include_str!("files/account.js")),
    ("/page/planned.js", SCRIPT, include_str!("files/planned.js")),
    ("/page/cluster.js", SCRIPT, include_str!("files/cluster.js")),
    ("/page/confirm.js", SCRIPT, include_str!("files/confirm.js")),
    ("/page/points.js", SCRIPT, include_str!("files/points.js")),
    ("/page/approval.js", SCRIPT, include_str!("files/approval.js")),
    ("/page/people.js", SCRIPT, include_str!("files/people.js")),
    ("/page/access.js", SCRIPT, include_str!("files/access.js")),
    ("/page/reports.js", SCRIPT, include_str!("files/reports.js")),
    ("/page/keys.js", SCRIPT, include_str!("files/keys.js")),
    ("/page/restore.js", SCRIPT, include_str!("files/restore.js")),
];

/// Adds the routes.
pub(crate) fn routes(router: &mut Router) {
    for &(path, content_type, content) in FILES {
        router
            .on_own(Method::GET, path, move |_, _: NoParameters| {
                std::future::ready(Ok(Answer::Raw {
                    content_type,
                    headers: headers(),
                    body: Body::whole(content),
                }))
            })
            .public();
    }
    // Where providers of identities send browsers back to; what they say is in the query, and the page reads it.
    router
        .on_own(
            Method::GET,
            "/signed-in",
            move |_, _: HashMap<String, IgnoredAny>| {
                std::future::ready(Ok(Answer::Raw {
                    content_type: HTML,
                    headers: headers(),
                    body: Body::whole(FILES[0].2),
                }))
            },
        )
        .public();
}

fn headers() -> HeaderMap {
    // Asked for again each time: a new version of the server must not be mixed with the page of the one before.
    let all: [(HeaderName, HeaderValue); 2] = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    all.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_that_another_one_names_is_there() {
        let known = |name: &str| FILES.iter().any(|(path, ..)| *path == format!("/page/{name}"));
        for (path, _, content) in FILES {
            for rest in content.split("from \"./").skip(1) {
                let name = rest.split('"').next().unwrap();
                assert!(known(name), "{path} imports {name}");
            }
            for rest in content.split("\"/page/").skip(1) {
                let name = rest.split('"').next().unwrap();
                assert!(known(name), "{path} names {name}");
            }
        }
    }

    #[test]
    fn nothing_is_written_as_markup_and_it_is_small() {
        let size: usize = FILES.iter().map(|(.., content)| content.len()).sum();
        assert!(size < 150 << 10, "{size} bytes");
        for (path, _, content) in FILES {
            for word in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                " style=",
                " onclick=",
            ] {
                assert!(!content.contains(word), "{path}: {word}");
            }
        }
    }
}
