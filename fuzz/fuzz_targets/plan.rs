//! Reads plans; what is a plan is checked and foreseen for a day, and every place that is told lies in the text.
#![no_main]

use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use relight_model::TimeSpan;
use relight_model::check::{Facts, check};
use relight_model::plan::{Plan, Position};
use relight_model::schedule::Schedule;

fuzz_target!(|text: &str| {
    let lines = text.split('\n').count();
    let inside = |at: Position| {
        assert!(
            at.line >= 1 && at.column >= 1 && at.line as usize <= lines,
            "{at} of {lines} lines"
        );
    };
    // Shortly before clocks change in most of Europe.
    let (Ok(now), Ok(until)) = (
        Timestamp::from_second(1_792_886_400),
        Timestamp::from_second(1_792_886_400 + 86_400),
    ) else {
        return;
    };
    match Plan::parse(text) {
        Err(errors) => {
            assert!(!errors.0.is_empty());
            errors.0.iter().for_each(|problem| inside(problem.at));
        }
        Ok(plan) => {
            let findings = check(&plan, &Facts::at(now));
            findings.iter().for_each(|finding| inside(finding.at));
            let forecast = Schedule::new(&plan).forecast(now, until, 100, |_, _| TimeSpan::from_secs(600));
            assert!(forecast.runs.iter().all(|run| run.due >= now && run.due <= until));
            assert!(serde_json::to_string(&(plan, findings, forecast)).is_ok());
        }
    }
});
