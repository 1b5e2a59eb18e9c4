//! From the text to the plan.

use std::collections::{BTreeMap, BTreeSet};

use jiff::tz::TimeZone;
use toml::de::DeTable;

use super::channel::Channel;
use super::names::Stage;
use super::policy::Policy;
use super::section::{Section, unknown, whole_number};
use super::source::{At, PlanErrors, Position, Source};
use super::values::{
    Bandwidth, Exclusion, Exercise, Limits, Repository, ResourceKind, Role, Route, Window, WorkloadEntry,
};
use super::{Plan, SERVER_REPOSITORY_WORDS, SERVER_TABLES};
use crate::duration::TimeSpan;
use crate::workload::Workload;

/// Runs in all, where the plan does not say.
const DEFAULT_RUNS: u32 = 8;
/// When what is still wrong is told again, where the plan does not say.
const REPEAT: TimeSpan = TimeSpan::from_secs(24 * 3600);
/// The same of the sign of life.
const ALIVE: TimeSpan = TimeSpan::from_secs(5 * 60);
/// More often nobody is told the same.
const LEAST_REPEAT: TimeSpan = TimeSpan::from_secs(1);

pub(super) fn plan(text: &str) -> Result<Plan, PlanErrors> {
    let mut source = Source::new(text);
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let at = source.position(error.span().unwrap_or(0..0));
        source.refuse(at, error.message().trim_end());
    }
    let mut root = Section::root(document.get_ref());
    root.leave(SERVER_TABLES);
    let s = &mut source;
    let time_zone = read_settings(s, &mut root);
    let repositories = read_repositories(s, &mut root);
    let windows = read_windows(s, &mut root);
    let named = root.named(s, "policy");
    let mut policy_names = BTreeSet::new();
    let mut policies = BTreeMap::new();
    for (name, section) in named {
        policy_names.insert(name.value.clone());
        if let Some(policy) = Policy::read(s, section, name.at) {
            policies.insert(name.value, policy);
        }
    }
    let plan = Plan {
        time_zone,
        limits: read_limits(s, &mut root),
        workloads: read_workloads(s, &mut root),
        bandwidth: read_bandwidth(s, &mut root),
        exercise: read_exercise(s, &mut root),
        routes: read_routes(s, &mut root),
        roles: read_roles(s, &mut root),
        repositories,
        policies,
        windows,
    };
    root.finish(s);
    check_names(s, &plan, &policy_names);
    source.finish(plan)
}

fn read_settings(source: &mut Source<'_>, root: &mut Section<'_, '_>) -> TimeZone {
    let Some(mut section) = root
        .node("plan")
        .and_then(|node| Section::of(source, "plan", node))
    else {
        return TimeZone::UTC;
    };
    let zone = section.text::<String>(source, "time-zone");
    section.finish(source);
    let Some(zone) = zone else {
        return TimeZone::UTC;
    };
    TimeZone::get(&zone.value).unwrap_or_else(|_| {
        source.refuse(
            zone.at,
            format!(
                "{:?} is no time zone that this system knows: use a name such as UTC or Europe/Berlin",
                crate::size::shortened(&zone.value)
            ),
        );
        TimeZone::UTC
    })
}

fn read_repositories(source: &mut Source<'_>, root: &mut Section<'_, '_>) -> BTreeMap<String, Repository> {
    let mut repositories = BTreeMap::new();
    for mut section in root.sections(source, "repository") {
        section.leave(SERVER_REPOSITORY_WORDS);
        let name = section.required::<String>(source, "name", "\"main\"");
        let repository = Repository {
            at: section.at,
            runs: section.count(source, "runs").map(|at| at.value),
            network: section.text(source, "network").map(|at| at.value),
            lock: section.text(source, "lock"),
            thaw: section.text(source, "thaw"),
            forget: section.text(source, "forget"),
            collect: section.text(source, "collect"),
        };
        section.finish(source);
        if let Some(name) = name
            && repositories.insert(name.value.clone(), repository).is_some()
        {
            source.refuse(name.at, format!("the repository {:?} is there twice", name.value));
        }
    }
    repositories
}

fn read_windows(source: &mut Source<'_>, root: &mut Section<'_, '_>) -> BTreeMap<String, Window> {
    let mut windows = BTreeMap::new();
    for (name, mut section) in root.named(source, "window") {
        let opens = section.required(source, "opens", "\"22:00\"");
        let length = section.required(source, "length", "\"8 h\"");
        section.finish(source);
        if let (Some(opens), Some(length)) = (opens, length) {
            let window = Window {
                at: name.at,
                opens,
                length,
            };
            windows.insert(name.value, window);
        }
    }
    windows
}

