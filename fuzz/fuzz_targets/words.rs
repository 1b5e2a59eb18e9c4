//! Parses sizes, durations and retention rules; what is accepted prints and parses again to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use relight_model::duration::TimeSpan;
use relight_model::retention::{Policy, RuleKind, Within};
use relight_model::size::ByteSize;

fn comes_back<T: std::str::FromStr + std::fmt::Display + PartialEq + std::fmt::Debug>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        assert_eq!(value.to_string().parse::<T>().ok(), Some(value));
    }
}

fuzz_target!(|text: &str| {
    // Exact to the millisecond, when it is not for people.
    if let Ok(span) = text.parse::<TimeSpan>() {
        let _ = span.to_string();
        let again = String::from(span).parse::<TimeSpan>();
        assert_eq!(
            again.map(|again| again.duration().as_millis()),
            Ok(span.duration().as_millis())
        );
    }
    comes_back::<Within>(text);
    comes_back::<Policy>(text);
    // Printed rounded.
    if let Ok(size) = text.parse::<ByteSize>() {
        assert!(size.to_string().parse::<ByteSize>().is_ok());
    }
    if let Some((rule, value)) = text.split_once(' ')
        && let Ok(rule) = rule.parse::<RuleKind>()
    {
        let _ = Policy::default().set(rule, value);
    }
});
