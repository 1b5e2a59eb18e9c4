//! `relight acl` of another host's server.

use http::Method;
use serde_json::json;

use super::{RemoveOptions, Row, SetOptions, table};
use crate::api::{Api, read};
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::output;

pub(super) fn list(global: &Global, api: &Api) -> Result<Exit> {
    let data = api.all("/rules", &[])?;
    let rows = data.iter().map(read).collect::<Result<Vec<Row>>>()?;
    output::result(global, &data, |_, out| table(&rows, out));
    Ok(Exit::Done)
}

pub(super) fn set(options: &SetOptions, api: &Api) -> Result<()> {
    let body = json!({
        "path": options.path,
        "who": options.who,
        "role": options.role,
        "below": !options.no_propagate,
    });
    api.ask(Method::PUT, "/rules", Some(&body))?;
    Ok(())
}

pub(super) fn remove(options: &RemoveOptions, api: &Api) -> Result<()> {
    let role = options.role.clone().ok_or_else(|| {
        Failure::Usage("of another host's server one role at a time is taken away: name it".into())
    })?;
    let query = [
        ("path", options.path.to_string()),
        ("who", options.who.to_string()),
        ("role", role),
    ];
    api.whole(api.call(Method::DELETE, "/rules", &query, None)?)?;
    Ok(())
}