fn read_limits(source: &mut Source<'_>, root: &mut Section<'_, '_>) -> Limits {
    let mut limits = Limits {
        runs: DEFAULT_RUNS,
        of: BTreeMap::new(),
    };
    let Some(mut section) = root
        .node("limit")
        .and_then(|node| Section::of(source, "limit", node))
    else {
        return limits;
    };
    if let Some(runs) = section.count(source, "runs") {
        limits.runs = runs.value;
    }
    let kinds = [
        ("host", ResourceKind::Host),
        ("storage", ResourceKind::Storage),
        ("network", ResourceKind::Network),
    ];
    for (word, kind) in kinds {
        let name = section.inner(word);
        let Some(table) = section
            .node(word)
            .and_then(|node| Section::of(source, name, node))
        else {
            continue;
        };
        for (name, node) in table.entries() {
            match whole_number(node.get_ref(), 1) {
                Ok(limit) => {
                    limits.of.insert((kind, name.get_ref().to_string()), limit);
                }
                Err(why) => {
                    let at = source.position(node.span());
                    source.refuse(at, format!("{}: {why}", name.get_ref()));
                }
            }
        }
    }
    section.finish(source);
    limits
}

fn read_workloads(source: &mut Source<'_>, root: &mut Section<'_, '_>) -> Vec<WorkloadEntry> {
    let mut entries: Vec<WorkloadEntry> = Vec::new();
    let mut seen = BTreeSet::new();
    for mut section in root.sections(source, "workload") {
        let mut names: Vec<At<Workload>> = section.list(source, "name");
        names.extend(section.list(source, "names"));
        if names.is_empty() && section.node("name").is_none() && section.node("names").is_none() {
            source.refuse(
                section.at,
                "workload lacks name: write for instance name = \"vm/100\", or names = [\"vm/100\", \"vm/101\"]",
            );
        }
        let s = &mut section;
        let policy = s.text(source, "policy");
        let excluded = s.text(source, "exclude").map(|reason| Exclusion {
            reason,
            until: s.text(source, "exclude-until"),
        });
        s.leave(&["exclude-until"]);
        let method = s.text(source, "method");
        let host = s.text(source, "host").map(|at| at.value);
        let storage = s.text(source, "storage").map(|at| at.value);
        let network = s.text(source, "network").map(|at| at.value);
        let size = s.text(source, "size");
        let priority = s.number(source, "priority").map(|at| at.value);
        let stage = s.text(source, "stage").map(|at| at.value);
        let reads = s.settings(source, "source");
        let probe = s.settings(source, "probe");
        section.finish(source);
        for name in names {
            if !seen.insert(name.value.clone()) {
                source.refuse(name.at, format!("the workload {} is there twice", name.value));
                continue;
            }
            entries.push(WorkloadEntry {
                name,
                policy: policy.clone(),
                excluded: excluded.clone(),
                method,
                host: host.clone(),
                storage: storage.clone(),
                network: network.clone(),
                size,
                priority,
                stage,
                source: reads.clone(),
                probe: probe.clone(),
            });
        }
    }
    entries
}

fn read_bandwidth(source: &mut Source<'_>, root: &mut Section<'_, '_>) -> Vec<Bandwidth> {
    let mut rules = Vec::new();
    for mut section in root.sections(source, "bandwidth") {
        let rate: Option<At<crate::size::Rate>> = section.required(source, "rate", "\"100 MiB/s\"");
        let window = section.text(source, "window");
        let network = section.text(source, "network").map(|at| at.value);
        let repository = section.text(source, "repository");
        section.finish(source);
        if let Some(rate) = rate {
            if rate.value.0 == 0 {
                source.refuse(
                    rate.at,
                    "a rate of 0 stops every run: use a window to keep runs out of a time",
                );
            }
            rules.push(Bandwidth {
                rate,
                window,
                network,
                repository,
            });
        }
    }
    rules
}

fn read_exercise(source: &mut Source<'_>, root: &mut Section<'_, '_>) -> Option<Exercise> {
    let mut section = Section::of(source, "exercise", root.node("exercise")?)?;
    let schedule = section.required(source, "schedule", "\"yearly\"");
    let order: Vec<At<Stage>> = section.list(source, "order");
    let mut stages: Vec<Stage> = Vec::new();
    for stage in &order {
        if stages.contains(&stage.value) {
            source.refuse(stage.at, format!("the stage {} is there twice", stage.value));
        }
        stages.push(stage.value);
    }
    if stages.is_empty() {
        stages = Stage::ALL.to_vec();
    }
    let rto = section.text(source, "rto");
    section.finish(source);
    Some(Exercise {
        schedule: schedule?,
        order: stages,
        rto,
    })
}

