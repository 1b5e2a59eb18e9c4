//! Roles that people make: of the verbs of the plan. What the plan's roles grant holds beside the rules, in the groups of the
//! workloads they are about.

use std::collections::HashMap;

use relight_model::Workload;
use relight_model::plan::{Plan, Verb};
use relight_pbs::access::{Grantee, Privileges, group_path};
use relight_pbs::formats::ids::Namespace;
use relight_pbs::service::datastore::{acl_path, group_of};

/// Path of rules about the server's own affairs.
pub(crate) const SYSTEM: &str = "/system";

/// What a verb allows.
const fn allows(verb: Verb) -> Privileges {
    use Privileges as P;
    match verb {
        Verb::View => P::DATASTORE_AUDIT,
        Verb::Backup | Verb::Drill => P::RUNS_ASK,
        Verb::Restore => P::DATASTORE_READ.union(P::RESTORE_PLACE),
        Verb::RestoreOver => P::RESTORE_PRODUCTION,
        Verb::Plan => P::SYS_AUDIT.union(P::SYS_MODIFY),
        Verb::Forget => P::DATASTORE_PRUNE.union(P::DATASTORE_MODIFY),
        Verb::Evidence => P::SYS_AUDIT.union(P::EVIDENCE_READ),
        Verb::Keys => P::KEYS_MANAGE,
        Verb::Approve => P::APPROVAL_DECIDE,
        Verb::Admin => P::ALL,
        // A word that is newer than this place allows nothing.
        _ => P::NONE,
    }
}

/// What verbs allow together. Who may do something with a workload also sees it.
pub fn privileges_of(verbs: &[Verb]) -> Privileges {
    let sum = verbs
        .iter()
        .fold(Privileges::NONE, |sum, verb| sum | allows(*verb));
    let needs_sight = Privileges::RUNS_ASK | Privileges::DATASTORE_READ | Privileges::DATASTORE_PRUNE;
    if sum.intersects(needs_sight) {
        sum | Privileges::DATASTORE_AUDIT
    } else {
        sum
    }
}

/// Where a workload is in a repository. The server itself is in none that could be granted.
pub fn workload_path(repository: &str, workload: &Workload) -> String {
    match group_of(workload.as_str()) {
        Some((namespace, group)) => group_path(&acl_path(repository, &namespace), &group),
        None => acl_path(repository, &Namespace::ROOT),
    }
}

/// What a plan grants.
#[derive(Debug, Default)]
pub(crate) struct PlanGrants(HashMap<String, Vec<(Grantee, Privileges)>>);

impl PlanGrants {
    /// Of a plan. Names that are none grant nothing; the checker tells of them.
    pub fn of(plan: &Plan) -> Self {
        let mut grants = Self::default();
        for role in plan.roles.values() {
            let may = privileges_of(&role.may);
            let users: Vec<Grantee> = role.users.iter().filter_map(|name| name.parse().ok()).collect();
            for (path, may) in places(plan, role, may) {
                let here = grants.0.entry(path).or_default();
                here.extend(users.iter().map(|user| (user.clone(), may)));
            }
        }
        grants
    }

    /// What those that `is` tells may do at a path by what was granted there and above.
    pub fn at(&self, is: impl Fn(&Grantee) -> bool, path: &str) -> Privileges {
        if self.0.is_empty() {
            return Privileges::NONE;
        }
        let mut sum = Privileges::NONE;
        let mut path = path;
        loop {
            let key = if path.is_empty() { "/" } else { path };
            for (who, may) in self.0.get(key).into_iter().flatten() {
                if is(who) {
                    sum |= *may;
                }
            }
            match path.rfind('/') {
                Some(end) => path = &path[..end],
                None => return sum,
            }
        }
    }

    /// Where something is granted to those that `is` tells, and what.
    pub fn places<'a>(
        &'a self,
        is: impl Fn(&Grantee) -> bool + 'a,
    ) -> impl Iterator<Item = (&'a str, Privileges)> {
        self.0.iter().flat_map(move |(path, grants)| {
            let mine = grants.iter().filter(|(who, _)| is(who));
            mine.map(|(_, may)| (path.as_str(), *may)).collect::<Vec<_>>()
        })
    }
}

