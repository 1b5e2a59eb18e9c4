//! Parses names of workloads; what is accepted prints as it was given.
#![no_main]

use libfuzzer_sys::fuzz_target;
use relight_model::workload::Workload;

fuzz_target!(|text: &str| {
    if let Ok(name) = text.parse::<Workload>() {
        assert_eq!(name.as_str(), text);
        assert_eq!(name.to_string(), text);
        let _ = (name.kind(), name.name(), name.namespace());
    }
});
