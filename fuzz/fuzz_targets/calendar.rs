//! Reads calendar events; what is one prints and reads again to the same, and its times go on, in zones that change
//! clocks in different ways.
#![no_main]

use jiff::Timestamp;
use jiff::tz::TimeZone;
use libfuzzer_sys::fuzz_target;
use relight_model::calendar::Event;

fuzz_target!(|text: &str| {
    let Ok(event) = text.parse::<Event>() else {
        return;
    };
    assert_eq!(event.to_string().parse::<Event>().as_ref(), Ok(&event));
    let seed = text
        .bytes()
        .fold(0_i64, |sum, byte| sum * 31 % 1_000_003 + i64::from(byte));
    // Any time of about forty years around now.
    let Ok(from) = Timestamp::from_second(1_300_000_000 + seed * 1_200) else {
        return;
    };
    for zone in ["UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/St_Johns"] {
        let Ok(zone) = TimeZone::get(zone) else {
            continue;
        };
        let times: Vec<Timestamp> = event.iter_after(from, &zone).take(8).collect();
        let mut last = from;
        for &time in &times {
            assert!(time > last, "{time} after {last}");
            assert_eq!(event.next_after(last, &zone), Some(time));
            last = time;
        }
        if let Some(&last) = times.last() {
            assert_eq!(event.latest_between(from, last, &zone), Some(last));
        }
        let _ = event.longest_gap(from, &zone);
    }
});
