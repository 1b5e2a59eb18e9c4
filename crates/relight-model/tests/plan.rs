//! Plans: what an administrator writes, and what is said about slips.

use relight_model::plan::{Method, Plan, ResourceKind, Stage};

const LAB: &str = include_str!("../../../dist/plan.toml");

fn problems(text: &str) -> Vec<String> {
    match Plan::parse(text) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.0.iter().map(ToString::to_string).collect(),
    }
}

const GOOD: &str = "[[repository]]\nname = 'main'\nlocation = '/x'\n\n[policy.linux]\nschedule = '02:00'\n\
                    repository = 'main'\nretention = { keep-daily = 7 }\n\n";

#[test]
fn the_labs_plan_says_what_the_lab_promised() {
    let plan = Plan::parse(LAB).unwrap();
    assert_eq!(plan.time_zone.iana_name(), Some("Europe/Berlin"));
    let promised: Vec<(&str, String, String, String, String)> = plan
        .policies
        .iter()
        .map(|(name, policy)| {
            let show = |span: &Option<relight_model::plan::At<relight_model::TimeSpan>>| {
                span.map(|span| span.value.to_string()).unwrap_or_default()
            };
            (
                name.as_str(),
                policy.schedule.to_string(),
                policy.retention.to_string(),
                show(&policy.rto),
                show(&policy.rpo),
            )
        })
        .collect();
    let expected = [
        ("databases", "*-*-* 00/6:00:00", "keep-within=14d", "1 h", "6 h"),
        ("kubernetes", "*-*-* 01:00:00", "keep-within=14d", "2 h", "1 d"),
        (
            "linux",
            "*-*-* 02:00:00",
            "keep-daily=7,keep-weekly=4,keep-monthly=6",
            "4 h",
            "1 d",
        ),
        (
            "windows",
            "*-*-* 03:00:00",
            "keep-daily=14,keep-weekly=8,keep-monthly=12",
            "2 h",
            "1 d",
        ),
    ];
    let expected: Vec<_> = expected
        .map(|(a, b, c, d, e)| (a, b.to_owned(), c.to_owned(), d.to_owned(), e.to_owned()))
        .into();
    assert_eq!(promised, expected);

    let dc = plan.workload(&"host/dc01".parse().unwrap()).unwrap();
    assert_eq!(dc.stage, Some(Stage::Identity));
    assert_eq!(plan.policy_of(dc).unwrap().0, "windows");
    let m365 = plan.workload(&"m365/lab".parse().unwrap()).unwrap();
    assert_eq!(m365.method.unwrap().value, Method::Export);
    assert_eq!(plan.limits.limit(ResourceKind::Host, "pve1"), 2);
    assert_eq!(plan.limits.limit(ResourceKind::Host, "pg01"), 1);
    assert_eq!(plan.limits.limit(ResourceKind::Network, "lan"), u32::MAX);
    assert_eq!(plan.exercise.as_ref().unwrap().order, Stage::ALL);
    let json = serde_json::to_value(&plan).unwrap();
    assert_eq!(json["policies"]["linux"]["rto"], "4h");
    assert_eq!(json["policies"]["linux"]["retention"]["keep-daily"], 7);
}

#[test]
fn a_configuration_without_a_plan_is_an_empty_plan() {
    let plan =
        Plan::parse("[server]\nlisten = ['[::]:8007']\n\n[[repository]]\nname = 'main'\nlocation = '/x'\n")
            .unwrap();
    assert!(plan.policies.is_empty() && plan.workloads.is_empty());
    assert_eq!(plan.repositories.len(), 1);
    assert!(Plan::parse("").is_ok());
}

