//! `forget`, `protect`, `notes`.

use std::fs;

use super::lab::Lab;

fn count(lab: &Lab) -> usize {
    lab.run(&["snapshots", "--json"]).ok().json()["snapshots"]
        .as_array()
        .unwrap()
        .len()
}

#[test]
fn a_plan_changes_nothing_and_apply_does_what_it_said() {
    let lab = Lab::saved();
    (0..3).for_each(|_| drop(lab.save()));
    let before = lab.repository_files();
    let plan = lab.run(&["forget", "--keep-last", "1", "--json"]).ok().json();
    assert!(lab.repository_files() == before);
    assert_eq!(plan["forget"].as_array().unwrap().len(), 3);
    assert_eq!(
        plan["workloads"][0]["snapshots"][0]["why"],
        serde_json::json!(["last"])
    );
    let done = lab
        .run(&["forget", "--keep-last", "1", "--apply", "--json"])
        .ok()
        .json();
    assert_eq!(done["forgotten"], plan["forget"]);
    assert_eq!(count(&lab), 1);
    assert!(lab.run(&["ls", "latest", "src"]).ok().text().contains("hello"));
}

#[test]
fn each_workload_is_judged_by_itself() {
    let lab = Lab::saved();
    lab.save();
    fs::write(lab.path("disk"), "image").unwrap();
    (0..2).for_each(|_| drop(lab.run(&["backup", "--image", "disk", "-w", "vm/1"]).ok()));
    let text = lab.run(&["forget", "--keep-daily", "7"]).ok().text();
    assert!(text.contains("daily 2"), "{text}");
    let plan = lab.run(&["forget", "--keep-last", "1", "--json"]).ok().json();
    assert_eq!(plan["workloads"].as_array().unwrap().len(), 2);
    lab.run(&["forget", "-w", "vm/1", "--keep-last", "1", "--apply"])
        .ok();
    assert_eq!(count(&lab), 3);
}

#[test]
fn a_plan_that_no_longer_holds_is_refused() {
    let lab = Lab::saved();
    lab.save();
    let plan = lab.run(&["forget", "--keep-last", "1", "--json"]).ok();
    fs::write(lab.path("plan.json"), &plan.out).unwrap();
    lab.save();
    let before = lab.repository_files();
    lab.run(&["forget", "--plan", "plan.json", "--apply"])
        .fails("does not hold any more");
    assert!(lab.repository_files() == before);
    let plan = lab.run(&["forget", "--keep-last", "1", "--json"]).ok();
    fs::write(lab.path("plan.json"), &plan.out).unwrap();
    lab.run(&["forget", "--plan", "plan.json"]).ok();
    assert_eq!(count(&lab), 3);
    lab.run(&["forget", "--plan", "plan.json", "--apply"]).ok();
    assert_eq!(count(&lab), 1);
}

#[test]
fn protected_ones_and_the_last_good_one_stay() {
    let lab = Lab::saved();
    let first = lab.run(&["snapshots", "--json"]).ok().json()["snapshots"][0]["short_id"]
        .as_str()
        .unwrap()
        .to_string();
    let second = lab.save();
    lab.run(&["protect", &first]).ok();
    lab.run(&["forget", &first, "--apply", "--force"])
        .fails("unprotect");
    let text = lab.run(&["forget", "--keep-last", "1"]).ok().text();
    assert!(
        text.contains("protected") && text.contains("Nothing is to be forgotten"),
        "{text}"
    );
    lab.run(&["unprotect", &first]).ok();
    lab.run(&["forget", &first, &second, "--apply"]).fails("--force");
    assert_eq!(count(&lab), 2);
    lab.run(&["forget", &first, &second, "--apply", "--force"]).ok();
    assert_eq!(count(&lab), 0);
}

#[test]
fn unusually_many_removals_want_consent() {
    let lab = Lab::saved();
    (0..11).for_each(|_| drop(lab.save()));
    let before = lab.repository_files();
    lab.run(&["forget", "--keep-last", "1", "--apply"])
        .fails("--accept-alarms");
    assert!(lab.repository_files() == before);
    lab.run(&["forget", "--keep-last", "1", "--apply", "--accept-alarms"])
        .ok();
    assert_eq!(count(&lab), 1);
}

#[test]
fn notes_are_kept_beside_the_protection() {
    let lab = Lab::saved();
    lab.run(&["protect", "latest"]).ok();
    lab.run(&["notes", "latest", "before the upgrade"]).ok();
    assert_eq!(lab.run(&["notes", "latest"]).ok().text(), "before the upgrade\n");
    let shown = lab.run(&["snapshots", "--json"]).ok().json();
    assert_eq!(
        (
            &shown["snapshots"][0]["protected"],
            &shown["snapshots"][0]["notes"]
        ),
        (&serde_json::json!(true), &serde_json::json!("before the upgrade"))
    );
    lab.run(&["notes", "latest", "a\u{7}b"])
        .fails("control characters");
    lab.run(&["notes", "latest", "--clear"]).ok();
    assert!(lab.run(&["notes", "latest"]).ok().text().contains("no notes"));
}
