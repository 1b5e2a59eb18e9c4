//! The server and its host: version, identity, status.

use std::sync::Arc;

use http::Method;
use relight_pbs::access::Privileges;
use relight_pbs::service::http::{Answer, NoParameters, Router};
use serde::Deserialize;
use serde_json::json;

use super::About;
use super::host::{Host, Space};

/// The version of the protocol's server that this one answers like. Clients ask it to know what they can expect.
const VERSION: &str = "4.2";
const RELEASE: &str = "3";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Node {
    #[serde(rename = "node")]
    _node: String,
}

pub(super) fn routes(router: &mut Router, about: &Arc<About>) {
    router.on(Method::GET, "/version", |_, _: NoParameters| async {
        let repoid = concat!("relight-", env!("CARGO_PKG_VERSION"));
        Answer::data(json!({"version": VERSION, "release": RELEASE, "repoid": repoid}))
    });
    router
        .on(Method::GET, "/ping", |_, _: NoParameters| async {
            Answer::data(json!({"pong": true}))
        })
        .public();
    router.on(Method::GET, "/nodes", |_, _: NoParameters| async {
        Answer::data(json!([{"node": "localhost"}]))
    });
    let of = about.clone();
    router.on(Method::GET, "/nodes/{node}/identity", move |_, _: Node| {
        let instance = of.instance.clone();
        async move { Answer::data(json!({"pbs-instance-id": instance})) }
    });
    router.on(
        Method::GET,
        "/nodes/{node}/subscription",
        |call, _: Node| async move {
            call.who()?;
            Answer::data(json!({"status": "notfound", "message": "Relight needs no subscription"}))
        },
    );
    let (of, host) = (about.clone(), Arc::new(Host::default()));
    router.on_blocking(Method::GET, "/nodes/{node}/status", move |call, _: Node| {
        call.require("/system/status", Privileges::SYS_AUDIT)?;
        let (memory, swap) = host.memory();
        let (cpu, wait) = host.load();
        let uname = rustix::system::uname();
        let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
        let space = |space: Space| json!({"total": space.total, "used": space.used, "free": space.free});
        let root = Host::root();
        let (efi, secure) = Host::boot();
        let (model, cpus) = Host::processors();
        Answer::data(json!({
            "cpu": cpu,
            "wait": wait,
            "uptime": Host::uptime(),
            "loadavg": Host::averages(),
            "memory": space(memory),
            "swap": space(swap),
            "root": {"total": root.total, "used": root.used, "avail": root.free},
            "kversion": format!("{} {} {}", text(uname.sysname()), text(uname.release()), text(uname.version())),
            "current-kernel": {
                "sysname": text(uname.sysname()),
                "release": text(uname.release()),
                "version": text(uname.version()),
                "machine": text(uname.machine()),
            },
            "boot-info": {"mode": if efi { "efi" } else { "legacy-bios" }, "secureboot": secure},
            "cpuinfo": {"model": model, "sockets": 1, "cpus": cpus},
            "info": {"fingerprint": of.fingerprint},
        }))
    });
}
