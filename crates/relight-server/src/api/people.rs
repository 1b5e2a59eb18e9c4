//! `/roles`, `/users`, `/rules`, `/sessions`: who may do what, and who is logged in.

use http::Method;
use jiff::Timestamp;
use relight_pbs::access::{Grantee, Privileges, Role, Rule};
use relight_pbs::service::http::{Answer, ApiError, ApiResult, Call, NoParameters};
use serde::Deserialize;
use serde_json::{Value, json};

use super::operation::{Operation, Place, Table};
use super::{Desk, failed, limit, schema};
use crate::roles::privileges_of;
use crate::state::{Known, Session, User};

/// Path of rules about users.
pub(super) const USERS: &str = "/access/users";
/// Path of rules about rules.
const RULES: &str = "/access/acl";

pub(super) fn operations(table: &mut Table<'_>) {
    let role = schema::object(vec![
        ("name", schema::text()),
        ("comment", schema::text()),
        ("privileges", schema::list(schema::text())),
        ("own", schema::truth()),
    ]);
    table.add(
        Operation::get(
            "/api/v1/roles",
            "Roles: those that are always there, and this server's own",
            schema::list(role),
        ),
        roles,
    );
    let grant = schema::object(vec![
        ("path", schema::text()),
        ("who", schema::text()),
        ("role", schema::maybe(schema::text())),
        ("below", schema::truth()),
        ("privileges", schema::list(schema::text())),
    ]);
    let user = schema::object(vec![
        ("user", schema::text()),
        ("enabled", schema::truth()),
        ("expires", schema::maybe(schema::time())),
        ("comment", schema::maybe(schema::text())),
        ("password", schema::truth()),
        ("second-factor", schema::truth()),
        ("tokens", schema::list(schema::text())),
        ("groups", schema::list(schema::text())),
        ("grants", schema::list(grant)),
    ]);
    let users = Operation::get(
        "/api/v1/users",
        "Users and what they may do: by rules, and (role: null) by the plan. Everybody sees itself; all others need Sys.Audit \
         or Permissions.Modify at /access/users",
        schema::list(user),
    )
    .paged("from", "users from this one on, the first being 0")
    .beside("may-change-users", schema::truth())
    .beside("may-change-rules", schema::truth());
    table.add(users, list_users);
    let rule = schema::object(vec![
        ("path", schema::text()),
        ("role", schema::text()),
        ("who", schema::text()),
        ("below", schema::truth()),
    ]);
    let rules = Operation::get(
        "/api/v1/rules",
        "Rules: who has which role where, and whether below as well. Everybody sees its own; all others need Sys.Audit or \
         Permissions.Modify at /access/acl",
        schema::list(rule),
    )
    .paged("from", "rules from this one on, the first being 0");
    table.add(rules, list_rules);
    let session = schema::object(vec![
        ("id", schema::text()),
        ("user", schema::text()),
        ("since", schema::time()),
        ("until", schema::time()),
        ("address", schema::maybe(schema::text())),
        ("program", schema::maybe(schema::text())),
        ("this", schema::truth()),
    ]);
    let sessions = Operation::get(
        "/api/v1/sessions",
        "Where users are logged in, newest first: the caller, and all others with Sys.Audit or Permissions.Modify at \
         /access/users",
        schema::list(session),
    )
    .paged("from", "sessions from this one on, the first being 0");
    table.add(sessions, list_sessions);
    let end = Operation::of(
        Method::DELETE,
        "/api/v1/sessions/{session}",
        "End a session at once; that of somebody else needs Permissions.Modify at /access/users",
        json!({"type": "null"}),
    )
    .with("session", Place::Path, schema::text(), "its id");
    table.add(end, end_session);
}

fn roles(desk: &Desk, _: &Call, _: NoParameters) -> ApiResult<Answer> {
    let shown = |name: &str, comment: &str, privileges: Privileges, own: bool| {
        json!({
            "name": name,
            "comment": comment,
            "privileges": privileges.names().collect::<Vec<_>>(),
            "own": own,
        })
    };
    let mut list: Vec<Value> = Role::ALL
        .iter()
        .map(|role| shown(role.name(), role.comment(), role.privileges(), false))
        .collect();
    let known = desk.gate.state().known().map_err(failed)?;
    list.extend(known.roles.iter().map(|role| {
        let words: Vec<&str> = role.may.iter().map(|verb| verb.name()).collect();
        let comment = format!("May {}.", words.join(", "));
        shown(&role.name, &comment, privileges_of(&role.may), true)
    }));
    Answer::data(list)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    limit: Option<u32>,
    from: Option<usize>,
}

/// Whether the caller sees what is about other users.
fn sees_all(call: &Call) -> ApiResult<bool> {
    let some = Privileges::SYS_AUDIT | Privileges::PERMISSIONS_MODIFY;
    Ok(call.privileges(USERS)?.intersects(some))
}

