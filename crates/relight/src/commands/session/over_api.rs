//! `relight session` of another host's server.

use http::Method;
use relight_pbs::access::UserId;
use relight_server::state::Session;
use serde_json::Value;

use super::{ListOptions, RevokeOptions, table};
use crate::api::{Api, read, segment};
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::output;

/// Sessions of a user or of all that the caller may see, as they were told and as they are read.
fn sessions(api: &Api, of: Option<&UserId>) -> Result<(Vec<Value>, Vec<Session>)> {
    let mut data = api.all("/sessions", &[])?;
    data.retain(|one| of.is_none_or(|user| one["user"].as_str() == Some(user.as_str())));
    let found = data.iter().map(read).collect::<Result<_>>()?;
    Ok((data, found))
}

pub(super) fn list(global: &Global, options: &ListOptions, api: &Api) -> Result<Exit> {
    let (data, found) = sessions(api, options.user.as_ref())?;
    output::result(global, &data, |_, out| table(&found, out));
    Ok(Exit::Done)
}

pub(super) fn revoke(global: &Global, options: &RevokeOptions, api: &Api) -> Result<Exit> {
    let wanted = match (&options.session, &options.all) {
        (Some(session), _) => vec![session.clone()],
        (None, Some(user)) => {
            let (_, found) = sessions(api, Some(user))?;
            found.into_iter().map(|session| session.id).collect()
        }
        (None, None) => return Err(Failure::Usage("name a session, or a user with --all".into())),
    };
    for session in &wanted {
        let path = format!("/sessions/{}", segment(session));
        match api.ask(Method::DELETE, &path, None) {
            Ok(_) => {}
            // One that was renewed from another one ended with that.
            Err(_) if options.all.is_some() && !is_there(api, session)? => {}
            Err(failure) => return Err(failure),
        }
    }
    output::result(global, &wanted, |_, out| out.push_str("Logged out.\n"));
    Ok(Exit::Done)
}

fn is_there(api: &Api, session: &str) -> Result<bool> {
    let (_, found) = sessions(api, None)?;
    Ok(found.iter().any(|one| one.id == session))
}
