//! Rules, roles, and what follows from them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use http::Method;
use relight_pbs::access::{AclPath, Action, AuthId, Grantee, Guarded, Privileges, Role, Rule};
use relight_pbs::service::http::{Answer, ApiError, ApiResult, Call, NoParameters, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{About, failed};
use crate::gate::Gate;
use crate::roles::privileges_of;

pub(super) fn routes(router: &mut Router, gate: &Arc<Gate>, about: &Arc<About>) {
    let of = gate.clone();
    router.on_blocking(Method::GET, "/access/acl", move |call, wanted: Wanted| {
        list(&of, &call, &wanted)
    });
    let of = gate.clone();
    router.on_blocking(Method::PUT, "/access/acl", move |call, change: Change| {
        self::change(&of, &call, change.into())
    });
    let (of, about) = (gate.clone(), about.clone());
    router.on_blocking(
        Method::GET,
        "/access/permissions",
        move |call, of_whom: OfWhom| permissions(&of, &about, &call, of_whom),
    );
    let of = gate.clone();
    router.on_blocking(Method::GET, "/access/roles", move |_, _: NoParameters| {
        let shown = |name: &str, privileges: Privileges, comment: &str| {
            json!({
                "roleid": name,
                "privs": privileges.names().collect::<Vec<_>>(),
                "comment": comment,
            })
        };
        let always = Role::ALL
            .iter()
            .map(|role| shown(role.name(), role.privileges(), role.comment()));
        let known = of.state().known().map_err(failed)?;
        let own = known
            .roles
            .iter()
            .map(|role| shown(&role.name, privileges_of(&role.may), "of this server"));
        Answer::data(always.chain(own).collect::<Vec<Value>>())
    });
    router
        .on(Method::GET, "/access/domains", |_, _: NoParameters| async {
            Answer::data(
                json!([{"realm": "pbs", "type": "pbs", "comment": "Users of this server", "default": true}]),
            )
        })
        .public();
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    path: Option<AclPath>,
    #[serde(default)]
    exact: bool,
}

/// The rules that the caller may see: everybody those about itself and its tokens.
pub(crate) fn seen(gate: &Gate, call: &Call) -> ApiResult<Vec<Rule>> {
    let known = gate.state().known().map_err(failed)?;
    let who = call.who()?;
    let some = Privileges::SYS_AUDIT | Privileges::PERMISSIONS_MODIFY;
    let sees_all = call.privileges("/access/acl")?.intersects(some);
    let seen = known
        .rules
        .iter()
        .filter(|rule| sees_all || rule.who.auth().is_some_and(|id| who.owns_as(id)));
    Ok(seen.cloned().collect())
}

fn list(gate: &Gate, call: &Call, wanted: &Wanted) -> ApiResult<Answer> {
    let fits = |rule: &&Rule| match &wanted.path {
        None => true,
        Some(path) if wanted.exact => rule.path == *path,
        Some(path) => {
            let rest = rule.path.as_str().strip_prefix(path.as_str());
            path.as_str() == "/" || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
    };
    let rule = |rule: &Rule| {
        json!({
            "path": rule.path,
            "ugid": rule.who,
            "ugid_type": if rule.who.auth().is_some() { "user" } else { "group" },
            "roleid": rule.role.name(),
            "propagate": rule.propagate,
        })
    };
    let seen = seen(gate, call)?;
    let list: Vec<Value> = seen.iter().filter(fits).map(rule).collect();
    Answer::data(list)
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Change {
    path: AclPath,
    role: String,
    auth_id: Grantee,
    propagate: Option<bool>,
    #[serde(default)]
    delete: bool,
}

impl From<Change> for RuleChange {
    fn from(change: Change) -> Self {
        Self {
            path: change.path,
            who: change.auth_id,
            role: change.role,
            propagate: change.propagate.unwrap_or(true),
            delete: change.delete,
        }
    }
}

/// A rule that is to be, or to be no more.
pub(crate) struct RuleChange {
    pub path: AclPath,
    pub who: Grantee,
    /// Name of the role.
    pub role: String,
    /// Whether it holds for what is below.
    pub propagate: bool,
    /// Whether it is taken away.
    pub delete: bool,
}

/// Gives a role or takes it away, by whoever may, and with a second person where that is configured.
///
/// # Errors
/// 403: the caller may not; 409: nobody has approved it; 400: there is no such role.
pub(crate) fn change(gate: &Gate, call: &Call, change: RuleChange) -> ApiResult<Answer> {
    call.require("/access/acl", Privileges::PERMISSIONS_MODIFY)?;
    let known = gate.state().known().map_err(failed)?;
    let role = known.role(&change.role).ok_or_else(|| {
        let text: String = change.role.chars().take(64).collect();
        ApiError::bad_request(format!("there is no role {text:?}"))
    })?;
    let propagate = change.propagate;
    let (what, verb) = match change.delete {
        true => (
            format!("take the role {role} at {} from {}", change.path, change.who),
            "-",
        ),
        false => (
            format!("give {} the role {role} at {}", change.who, change.path),
            "+",
        ),
    };
    let guarded = Guarded {
        action: Action::Access,
        path: "/access",
        subject: &what,
        exact: &format!("{verb} {propagate}"),
        reason: None,
    };
    call.guarded(&guarded, || {
        let result = if change.delete {
            gate.state()
                .remove_rule(&change.path, &change.who, Some(role.name()))
        } else {
            gate.state().set_rule(&Rule {
                path: change.path,
                who: change.who,
                role,
                propagate,
            })
        };
        result.map_err(failed)?;
        Ok(Answer::null())
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct OfWhom {
    auth_id: Option<AuthId>,
    path: Option<AclPath>,
}

/// Privileges at each path of interest, and whether each holds for what is below.
fn permissions(gate: &Gate, about: &About, call: &Call, wanted: OfWhom) -> ApiResult<Answer> {
    let who = call.who()?;
    let of = wanted.auth_id.unwrap_or_else(|| who.clone());
    if !who.owns_as(&of) {
        call.require("/access", Privileges::SYS_AUDIT)?;
    }
    let known = gate.state().known().map_err(failed)?;
    let paths: BTreeSet<String> = match wanted.path {
        Some(path) => BTreeSet::from([path.into()]),
        None => {
            let fixed = ["/", "/access", "/datastore", "/remote", "/system"].map(String::from);
            let stores = about.datastores.iter().map(|name| format!("/datastore/{name}"));
            let rules = known.rules.iter().map(|rule| rule.path.to_string());
            fixed.into_iter().chain(stores).chain(rules).collect()
        }
    };
    let mut answer = BTreeMap::new();
    for path in paths {
        // Whether it goes on below: as a path shows that nobody has made a rule for.
        let below = gate.privileges_by(&known, &of, &format!("{path}/\u{1}"));
        let here = gate.privileges_by(&known, &of, &path);
        let names: BTreeMap<&str, bool> = Privileges::NAMES
            .iter()
            .filter(|(_, one)| here.contains(*one))
            .map(|(name, one)| (*name, below.contains(*one)))
            .collect();
        if !names.is_empty() {
            answer.insert(path, names);
        }
    }
    Answer::data(answer)
}