/// What is about the server itself, and not about workloads.
const OF_SERVER: Privileges = Privileges::SYS_AUDIT
    .union(Privileges::SYS_MODIFY)
    .union(Privileges::EVIDENCE_READ);

/// Where a role of the plan holds, and what it allows there: with workloads of its policies, in all their repositories; and for the
/// server's own affairs what its verbs say of those.
fn places(plan: &Plan, role: &relight_model::plan::Role, may: Privileges) -> Vec<(String, Privileges)> {
    let mut places = Vec::new();
    if role.policies.is_empty() {
        if role.may.contains(&Verb::Admin) {
            return vec![("/".into(), may)];
        }
        places.push(("/datastore".into(), may));
    } else {
        let named = |name: &str| role.policies.iter().any(|policy| policy.value == name);
        for entry in &plan.workloads {
            let workload = &entry.name.value;
            let Some((_, policy)) = plan.policy_of(entry).filter(|(name, _)| named(name)) else {
                continue;
            };
            // The server's own state is no workload of anybody's.
            if group_of(workload.as_str()).is_none() {
                continue;
            }
            let copies = policy.copies.iter().map(|copy| &copy.repository.value);
            for repository in std::iter::once(&policy.repository.value).chain(copies) {
                places.push((workload_path(repository, workload), may));
            }
        }
    }
    let verbs = role.may.iter().filter(|verb| **verb != Verb::Admin);
    let of_server = verbs.fold(Privileges::NONE, |sum, verb| sum | allows(*verb)) & OF_SERVER;
    if !of_server.is_empty() {
        places.push((SYSTEM.into(), of_server));
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: &str = r#"
[[repository]]
name = "main"
[[repository]]
name = "away"
[policy.gold]
schedule = "daily"
repository = "main"
retention = { keep-last = 3 }
[[policy.gold.copy]]
repository = "away"
schedule = "daily"
[policy.tin]
schedule = "daily"
repository = "main"
retention = { keep-last = 3 }
[[workload]]
name = "lab/host/web"
policy = "gold"
[[workload]]
name = "lab/host/db"
policy = "tin"
[role.web]
users = ["jane@pbs", "@web@lab"]
may = ["backup", "restore"]
policies = ["gold"]
[role.audit]
users = ["carol@pbs"]
may = ["view", "evidence"]
"#;

    fn at(plan: &str, who: &str, path: &str) -> Vec<&'static str> {
        let plan = Plan::parse(plan).unwrap();
        let who: Grantee = who.parse().unwrap();
        PlanGrants::of(&plan)
            .at(|one| *one == who, path)
            .names()
            .collect()
    }

    #[test]
    fn a_role_of_the_plan_holds_with_the_workloads_of_its_policies_only() {
        let held = ["Datastore.Audit", "Datastore.Read", "Runs.Ask", "Restore.Place"];
        for who in ["jane@pbs", "@web@lab"] {
            assert_eq!(at(PLAN, who, "/datastore/main/lab/host:web"), held);
            assert_eq!(at(PLAN, who, "/datastore/away/lab/host:web"), held);
            for path in [
                "/datastore/main/lab/host:db",
                "/datastore/main/lab",
                "/datastore/main",
                "/system",
                "/",
            ] {
                assert!(at(PLAN, who, path).is_empty(), "{path}");
            }
        }
        let sees = ["Sys.Audit", "Datastore.Audit", "Evidence.Read"];
        assert_eq!(at(PLAN, "carol@pbs", "/datastore/main/lab/host:db"), sees);
        assert_eq!(at(PLAN, "carol@pbs", "/system"), ["Sys.Audit", "Evidence.Read"]);
        assert!(at(PLAN, "carol@pbs", "/access").is_empty());
        assert!(
            at(PLAN, "carol@pbs!t", "/system").is_empty(),
            "a token is named by itself"
        );
    }

    #[test]
    fn who_may_do_something_with_a_workload_sees_it() {
        for verb in [Verb::Backup, Verb::Drill, Verb::Restore, Verb::Forget] {
            assert!(privileges_of(&[verb]).contains(Privileges::DATASTORE_AUDIT));
        }
        assert!(!privileges_of(&[Verb::Approve, Verb::Keys]).contains(Privileges::DATASTORE_READ));
    }
}
