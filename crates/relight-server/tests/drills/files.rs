//! Drills of file trees.

use std::fs;

use relight_model::objective::Verdict;
use relight_model::plan::PickRule;
use relight_server::evidence::detail::{DrillDetail, details};
use relight_workloads::files::Files;

use crate::lab::{Lab, left};

fn seen(detail: &DrillDetail, name: &str) -> String {
    let probe = detail.probes.iter().find(|probe| probe.name == name);
    probe.unwrap_or_else(|| panic!("{detail:?}")).seen.clone()
}

#[test]
fn a_tree_comes_back_is_probed_and_is_gone_again() {
    let lab = Lab::new();
    let snapshot = lab.save();
    let probe = "paths-exist = ['src/hello', 'src/deep/er/large']
        compare-source = true
        command = ['/bin/sh', '-c', 'cat src/hello; test -f $RELIGHT_SANDBOX/src/deep/er/large; echo $RELIGHT_WORKLOAD']";
    let detail = lab.drill(&Files, probe, |_| {});
    assert!(detail.is_good(), "{detail:?}");
    assert_eq!(detail.snapshot, Some(snapshot.id.to_string()));
    assert_eq!((detail.point, detail.size), (Some(snapshot.time), 3_000_006));
    let names: Vec<&str> = detail.probes.iter().map(|probe| probe.name.as_str()).collect();
    assert_eq!(names, ["content", "paths-exist", "source", "command"]);
    assert!(seen(&detail, "command").contains("hello / fs/src"), "{detail:?}");
    assert!(seen(&detail, "content").starts_with("2 files, "), "{detail:?}");
    let steps: Vec<&str> = detail.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(steps, ["pick", "restore", "start", "probe", "tear-down"]);
    assert!(matches!(detail.verdict, Verdict::Met { .. }), "{detail:?}");
    let measured = detail.measurement().unwrap();
    assert_eq!(Some(measured.total()), detail.measured);
    // What is written into the evidence can be read from there.
    let map = details(&detail);
    let read: DrillDetail = serde_json::from_value(map.into()).unwrap();
    assert_eq!(read.probes, detail.probes);
}

#[test]
fn an_absolute_path_means_where_it_was() {
    let lab = Lab::new();
    lab.save();
    let was = lab.path("src/hello");
    let detail = lab.drill(&Files, &format!("paths-exist = [{was:?}]"), |_| {});
    assert!(detail.is_good(), "{detail:?}");
    let detail = lab.drill(
        &Files,
        "paths-exist = ['src/hello', 'src/absent', '/elsewhere']",
        |_| {},
    );
    assert_eq!(detail.code.as_deref(), Some("RL309"));
    assert!(
        seen(&detail, "paths-exist").contains("src/absent; /elsewhere"),
        "{detail:?}"
    );
    let detail = lab.drill(&Files, "paths-exist = ['../../etc/passwd']", |_| {});
    assert_eq!(detail.code.as_deref(), Some("RL302"));
}

#[test]
fn the_source_may_have_changed_since_but_not_before() {
    let lab = Lab::new();
    lab.save();
    fs::write(lab.path("src/hello"), "changed\n").unwrap();
    let detail = lab.drill(&Files, "compare-source = true", |_| {});
    assert!(detail.is_good(), "{detail:?}");
    assert!(seen(&detail, "source").ends_with("1 changed since"), "{detail:?}");
}

#[test]
fn the_negative_control_makes_it_wrong_and_the_probes_notice() {
    let lab = Lab::new();
    lab.save();
    let detail = lab.drill(&Files, "", |request| request.control = true);
    assert!(detail.is_good(), "{detail:?}");
    let control = detail.control.unwrap();
    assert!(control.noticed);
    assert_eq!(
        control.spoiled,
        "byte 1500000 of src/deep/er/large was changed (noticed by content)"
    );
}

#[test]
fn points_are_picked_by_the_rule_and_pieces_of_a_log_are_none() {
    let lab = Lab::new();
    let first = lab.save();
    let second = lab.save();
    let log = lab.save_as(true, &[]);
    let torn = lab.save_as(false, &["src/hello: changed while it was read"]);
    let picked = |rule, lot| {
        let detail = lab.drill(&Files, "", |request| {
            request.drilled.pick = rule;
            request.lot = lot;
        });
        detail.snapshot.unwrap()
    };
    assert_eq!(picked(PickRule::Latest, 0), second.id.to_string());
    assert_eq!(picked(PickRule::Oldest, 0), first.id.to_string());
    assert_eq!(picked(PickRule::Random, 1), second.id.to_string());
    assert_eq!(picked(PickRule::Random, 2), first.id.to_string());
    let named = |at| lab.drill(&Files, "", |request| request.at = Some(at));
    assert!(named(torn.id).is_good());
    assert_eq!(named(log.id).code.as_deref(), Some("RL301"));
    let told = lab.drill(&Files, "", |request| request.incomplete = true);
    assert_eq!(told.snapshot, Some(torn.id.to_string()));
}

#[test]
fn what_is_kept_can_be_looked_at() {
    let lab = Lab::new();
    lab.save();
    let detail = lab.drill(&Files, "", |request| request.keep = true);
    assert!(detail.is_good() && !detail.torn_down, "{detail:?}");
    assert_eq!(left(&lab.sandboxes()), ["kept-7"]);
    assert_eq!(
        fs::read(lab.path("sandbox/kept-7/src/hello")).unwrap(),
        b"hello\n"
    );
    assert!(detail.remarks[0].ends_with("kept-7"));
}