fn read_routes(source: &mut Source<'_>, root: &mut Section<'_, '_>) -> Vec<Route> {
    let mut routes: Vec<Route> = Vec::new();
    for mut section in root.sections(source, "route") {
        let name: Option<At<String>> = section.required(source, "name", "\"team\"");
        let to: Option<At<Channel>> = section.required(source, "to", "\"mailto:backup@example.org\"");
        let events: Vec<At<super::RouteEvent>> = section.list(source, "events");
        let policies = section.list(source, "policies");
        let after = section
            .text(source, "after")
            .map_or(TimeSpan::default(), |at| at.value);
        let alive = events.iter().any(|at| at.value == super::RouteEvent::Alive);
        let usual = if alive { ALIVE } else { REPEAT };
        let repeat = section.text(source, "repeat");
        if let Some(repeat) = &repeat
            && repeat.value < LEAST_REPEAT
        {
            source.refuse(repeat.at, format!("repeat: must be {LEAST_REPEAT} at least"));
        }
        if alive && events.len() > 1 {
            source.refuse(section.at, "events: alive needs a route of its own");
        }
        section.finish(source);
        let (Some(name), Some(to)) = (name, to) else {
            continue;
        };
        if routes.iter().any(|route| route.name.value == name.value) {
            source.refuse(name.at, format!("the route {:?} is there twice", name.value));
        }
        routes.push(Route {
            name,
            to,
            events: events.into_iter().map(|at| at.value).collect(),
            policies,
            after,
            repeat: repeat.map_or(usual, |at| at.value),
        });
    }
    routes
}

fn read_roles(source: &mut Source<'_>, root: &mut Section<'_, '_>) -> BTreeMap<String, Role> {
    let mut roles = BTreeMap::new();
    for (name, mut section) in root.named(source, "role") {
        let users: Vec<At<String>> = section.list(source, "users");
        let may: Vec<At<super::Verb>> = section.list(source, "may");
        let policies = section.list(source, "policies");
        section.finish(source);
        let role = Role {
            at: name.at,
            users: users.into_iter().map(|at| at.value).collect(),
            may: may.into_iter().map(|at| at.value).collect(),
            policies,
        };
        roles.insert(name.value, role);
    }
    roles
}

/// Names that refer to something must refer to something that is there.
fn check_names(source: &mut Source<'_>, plan: &Plan, policies: &BTreeSet<String>) {
    let policies: BTreeSet<&str> = policies.iter().map(String::as_str).collect();
    let windows: BTreeSet<&str> = plan.windows.keys().map(String::as_str).collect();
    let repositories: BTreeSet<&str> = plan.repositories.keys().map(String::as_str).collect();
    let mut check = |name: &At<String>, known: &BTreeSet<&str>, what: &str| {
        if !known.contains(name.value.as_str()) {
            let message = unknown(&name.value, &format!("among {what}"), known.iter().copied());
            source.refuse(name.at, message);
        }
    };
    for entry in &plan.workloads {
        entry
            .policy
            .iter()
            .for_each(|name| check(name, &policies, "policies"));
    }
    for policy in plan.policies.values() {
        check(&policy.repository, &repositories, "repositories");
        policy
            .window
            .iter()
            .for_each(|name| check(name, &windows, "windows"));
        for copy in &policy.copies {
            check(&copy.repository, &repositories, "repositories");
        }
    }
    for rule in &plan.bandwidth {
        rule.window
            .iter()
            .for_each(|name| check(name, &windows, "windows"));
        rule.repository
            .iter()
            .for_each(|name| check(name, &repositories, "repositories"));
    }
    let in_routes = plan.routes.iter().flat_map(|route| &route.policies);
    let in_roles = plan.roles.values().flat_map(|role| &role.policies);
    for name in in_routes.chain(in_roles) {
        check(name, &policies, "policies");
    }
    same_repository_copies(source, plan);
}

fn same_repository_copies(source: &mut Source<'_>, plan: &Plan) {
    let mut twice: Vec<(Position, String)> = Vec::new();
    for (name, policy) in &plan.policies {
        let mut seen = BTreeSet::from([policy.repository.value.as_str()]);
        for copy in &policy.copies {
            if !seen.insert(&copy.repository.value) {
                twice.push((
                    copy.repository.at,
                    format!(
                        "the policy {name} has its snapshots in {:?} already",
                        copy.repository.value
                    ),
                ));
            }
        }
    }
    for (at, message) in twice {
        source.refuse(at, message);
    }
}