/// A page of a list, and where the next one begins.
fn page<T>(list: Vec<T>, wanted: &Wanted) -> ApiResult<(Vec<T>, Option<usize>)> {
    let (limit, from) = (limit(wanted.limit)?, wanted.from.unwrap_or(0));
    let end = from.saturating_add(limit);
    let next = (end < list.len()).then_some(end);
    Ok((list.into_iter().skip(from).take(limit).collect(), next))
}

fn list_users(desk: &Desk, call: &Call, wanted: Wanted) -> ApiResult<Answer> {
    let known = desk.gate.state().known().map_err(failed)?;
    let (all, me) = (sees_all(call)?, call.who()?.user());
    let seen: Vec<&User> = known.users.iter().filter(|user| all || user.id == *me).collect();
    let (seen, next) = page(seen, &wanted)?;
    let with_factor = desk.gate.state().users_with_second_factor().map_err(failed)?;
    let shown = |user: &&User| user_shown(desk, &known, user, with_factor.contains(&user.id));
    let list: Vec<Value> = seen.iter().map(shown).collect();
    let may = |path| Ok::<_, ApiError>(call.privileges(path)?.contains(Privileges::PERMISSIONS_MODIFY));
    Ok(Answer::data(list)?
        .with("next", next)
        .with("may-change-users", may(USERS)?)
        .with("may-change-rules", may(RULES)?))
}

fn list_rules(desk: &Desk, call: &Call, wanted: Wanted) -> ApiResult<Answer> {
    let (seen, next) = page(crate::rest::seen_rules(&desk.gate, call)?, &wanted)?;
    let shown = |rule: &Rule| {
        json!({
            "path": rule.path,
            "role": rule.role,
            "who": rule.who,
            "below": rule.propagate,
        })
    };
    let list: Vec<Value> = seen.iter().map(shown).collect();
    Ok(Answer::data(list)?.with("next", next))
}

fn user_shown(desk: &Desk, known: &Known, user: &User, with_factor: bool) -> Value {
    let groups = known.groups_of(&user.id);
    let is = |who: &Grantee| match who {
        Grantee::Auth(id) => *id.user() == user.id,
        Grantee::Group(group) => groups.contains(group),
    };
    let by_rules = known.rules.iter().filter(|rule| is(&rule.who)).map(|rule| {
        json!({
            "path": rule.path,
            "who": rule.who,
            "role": rule.role,
            "below": rule.propagate,
            "privileges": rule.role.privileges().names().collect::<Vec<_>>(),
        })
    });
    let grants = desk.gate.grants();
    let mut by_plan: Vec<(&str, Privileges)> = grants.places(is).collect();
    by_plan.sort_by_key(|(path, _)| *path);
    let by_plan = by_plan.into_iter().map(|(path, privileges)| {
        json!({
            "path": path,
            "who": user.id,
            "role": null,
            "below": true,
            "privileges": privileges.names().collect::<Vec<_>>(),
        })
    });
    let expires = user.expires.filter(|end| *end != 0);
    json!({
        "user": user.id,
        "enabled": user.enabled,
        "expires": expires.and_then(|end| Timestamp::from_second(end).ok()),
        "comment": user.comment,
        "password": desk.gate.has_password(user),
        "second-factor": with_factor,
        "tokens": known.tokens_of(&user.id).map(|token| token.id.to_string()).collect::<Vec<_>>(),
        "groups": groups,
        "grants": by_rules.chain(by_plan).take(GRANTS).collect::<Vec<_>>(),
    })
}

/// So many grants of a user are shown: one that holds for a thousand workloads of policies is understood before.
const GRANTS: usize = 50;

fn list_sessions(desk: &Desk, call: &Call, wanted: Wanted) -> ApiResult<Answer> {
    let me = call.who()?.user();
    let of = if sees_all(call)? { None } else { Some(me) };
    let found = desk.gate.sessions(of, Timestamp::now()).map_err(failed)?;
    let (found, next) = page(found, &wanted)?;
    let this = crate::gate::session_of_call(call);
    let shown = |session: &Session| {
        let mut value = json!(session);
        value["this"] = (this.as_deref() == Some(&*session.id)).into();
        value
    };
    let list: Vec<Value> = found.iter().map(shown).collect();
    Ok(Answer::data(list)?.with("next", next))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct One {
    session: String,
}

fn end_session(desk: &Desk, call: &Call, one: One) -> ApiResult<Answer> {
    let who = call.who()?;
    let none = || ApiError::not_found("there is no such session that you may see");
    let found = desk
        .gate
        .session(&one.session)
        .map_err(failed)?
        .ok_or_else(none)?;
    // A token is not its user: one that leaked must not log the user out.
    let is_own = who.token().is_none() && found.user == *who.user();
    if !is_own {
        if !sees_all(call)? && found.user != *who.user() {
            return Err(none());
        }
        call.require(USERS, Privileges::PERMISSIONS_MODIFY)?;
    }
    let ended = desk.gate.end_session(&found.id, Timestamp::now());
    ended.map_err(failed)?;
    Ok(Answer::null())
}