#[test]
fn a_slip_is_named_with_its_place_and_the_nearest_word() {
    for (text, says) in [
        (
            "[polcy.linux]\n",
            "line 1, column 2: there is no \"polcy\" in this file; do you mean \"policy\"?",
        ),
        (
            &format!(
                "{GOOD}[policy.x]\nshedule = '02:00'\nrepository = 'main'\nretention = {{ keep-last = 1 }}\n"
            ),
            "line 11, column 1: there is no \"shedule\" in policy.x; do you mean \"schedule\"?",
        ),
        (
            &format!("{GOOD}[[workload]]\nname = 'vm/100'\npolicy = 'linus'\n"),
            "line 12, column 10: there is no \"linus\" among policies; do you mean \"linux\"?",
        ),
        (
            &format!("{GOOD}[[workload]]\nname = 'vm100'\n"),
            "line 11, column 8: name: \"vm100\" is not a workload",
        ),
        (
            &format!("{GOOD}[[workload]]\nname = 'vm/1'\nmethod = 'imgae'\n"),
            "there is no \"imgae\" among methods; do you mean \"image\"?",
        ),
        (
            &format!("{GOOD}[[workload]]\nnames = ['vm/1', 'vm/2', 'vm/1']\n"),
            "line 11, column 26: the workload vm/1 is there twice",
        ),
        (
            &format!("{GOOD}[[workload]]\npolicy = 'linux'\n"),
            "line 10, column 1: workload lacks name",
        ),
        (
            &GOOD.replace("'02:00'", "'25:00'"),
            "line 6, column 12: schedule: \"25\" is no value for the hours",
        ),
        (
            &GOOD.replace("'02:00'", "02:00:00"),
            "a date or time without quotes",
        ),
        (
            &GOOD.replace("keep-daily", "keep-dayly"),
            "do you mean \"keep-daily\"?",
        ),
        (
            &GOOD.replace("= 7", "= 0"),
            "line 8, column 28: keep-daily: must be a number from 1",
        ),
        (
            &GOOD.replace("{ keep-daily = 7 }", "{}"),
            "the retention is empty",
        ),
        (&GOOD.replace("retention =", "# "), "policy.linux lacks retention"),
        (
            &GOOD.replace("repository = 'main'", "repository = 'mian'"),
            "do you mean \"main\"?",
        ),
        (&format!("{GOOD}rpo = '24'\n"), "lacks a unit"),
        (
            &format!("{GOOD}rpo = 24\n"),
            "must be a text in quotes, but is a number",
        ),
        (
            &format!("{GOOD}copy = {{ repository = 'main' }}\n"),
            "[[policy.linux.copy]]",
        ),
        (
            &format!("{GOOD}[[policy.linux.copy]]\nrepository = 'main'\nschedule = 'daily'\n"),
            "has its snapshots in \"main\" already",
        ),
        (
            &format!("{GOOD}[[bandwidth]]\nrate = '100 MiB'\n"),
            "is not a rate",
        ),
        (
            &format!("{GOOD}[[bandwidth]]\nrate = '0 MiB/s'\n"),
            "stops every run",
        ),
        (
            &format!("{GOOD}[limit.host]\npve1 = 0\n"),
            "pve1: must be a number from 1",
        ),
        (
            &format!("{GOOD}[exercise]\nschedule = 'yearly'\norder = ['identity', 'identity']\n"),
            "is there twice",
        ),
        (
            &format!("{GOOD}[[route]]\nname = 'x'\nto = 'team'\n"),
            "must begin with mailto:, https://, slack+https://",
        ),
        (
            &format!("{GOOD}[role.x]\nmay = ['veiw']\n"),
            "do you mean \"view\"?",
        ),
        (
            &format!("{GOOD}[plan]\ntime-zone = 'Europe/Bärlin'\n"),
            "is no time zone",
        ),
        (&format!("{GOOD}[policy.'a b']\n"), "is no name"),
        (&format!("{GOOD}{GOOD}"), "duplicate key"),
        ("policy = 1\n", "policy must be a table, but is a number"),
    ] {
        let problems = problems(text);
        assert!(
            problems.iter().any(|problem| problem.contains(says)),
            "{text}\n{says}\n{problems:#?}"
        );
    }
}

#[test]
fn several_slips_are_told_at_once_in_their_order() {
    let text = format!(
        "{GOOD}rpo = 'soon'\nrtoo = '4 h'\n\n[[workload]]\nname = 'vm/1'\npolicy = 'linus'\n\n[window.night]\nopens = '26:00'\n"
    );
    let problems = problems(&text);
    let lines: Vec<&str> = problems
        .iter()
        .map(|problem| problem.split(',').next().unwrap())
        .collect();
    assert_eq!(
        lines,
        ["line 10", "line 11", "line 15", "line 17", "line 18"],
        "{problems:#?}"
    );
}

#[test]
fn syntax_errors_are_told_with_what_can_still_be_read() {
    let problems = problems("[plan\n\n[polcy]\nx = \n");
    assert!(problems.len() >= 2, "{problems:#?}");
    assert!(problems[0].starts_with("line 1, "), "{problems:#?}");
}

#[test]
fn columns_count_characters() {
    let problems = problems("[plan]\n\"ä\" = 1\ntime-zone = \"Möglich\"\n");
    assert_eq!(problems.len(), 2, "{problems:#?}");
    assert!(problems[1].starts_with("line 3, column 13: "), "{problems:#?}");
}
